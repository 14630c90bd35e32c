from __future__ import annotations

import math
import struct
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astune.errors import CheckpointError
from astune.report.records import (
    episode_from_record,
    episode_to_record,
    read_episodes,
    read_tasks,
    write_episodes,
    write_tasks,
)
from astune.task_reader.types import Task
from astune.trace import Episode, SplitReason, StopReason, ToolCall, Trajectory, Turn, Verdict, build_trajectories

ids = st.lists(st.integers(0, 150_000), min_size=1, max_size=6)
nine_digits = st.integers(-400_000, 0).map(lambda n: n / 10_000)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    turns, seen = [], []
    for _ in range(draw(st.integers(1, 3))):
        seen = seen + draw(ids)
        completion = draw(ids)
        logprobs = draw(st.lists(nine_digits, min_size=len(completion), max_size=len(completion)))
        turns.append(Turn(list(seen), completion, logprobs, draw(st.sampled_from(StopReason)), cached_tokens=1))
        turns[-1].number, turns[-1].tools_before = draw(st.integers(0, 9)), draw(st.integers(0, 9))
        seen = seen + completion
    (trajectory,), _ = build_trajectories(turns)
    return trajectory


@given(trajectories())
def test_what_is_written_is_read_back(trajectory: Trajectory):
    episode = Episode(
        task_id="t1",
        sample_index=3,
        trajectories=[trajectory],
        judge_input={"final_answer": "18"},
        verdict=Verdict(0.5, None, {"correct": 0.0}),
        tool_calls=[ToolCall("execute_python_code", {"code": "print(1)"}, "1\n", 0, "exit", 0.25)],
        split_reasons=Counter({"edited_history": 1}),
        stop_reason="timeout",
        error="took too long",
        traceback="Traceback",
        seconds={"model": 1.5},
        habits={"no_print": True},
        metadata={"final_answer": "18"},
    )
    assert episode_from_record(episode_to_record(episode)) == episode


def test_logprobs_keep_every_bit_of_a_float32():
    (value,) = struct.unpack("f", struct.pack("f", -0.1234567891))
    turn = Turn([1], [2], [value], StopReason.EOS, split_reason=SplitReason.TEMPLATE)
    episode = Episode("t", 0, [Trajectory([1, 2], [0, 1], [0.0, value], [turn])])
    (again,) = episode_from_record(episode_to_record(episode)).trajectories
    assert struct.pack("f", again.logprobs[1]) == struct.pack("f", value)


def test_impossible_token_is_kept_as_such(tmp_path: Path):
    turn = Turn([1], [2], [-math.inf], StopReason.EOS)
    write_episodes(tmp_path / "e.jsonl.gz", [Episode("t", 0, [Trajectory([1, 2], [0, 1], [0.0, -math.inf], [turn])])])
    (episode,) = read_episodes(tmp_path / "e.jsonl.gz")
    assert episode.trajectories[0].logprobs == [0.0, -math.inf]


def test_turn_that_is_no_part_of_its_trajectory_is_refused():
    stray = Trajectory([1, 2], [0, 1], [0.0, -1.0], [Turn([9], [2], [-1.0], StopReason.EOS)])
    with pytest.raises(ValueError, match="not a prefix of its trajectory"):
        episode_to_record(Episode("t", 0, [stray]))


def test_evidence_that_json_cannot_hold_is_described(tmp_path: Path):
    record = episode_to_record(Episode("t", 0, judge_input={"set": {1}, "path": tmp_path, "env": object()}))
    assert record["judge_input"] == {"set": [1], "path": repr(tmp_path)}


def test_the_same_episodes_give_the_same_bytes(tmp_path: Path):
    for name in ("a", "b"):
        write_episodes(tmp_path / name, [Episode("t", 0)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tasks_are_read_back(tmp_path: Path):
    tasks = [Task("t1", "How many?", "18", [{"role": "user", "content": "How many?"}], {"steps": 2})]
    write_tasks(tmp_path / "tasks", tasks)
    assert read_tasks(tmp_path / "tasks") == tasks


def test_damaged_file_is_named(tmp_path: Path):
    write_episodes(tmp_path / "e.jsonl.gz", [Episode("t", 0)])
    whole = (tmp_path / "e.jsonl.gz").read_bytes()
    (tmp_path / "e.jsonl.gz").write_bytes(whole[:-12])
    with pytest.raises(CheckpointError, match=r"e\.jsonl\.gz.*delete the file"):
        read_episodes(tmp_path / "e.jsonl.gz")
