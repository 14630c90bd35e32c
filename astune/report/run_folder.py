"""The run folder: one place on disk that holds everything a run shows, whole at every instant.

``metrics.jsonl`` has one row a training step and no wall-clock value, so it is equal to the bit between
two runs of one seed; seconds and tokens per second live in ``timings.jsonl``. A run that starts or goes on
after step ``s`` first calls ``truncate_after(s)``, and the files read as if none had ever gone further.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from astune.errors import CheckpointError, ConfigError
from astune.files import atomic_write, storage_errors
from astune.report import records
from astune.report.metrics import Evaluation
from astune.task_reader.types import Task
from astune.trace import Episode

_STEP_FILE = re.compile(r"step_(\d+)")
_EPISODES_FILE = re.compile(r"step_(\d+)\.jsonl\.gz")


class RunFolder:
    """Paths and records of the run ``name`` below ``root``. Nothing is created before :meth:`create`.

    Raises:
        ConfigError: ``name`` is empty or would leave ``root``.
    """

    def __init__(self, name: str, root: Path | str = "saved_experiments") -> None:
        if name in {"", ".", ".."} or any(character in name for character in "/\\\0"):
            raise ConfigError(f"run name {name!r} is no folder name; use letters, digits, '-', '_' and '.'")
        self.name = name
        self.path = Path(root) / name
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.timings = self.path / "timings.jsonl"
        self.episodes = self.path / "episodes"
        self.evaluations = self.path / "evaluations"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.reward_curve = self.path / "plots" / "reward_curve.png"
        self.report = self.path / "report.html"
        self.summary = self.path / "summary.json"
        self._evaluation_rows = self.evaluations / "results.jsonl"
        self._tasks = self.evaluations / "tasks.jsonl.gz"
        self._last_step: int | None = None

    def create(self) -> RunFolder:
        """Makes the folder if it is missing and proves that it can be written.

        Raises:
            CheckpointError: it cannot, because it is read-only, full, or not a folder.
        """
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        probe = self.path / ".writable"
        atomic_write(probe, b"")
        probe.unlink(missing_ok=True)  # two starts at once share its name
        return self

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder for this process, so that two runs of one name cannot write into each other.

        A line that a process left half written when it died is dropped first.

        Raises:
            CheckpointError: another process holds it.
        """
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise CheckpointError(
                f"another process is writing {self.path}: wait for it, or give this run a name of its own (name=...)"
            ) from error
        try:
            for path in (self.metrics, self.timings, self._evaluation_rows):
                _repair_tail(path)
            yield
        finally:
            lock.release()

    def write_config(self, yaml_text: str) -> None:
        """Writes the configuration as resolved."""
        atomic_write(self.config, yaml_text)

    # One row a step ---------------------------------------------------------------------------------

    def append_metrics(self, step: int, row: Mapping[str, Any]) -> None:
        """Adds the row of training step ``step`` (counted from 1); on the disk when this returns.

        Raises:
            ValueError: a row of this or a later step is there: :meth:`truncate_after` was forgotten.
        """
        if self._last_step is None:
            self._last_step = max((known["step"] for known in self.read_metrics()), default=0)
        if step <= self._last_step:
            raise ValueError(f"{self.metrics} already holds step {self._last_step}; call truncate_after first")
        self._last_step = step
        _append(self.metrics, {"step": step} | dict(row), durable=True)

    def append_timings(self, step: int, row: Mapping[str, Any]) -> None:
        """Adds what the clock said about ``step``: ``seconds``, ``tokens_per_second``, and whatever else."""
        _append(self.timings, {"step": step} | dict(row), durable=False)

    def read_metrics(self) -> list[dict[str, Any]]:
        """All whole rows of ``metrics.jsonl``."""
        return _read_rows(self.metrics)

    def read_timings(self) -> list[dict[str, Any]]:
        """All whole rows of ``timings.jsonl``."""
        return _read_rows(self.timings)

    # Episodes and evaluations -----------------------------------------------------------------------

    def episodes_file(self, step: int) -> Path:
        """Where the training episodes of ``step`` are."""
        return self.episodes / f"step_{step:06d}.jsonl.gz"

    def write_episodes(self, step: int, episodes: Iterable[Episode], tasks: Iterable[Task] = ()) -> None:
        """Keeps the training episodes of ``step``, and beside them the problems that they are about."""
        records.write_tasks(self._episode_tasks_file(step), tasks)
        records.write_episodes(self.episodes_file(step), episodes)

    def read_newest_episodes(self) -> tuple[list[Task], list[Episode]]:
        """The latest training episodes on record and the problems that were kept with them; empty where none are."""
        steps = [
            int(match[1]) for path in self.episodes.glob("step_*") if (match := _EPISODES_FILE.fullmatch(path.name))
        ]
        if not steps:
            return [], []
        tasks_file = self._episode_tasks_file(max(steps))
        tasks = records.read_tasks(tasks_file) if tasks_file.exists() else []
        return tasks, records.read_episodes(self.episodes_file(max(steps)))

    def _episode_tasks_file(self, step: int) -> Path:
        return self.episodes / f"step_{step:06d}_tasks.jsonl.gz"

    def write_heldout_tasks(self, tasks: Iterable[Task]) -> None:
        """Keeps the held-out problems, in evaluation order, for the report."""
        records.write_tasks(self._tasks, tasks)

    def read_heldout_tasks(self) -> list[Task]:
        """The held-out problems; empty when none were written."""
        return records.read_tasks(self._tasks) if self._tasks.exists() else []

    def evaluation_file(self, step: int, mode: str) -> Path:
        """Where the episodes of one held-out evaluation are."""
        return self.evaluations / f"step_{step:06d}_{mode}.jsonl.gz"

    def write_evaluation(self, evaluation: Evaluation, episodes: Sequence[Episode]) -> None:
        """Keeps an evaluation and its episodes; the same step and mode again replaces the earlier one."""
        records.write_episodes(self.evaluation_file(evaluation.step, evaluation.mode), episodes)
        key = (evaluation.step, evaluation.mode)
        kept = [row for row in _read_rows(self._evaluation_rows) if (row["step"], row["mode"]) != key]
        _write_rows(self._evaluation_rows, [*kept, evaluation.to_row()])

    def read_evaluations(self) -> list[Evaluation]:
        """All evaluations, by step, then mode."""
        rows = [Evaluation.from_row(row) for row in _read_rows(self._evaluation_rows)]
        return sorted(rows, key=lambda evaluation: (evaluation.step, evaluation.mode))

    def read_evaluation_episodes(self, step: int, mode: str) -> list[Episode]:
        """The episodes of one evaluation."""
        return records.read_episodes(self.evaluation_file(step, mode))

    # Going on after a kill --------------------------------------------------------------------------

    def truncate_after(self, step: int) -> None:
        """Forgets everything that was recorded after training step ``step``.

        Each file is replaced as a whole, so being killed here and called again is harmless.
        """
        self._last_step = None
        for path in (self.metrics, self.timings, self._evaluation_rows):
            rows = _read_rows(path)
            if rows or path.exists():
                _write_rows(path, [row for row in rows if row["step"] <= step])
        for path in [*self.episodes.glob("step_*"), *self.evaluations.glob("step_*")]:
            match = _STEP_FILE.match(path.name)
            if match and int(match[1]) > step:
                path.unlink(missing_ok=True)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(records.plain(row), ensure_ascii=False, allow_nan=False) + "\n"


def _append(path: Path, row: Mapping[str, Any], durable: bool) -> None:
    with storage_errors(path), path.open("ab") as file:
        file.write(_line(row).encode())
        file.flush()
        if durable:
            os.fsync(file.fileno())


def _write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    atomic_write(path, "".join(map(_line, rows)))


def _whole_lines(path: Path) -> bytes:
    """The file up to its last newline: a line without one was being written when the process died."""
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1]


def _repair_tail(path: Path) -> None:
    if path.exists() and len(whole := _whole_lines(path)) < path.stat().st_size:
        atomic_write(path, whole)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(_whole_lines(path).split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CheckpointError(f"{path}, line {number}: not JSON ({error}); delete the line to go on") from error
        if not isinstance(row, dict) or "step" not in row:
            raise CheckpointError(f"{path}, line {number}: not a row of a run; delete the line to go on")
        rows.append(row)
    return rows
