"""The ``replay`` track: the benchmark trains by itself, with an agent's code, from the base model.

``code/`` and nothing else leaves the workspace. ``env/entry.py`` runs it as a job without network.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from astune.errors import SandboxError
from autorl_bench.jobs import JobLimits, JobRecord, JobRunner, JobSpec, JobStop, library_paths, python_paths
from autorl_bench.jobs.record import STDERR
from autorl_bench.submission.paths import open_folder
from autorl_bench.submission.reasons import SubmissionRefused
from autorl_bench.submission.tree import TreeLimits, copy_tree
from autorl_bench.types import Reason

_PACKAGE = Path(__file__).resolve().parent
#: In a checkout, and in an installed package.
_ENTRIES = (_PACKAGE.parent / "env" / "entry.py", _PACKAGE / "env" / "entry.py")
_WORKSPACE, _CODE, _OUTPUT = "workspace", "code", ("output", "model")
_LAST_LINES, _LAST_BYTES = 12, 2000
#: Exit statuses of ``env/entry.py``; a test compares them.
_BAD_ENVIRONMENT, _NO_SCRIPT, _FAILED, _NO_MODEL = 80, 81, 82, 83

_LIMITS = {
    JobStop.WALL: "more time than there is: watch AUTORL_SECONDS_LEFT",
    JobStop.CPU: "more processor time than there is",
    JobStop.MEMORY: "more memory than there is",
    JobStop.PROCESSES: "more processes than there may be",
    JobStop.DISK: "more of the disk than there is: keep fewer checkpoints",
}


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of replaying code: the folder of the model, or the reason why there is none.

    ``record`` is that of the training job; None when the code was refused before it ran.
    """

    model: Path | None
    record: JobRecord | None
    reason: Reason | None = None


async def replay(
    code: Path,
    folder: Path,
    *,
    base_model: Path,
    train_data: Path,
    seed: int,
    limits: JobLimits,
    runner: JobRunner,
    hidden: tuple[Path, ...] = (),
    code_limits: TreeLimits | None = None,
) -> Replayed:
    """Trains with the code in ``code`` and returns the model's folder.

    ``folder`` (new) becomes the job's: its record and output, and in ``folder/workspace`` the copied ``code/`` and
    ``output/model/``.

    Raises:
        SandboxError: the job could not be run, or not be watched to its end: no fault of the code's.
        CheckpointError: ``folder`` cannot be written.
        FileExistsError: ``folder`` holds an earlier replay.
    """
    workspace = (folder / _WORKSPACE).resolve()
    workspace.mkdir(parents=True)
    try:
        copy_tree(code.parent, (code.name,), workspace / _CODE, code_limits or TreeLimits())
    except SubmissionRefused as refused:
        return Replayed(None, None, _refusal(refused))
    environment = _environment(workspace, base_model, train_data, seed, limits)
    record = await runner.run(_spec(workspace, environment, limits, hidden), folder)
    reason = _reason(record, folder, limits) or _missing(workspace)
    return Replayed(None if reason else workspace.joinpath(*_OUTPUT), record, reason)


def _entry() -> Path:
    for path in _ENTRIES:
        if path.is_file():
            return path
    raise SandboxError(f"{_ENTRIES[0]} is missing, and nothing can be replayed without it: install the project anew")


def _spec(workspace: Path, environment: Mapping[str, str], limits: JobLimits, hidden: tuple[Path, ...]) -> JobSpec:
    entry = _entry()
    given = (Path(environment[name]) for name in ("AUTORL_BASE_MODEL", "AUTORL_TRAIN_DATA"))
    return JobSpec(
        (sys.executable, "-u", str(entry), _CODE),
        workspace,
        readable=(*python_paths(), *library_paths(), entry, *given),
        environment=environment,
        hidden=tuple(path.resolve() for path in hidden),
        limits=limits,
    )


def _environment(workspace: Path, base: Path, data: Path, seed: int, limits: JobLimits) -> Mapping[str, str]:
    return {
        "AUTORL_TRACK": "replay",
        "AUTORL_BASE_MODEL": str(base.resolve()),
        "AUTORL_TRAIN_DATA": str(data.resolve()),
        "AUTORL_OUTPUT": str(workspace.joinpath(*_OUTPUT)),
        "AUTORL_SEED": str(seed),
        "AUTORL_SECONDS_LEFT": f"{limits.wall_seconds:.1f}",
        "PYTHONHASHSEED": str(seed % 2**32),
        "HF_HUB_OFFLINE": "1",  # there is no network: say so at once
    }


def _refusal(refused: SubmissionRefused) -> Reason:
    found = f"code/ cannot be replayed: {refused.found}"
    what_to_do = "Leave in it, as ordinary files, the code that trains the model, its script train.py, and nothing else"
    return Reason(f"code_{refused.code.value}", f"{found}. {what_to_do}.")


def _reason(record: JobRecord, folder: Path, limits: JobLimits) -> Reason | None:
    """Why a job that has ended has no model, as far as its record tells."""
    if record.stop in _LIMITS:
        what = f"code/train.py was ended at a limit: it took {_LIMITS[record.stop]} ({_limit(record.stop, limits)})."
        return Reason(f"replay_{record.stop.value}_limit", what + _last_lines(folder))
    if record.stop != JobStop.EXIT:
        problem = record.problem or f"it was {record.stop}"
        raise SandboxError(f"the replay in {folder} was not watched to its end: {problem}")
    if record.exit_code == 0:
        return None
    if record.exit_code == _BAD_ENVIRONMENT:
        raise SandboxError(f"the replay in {folder} did not start:{_last_lines(folder)}")
    if record.exit_code == _NO_SCRIPT:
        return Reason("no_train_script", "There is no code/train.py: it is what is run to train the model.")
    if record.exit_code == _NO_MODEL:
        return Reason("no_model", f"code/train.py wrote no model to AUTORL_OUTPUT.{_last_lines(folder)}")
    how = "failed" if record.exit_code == _FAILED else f"took its starter with it (exit status {record.exit_code})"
    return Reason("training_failed", f"code/train.py {how}.{_last_lines(folder)}")


def _limit(stop: JobStop, limits: JobLimits) -> str:
    return {
        JobStop.WALL: f"{limits.wall_seconds:g} s",
        JobStop.CPU: f"{limits.cpu_seconds:g} s",
        JobStop.MEMORY: f"{limits.memory} bytes",
        JobStop.PROCESSES: f"{limits.processes}",
        JobStop.DISK: f"{limits.disk} bytes",
    }[stop]


def _missing(workspace: Path) -> Reason | None:
    """A model folder that is a link, or is gone since it was looked at, is none."""
    try:
        with open_folder(workspace, _OUTPUT):
            return None
    except SubmissionRefused as refused:
        return Reason("no_model", f"code/train.py left no model folder: {refused.found}.")


def _last_lines(folder: Path) -> str:
    """The end of what the job wrote to stderr, after a line break; nothing where there is nothing."""
    with (folder / STDERR).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LAST_BYTES))
        text = file.read().decode(errors="replace")
    lines = ["".join(one for one in line if one.isprintable()) for line in text.splitlines()]
    lines = [line for line in lines if line.strip()][-_LAST_LINES:]
    return "\nThe last lines of its stderr:\n" + "\n".join(lines) if lines else ""
