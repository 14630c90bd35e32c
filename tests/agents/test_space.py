"""The space of recipes: stated bounds, even coverage, recipes that the trainer takes."""

import math
from random import Random

import pytest

from agents.common.space import LogReal, in_words, rl_overrides, space_of
from agents.common.training.rl import configuration
from astune.config import load_config


@pytest.fixture
def rl(details_of):
    return space_of(details_of("nano_gsm"))


@pytest.fixture
def supervised(details_of):
    return space_of(details_of("nano_countdown"))


def test_draws_cover_four_orders_of_magnitude_of_the_learning_rate(rl):
    rng = Random(0)
    rates = [float(rl.draw(rng)["learning_rate"]) for _ in range(2000)]
    assert 1e-6 <= min(rates) < 2e-6
    assert 5e-3 < max(rates) <= 1e-2
    assert 0.2 < sum(rate < 1e-5 for rate in rates) / len(rates) < 0.3


def test_the_same_seed_draws_the_same(rl):
    assert [rl.draw(Random(5)) for _ in range(2)] == [rl.draw(Random(5)) for _ in range(2)]


@pytest.mark.parametrize("seed", range(5))
def test_every_draw_is_a_configuration_that_the_trainer_takes(rl, seed):
    recipe = rl.draw(Random(seed))
    config = load_config(configuration("tutorial/example_math_agent/math_agent.yaml"), rl_overrides(recipe))
    assert config.trainer.learning_rate == recipe["learning_rate"]
    assert config.trainer.prompts_per_step * config.trainer.group_size == recipe["episodes_per_step"]
    assert config.task_judge.arguments["penalties"]["no_print"] == recipe["penalty"]


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_spread_has_one_rate_in_each_part_of_the_range(rl, count):
    rates = sorted(float(recipe["learning_rate"]) for recipe in rl.spread(count, Random(1)))
    parts = [int(count * math.log(rate / 1e-6) / math.log(1e4) * 0.9999) for rate in rates]
    assert parts == list(range(count))


def test_a_full_training_has_the_same_episodes_whatever_their_number_a_step(rl):
    recipe = rl.draw(Random(0))
    sizes = {rl.full_steps({**recipe, "episodes_per_step": n}) * n for n in (32, 64)}
    assert sizes == {6400}


def test_more_steps_of_the_same_recipe_lengthen_its_stage(rl):
    recipe = rl.draw(Random(0))
    chain = rl.more(rl.more((), recipe, 4), recipe, 8)
    assert [stage["steps"] for stage in chain] == [12]
    changed = rl.more(chain, rl.with_rate(recipe, 0.5), 3)
    assert [stage["steps"] for stage in changed] == [12, 3]


def test_supervised_stages_follow_each_other_and_read_the_data_in_another_order(supervised):
    recipe = supervised.draw(Random(0))
    chain = supervised.more(supervised.more((), recipe, 4), recipe, 8)
    assert [(stage["steps"], stage["start"]) for stage in chain] == [(4, 0), (8, 4)]


def test_a_rate_stays_within_the_space(rl):
    recipe = {**rl.draw(Random(0)), "learning_rate": 1e-2}
    assert rl.with_rate(recipe, 10)["learning_rate"] == 1e-2
    assert rl.with_rate(recipe, 0.1)["learning_rate"] == 1e-3


@pytest.mark.parametrize(
    "scenario, resumes", [("nano_gsm", True), ("gsm8k", True), ("nano_countdown", False), ("nano_code", False)]
)
def test_a_base_that_knows_nothing_is_taught_and_one_that_solves_something_is_rewarded(details_of, scenario, resumes):
    assert space_of(details_of(scenario)).resumes is resumes


def test_a_learning_rate_comes_first_in_every_space(rl, supervised):
    for space in (rl, supervised):
        assert isinstance(space.dimensions[0], LogReal)
        assert space.dimensions[0].name == "learning_rate"


def test_a_recipe_is_said_in_one_line():
    assert in_words({"learning_rate": 1e-4, "algorithm": "grpo", "group_size": 8}) == (
        "learning_rate 0.0001, algorithm grpo, group_size 8"
    )
