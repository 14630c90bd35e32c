"""refine_rounds: which rows are asked what, in which phases, and how each row ends."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astune.errors import ConfigError
from astune.refine.batch import RefineOptions, arun_rounds, refine_rounds, run_rounds
from astune.refine.stop import NoGain, Tokens
from astune.refine.sub_agents import CUT_NOTE
from astune.refine.types import Grade, GradeBatch, History, Sample, SampleBatch
from tests.refine.fake_stage import attempt, prompts_of, sampled

WRONG, RIGHT = Grade(0.0, False), Grade(1.0, True)


class Answers:
    """Answers a batch's asks by scripts, and keeps the asks."""

    def __init__(self, grades: Any = lambda row, number: WRONG, critique: str = "It is wrong.") -> None:
        self.grades, self.critique = grades, critique
        self.asked: list[tuple[str, list[int]]] = []
        self.messages: list[list[dict[str, Any]]] = []

    def sample(self, ask: SampleBatch) -> list[Sample]:
        self.asked.append((ask.role, [request.row for request in ask.requests]))
        self.messages += [request.messages for request in ask.requests]
        critique = ask.role == "critique"
        return [sampled(self.critique if critique else f"row {r.row} round {r.round}") for r in ask.requests]

    def grade(self, ask: GradeBatch) -> list[Grade]:
        self.asked.append(("grade", [one.row for one in ask.attempts]))
        return [self.grades(one.row, one.round) for one in ask.attempts]

    def run(self, first: list[Any], mask: list[bool] | None = None, **options: Any) -> list[History]:
        keys = {"agents", "batch", "excess", "any_process"} & options.keys()
        outside = {key: options.pop(key) for key in keys}
        rounds = refine_rounds(prompts_of(len(first)), first, mask, RefineOptions(**options), **outside)
        return run_rounds(rounds, self.sample, self.grade)


def wrongs(count: int) -> list[Any]:
    return [attempt(f"first {row}", False) for row in range(count)]


def test_a_round_is_one_call_a_phase_for_all_rows_that_take_part():
    answers = Answers()
    answers.run(wrongs(3), [True, False, True])
    assert answers.asked == [("critique", [0, 2]), ("refine", [0, 2]), ("grade", [0, 2])]


def test_without_a_critique_a_round_is_one_sampling_call():
    answers = Answers()
    [history] = answers.run(wrongs(1), use_critique=False)
    assert answers.asked == [("refine", [0]), ("grade", [0])]
    assert history.rounds[0].critique is None


def test_a_row_that_becomes_correct_takes_no_further_round():
    answers = Answers(lambda row, number: RIGHT if row == number - 1 else WRONG)
    histories = answers.run(wrongs(3), max_rounds=2)
    assert [rows for role, rows in answers.asked if role == "refine"] == [[0, 1, 2], [1, 2]]
    assert [history.stopped for history in histories] == ["correct", "correct", "rounds"]


def test_each_round_shows_the_attempt_and_the_critique_of_the_round():
    answers = Answers(critique="Add the tens.")
    answers.run(wrongs(1), max_rounds=2)
    refine = [user["content"] for _, user in answers.messages if "Previous attempt" in user["content"]]
    assert "first 0" in refine[0]
    assert "row 0 round 1" in refine[1]
    assert all("Add the tens." in text for text in refine)


def test_all_correct_asks_nothing():
    answers = Answers()
    answers.run([attempt("right", True)] * 3, max_rounds=3)
    assert answers.asked == []


def test_an_empty_batch_asks_nothing_and_has_no_history():
    assert Answers().run([]) == []


def test_ungated_rows_take_every_round_although_correct():
    answers = Answers(lambda row, number: RIGHT)
    answers.run([attempt("right", True), attempt("bad", False)], gate="always", max_rounds=2)
    assert [rows for role, rows in answers.asked if role == "refine"] == [[0, 1], [0, 1]]


def test_the_verdict_gate_ends_a_row_that_the_critic_calls_correct():
    answers = Answers(critique="The solution is correct and complete.")
    [history] = answers.run(wrongs(1), gate="verdict", max_rounds=2)
    assert answers.asked == [("critique", [0])]
    assert (history.stopped, history.kept, history.rounds[0].verdict) == ("verdict", 0, True)


def test_the_score_gate_ends_a_row_at_its_threshold():
    answers = Answers(lambda row, number: Grade(0.4 * number, None))
    [history] = answers.run(wrongs(1), gate="score", score_threshold=0.8, max_rounds=5)
    assert (len(history.rounds), history.stopped) == (2, "score")


def test_a_stop_condition_of_the_loop_ends_a_row_besides_the_gate():
    answers = Answers(lambda row, number: Grade(0.5, False) if number == 1 else WRONG)
    [history] = answers.run(wrongs(1), max_rounds=9, stop=NoGain(2))
    assert (len(history.rounds), history.stopped) == (3, "no gain for 2 rounds")


def test_a_token_budget_counts_what_the_row_has_sampled():
    [history] = Answers().run(wrongs(1), max_rounds=9, stop=Tokens(15))
    assert history.completion_tokens == {"answer": 2, "critique": 6, "refine": 8}


def test_the_verdict_gate_does_not_listen_to_the_reward():
    [history] = Answers(critique="Show more steps.").run([attempt("right", True)], gate="verdict")
    assert history.stopped == "rounds"


