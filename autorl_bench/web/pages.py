"""The pages: boards of all scenarios, one board, one run, one scenario; served, or written by ``export``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse, JSONResponse

from autorl_bench.leaderboard import Row
from autorl_bench.scenarios import Scenario, ScenarioRegistry, UnknownScenario, details
from autorl_bench.store import Store, UnknownRecord
from autorl_bench.web import drawings, text
from autorl_bench.web.boards import leaderboard_json, read_boards
from autorl_bench.web.files import RunFiles, ShownFile
from autorl_bench.web.render import Links, page, security_policy
from autorl_bench.web.results import Results
from autorl_bench.web.run_view import RunView, read_run


@dataclass(frozen=True, slots=True)
class Pages:
    """Makes the pages of one benchmark folder. Each takes the links of the place where it will stand."""

    results: Results
    scenarios: ScenarioRegistry
    home: Path

    def index(self, links: Links) -> str:
        """A card for each scenario with runs, and a list of the others."""
        names = self.results.scenarios()
        cards = [self._card(name) for name in names]
        others = [(name, self.scenarios.get(name).title) for name in self.scenarios.ids if name not in names]
        return page("index.html", links=links, scenarios=cards, others=others)

    def board(self, scenario: str, links: Links) -> str:
        """The boards of one scenario.

        Raises:
            UnknownScenario: no scenario and no run has this name.
        """
        boards, known = read_boards(self.results, scenario), scenario in self.scenarios.ids
        if not boards and not known:
            raise UnknownScenario(scenario, sorted({*self.scenarios.ids, *self.results.scenarios()}))
        return page(
            "board.html",
            links=links,
            scenario=scenario,
            title=self.scenarios.get(scenario).title if known else scenario,
            facts=_facts(self.scenarios.get(scenario)) if known else [],
            known=known,
            boards=boards,
            agents=lambda board: sorted(row.agent for row in board.complete),
            counts=_counts,
        )

    def run(self, run_id: str, links: Links) -> str:
        """One run.

        Raises:
            UnknownRecord: no such run.
        """
        view = read_run(self.results, run_id)
        code, logs, output = _files(view, self.home)
        drawing = drawings.run_chart(view)
        return page("run.html", links=links, view=view, drawing=drawing, code=code, logs=logs, output=output)

    def scenario(self, scenario: str, links: Links) -> str:
        """What a scenario asks: all that an agent may know, and nothing else.

        Raises:
            UnknownScenario: there is none of this id.
        """
        found = self.scenarios.get(scenario)
        asked = details(found)
        return page(
            "scenario.html",
            links=links,
            asked=asked,
            has_runs=scenario in self.results.scenarios(),
            given=_given(asked),
            budget=_budget(asked["budget"]),
            splits=_splits(asked),
            asking=_asking(asked),
            prompt=[
                (role, words)
                for role, words in asked["prompt"].items()
                if role != "renderer" and words not in (None, "{question}")
            ],
        )

    def _card(self, name: str) -> dict[str, Any]:
        boards, known = read_boards(self.results, name), name in self.scenarios.ids
        newest = boards[0]
        runs = sum(len(board.entries) for board in boards)
        agents = len({entry.run.agent for board in boards for entry in board.entries})
        facts = _facts(self.scenarios.get(name)) if known else []
        return {
            "id": name,
            "title": self.scenarios.get(name).title if known else name,
            "facts": [*facts, f"{text.plural(runs, 'run')} of {text.plural(agents, 'agent')}"],
            "rows": newest.clean,
            "scale": drawings.Scale.of(row.improvement for row in newest.clean),
        }


def make_router(store: Store, scenarios: ScenarioRegistry, home: Path) -> APIRouter:
    """The pages and ``GET /leaderboard/{scenario}``. Nobody is asked who they are: see :func:`make_board_app`."""
    router, pages = APIRouter(), Pages(Results(store), scenarios, home)

    # Not async: each draws bootstraps and reads the store, so it belongs in a thread.
    @router.get("/", response_class=HTMLResponse)
    def index() -> HTMLResponse:
        return _html(pages.index(Links(deep=False, static=False)))

    @router.get("/boards/{scenario}", response_class=HTMLResponse)
    def board(scenario: str) -> HTMLResponse:
        return _page_or_404(lambda links: pages.board(scenario, links))

    @router.get("/board-runs/{run}", response_class=HTMLResponse)
    def run(run: str) -> HTMLResponse:
        return _page_or_404(lambda links: pages.run(run, links))

    @router.get("/board-scenarios/{scenario}", response_class=HTMLResponse)
    def scenario(scenario: str) -> HTMLResponse:
        return _page_or_404(lambda links: pages.scenario(scenario, links))

    @router.get("/leaderboard/{scenario}")
    def leaderboard(scenario: str) -> JSONResponse:
        known = sorted({*scenarios.ids, *pages.results.scenarios()})
        if scenario not in known:
            detail = {"code": "unknown_scenario", "message": f"there is no scenario {scenario!r}", "known": known}
            return JSONResponse({"detail": detail}, 404)
        return JSONResponse(leaderboard_json(pages.results, scenario))

    return router


def make_board_app(store: Store, scenarios: ScenarioRegistry, home: Path) -> FastAPI:
    """The pages as a server of their own, for a port that agents cannot reach: they show what other agents found."""
    app = FastAPI(title="AutoRL-Bench board", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(make_router(store, scenarios, home))
    return app


def _page_or_404(make: Any) -> HTMLResponse:
    links = Links(deep=True, static=False)
    try:
        return _html(make(links))
    except (UnknownRecord, UnknownScenario) as error:
        return _html(page("error.html", links=links, message=str(error)), 404)


def _html(content: str, status: int = 200) -> HTMLResponse:
    headers = {
        "Content-Security-Policy": f"{security_policy()}; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return HTMLResponse(content.encode("utf-8", "replace"), status, headers)


# --- what templates are given -----------------------------------------------------------------------------------


def _files(view: RunView, home: Path) -> tuple[dict[int, list[ShownFile]], dict[int, list[ShownFile]], list[ShownFile]]:
    """Code and log of each experiment, and the output of the run's jobs; nothing of a run that goes on."""
    run = view.entry.run
    if not run.state.is_end:
        return {}, {}, []
    files = RunFiles(home, run.id)
    output = files.logs()
    code, logs = {}, {}
    for trial in view.trials:
        experiment = trial.experiment
        if experiment.code_path:
            code[experiment.number] = files.read(experiment.code_path)
        if experiment.log_path:
            logs[experiment.number] = files.read(experiment.log_path, end=True)
    return code, logs, output


