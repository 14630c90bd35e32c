"""The whole board as one folder of files that opens from a disk: no server, no network, no script needed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

from astune.errors import UserError
from astune.files import fsync, storage_errors
from autorl_bench.scenarios import ScenarioRegistry
from autorl_bench.store import Store
from autorl_bench.web.boards import leaderboard_json
from autorl_bench.web.pages import Pages, board_names
from autorl_bench.web.render import Links, file_name
from autorl_bench.web.results import Results

#: In every export, so that a later one knows that the folder may be replaced.
MARK = ".autorl-bench-board"


def export(store: Store, scenarios: ScenarioRegistry, home: Path, target: Path) -> Path:
    """Writes every page and the JSON of every board to ``target``; ``target/index.html`` is where to begin.

    An earlier export at ``target`` is replaced by the new one when that is complete; readers find one or the other.

    Raises:
        UserError: something that is no export is at ``target``.
        CheckpointError: the folder cannot be written.
    """
    target = target.absolute()
    if target.is_symlink() or (target.exists() and not _is_ours(target)):
        raise UserError(f"{target} is there and is no exported board; name a folder that does not exist")
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(mkdtemp(prefix=f".writing-{target.name}-", dir=target.parent))
        try:
            for name, content in _files(Pages(Results(store), scenarios, home)):
                file = scratch / name
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(content.encode("utf-8", "replace"))
                fsync(file)
            scratch.chmod(0o755)
            _put(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target / "index.html"


def _files(pages: Pages) -> Iterator[tuple[str, str]]:
    top, deep = Links(deep=False, static=True), Links(deep=True, static=True)
    yield MARK, ""
    yield "index.html", pages.index(top)
    for name in board_names(pages):
        yield f"boards/{file_name(name)}", pages.board(name, deep)
        yield f"boards/{file_name(name, '.json')}", json.dumps(leaderboard_json(pages.results, name), indent=1)
    for name in pages.scenarios.ids:
        yield f"board-scenarios/{file_name(name)}", pages.scenario(name, deep)
    with pages.results.store.read() as tx:
        runs = [run.id for run in tx.runs.all()]
    for run_id in runs:
        yield f"board-runs/{file_name(run_id)}", pages.run(run_id, deep)


def _is_ours(target: Path) -> bool:
    return target.is_dir() and ((target / MARK).is_file() or not any(target.iterdir()))


def _put(scratch: Path, target: Path) -> None:
    """Gives the new folder its name. Two renames: in the instant between them, only the old one's name is missing."""
    old = scratch.with_name(f"{scratch.name}-old")
    if target.exists():
        target.rename(old)
    try:
        scratch.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    fsync(target.parent)
    shutil.rmtree(old, ignore_errors=True)
