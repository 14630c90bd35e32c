import contextlib
import io
import re
import subprocess
import sys
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astune.errors import TaskError
from astune.task_reader.nano_gsm import FAMILIES, Family, Step, generate, read_nano_gsm, split_of
from astune.task_reader.nano_gsm.family import draw_problem

seeds = st.integers(0, 2**32)
splits = st.sampled_from(["train", "test"])
family_names = st.sampled_from(sorted(FAMILIES))


def printed(program: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(program, {})
    return out.getvalue()


def one(family: str, seed: int):
    return generate(1, seed, "train", [family])[0]


def test_there_are_at_least_thirty_families():
    assert len(FAMILIES) >= 30


def test_families_need_one_to_four_steps():
    assert {len(family.steps) for family in FAMILIES.values()} == {1, 2, 3, 4}


def test_every_family_has_two_to_four_phrasings():
    assert all(2 <= len(family.questions) <= 4 for family in FAMILIES.values())


@settings(max_examples=40, deadline=None)
@given(family_names, seeds)
def test_gold_program_prints_the_answer(family, seed):
    problem = one(family, seed)
    assert printed(problem.program) == f"{problem.answer}\n"


@settings(max_examples=40, deadline=None)
@given(family_names, seeds)
def test_calculator_annotations_are_right(family, seed):
    annotations = re.findall(r"<<(.+?)=(\d+)>>(\d+)", one(family, seed).solution)
    assert annotations and all(eval(left) == int(value) == int(shown) for left, value, shown in annotations)


@settings(max_examples=40, deadline=None)
@given(family_names, seeds)
def test_solution_ends_with_the_answer_in_gsm8k_form(family, seed):
    problem = one(family, seed)
    assert problem.record()["answer"].split("\n#### ")[1] == str(problem.answer)


@settings(max_examples=40, deadline=None)
@given(family_names, seeds)
def test_answers_are_not_negative(family, seed):
    assert all(value >= 0 for value in one(family, seed).values)


@settings(max_examples=40, deadline=None)
@given(family_names, seeds)
def test_every_number_of_the_first_program_line_stands_in_the_question(family, seed):
    problem = one(family, seed)
    first = [n for n in re.findall(r"\d+", problem.program.split("\n")[0]) if n not in ("2", "100")]
    assert set(first) <= set(re.findall(r"\d+", problem.question))


@settings(max_examples=40, deadline=None)
@given(family_names, seeds)
def test_texts_have_no_unfilled_slot(family, seed):
    problem = one(family, seed)
    assert "{" not in problem.question + problem.plan + problem.solution


@given(seeds, seeds)
@settings(max_examples=10, deadline=None)
def test_train_and_test_share_no_question_whatever_the_seeds(train_seed, test_seed):
    train = {problem.question for problem in generate(150, train_seed, "train")}
    assert train.isdisjoint(problem.question for problem in generate(150, test_seed, "test"))


@settings(max_examples=40, deadline=None)
@given(family_names, seeds, splits)
def test_a_question_belongs_to_the_split_that_it_was_generated_for(family, seed, split):
    assert split_of(generate(1, seed, split, [family])[0].question) == split


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_ids_are_unique(seed):
    ids = [problem.problem_id for problem in generate(400, seed, "test")]
    assert len(set(ids)) == len(ids)


def test_same_arguments_give_the_same_problems():
    assert generate(80, 7, "train") == generate(80, 7, "train")


def test_another_seed_gives_other_problems():
    assert not set(generate(40, 1, "train")) & set(generate(40, 2, "train"))


def test_a_longer_draw_begins_with_the_shorter_one():
    assert generate(100, 3, "train")[:40] == generate(40, 3, "train")


def test_families_take_turns():
    assert [problem.family for problem in generate(len(FAMILIES), 0, "test")] == list(FAMILIES)


def test_reader_gives_tasks_with_what_a_judge_and_a_report_need():
    task = read_nano_gsm(1, seed=5, split="test", families=["boxes"])[0]
    problem = generate(1, 5, "test", ["boxes"])[0]
    assert task.answer == str(problem.answer)
    assert task.init_messages[-1] == {"role": "user", "content": task.main_query}
    assert task.metadata == {"family": "boxes", "program": problem.program, "solution": problem.solution}


def test_largest_keeps_every_number_small():
    problems = generate(60, 4, "train", ["boxes", "get_more", "share_equally"], largest=20)
    numbers = [int(n) for problem in problems for n in re.findall(r"\d+", problem.question + problem.solution)]
    assert max(numbers) <= 20


def test_unknown_split_is_refused():
    with pytest.raises(TaskError, match="unknown split 'dev'.*train, test"):
        generate(1, 0, "dev")


def test_unknown_family_is_refused_by_name():
    with pytest.raises(TaskError, match="nonsense"):
        generate(1, 0, "train", ["boxes", "nonsense"])


def test_negative_count_is_refused():
    with pytest.raises(TaskError, match="n is -1"):
        generate(-1, 0)


def test_more_problems_than_a_family_holds_is_refused():
    with pytest.raises(TaskError, match="share_equally.*too few distinct problems"):
        generate(10**6, 0, "test", ["share_equally"])


def test_a_family_whose_ranges_contradict_its_steps_is_named():
    family = Family("broken", ("{a}?",), ("Plan.",), {"a": (1, 2), "b": (5, 9)}, (Step("c", "a - b", "{math}"),))
    with pytest.raises(ValueError, match="broken"):
        draw_problem(family, Random(0))


def test_a_family_that_uses_a_name_twice_is_refused():
    with pytest.raises(ValueError, match="used twice"):
        Family("twice", ("{a}?",), ("Plan.",), {"a": (1, 2)}, (Step("a", "a + a", "{math}"),))


def test_import_needs_no_torch():
    code = "import sys, astune.task_reader.nano_gsm; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