def _counts(row: Row) -> str:
    scored = f"scored ({row.flagged} flagged)" if row.flagged else "scored"
    words = {scored: row.scored, "invalid": row.invalid, "failed for us": row.infrastructure}
    return ", ".join(f"{count} {word}" for word, count in words.items() if count)


def _facts(scenario: Scenario) -> list[str]:
    tested = [] if scenario.n.test is None else [f"{scenario.n.test:,} test items"]
    base = scenario.base_model_path.rsplit("/", 1)[-1]
    return [f"{scenario.metric} of {base}", f"baseline {text.percent(scenario.baseline_score)}", *tested]


def _given(asked: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("base model", asked["base_model_path"]),
        ("training data", asked["train_data_path"]),
        ("baseline score", text.percent(asked["baseline_score"])),
        ("metric", asked["metric"]),
    ]


def _budget(budget: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("wall time", text.duration(budget["wall_seconds"])),
        ("processor time", text.duration(budget["cpu_seconds"])),
        ("memory", f"{budget['memory_gib']:g} GiB"),
        ("disk", f"{budget['disk_gib']:g} GiB"),
        ("submissions", str(budget["submissions"])),
        ("dev queries", str(budget["dev_queries"])),
    ]
    return [*rows, ("GPU time", text.duration(budget["gpu_seconds"]))] if budget["gpu_seconds"] else rows


def _splits(asked: dict[str, Any]) -> list[tuple[str, str, str]]:
    drawn = "drawn anew for each draw of a run" if asked["test_is_drawn_anew"] else "from the vault's file"
    whose = {
        "train": "the agent's, with answers",
        "dev": "answers with a score and its interval, a limited number of times",
        "test": f"the grader's alone, opened once a run; {drawn}",
        "twin": "drawn like the test; a model that knows the test by heart scores less on it",
    }
    sizes = asked["n"]
    return [
        (name, f"{sizes[name]:,}" if sizes[name] else "all", words) for name, words in whose.items() if sizes[name] != 0
    ]


def _asking(asked: dict[str, Any]) -> list[tuple[str, str]]:
    episode, generation = asked["episode"], asked["generation"]
    direct = episode["kind"] == "direct"
    rows = [
        (
            "episode",
            "one completion" if direct else f"{episode['workflow']}, at most {episode['max_turns']} model calls",
        ),
        ("renderer", asked["prompt"]["renderer"]),
        ("decoding", f"{asked['decoding']}, at most {generation['max_tokens']:,} tokens a completion"),
        ("checker", asked["checker"]),
    ]
    context = generation["max_context"]
    return [*rows, ("context", f"{context:,} tokens")] if context else rows


def board_names(pages: Pages) -> Sequence[str]:
    """Scenarios that a complete board shows: those that are known, and those of which there are runs."""
    return sorted({*pages.scenarios.ids, *pages.results.scenarios()})
