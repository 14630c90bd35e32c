"""Episodes as JSON and back."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from astune.errors import CheckpointError
from astune.rollout.records import append_episode, episode_from_dict, episode_to_dict, read_episodes
from astune.trace import Episode, SplitReason, StopReason, ToolCall, Turn, Verdict, build_trajectories


def an_episode(task_id: str = "t") -> Episode:
    turns = [
        Turn([1, 2], [3, 4], [-0.1, -1e-17], StopReason.TOOL_CALL, message={"role": "assistant", "content": "é\ud800"}),
        Turn([1, 2, 3, 4, 5], [6], [-0.3], StopReason.EOS, cached_tokens=4),
        Turn([9], [], [], StopReason.ABORTED, agent="critic", split_reason=SplitReason.NEW_CONVERSATION),
    ]
    trajectories, reasons = build_trajectories(turns)
    return Episode(
        task_id=task_id,
        sample_index=3,
        trajectories=trajectories,
        judge_input={"final_answer": "18"},
        verdict=Verdict(0.8, None, {"answer": 1.0, "no_print": -0.2}),
        tool_calls=[ToolCall("execute_python_code", {"code": "1"}, "", 0, "exit", 0.01)],
        split_reasons=reasons,
        seconds={"total": 1.5},
        habits={"no_print": True},
        metadata={"final_answer": "18"},
    )


def test_an_episode_survives_json_to_the_bit() -> None:
    episode = an_episode()
    assert episode_from_dict(json.loads(json.dumps(episode_to_dict(episode)))) == episode


def test_what_json_cannot_say_becomes_text() -> None:
    episode = Episode("t", 0, judge_input={"step": {1, 2}, "nan": float("nan")}, split_reasons=Counter())
    assert episode_to_dict(episode)["judge_input"] == {"step": "{1, 2}", "nan": "nan"}


@pytest.mark.parametrize(
    "text",
    ["key sk-astune-0123456789abcdef01234567", "Authorization: Bearer abc.def.ghijkl", "http://me:hunter2@host/"],
)
def test_secrets_in_texts_are_blanked(text: str) -> None:
    record = episode_to_dict(Episode("t", 0, error=text, traceback=text))
    assert "[secret]" in record["error"] and "[secret]" in record["traceback"]


def test_secrets_by_name_are_blanked() -> None:
    record = episode_to_dict(Episode("t", 0, metadata={"client": {"api_key": "x", "OPENAI_API_KEY": "y"}}))
    assert record["metadata"] == {"client": {"api_key": "[secret]", "OPENAI_API_KEY": "[secret]"}}


def test_ordinary_text_is_left_alone() -> None:
    text = "a task about pk_values, skating and tokens: 3 * 4"
    assert episode_to_dict(Episode("t", 0, error=text))["error"] == text


def test_a_file_gives_back_its_episodes_in_order(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl.gz"
    with path.open("ab") as file:
        for name in "abc":
            append_episode(file, an_episode(name))
    assert list(read_episodes(path)) == [an_episode(name) for name in "abc"]


@pytest.mark.parametrize("cut", [1, 9, 40, 200])
def test_what_a_killed_run_left_half_written_is_skipped(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "episodes.jsonl.gz"
    with path.open("ab") as file:
        append_episode(file, an_episode("a"))
        append_episode(file, an_episode("b"))
    path.write_bytes(path.read_bytes()[:-cut])
    assert [episode.task_id for episode in read_episodes(path)][:1] == ["a"]


def test_a_line_that_is_no_episode_is_named(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"task_id": "a"}\n'))
    with pytest.raises(CheckpointError, match=r"episodes\.jsonl\.gz, line 1"):
        list(read_episodes(path))
