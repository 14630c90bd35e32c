"""The loop: keep-best, masking, failing rounds, the record; and that async, replay and choice by rescoring agree."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astune.refine.loop import Result, arefine, refine
from astune.refine.loop_state import AllInvalidError, Metered, Reflection, Score, Usage
from astune.refine.replay import Record, RecordError, replay
from astune.refine.select import keep_last, keep_majority
from astune.refine.stop import NoGain, Rounds, ScoreReached, Tokens, Verdict

#: Scores of a run: one list a round. NaN and -inf are masked.
SCORES = st.lists(
    st.lists(st.one_of(st.floats(-5, 5), st.sampled_from([math.nan, -math.inf, 1.0])), min_size=1, max_size=3),
    min_size=1,
    max_size=6,
)

#: On a busy machine an example may take long.
quick = settings(max_examples=30, deadline=None)


def ticking() -> Callable[[], float]:
    """A clock that shows 0, 1, 2, ... seconds."""
    return count().__next__


class Script:
    """Plays given scores: candidates are named by round and place, reflections by round."""

    def __init__(self, scores: list[list[float]]) -> None:
        self.scores = scores
        self.asked: list[str] = []

    def generate(self, state: Any) -> list[Metered[str]]:
        self.asked.append(f"generate after {state.reflection}")
        number = len(state.rounds)
        return [Metered(f"{number}{letter}", Usage(10, 5)) for letter in "abc"[: len(self.scores[number - 1])]]

    def evaluate(self, state: Any, candidates: list[str]) -> list[Score]:
        values = self.scores[len(state.rounds) - 1]
        return [Score(value, feedback=f"of {name}") for value, name in zip(values, candidates, strict=True)]

    def reflect(self, state: Any, attempt: Any) -> Reflection[str]:
        return Reflection(f"on {attempt.candidate}", usage=Usage(3))

    def run(self, **options: Any) -> Result[str, str]:
        arguments = {"stop": Rounds(len(self.scores)), "clock": ticking()} | options
        return refine(self.generate, self.evaluate, self.reflect, **arguments)

    def arun(self, **options: Any) -> Result[str, str]:
        async def generate(state):
            await asyncio.sleep(0)
            return self.generate(state)

        async def evaluate(state, candidates):
            return self.evaluate(state, candidates)

        arguments = {"stop": Rounds(len(self.scores)), "clock": ticking()} | options
        return asyncio.run(arefine(generate, evaluate, self.reflect, **arguments))


def first_round_valid(scores: list[list[float]]) -> bool:
    return any(value > -math.inf for value in scores[0])


@quick
@given(SCORES.filter(first_round_valid))
def test_the_best_score_never_falls(scores):
    history = Script(scores).run().best_score_history
    assert history == sorted(history)


@quick
@given(SCORES.filter(first_round_valid))
def test_the_best_is_the_first_of_the_highest(scores):
    result = Script(scores).run()
    values = [attempt.score.value for attempt in result.state.attempts]
    assert result.chosen.number == 1 + values.index(max(values))


@quick
@given(SCORES.filter(first_round_valid))
def test_async_equals_sync(scores):
    assert Script(scores).arun() == Script(scores).run()


@quick
@given(SCORES.filter(first_round_valid), st.integers(1, 3), st.integers(1, 60))
def test_a_replay_from_json_equals_the_run(tmp_path_factory, scores, patience, budget):
    path = tmp_path_factory.mktemp("record") / "record.json"
    stop = Rounds(len(scores)) | NoGain(patience) & Tokens(budget) | ScoreReached(4)
    result = Script(scores).run(stop=stop)
    Record.of(result).save(path)
    assert replay(Record.load(path), stop=stop) == result


def test_the_reflection_on_a_round_reaches_the_next():
    script = Script([[1.0], [2.0, 3.0], [0.0]])
    script.run()
    assert script.asked == ["generate after None", "generate after on 1a", "generate after on 2b"]


def test_the_last_round_is_not_reflected_on():
    assert Script([[1.0], [2.0]]).run().state.rounds[-1].reflection is None


def test_a_plain_number_is_a_score_and_a_plain_value_a_candidate():
    result = refine(lambda state: [len(state.rounds)], lambda _, xs: [-x for x in xs], stop=Rounds(3))
    assert (result.chosen.candidate, result.chosen.score.value) == (1, -1.0)


def test_a_masked_candidate_loses_to_any_negative_score():
    assert Script([[-math.inf, -1e9]]).run().chosen.candidate == "1b"


def test_a_nan_is_masked_and_the_reason_recorded():
    [attempt, _] = Script([[math.nan, 0.0]]).run().state.attempts
    assert (attempt.score.value, attempt.score.reason) == (-math.inf, "the scorer returned nan")


def test_a_first_round_without_a_valid_candidate_is_an_error_that_says_why():
    with pytest.raises(
        AllInvalidError, match=r"round 1: none of its 2 candidates is valid \(the scorer returned nan\)"
    ):
        Script([[math.nan, math.nan]]).run()


def test_a_first_round_without_candidates_is_an_error():
    with pytest.raises(AllInvalidError, match="round 1: the generator gave no candidate"):
        refine(lambda _: [], stop=Rounds(1))


def test_a_later_round_without_a_valid_candidate_is_recorded_and_the_next_one_made():
    result = Script([[1.0], [math.nan], [2.0]]).run()
    assert result.state.rounds[1].error == "round 2: none of its 1 candidates is valid (the scorer returned nan)"
    assert result.chosen.candidate == "3a"


@pytest.mark.parametrize("phase", ["generate", "evaluate", "reflect"])
def test_a_round_that_fails_keeps_the_best_so_far(phase):
    script = Script([[1.0], [2.0], [3.0]])
    works = getattr(script, phase)

    def fails(state, *rest):
        if len(state.rounds) == 2:
            raise OSError("connection lost")
        return works(state, *rest)

    setattr(script, phase, fails)
    result = script.run()
    assert (result.stopped, result.error) == ("failed", "OSError: connection lost")
    assert result.state.rounds[-1].failed == phase
    assert result.chosen.candidate == ("2a" if phase == "reflect" else "1a")


def test_a_failed_round_replays_as_failed(tmp_path):
    script = Script([[1.0], [2.0]])
    script.evaluate = lambda state, names: [1.0] if len(state.rounds) == 1 else 1 / 0  # type: ignore[method-assign]
    result = script.run()
    Record.of(result).save(tmp_path / "record.json")
    assert replay(Record.load(tmp_path / "record.json"), stop=Rounds(2)) == result


def test_a_failing_first_round_raises_what_failed():
    def fails(_):
        raise OSError("connection refused")

    with pytest.raises(OSError, match="connection refused"):
        refine(fails, stop=Rounds(3))


def test_an_exception_that_is_no_failure_passes_through():
    script = Script([[1.0], [2.0]])
    script.reflect = lambda *_: [][1]  # type: ignore[method-assign,assignment]
    with pytest.raises(IndexError):
        script.run(failures=(OSError,))


def test_scores_that_do_not_match_the_candidates_are_refused():
    with pytest.raises(ValueError, match="2 candidates were to be scored, 1 scores came back"):
        refine(lambda _: [1, 2], lambda *_: [0.0], stop=Rounds(1))


def test_every_attempt_is_recorded_with_number_score_feedback_tokens_and_seconds():
    result = Script([[1.0], [0.5]]).run()
    [_, second] = Record.of(result).document()["rounds"]
    [attempt] = second["attempts"]
    assert attempt["number"] == 2
    assert (attempt["score"]["value"], attempt["score"]["feedback"]) == (0.5, "of 2a")
    assert attempt["usage"] == {"tokens": 10, "prompt_tokens": 5, "cost": 0.0}
    assert second["seconds"] == {"generate": 1, "evaluate": 1}


def test_what_a_loop_costs_is_the_sum_of_its_calls():
    assert Script([[1.0], [2.0]]).run().state.usage == Usage(23, 10)


def test_the_record_is_json_that_any_reader_takes(tmp_path):
    path = tmp_path / "record.json"
    Record.of(Script([[1.0, math.nan]]).run()).save(path)

    def no_constants(name):
        raise AssertionError(f"{name} is not JSON")

    masked = json.loads(path.read_text(), parse_constant=no_constants)["rounds"][0]["attempts"][1]["score"]
    assert (masked["value"], masked["reason"]) == (None, "the scorer returned nan")


def test_another_condition_shows_what_it_would_have_decided():
    record = Record.of(Script([[1.0], [2.0], [3.0]]).run())
    assert replay(record, stop=ScoreReached(2)).chosen.candidate == "2a"


def test_a_replay_beyond_the_record_is_refused():
    record = Record.of(Script([[1.0]]).run())
    with pytest.raises(RecordError, match="the record ends before reflect of round 1|ends before generate of round 2"):
        replay(record, stop=Rounds(2))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "no record of a refinement"),
        ('{"format": "astune.refine.record", "version": 99}', "version 99, this release reads version 1"),
        ('{"format": "astune.refine.record", "version": 1}', "is damaged"),
    ],
)
def test_a_file_that_is_no_record_is_refused(tmp_path, text, says):
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(RecordError, match=says):
        Record.load(tmp_path / "record.json")


# --- choice -----------------------------------------------------------------------------------------------------


def test_keep_last_takes_the_latest_valid_attempt():
    assert Script([[3.0], [1.0], [math.nan]]).run(select=keep_last).chosen.candidate == "2a"


def test_a_majority_is_the_first_of_the_largest_class():
    words = iter(["7", "8", "nine", "8", "7"])
    result = refine(lambda _: [next(words)], stop=Rounds(5), select=keep_majority(lambda a, b: a == b))
    assert result.chosen.number == 1


def test_a_rescore_chooses_by_the_independent_scorer_and_tells_the_winners_curse():
    def rescore(_, candidates):
        return [{"1a": 0.5, "2a": 2.0, "3a": 1.0}[name] for name in candidates]

    result = Script([[1.0], [2.5], [3.0]]).run(rescore=rescore)
    assert result.chosen.candidate == "2a"
    assert result.winners_curse == 2.0  # 3a: 3.0 by the loop, 1.0 by the other


def test_a_rescore_that_masks_everything_leaves_the_best():
    assert Script([[1.0], [2.0]]).run(rescore=lambda _, xs: [math.nan for _ in xs]).chosen.candidate == "2a"


def test_a_rescore_that_fails_leaves_the_best_and_is_told():
    result = Script([[1.0], [2.0]]).run(rescore=lambda *_: 1 / 0)
    assert (result.chosen.candidate, result.error) == ("2a", "ZeroDivisionError: division by zero")


def test_a_rescored_run_replays(tmp_path):
    result = Script([[1.0], [2.0]]).run(rescore=lambda _, xs: [-float(x[0]) for x in xs])
    Record.of(result, rescores=True).save(tmp_path / "record.json")
    assert replay(Record.load(tmp_path / "record.json"), stop=Rounds(2)) == result


def test_the_verdict_of_a_reflection_can_end_the_loop():
    script = Script([[1.0]] * 3)
    script.reflect = lambda *_: Reflection("fine", verdict=True)  # type: ignore[method-assign]
    assert script.run(stop=Verdict()).stopped == "the critic is satisfied"


def test_watch_is_told_of_each_phase():
    seen: list[str] = []
    Script([[1.0], [2.0]]).run(watch=lambda phase, _: seen.append(phase))
    assert seen == ["generate", "evaluate", "reflect", "generate", "evaluate"]
