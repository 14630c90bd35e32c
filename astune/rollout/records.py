"""Episodes as JSON, for the run folder: one object a line, compressed, ids recorded once."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from astune.errors import CheckpointError
from astune.trace import Episode, SplitReason, StopReason, ToolCall, Trajectory, Turn, Verdict

_VALUE_CHARACTERS = 4000
#: Keys and tokens of well-known services, and passwords inside addresses.
_SECRET = re.compile(
    r"\b(?:sk|pk|hf|ghp|gho|github_pat|xox[abp]|AKIA)[-_]?[A-Za-z0-9_-]{12,}"
    r"|(?<=Bearer )[A-Za-z0-9._~+/-]{8,}=*"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
_SECRET_NAME = re.compile(r"(?:api_?key|password|passwd|secret|credential|access_?token|auth_?token)", re.IGNORECASE)


def episode_to_dict(episode: Episode) -> dict[str, Any]:
    """Returns the episode as JSON values.

    A trajectory's ids are written once; masks and prompts follow from where each turn starts. What the
    workflow registered is kept as JSON where it can be, as text otherwise; secrets are blanked.
    """
    return {
        "task_id": episode.task_id,
        "sample_index": episode.sample_index,
        "trajectories": [_trajectory_to_dict(trajectory) for trajectory in episode.trajectories],
        "judge_input": _public(episode.judge_input),
        "verdict": asdict(episode.verdict) if episode.verdict else None,
        "tool_calls": [asdict(call) for call in episode.tool_calls],
        "split_reasons": dict(episode.split_reasons),
        "stop_reason": episode.stop_reason,
        "error": _public(episode.error),
        "traceback": _public(episode.traceback),
        "seconds": episode.seconds,
        "habits": episode.habits,
        "metadata": _public(episode.metadata),
    }


def episode_from_dict(record: Mapping[str, Any]) -> Episode:
    """The inverse of :func:`episode_to_dict`, up to what had to become text."""
    verdict = record["verdict"]
    return Episode(
        task_id=record["task_id"],
        sample_index=record["sample_index"],
        trajectories=[_trajectory_from_dict(trajectory) for trajectory in record["trajectories"]],
        judge_input=record["judge_input"],
        verdict=Verdict(**verdict) if verdict else None,
        tool_calls=[ToolCall(**call) for call in record["tool_calls"]],
        split_reasons=Counter(record["split_reasons"]),
        stop_reason=record["stop_reason"],
        error=record["error"],
        traceback=record["traceback"],
        seconds=record["seconds"],
        habits=record["habits"],
        metadata=record["metadata"],
    )


def append_episode(file: BinaryIO, episode: Episode) -> None:
    """Appends one line, as a gzip member of its own: a reader finds every episode that was fully written."""
    line = json.dumps(episode_to_dict(episode), separators=(",", ":"), allow_nan=False) + "\n"
    file.write(gzip.compress(line.encode(), compresslevel=5, mtime=0))
    file.flush()


def read_episodes(path: Path) -> Iterator[Episode]:
    """Yields the episodes of a ``.jsonl.gz`` file; what a killed run left half written at its end is skipped.

    Raises:
        CheckpointError: a line in the middle is no episode; names file and line.
    """
    with gzip.open(path) as lines:
        number = 0
        while True:
            number += 1
            try:
                line = lines.readline()
            except (EOFError, gzip.BadGzipFile):
                return
            if not line.endswith(b"\n"):
                return
            try:
                yield episode_from_dict(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise CheckpointError(f"{path}, line {number}: not an episode ({error!r})") from error


def _trajectory_to_dict(trajectory: Trajectory) -> dict[str, Any]:
    return {"ids": trajectory.ids, "turns": [_turn_to_dict(turn) for turn in trajectory.turns]}


def _turn_to_dict(turn: Turn) -> dict[str, Any]:
    return {
        "start": len(turn.prompt_ids),
        "logprobs": turn.logprobs,
        "stop_reason": turn.stop_reason.value,
        "agent": turn.agent,
        "message": turn.message,
        "cached_tokens": turn.cached_tokens,
        "split_reason": turn.split_reason.value if turn.split_reason else None,
    }


def _trajectory_from_dict(record: Mapping[str, Any]) -> Trajectory:
    ids: list[int] = record["ids"]
    trajectory = Trajectory(ids=ids, loss_mask=[0] * len(ids), logprobs=[0.0] * len(ids), turns=[])
    for turn in record["turns"]:
        start, logprobs = turn["start"], turn["logprobs"]
        end = start + len(logprobs)
        trajectory.loss_mask[start:end] = [1] * len(logprobs)
        trajectory.logprobs[start:end] = logprobs
        reason = turn["split_reason"]
        trajectory.turns.append(
            Turn(
                prompt_ids=ids[:start],
                completion_ids=ids[start:end],
                logprobs=list(logprobs),
                stop_reason=StopReason(turn["stop_reason"]),
                agent=turn["agent"],
                message=turn["message"],
                cached_tokens=turn["cached_tokens"],
                split_reason=SplitReason(reason) if reason else None,
            )
        )
    return trajectory


def _public(value: Any) -> Any:
    """``value`` as JSON, without secrets; what JSON cannot say becomes text of bounded length."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, str):
        return _SECRET.sub("[secret]", value)
    if isinstance(value, Mapping):
        items = ((str(key), item) for key, item in value.items())
        return {key: "[secret]" if _SECRET_NAME.search(key) else _public(item) for key, item in items}
    if isinstance(value, list | tuple):
        return [_public(item) for item in value]
    return _SECRET.sub("[secret]", repr(value))[:_VALUE_CHARACTERS]
