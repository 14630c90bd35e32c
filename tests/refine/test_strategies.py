"""Strategies: what each asks, when it ends, and which attempt it chooses."""

from __future__ import annotations

import asyncio
import math
from itertools import count
from typing import Any

import pytest

from astune.errors import ConfigError, EngineError
from astune.refine.loop_state import AllInvalidError
from astune.refine.memory import EpisodicMemory
from astune.refine.replay import Record, replay
from astune.refine.stop import Tokens
from astune.refine.strategies import STRATEGIES, Setting, make_strategy
from astune.refine.transport import local_model
from tests.refine.fake_chat_model import FakeScriptedModel, said

QUESTION = "Tom has 3 apples and buys 4 more. How many apples?"
RIGHT, WRONG = "The answer is correct.", "The answer is wrong. 3 + 4 = 7."


def boxed(*values: object) -> list[str]:
    return [f"\\boxed{{{value}}}" for value in values]


def run(name: str, model: Any, **options: Any) -> Any:
    setting = Setting(model, [{"role": "user", "content": QUESTION}], **options)
    return asyncio.run(make_strategy(name, setting).run(clock=count().__next__))


class TestSelfRefine:
    def test_critique_and_refine_take_turns(self):
        model = FakeScriptedModel(said(boxed(8, 9, 7)))
        run("self_refine", model)
        assert model.roles == ["answer", "critique", "refine", "critique", "refine"]

    def test_the_last_attempt_is_the_answer(self):
        assert run("self_refine", FakeScriptedModel(said(boxed(7, 8, 9)))).chosen.candidate == "\\boxed{9}"

    def test_the_critics_praise_does_not_end_it(self):
        assert len(run("self_refine", FakeScriptedModel(said(boxed(7, 8), [RIGHT])), rounds=2).state.rounds) == 2

    def test_the_refiner_reads_question_attempt_and_critique(self):
        model = FakeScriptedModel(said(boxed(8, 7), [WRONG]))
        run("self_refine", model, rounds=2)
        assert all(part in model.asked[-1][2] for part in (QUESTION, "\\boxed{8}", WRONG))

    def test_a_critique_too_long_for_the_context_is_cut(self):
        model = FakeScriptedModel(said(boxed(8, 7), ["word " * 400]), lambda messages: len(str(messages)) - 1500)
        run("self_refine", model, rounds=2)
        assert "[cut to fit the context]" in model.asked[-1][2]

    def test_an_empty_critique_is_not_shown(self):
        model = FakeScriptedModel(said(boxed(8, 7), [""]))
        run("self_refine", model, rounds=2)
        assert "Feedback:" not in model.asked[-1][2]

    def test_an_empty_refinement_leaves_the_attempt_before_it(self):
        assert run("self_refine", FakeScriptedModel(said(["\\boxed{8}", "  "])), rounds=2).chosen.number == 1

    def test_an_empty_first_answer_is_an_error(self):
        with pytest.raises(AllInvalidError, match="the answer is empty"):
            run("self_refine", FakeScriptedModel(said([""])))

    def test_without_critique_the_refiner_is_asked_alone(self):
        model = FakeScriptedModel(said(boxed(8, 9, 7)))
        run("self_refine_no_critique", model)
        assert model.roles == ["answer", "refine", "refine"]

    def test_a_budget_ends_it_early(self):
        assert len(run("self_refine", FakeScriptedModel(said(boxed(8))), budget=Tokens(25)).state.rounds) == 2


class TestVerdictGated:
    def test_an_attempt_that_the_critic_approves_is_the_answer(self):
        result = run("verdict_gated", FakeScriptedModel(said(boxed(8, 7, 9), [WRONG, RIGHT])))
        assert (result.chosen.candidate, result.stopped) == ("\\boxed{7}", "the critic is satisfied")

    def test_a_critic_without_a_verdict_lets_it_go_on(self):
        assert len(run("verdict_gated", FakeScriptedModel(said(boxed(8), ["Hm."]))).state.rounds) == 3


class TestIndependentScorer:
    def test_the_judge_criticises_and_the_model_refines(self):
        model, judge = FakeScriptedModel(said(boxed(8, 7))), FakeScriptedModel(said([], [WRONG, RIGHT]))
        run("independent_scorer", model, judge=judge)
        assert (model.roles, judge.roles) == (["answer", "refine"], ["critique", "critique"])

    def test_the_best_by_the_judge_is_the_answer(self):
        judge = FakeScriptedModel(said([], [WRONG, "Hm.", WRONG]))
        assert run("independent_scorer", FakeScriptedModel(said(boxed(8, 7, 9))), judge=judge).chosen.number == 2

    def test_it_needs_a_judge(self):
        with pytest.raises(ConfigError, match="needs a second model as judge"):
            run("independent_scorer", FakeScriptedModel(said(boxed(8))))


