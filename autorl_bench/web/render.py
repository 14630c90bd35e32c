"""From views to HTML: one template engine that escapes everything, links for a server or a folder of files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from autorl_bench.web import drawings, text
from autorl_bench.web.boards import baseline_of, gain_of, is_tied, score_of
from autorl_bench.web.run_view import state_word


@dataclass(frozen=True, slots=True)
class Links:
    """Addresses of the pages, relative to the page that they stand on.

    Args:
        deep: The page lies in a folder (``boards/x``), not at the root.
        static: The pages are files, opened from a disk.
    """

    deep: bool
    static: bool

    @property
    def index(self) -> str:
        """The page of all boards."""
        return self._up + ("index.html" if self.static else "" if self.deep else "./")

    def board(self, scenario: str) -> str:
        """The boards of one scenario."""
        return self._page("boards", scenario)

    def run(self, run_id: str) -> str:
        """A run."""
        return self._page("board-runs", run_id)

    def scenario(self, scenario: str) -> str:
        """What a scenario asks."""
        return self._page("board-scenarios", scenario)

    def json(self, scenario: str) -> str:
        """A leaderboard as JSON."""
        return self._page("boards", scenario, ".json") if self.static else self._page("leaderboard", scenario)

    @property
    def _up(self) -> str:
        return "../" if self.deep else ""

    def _page(self, folder: str, name: str, suffix: str = ".html") -> str:
        return f"{self._up}{folder}/" + (quote(file_name(name, suffix)) if self.static else quote(name, safe=""))


def file_name(name: str, suffix: str = ".html") -> str:
    """A name that may hold anything as that of a file."""
    return quote(name, safe="") + suffix


def page(template: str, **values: Any) -> str:
    """A whole page."""
    return _engine().get_template(template).render(**values)


@cache
def security_policy() -> str:
    """The Content-Security-Policy of every page: our own style and script by their hashes, and nothing else.

    What an agent wrote could not run even if it were not escaped.
    """
    style, script = (f"'sha256-{_hash(text)}'" for text in (_style(), _script()))
    rest = "img-src data:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; style-src {style}; script-src {script}; {rest}"


def _hash(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


@cache
def _style() -> str:
    """The style sheet of the training report, whose look the board shares, and what the board adds."""
    report = files("astune.report") / "templates" / "report.css"
    return report.read_text(encoding="utf-8") + _own("board.css")


@cache
def _script() -> str:
    return _own("board.js")


def _own(name: str) -> str:
    return (files("autorl_bench.web") / "templates" / name).read_text(encoding="utf-8")


@cache
def _engine() -> Environment:
    engine = Environment(
        loader=PackageLoader("autorl_bench.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    engine.filters.update(
        percent=text.percent, signed=text.signed, ratio=text.ratio, reach=text.interval, size=text.size,
        duration=text.duration, moment=text.moment, plural=text.plural, clip=text.clip, flat=text.flat, scalars=scalars,
    )  # fmt: skip
    engine.globals.update(
        style=Markup(_style()),  # noqa: S704  # our own file
        script=Markup(_script()),  # noqa: S704
        policy=security_policy(),
        gain_of=gain_of, score_of=score_of, baseline_of=baseline_of, is_tied=is_tied, state_word=state_word,
        draw=drawings,
    )  # fmt: skip
    return engine


def _finalize(value: Any) -> Any:
    """Text is cleaned wherever it stands; our own markup stays as it is."""
    return text.clean(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


#: Keys of reports that say where in the vault something lies.
_OURS = frozenset({"folder", "path"})


def scalars(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The numbers and words of a report. Lists are counted, not shown: some name hidden items. Nor are our folders."""
    return [(name, value) for name, value in text.flat(_counted(report)) if name != "…"]


def _counted(value: Mapping[str, Any]) -> dict[str, Any]:
    counted: dict[str, Any] = {}
    for name, inner in value.items():
        if name in _OURS:
            continue
        if isinstance(inner, Mapping):
            counted[name] = _counted(inner)
        elif isinstance(inner, list | tuple):
            counted[name] = len(inner)
        else:
            counted[name] = inner
    return counted
