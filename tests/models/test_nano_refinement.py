"""The turns without tools in the recipe: terse answers, stepwise critiques, refined answers, and their flaws."""

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astune.models.nano.measure import boxed
from astune.models.nano_refine.arithmetic import calculations, one_expression
from astune.models.nano_refine.refinement import (
    APPROVAL,
    CRITIQUE_SHARES,
    FAMILIES_WITHOUT_TOOL,
    IS_WRONG,
    LARGEST_NUMBER,
    REFINEMENT_SHARES,
    Critique,
    Refinement,
    draw_attempt,
    draw_drill,
    draw_refinement,
    draw_small_problem,
    step_by_step,
    terse_answer,
    written_critique,
    written_refinement,
    wrong_result,
)
from astune.task_reader.nano_gsm import FAMILIES, generate, split_of

seeds = st.integers(0, 10_000)


def any_problem(seed):
    return generate(1, seed, "train", [sorted(FAMILIES)[seed % len(FAMILIES)]])[0]


@settings(max_examples=80, deadline=None)
@given(seed=seeds)
def test_calculations_are_right_and_end_in_the_answer(seed):
    problem = any_problem(seed)
    steps = calculations(problem)
    for step in steps:
        assert eval(f"{step.left} {step.sign} {step.right}".replace("/", "//")) == step.result
    assert steps[-1].result == problem.answer


@settings(max_examples=80, deadline=None)
@given(seed=seeds)
def test_one_expression_has_the_answer_as_its_value(seed):
    problem = any_problem(seed)
    assert eval(one_expression(problem).replace("/", "//")) == problem.answer


@settings(max_examples=80, deadline=None)
@given(seed=seeds)
def test_wrong_results_are_wrong_and_not_negative(seed):
    problem = any_problem(seed)
    guess = wrong_result(problem, Random(seed))
    assert guess >= 0 and guess != problem.answer


def test_a_terse_answer_shows_no_result_on_the_way():
    problem = draw_small_problem(Random(3))
    text = terse_answer(problem, problem.answer)
    assert text.count(" = ") == 1 and boxed(text) == problem.answer


def test_problems_without_a_tool_are_small_training_problems():
    for seed in range(60):
        problem = draw_small_problem(Random(seed))
        numbers = [int(n) for n in re.findall(r"\d+", problem.question + step_by_step(problem))]
        assert max(numbers) <= LARGEST_NUMBER
        assert problem.family in FAMILIES_WITHOUT_TOOL and split_of(problem.question) == "train"


@pytest.mark.parametrize("off", [0, 3], ids=["right", "wrong"])
def test_a_calculated_critique_judges_by_its_own_result(off):
    problem = draw_small_problem(Random(1))
    text = written_critique(problem, problem.answer + off, Critique.CALCULATED)
    feedback = text.partition("</think>\n")[2]
    assert (feedback == APPROVAL) == (off == 0)
    assert (IS_WRONG in feedback and step_by_step(problem) in feedback) == (off != 0)


@pytest.mark.parametrize("critique", [Critique.APPROVED, Critique.BLAMED])
def test_a_careless_critique_calculates_nothing(critique):
    problem = draw_small_problem(Random(2))
    assert " = " not in written_critique(problem, problem.answer, critique)


def test_a_kept_answer_is_the_attempted_one():
    problem = draw_small_problem(Random(4))
    assert boxed(written_refinement(problem, 17, Refinement.KEPT, Random(0))) == 17


def test_a_calculated_refinement_is_right_and_shows_its_steps():
    problem = draw_small_problem(Random(5))
    text = written_refinement(problem, problem.answer + 1, Refinement.CALCULATED, Random(0))
    assert boxed(text) == problem.answer and step_by_step(problem) in text


def test_the_value_of_an_attempt_is_what_it_boxes():
    rng = Random(6)
    for _ in range(100):
        text, value = draw_attempt(draw_small_problem(rng), rng)
        assert boxed(text) == value


@pytest.mark.parametrize("shares", [CRITIQUE_SHARES, *REFINEMENT_SHARES.values()])
def test_shares_add_up(shares):
    assert [sum(family.values()) for family in shares] == [100, 100]


def test_every_part_is_drawn():
    drawn = [draw_refinement(Random(seed)) for seed in range(200)]
    assert {len(conversation.quoted) for conversation in drawn} == {0, 1, 2}


def test_drills_are_right():
    for seed in range(40):
        for asked, result in draw_drill(Random(seed)):
            assert eval(asked.removesuffix(" = ").replace("/", "//")) == int(result.removesuffix("."))