class TestSampling:
    def test_best_of_n_ends_with_the_first_attempt_that_nothing_can_beat(self):
        model = FakeScriptedModel(said(boxed(8, 7, 9), [WRONG, RIGHT]))
        assert run("best_of_n", model, rounds=5).chosen.candidate == "\\boxed{7}"
        assert model.roles == ["answer", "critique"] * 2

    def test_best_of_n_keeps_the_first_of_equals(self):
        assert run("best_of_n", FakeScriptedModel(said(boxed(8, 7, 9)))).chosen.number == 1

    def test_an_empty_attempt_is_not_worth_a_critique(self):
        model = FakeScriptedModel(said(["\\boxed{8}", ""]))
        run("best_of_n", model, rounds=2)
        assert model.roles == ["answer", "critique", "answer"]

    def test_attempts_are_draws_of_their_own(self):
        model = FakeScriptedModel(said(boxed(1, 2, 3)))
        run("self_consistency", model)
        assert [draw for _, draw, _ in model.asked] == [1, 2, 3]

    def test_self_consistency_takes_what_most_say_in_whatever_spelling(self):
        answers = ["\\boxed{8}", "The answer is 7.", "\\boxed{7.0}", "no idea \\boxed{", "#### 9"]
        assert run("self_consistency", FakeScriptedModel(said(answers)), rounds=5).chosen.number == 2

    def test_an_attempt_without_an_answer_has_no_vote(self):
        result = run("self_consistency", FakeScriptedModel(said(["\\boxed{7}", "\\boxed{"])), rounds=2)
        assert result.state.attempts[1].score.value == -math.inf

    def test_self_consistency_ends_when_the_majority_is_decided(self):
        result = run("self_consistency", FakeScriptedModel(said(boxed(7, 7, 7, 8, 8))), rounds=5)
        assert (len(result.state.rounds), result.stopped) == (3, "the majority is decided")


class TestReflexion:
    def test_lessons_of_failed_attempts_are_remembered(self):
        with EpisodicMemory() as memory:
            run("reflexion", FakeScriptedModel(said(boxed(8, 7), [WRONG, RIGHT])), memory=memory)
            [lesson] = memory.recent(5)
        assert (lesson.attempt, lesson.text, lesson.score) == ("\\boxed{8}", WRONG, 0.0)

    def test_a_later_attempt_reads_the_lessons_so_far(self):
        model = FakeScriptedModel(said(boxed(8, 9, 7), ["Wrong: too much.", "Wrong: even more."]))
        run("reflexion", model)
        assert all(lesson in model.asked[-2][2] for lesson in ("too much", "even more"))

    def test_a_like_question_starts_with_the_lessons_of_an_earlier_run(self, tmp_path):
        with EpisodicMemory(tmp_path / "memory.sqlite") as memory:
            memory.add("Ann has 5 apples and buys 6 more. How many apples?", "1", "Add both numbers.")
        model = FakeScriptedModel(said(boxed(7), [RIGHT]))
        with EpisodicMemory(tmp_path / "memory.sqlite") as memory:
            run("reflexion", model, memory=memory)
        assert "Add both numbers." in model.prompts[0][0]["content"]

    def test_without_lessons_the_question_is_asked_as_it_is(self):
        model = FakeScriptedModel(said(boxed(7), [RIGHT]))
        run("reflexion", model)
        assert model.prompts[0] == [{"role": "user", "content": QUESTION}]

    def test_an_approved_attempt_is_the_answer(self):
        result = run("reflexion", FakeScriptedModel(said(boxed(8, 7, 9), [WRONG, RIGHT])))
        assert result.chosen.candidate == "\\boxed{7}"


def test_an_engine_that_fails_later_leaves_the_best_so_far():
    def words(role: str, draw: int) -> str:
        if draw == 2:
            raise EngineError("endpoint could not be asked")
        return "\\boxed{8}" if role != "critique" else WRONG

    result = run("best_of_n", FakeScriptedModel(words))
    assert (result.chosen.number, result.error) == (1, "EngineError: endpoint could not be asked")


def test_an_unknown_strategy_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'self_refine'"):
        run("self_refin", FakeScriptedModel(said([])))


def test_no_rounds_are_refused():
    with pytest.raises(ConfigError, match="rounds is 0"):
        run("self_refine", FakeScriptedModel(said([])), rounds=0)


@pytest.fixture(scope="module")
def nano():
    return local_model("nano", max_tokens=48)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_on_the_bundled_model_replays_without_it(name, nano, tmp_path):
    setting = Setting(nano, [{"role": "user", "content": QUESTION}], rounds=2, judge=nano)
    strategy = make_strategy(name, setting)
    result = asyncio.run(strategy.run())
    Record.of(result).save(tmp_path / "record.json")
    assert replay(Record.load(tmp_path / "record.json"), stop=strategy.stop, select=strategy.select) == result


def test_the_same_seed_draws_the_same_on_the_bundled_model(nano):
    one, other = (run("self_refine", nano, rounds=2) for _ in range(2))
    assert [a.candidate for a in one.state.attempts] == [a.candidate for a in other.state.attempts]


def test_rows_draw_on_their_own(nano):
    texts = {run("self_consistency", nano.for_row(row), rounds=1).chosen.candidate for row in range(5)}
    assert len(texts) > 1
