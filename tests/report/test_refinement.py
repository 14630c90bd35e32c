"""What people are told of refinement, and by what the best checkpoint is chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from astune.config.refine import Refine
from astune.refine.training.metrics import evaluation_row
from astune.refine.training.refined_row import RefinedRow
from astune.report.metrics import Evaluation, answers, best_score, evaluate
from astune.report.refinement import (
    LEGEND,
    OUTCOME_COLUMNS,
    batch_outcomes,
    chain_lines,
    choose_chains,
    outcome_lines,
    summary_lines,
    summary_part,
)
from astune.task_reader.types import Task
from astune.trace import Episode, StopReason, Trajectory, Turn, Verdict

TASKS = [Task(f"t{number}", f"How many? ({number})", "18") for number in range(6)]


def said(task: int, role: str, text: str, good: bool | None) -> Episode:
    turn = Turn([1], [2], [0.0], StopReason.EOS, message={"content": text})
    verdict = None if good is None else Verdict(float(good), good)
    trajectory = Trajectory([1, 2], [0, 1], [0.0, 0.0], [turn])
    return Episode(f"t{task}", 0, [trajectory], verdict=verdict, role=role, round=int(role != "answer"))


def row(task: int, first: bool, second: bool) -> RefinedRow:
    critique = said(task, "critique", "The answer is wrong.", None)
    return RefinedRow(
        said(task, "answer", "First", first), [critique], [said(task, "refine", "Second", second)], (False,), task=task
    )


def evaluation(step: int, *outcomes: tuple[bool, bool], mode: str = "sampled") -> Evaluation:
    rows = [row(task, first, second) for task, (first, second) in enumerate(outcomes)]
    return evaluate([one.first for one in rows], step, mode, refine=evaluation_row(rows, Refine()))


UP, DOWN, GOOD, BAD = (False, True), (True, False), (True, True), (False, False)


def episodes(*outcomes: tuple[bool, bool]) -> list[Episode]:
    rows = [row(task, first, second) for task, (first, second) in enumerate(outcomes)]
    return [*(r.first for r in rows), *(r.critiques[0] for r in rows), *(r.refined[0] for r in rows)]


def test_one_chain_of_each_kind_is_shown_in_order() -> None:
    chains = choose_chains(TASKS, episodes(GOOD, DOWN, UP, UP, BAD))
    assert [chain.task.task_id for chain in chains] == ["t2", "t1", "t4", "t0"]
    assert [episode.role for episode in chains[0].episodes] == ["answer", "critique", "refine"]


def test_a_chain_in_words() -> None:
    [chain] = choose_chains(TASKS, episodes(UP))
    assert "\n".join(chain_lines(chain)) == (
        "Wrong at first, right in the end. Question: How many? (0)\n"
        "  First answer (wrong):\n    First\n"
        "  Critique, calls the answer wrong:\n    The answer is wrong.\n"
        "  Refined answer (right):\n    Second"
    )


def test_answers_are_told_from_what_was_made_of_them() -> None:
    assert [episode.role for episode in answers(episodes(GOOD, BAD))] == ["answer", "answer"]


def test_outcomes_in_words() -> None:
    first, second = outcome_lines(evaluation(0, UP, DOWN, GOOD, GOOD).refine or {})
    assert "Accuracy@t1 75.0 %" in first
    assert "@t2 ungated 75.0 %" in first
    assert "oracle-gated 100.0 %" in first
    assert "i→c 1  i→i 0  c→c 2  c→i 1" in second
    assert "fixed point 75.0 %" in second


def test_rates_are_said_to_be_those_of_the_last_round_where_there_are_several() -> None:
    """Two of four are right at first and in the end; in between one of them was not."""
    words = [(True, True, True), (True, False, True), (False, False, False), (False, False, False)]
    rows = [
        RefinedRow(said(task, "answer", "1", a), [], [said(task, "refine", "2", b), said(task, "refine", "3", c)])
        for task, (a, b, c) in enumerate(words)
    ]
    found = evaluation_row(rows, Refine(max_refine_rounds=2))
    assert "c→i 0  last round P(c|i) 33.3 %" in outcome_lines(found)[1]
    part = {"refine": {"sampled": {"before": found, "after": found}}}
    assert any("P(c|i), wrong made right (last round)" in line for line in summary_lines(part))


def test_the_summary_compares_first_and_last_evaluation() -> None:
    part = summary_part([evaluation(0, BAD, BAD), evaluation(5, UP, BAD), evaluation(9, GOOD, UP)])
    lines = summary_lines(part)
    assert any("Accuracy@t2, ungated" in line and "0.0 %" in line and "100.0 %" in line for line in lines)
    assert any("@t2 ungated - @t1" in line and "+0.0 [+0.0, +0.0]  ->  +50.0 [" in line for line in lines)


def test_the_summary_tells_sampled_before_greedy() -> None:
    before = [evaluation(0, BAD, BAD, mode=mode) for mode in ("greedy", "sampled")]
    headings = [line for line in summary_lines(summary_part(before)) if not line.startswith(" ")]
    assert [heading.split(", ")[1] for heading in headings] == ["sampled", "greedy"]


def test_the_legend_explains_every_word_that_the_lines_use() -> None:
    told = "\n".join(LEGEND)
    words = ("@t1", "@t2", "ungated", "oracle-gated", "i→c", "c→i", "P(c|i)", "P(i|c)", "fixed point")
    lines = "\n".join(outcome_lines(evaluation(0, UP, DOWN, GOOD, GOOD).refine or {}))
    assert [word for word in words if word not in told or word not in lines] == []


def test_a_batchs_outcomes_are_a_line_of_the_page_with_dashes_for_what_is_unknown() -> None:
    whole = {f"refine/{name}": value for name, value in (evaluation(0, UP, DOWN, GOOD, GOOD).refine or {}).items()}
    cells = dict(zip(OUTCOME_COLUMNS, batch_outcomes(whole) or [], strict=True))
    assert cells["last attempt, ungated"].startswith("75.0 % [")
    assert (cells["i→c"], cells["c→i"], cells["fixed point"]) == ("1", "1", "75.0 %")
    assert cells["change, points"].startswith("+0.0 [")
    part = dict(zip(OUTCOME_COLUMNS, batch_outcomes({"refine/rows": 4.0, "refine/turns": 3.0}) or [], strict=True))
    assert set(part.values()) == {"-"}
    assert batch_outcomes({"step": 1}) is None


def test_without_refinement_the_summary_says_nothing_of_it() -> None:
    assert (summary_part([evaluate([], 0, "sampled")]), summary_lines({})) == ({}, [])


def test_an_evaluation_reads_back_with_its_outcomes_and_one_from_before_there_were_any() -> None:
    found = evaluation(3, UP, GOOD)
    assert Evaluation.from_row(found.to_row()) == found
    older: dict[str, Any] = {name: value for name, value in found.to_row().items() if name != "refine"}
    assert Evaluation.from_row(older) == replace(found, refine=None)


class TestTheBestCheckpoint:
    before = evaluation(0, GOOD, BAD, BAD, BAD)

    def test_is_chosen_by_the_last_attempt_of_every_answer(self) -> None:
        assert best_score(evaluation(5, GOOD, UP, UP, BAD), [self.before], 0.0) == 0.75

    def test_is_none_whose_first_answers_fell(self) -> None:
        assert best_score(evaluation(5, UP, UP, UP, UP), [self.before], 0.02) is None

    def test_may_have_first_answers_a_little_worse(self) -> None:
        assert best_score(evaluation(5, UP, UP, UP, UP), [self.before], 0.25) == 1.0

    def test_is_not_helped_by_what_an_oracle_keeps(self) -> None:
        assert best_score(evaluation(5, DOWN, DOWN, UP, BAD), [self.before], 0.0) == 0.25

    @pytest.mark.parametrize("mode", ["greedy", "sampled"])
    def test_is_compared_with_the_first_evaluation_of_its_mode(self, mode: str) -> None:
        earlier = [evaluation(0, GOOD, GOOD, mode="greedy"), evaluation(0, BAD, BAD)]
        found = best_score(evaluation(5, UP, UP, mode=mode), earlier, 0.0)
        assert found == (None if mode == "greedy" else 1.0)

    def test_without_refinement_is_the_one_that_solves_most(self) -> None:
        assert best_score(replace(self.before, refine=None), [], 0.0) == 0.25
