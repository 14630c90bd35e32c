"""Episodes and tasks as JSON lines, compressed: what a run folder keeps of each rollout, and back again.

A turn is stored as two lengths, because its prompt and completion are slices of its trajectory; mask
and log-probabilities are stored for sampled tokens only. The same episodes always give the same bytes.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from astune.errors import CheckpointError
from astune.files import atomic_write
from astune.task_reader.types import Task
from astune.trace import Episode, SplitReason, StopReason, ToolCall, Trajectory, Turn, Verdict

#: What a judge is handed beside the workflow's own fields: recorded elsewhere, or not data at all.
_NOT_RECORDED = {"workflow_task", "grouped_steps", "tool_calls", "env"}


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: non-finite numbers become None, foreign objects their ``repr``."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return repr(value)


def episode_to_record(episode: Episode) -> dict[str, Any]:
    """One episode as a JSON object.

    Raises:
        ValueError: a turn is no slice of its trajectory, which breaks the contract of ``Trajectory``.
    """
    evidence = {key: value for key, value in episode.judge_input.items() if key not in _NOT_RECORDED}
    return {
        "task_id": episode.task_id,
        "sample_index": episode.sample_index,
        "role": episode.role,
        "round": episode.round,
        "stop_reason": episode.stop_reason,
        "error": episode.error,
        "traceback": episode.traceback,
        "verdict": None if episode.verdict is None else plain(dataclasses.asdict(episode.verdict)),
        "habits": plain(episode.habits),
        "judge_input": plain(evidence),
        "tool_calls": [plain(dataclasses.asdict(call)) for call in episode.tool_calls],
        "split_reasons": plain(episode.split_reasons),
        "seconds": plain(episode.seconds),
        "metadata": plain(episode.metadata),
        "trajectories": [_trajectory_to_record(trajectory) for trajectory in episode.trajectories],
    }


def _trajectory_to_record(trajectory: Trajectory) -> dict[str, Any]:
    sampled = [logprob for logprob, mask in zip(trajectory.logprobs, trajectory.loss_mask, strict=True) if mask]
    return {
        "ids": trajectory.ids,
        # Run lengths that alternate between masked and sampled tokens, masked first.
        "mask_runs": _mask_runs(trajectory.loss_mask),
        # Nine digits give back every float32; None stands for minus infinity.
        "logprobs": [float(f"{value:.9g}") if math.isfinite(value) else None for value in sampled],
        "turns": [_turn_to_record(turn, trajectory) for turn in trajectory.turns],
    }


def _mask_runs(mask: Sequence[int]) -> list[int]:
    runs = [(value, len(list(run))) for value, run in groupby(mask)]
    return [0] * (bool(runs) and runs[0][0] == 1) + [length for _, length in runs]


def _turn_to_record(turn: Turn, trajectory: Trajectory) -> dict[str, Any]:
    start, end = len(turn.prompt_ids), len(turn.prompt_ids) + len(turn.completion_ids)
    if trajectory.ids[:end] != [*turn.prompt_ids, *turn.completion_ids]:
        raise ValueError("a turn's prompt and completion are not a prefix of its trajectory")
    return {
        "prompt": start,
        "completion": end - start,
        "stop_reason": turn.stop_reason.value,
        "agent": turn.agent,
        "message": plain(turn.message),
        "cached_tokens": turn.cached_tokens,
        "split_reason": turn.split_reason,
        "number": turn.number,
        "tools_before": turn.tools_before,
    }


def episode_from_record(record: Mapping[str, Any]) -> Episode:
    """Reads what :func:`episode_to_record` wrote."""
    verdict = record["verdict"]
    return Episode(
        task_id=record["task_id"],
        sample_index=record["sample_index"],
        # Files that were written before there was a refine stage hold answers alone.
        role=record.get("role", "answer"),
        round=record.get("round", 0),
        trajectories=[_trajectory_from_record(item) for item in record["trajectories"]],
        judge_input=record["judge_input"],
        verdict=None if verdict is None else Verdict(**verdict),
        tool_calls=[ToolCall(**call) for call in record["tool_calls"]],
        split_reasons=Counter(record["split_reasons"]),
        stop_reason=record["stop_reason"],
        error=record["error"],
        traceback=record["traceback"],
        seconds=record["seconds"],
        habits=record["habits"],
        metadata=record["metadata"],
    )


def _trajectory_from_record(record: Mapping[str, Any]) -> Trajectory:
    mask = [index % 2 for index, length in enumerate(record["mask_runs"]) for _ in range(length)]
    sampled = iter(record["logprobs"])
    values = [next(sampled) if bit else 0.0 for bit in mask]
    logprobs = [-math.inf if value is None else value for value in values]
    ids = record["ids"]
    return Trajectory(ids, mask, logprobs, [_turn_from_record(turn, ids, logprobs) for turn in record["turns"]])


def _turn_from_record(record: Mapping[str, Any], ids: list[int], logprobs: list[float]) -> Turn:
    start, end = record["prompt"], record["prompt"] + record["completion"]
    return Turn(
        prompt_ids=ids[:start],
        completion_ids=ids[start:end],
        logprobs=logprobs[start:end],
        stop_reason=StopReason(record["stop_reason"]),
        agent=record["agent"],
        message=record["message"],
        cached_tokens=record["cached_tokens"],
        split_reason=None if record["split_reason"] is None else SplitReason(record["split_reason"]),
        # Files that were written before calls were numbered know the order of turns alone.
        number=record.get("number", 0),
        tools_before=record.get("tools_before", 0),
    )


def write_episodes(path: Path, episodes: Iterable[Episode]) -> None:
    """Writes ``episodes`` to ``path`` (``.jsonl.gz``), one a line, whole or not at all."""
    _write_lines(path, (episode_to_record(episode) for episode in episodes))


def read_episodes(path: Path) -> list[Episode]:
    """Reads a file of :func:`write_episodes`.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    return [episode_from_record(record) for record in _read_lines(path)]


def write_tasks(path: Path, tasks: Iterable[Task]) -> None:
    """Writes ``tasks`` to ``path`` (``.jsonl.gz``), one a line."""
    _write_lines(path, (plain(dataclasses.asdict(task)) for task in tasks))


def read_tasks(path: Path) -> list[Task]:
    """Reads a file of :func:`write_tasks`."""
    return [Task(**record) for record in _read_lines(path)]


def _write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
    atomic_write(path, gzip.compress(text.encode(), compresslevel=6, mtime=0))


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = gzip.decompress(path.read_bytes()).decode()
        return iter([json.loads(line) for line in text.splitlines()])
    except (OSError, EOFError, ValueError) as error:
        raise CheckpointError(f"cannot read the records in {path}: {error}; delete the file to go on") from error
