"""Merging turns into trajectories."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from astune.trace import Episode, SplitReason, StopReason, ToolCall, Turn, build_trajectories


def turn(prompt: list[int], completion: list[int], reason: SplitReason | None = None) -> Turn:
    return Turn(
        prompt, completion, [-float(k + 1) for k in range(len(completion))], StopReason.EOS, split_reason=reason
    )


def test_a_prompt_that_extends_the_last_turn_joins_its_trajectory() -> None:
    first, second = turn([1, 2], [3, 4]), turn([1, 2, 3, 4, 5], [6])
    [trajectory], reasons = build_trajectories([first, second])
    assert trajectory.ids == [1, 2, 3, 4, 5, 6]
    assert trajectory.loss_mask == [0, 0, 1, 1, 0, 1]
    assert trajectory.logprobs == [0.0, 0.0, -1.0, -2.0, 0.0, -1.0]
    assert not reasons


def test_a_prompt_that_extends_nothing_starts_anew_for_the_stated_reason() -> None:
    trajectories, reasons = build_trajectories([turn([1], [2]), turn([1, 9], [3], SplitReason.RETOKENISATION)])
    assert [t.ids for t in trajectories] == [[1, 2], [1, 9, 3]]
    assert reasons == {"retokenisation": 1}


def test_a_second_continuation_of_one_turn_is_a_trajectory_of_its_own() -> None:
    turns = [turn([1], [2]), turn([1, 2, 3], [4]), turn([1, 2, 5], [6])]
    trajectories, reasons = build_trajectories(turns)
    assert [t.loss_mask for t in trajectories] == [[0, 1, 0, 1], [0, 0, 0, 1]]
    assert reasons == {"edited_history": 1}


def test_interleaved_conversations_are_kept_apart() -> None:
    turns = [turn([1], [2]), turn([7], [8]), turn([1, 2, 3], [4]), turn([7, 8, 9], [1])]
    assert [t.ids for t in build_trajectories(turns)[0]] == [[1, 2, 3, 4], [7, 8, 9, 1]]


@st.composite
def conversations(draw: st.DrawFn) -> list[Turn]:
    """Turns that extend earlier ones, or don't, over an alphabet small enough for accidents."""
    ids = st.lists(st.integers(0, 2), min_size=1, max_size=4)
    turns: list[Turn] = []
    for _ in range(draw(st.integers(0, 8))):
        start: list[int] = []
        if turns and draw(st.booleans()):
            parent = draw(st.sampled_from(turns))
            start = parent.prompt_ids + parent.completion_ids
        turns.append(turn(start + draw(ids), draw(st.lists(st.integers(0, 2), max_size=4))))
    return turns


@given(conversations())
def test_nothing_is_lost_and_every_mask_and_prefix_is_right(turns: list[Turn]) -> None:
    trajectories, reasons = build_trajectories(turns)
    merged = [t for trajectory in trajectories for t in trajectory.turns]
    assert sorted(map(id, merged)) == sorted(map(id, turns))
    assert sum(reasons.values()) == max(0, len(trajectories) - 1)
    for trajectory in trajectories:
        assert len(trajectory.ids) == len(trajectory.loss_mask) == len(trajectory.logprobs)
        sampled = [(token, p) for token, mask, p in zip(*_columns(trajectory), strict=True) if mask]
        assert sampled == [pair for t in trajectory.turns for pair in zip(t.completion_ids, t.logprobs, strict=True)]
        assert all(trajectory.ids[: len(t.prompt_ids)] == t.prompt_ids for t in trajectory.turns)
        assert all(p == 0.0 for mask, p in zip(trajectory.loss_mask, trajectory.logprobs, strict=True) if not mask)


def _columns(trajectory):  # type: ignore[no-untyped-def]
    return trajectory.ids, trajectory.loss_mask, trajectory.logprobs


@given(conversations(), st.lists(st.integers(0, 5)))
def test_turns_and_tool_calls_come_in_the_order_in_which_they_happened(turns: list[Turn], tools: list[int]) -> None:
    happened: list[Turn | ToolCall] = []
    calls = [ToolCall(str(number), {}, "", 0, "exit", 0.0) for number in range(len(tools))]
    before = sorted(min(number, len(turns)) for number in tools)  # how many turns preceded each tool call
    for number, turn_ in enumerate(turns):
        turn_.number = number
        turn_.tools_before = sum(position <= number for position in before)
        happened += [call for call, position in zip(calls, before, strict=True) if position == number] + [turn_]
    happened += [call for call, position in zip(calls, before, strict=True) if position == len(turns)]
    episode = Episode("t", 0, trajectories=build_trajectories(turns)[0], tool_calls=calls)
    assert [id(event) for event in episode.in_order()] == [id(event) for event in happened]