def test_a_reward_that_is_nan_is_no_grade_and_the_row_goes_on():
    answers = Answers(lambda row, number: Grade(math.nan, True) if number == 1 else RIGHT)
    [history] = answers.run(wrongs(1), max_rounds=2)
    assert history.rounds[0].refined.grade == Grade(None, None)
    assert history.stopped == "correct"


def test_the_best_attempt_may_be_the_first_and_ties_keep_the_earlier():
    answers = Answers(lambda row, number: Grade(0.0, False))
    [history] = answers.run(wrongs(1), keep="best", max_rounds=2)
    assert history.kept == 0
    assert history.final.sample.text == "first 0"


def test_an_empty_critique_is_counted_and_the_refiner_is_asked_without_one():
    answers = Answers(critique="  \n")
    [history] = answers.run(wrongs(1))
    assert history.rounds[0].critique_is_empty
    assert history.rounds[0].shown is None
    assert "There may be an error" in answers.messages[-1][1]["content"]


def test_a_critique_that_does_not_fit_is_cut_to_its_end_and_noted():
    answers = Answers(critique="x" * 5000 + " Add the tens.")
    [history] = answers.run(wrongs(1), excess=lambda messages: len(messages[1]["content"]) - 300)
    [done] = history.rounds
    assert done.shortened
    assert done.shown.startswith(CUT_NOTE)
    assert done.shown.endswith("Add the tens.")
    assert len(answers.messages[-1][1]["content"]) == 300


def test_where_no_critique_fits_the_refiner_is_asked_without_one():
    [history] = Answers(critique="Too much.").run(wrongs(1), excess=lambda messages: 1)
    assert (history.rounds[0].shown, history.rounds[0].shortened) == (None, True)


def test_a_sample_that_failed_ends_its_row_alone():
    answers = Answers(lambda row, number: RIGHT)
    plain = answers.sample
    failed = Sample("", [], [], error="context_overflow: too long")
    answers.sample = lambda ask: [
        failed if r.row == 0 and ask.role == "refine" else s for r, s in zip(ask.requests, plain(ask), strict=True)
    ]
    histories = answers.run(wrongs(2), max_rounds=2)
    assert [history.stopped for history in histories] == ["failed", "correct"]
    assert (histories[0].kept, histories[0].rounds[0].error) == (0, "context_overflow: too long")


def test_while_another_process_has_rows_this_one_is_asked_for_the_same_phases():
    answers, elsewhere = Answers(), iter([True, True, True, False])
    answers.run([attempt("right", True)], max_rounds=3, any_process=lambda flag: next(elsewhere) or flag)
    assert answers.asked == [("critique", []), ("refine", []), ("grade", []), ("critique", [])]


def test_a_wrong_number_of_answers_is_an_error():
    rounds = refine_rounds(prompts_of(1), wrongs(1))
    next(rounds)
    with pytest.raises(ValueError, match="asked for 1 critique samples, was given 0"):
        rounds.send([])


async def test_the_async_driver_gives_the_same_histories():
    answers = Answers()

    async def sample(ask: SampleBatch) -> list[Sample]:
        return answers.sample(ask)

    async def grade(ask: GradeBatch) -> list[Grade]:
        return answers.grade(ask)

    rounds = refine_rounds(prompts_of(2), wrongs(2))
    assert await arun_rounds(rounds, sample, grade) == Answers().run(wrongs(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_rounds": 0}, "max_refine_rounds is 0"),
        ({"gate": "sometimes"}, "'always', 'wrong', 'verdict', 'score'"),
        ({"keep": "first"}, "'last', 'best'"),
        ({"gate": "verdict", "use_critique": False}, "needs a critic"),
        ({"gate": "score"}, "score_threshold"),
        ({"score_threshold": 0.5}, "score_threshold"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        RefineOptions(**options)


rewards = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 1.0]))


@settings(deadline=None)
@given(st.data(), st.integers(0, 4), st.integers(1, 3), st.sampled_from(["always", "wrong"]), st.booleans())
def test_whatever_the_grades(data, rows, max_rounds, gate, use_critique):
    def graded(*_: Any) -> Grade:
        reward = data.draw(rewards)
        return Grade(reward, None if reward is None else reward == 1.0)

    first = [attempt(f"first {row}", data.draw(st.sampled_from([True, False, None]))) for row in range(rows)]
    mask = data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
    answers = Answers(graded)
    histories = answers.run(first, mask, gate=gate, max_rounds=max_rounds, use_critique=use_critique, keep="best")
    assert [history.row for history in histories] == [row for row in range(rows) if mask[row]]
    for history in histories:
        graded_rewards = [-math.inf if a.grade.reward is None else a.grade.reward for a in history.attempts]
        assert graded_rewards[history.kept] == max(graded_rewards)
        if gate == "always":
            assert len(history.rounds) == max_rounds
        else:
            assert all(not one.grade.correct for one in history.attempts[:-1])
            assert (history.stopped == "correct") == bool(history.attempts[-1].grade.correct)
    assert all(asked for _, asked in answers.asked)
    phases = ["critique", "refine", "grade"] if use_critique else ["refine", "grade"]
    roles = [role for role, _ in answers.asked]
    assert roles == phases * (len(roles) // len(phases))
