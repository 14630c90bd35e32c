"""The search: what it decides on made-up outcomes, and that it finds a good recipe on a made-up machine.

The made-up machine has a clock of its own. Success there rises with the learning rate, overshoots beyond a rate that
each seed draws anew, and collapses further up; it is measured on as many episodes as training would sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from random import Random
from statistics import fmean
from typing import Any

import pytest

from agents.common.space import space_of
from agents.common.task import Deadline
from agents.rdagent.agent import LEAST_SECONDS
from agents.rdagent.drivers.base import Situation
from agents.rdagent.drivers.search import SearchDriver
from agents.rdagent.experiment import divergence
from agents.rdagent.records import Outcome, Proposal, Trial

BASE = 0.3


def logit(rate: float) -> float:
    return math.log(rate / (1 - rate))


@dataclass
class FakeMachine:
    """Trains chains of stages on a clock of its own."""

    seed: int
    now: float = 0.0
    skill: dict[int, float] = field(default_factory=lambda: {0: logit(BASE)})

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.best_rate = 1e-4 * 10 ** self.rng.uniform(-0.5, 0.5)

    def run(self, trial: Trial, parent: Trial | None) -> Outcome:
        values = trial.proposal.recipe["values"]
        per_step = 1.05 * values["episodes_per_step"] / 64 * (1 + 0.15 * (values["updates_per_batch"] - 1))
        steps = max(1, min(trial.proposal.recipe["steps"], int((trial.proposal.seconds - 6) / per_step)))
        resumes = parent is not None and len(parent.outcome.stages) == len(trial.proposal.stages)
        before = list(parent.outcome.history) if resumes else []
        skill, history = self.skill[trial.proposal.parent], []
        for _ in range(steps):
            success = 1 / (1 + math.exp(-skill))
            episodes = values["episodes_per_step"]
            history.append(sum(self.rng.random() < success for _ in range(episodes)) / episodes)
            skill = self._after_a_step(skill, values["learning_rate"] * values["updates_per_batch"] ** 0.5)
            if (why := divergence([{"success_rate": h, "episodes": episodes} for h in history])) is not None:
                seconds = 1.4 + 2 * len(history) * per_step
                self.now += seconds
                return Outcome(None, why, history=history, seconds=seconds, diverged=True, base_first=parent is None)
        self.skill[trial.number] = skill
        self.now += (seconds := 1.4 + steps * per_step)
        chain = [dict(stage) for stage in trial.proposal.stages]
        chain[-1]["steps"] += steps - trial.proposal.recipe["steps"]
        history = [*before, *history]
        score = fmean(history[-max(1, 128 // values["episodes_per_step"]) :])
        return Outcome(score, "", "m", chain, history, seconds, per_step, base_first=len(chain) == 1)

    def _after_a_step(self, skill: float, rate: float) -> float:
        relative = rate / self.best_rate
        if relative > 6:
            return max(-6.0, skill - 0.5 - relative / 6)
        if relative > 2.5:
            return skill + (0.25 if skill < 1.5 else -0.3)
        return skill + 0.25 * relative**0.9 * (1.0 if skill < 4 else 0.2)


def carried_by(trials: list[Trial], carried: Trial | None, new: Trial, tolerance: float) -> bool:
    best = max((one.score for one in trials if one.score is not None and one is not new), default=0.0)
    goes_on = carried is not None and new.proposal.parent == carried.number
    return new.score is not None and (
        new.score > (carried.score if carried is not None and carried.score else 0.0)
        or (goes_on and new.score >= best - tolerance)
    )


def search(task: Any, details: dict[str, Any], seed: int, seconds: float) -> tuple[float, list[Trial]]:
    """A whole run on a made-up machine; how often the model that is handed in succeeds, and the trials."""
    space, machine = space_of(details), FakeMachine(seed)
    driver = SearchDriver(space, seed)
    deadline = Deadline(seconds, lambda: machine.now)
    trials: list[Trial] = []
    carried: Trial | None = None
    said: Any = None
    for number in range(1, 200):
        if deadline.seconds_left < LEAST_SECONDS:
            break
        situation = Situation(task, details, number, list(trials), carried, said, [], deadline, 10)
        begun, mine = machine.now, []
        for proposal in driver.propose(situation):
            trial = Trial(len(trials) + 1, number, proposal)
            trials.append(trial)
            fits = proposal.round_seconds is None or machine.now - begun < proposal.round_seconds
            if not fits or deadline.seconds_left < LEAST_SECONDS:
                trial.outcome = Outcome(None, "no time")
                continue
            mine.append(trial)
            trial.outcome = machine.run(trial, trials[proposal.parent - 1] if proposal.parent else None)
            if carried_by(trials, carried, trial, space.noise(1.0)):
                carried = trial
        valid = [trial for trial in mine if trial.score is not None]
        situation = replace(situation, round=number + 1, trials=list(trials), best=carried)
        said = driver.reflect(situation, max(valid, key=lambda trial: trial.score or 0)) if valid else None
    assert machine.now < seconds + 15
    return (1 / (1 + math.exp(-machine.skill[carried.number])) if carried is not None else BASE), trials


def test_two_minutes_are_enough_on_a_machine_that_takes_a_second_a_step(make_task, details_of):
    task, details = make_task(), details_of("nano_gsm")
    reached = [search(task, details, seed, 112.0)[0] for seed in range(40)]
    assert fmean(reached) > 0.9
    assert sorted(reached)[4] > 0.8


def test_ten_minutes_leave_hardly_any_run_short(make_task, details_of):
    task, details = make_task(), details_of("nano_gsm")
    reached = [search(task, details, seed, 590.0)[0] for seed in range(12)]
    assert min(reached) > 0.9


def test_the_same_seed_searches_the_same(make_task, details_of):
    task, details = make_task(), details_of("nano_gsm")
    one, other = (search(task, details, 3, 112.0)[1] for _ in range(2))
    assert [trial.proposal.recipe for trial in one] == [trial.proposal.recipe for trial in other]


def test_with_much_time_the_second_half_of_the_looks_is_drawn_by_optuna(make_task, details_of):
    _, trials = search(make_task(), details_of("nano_gsm"), 1, 590.0)
    rounds = {trial.round for trial in trials if trial.proposal.recipe["phase"] == "look"}
    assert {1, 2} <= rounds


# --- single decisions -------------------------------------------------------------------------------------------


@pytest.fixture
def scene(make_task, details_of):
    details = details_of("nano_gsm")
    task = make_task(seconds=100.0)
    driver = SearchDriver(space_of(details), 0)
    recipe = driver.space.draw(Random(0)) | {"episodes_per_step": 64, "updates_per_batch": 1}

    def look(number: int, rate: float, score: float | None, round_number: int = 1, **changes: Any) -> Trial:
        values = {**recipe, "learning_rate": rate}
        shown = {"phase": "look", "values": values, "steps": 4, "again": False}
        proposal = Proposal("", "", shown, driver.space.more((), values, 4))
        outcome = Outcome(
            score, "", None if score is None else "m", proposal.stages, [BASE] * 4, 6.0, 1.1, base_first=True
        )
        return Trial(number, round_number, replace(proposal, **changes), replace(outcome, diverged=score is None))

    def train(number: int, origin: Trial, score: float, round_number: int, steps: int = 20) -> Trial:
        values = origin.proposal.recipe["values"]
        shown = {"phase": "train", "values": values, "steps": steps, "from": origin.number}
        stages = driver.space.more(origin.outcome.stages, values, steps)
        proposal = Proposal("", "", shown, stages, parent=origin.number)
        return Trial(number, round_number, proposal, Outcome(score, "", "m", stages, [BASE, score], 25.0, 1.1))

    def situation(trials: list[Trial], best: Trial | None, said: Any = None) -> Situation:
        number = max((trial.round for trial in trials), default=0) + 1
        return Situation(task, details, number, trials, best, said, [], task.deadline, 5)

    scene.driver, scene.look, scene.train, scene.situation = driver, look, train, situation
    return scene


def test_the_better_third_goes_on_three_times_as_far(scene):
    trials = [scene.look(n, rate, score) for n, (rate, score) in enumerate(SIX, start=1)]
    decision = scene.driver.reflect(scene.situation(trials, trials[2]), trials[2])
    assert (decision["phase"], decision["trials"]) == ("rung", [3, 4])
    proposals = scene.driver.propose(scene.situation(trials, trials[2], decision))
    assert [proposal.parent for proposal in proposals] == [3, 4]
    assert [proposal.stages[-1]["steps"] for proposal in proposals] == [12, 12]


SIX = [(2e-6, 0.31), (1e-5, 0.33), (6e-5, 0.55), (2e-4, 0.52), (1e-3, None), (5e-3, None)]


def test_one_that_is_far_ahead_needs_no_further_comparison(scene):
    scores = [0.31, 0.3, 0.75, 0.4]
    trials = [scene.look(n, 10.0**-n, score) for n, score in enumerate(scores, start=1)]
    decision = scene.driver.reflect(scene.situation(trials, trials[2]), trials[2])
    assert (decision["phase"], decision["trials"]) == ("train", [3])


def test_where_nothing_moved_rates_between_holding_and_diverging_are_tried(scene):
    scores = [(2e-6, 0.31), (2e-5, 0.33), (1e-3, None)]
    trials = [scene.look(n, rate, score) for n, (rate, score) in enumerate(scores, start=1)]
    decision = scene.driver.reflect(scene.situation(trials, trials[1]), trials[1])
    proposals = scene.driver.propose(scene.situation(trials, trials[1], decision))
    rates = [proposal.recipe["values"]["learning_rate"] for proposal in proposals]
    assert all(2e-5 < rate < 1e-3 for rate in rates)
    assert len(set(rates)) == 3


def test_the_first_looks_are_at_the_usual_recipe_with_several_rates(scene):
    looks = [proposal.recipe["values"] for proposal in scene.driver.propose(scene.situation([], None))]
    usual = [values for values in looks if values | scene.driver.space.usual == values]
    assert usual == looks[:3]
    assert [values["learning_rate"] for values in usual] == [3.16e-4, 1e-4, 1e-3]


def test_with_little_time_the_fewest_looks_are_shortened_until_they_fit(make_task, details_of):
    details, task = details_of("nano_countdown"), make_task("nano_countdown", seconds=60.0)
    driver = SearchDriver(space_of(details), 0)
    looks = driver.propose(Situation(task, details, 1, [], None, None, [], task.deadline, 5))
    steps = {look.recipe["steps"] for look in looks}
    expected = [driver.space.seconds(look.recipe["values"], look.recipe["steps"]) for look in looks]
    assert len(looks) == 2 and len(steps) == 1
    assert sum(expected) <= looks[0].round_seconds


@pytest.mark.parametrize(("score", "rate"), [(0.8, 1e-4), (0.45, 3e-4)], ids=["risen", "hardly"])
def test_what_has_risen_goes_on_with_smaller_steps(scene, score, rate):
    trials = [scene.look(1, 1e-4, 0.3), scene.look(2, 3e-4, score)]
    decision = scene.driver.reflect(scene.situation(trials, trials[1]), trials[1])
    [proposal] = scene.driver.propose(scene.situation(trials, trials[1], decision))
    assert proposal.recipe["values"]["learning_rate"] == pytest.approx(rate)


@pytest.mark.parametrize(("seconds", "rate"), [(15.0, 1e-4), (60.0, 3e-4)], ids=["the last", "not the last"])
def test_the_last_steps_are_smaller(scene, seconds, rate):
    first = scene.look(1, 3e-4, 0.5)
    second = scene.train(2, first, 0.8, 2)
    decision = scene.driver.reflect(scene.situation([first, second], second), second)
    situation = replace(scene.situation([first, second], second, decision), deadline=Deadline(seconds, lambda: 0.0))
    [proposal] = scene.driver.propose(situation)
    assert proposal.recipe["values"]["learning_rate"] == pytest.approx(rate)


def test_supervised_training_lowers_its_rate_by_itself(make_task, details_of):
    details, task = details_of("nano_countdown"), make_task("nano_countdown", seconds=300.0)
    driver = SearchDriver(space_of(details), 0)
    [first, *_] = driver.propose(Situation(task, details, 1, [], None, None, [], task.deadline, 5))
    look = Trial(1, 1, first, Outcome(0.9, "", "m", first.stages, [0.1], 8.0, 0.1))
    said = driver.reflect(Situation(task, details, 2, [look], look, None, [], task.deadline, 5), look)
    [further] = driver.propose(Situation(task, details, 2, [look], look, said, [], task.deadline, 5))
    assert further.recipe["values"]["learning_rate"] == first.recipe["values"]["learning_rate"]


def test_a_training_that_goes_well_goes_on_in_the_same_stage(scene):
    first = scene.look(1, 1e-4, 0.5)
    second = scene.train(2, first, 0.8, 2)
    decision = scene.driver.reflect(scene.situation([first, second], second), second)
    [proposal] = scene.driver.propose(scene.situation([first, second], second, decision))
    assert proposal.parent == 2
    assert [stage["steps"] > 24 for stage in proposal.stages] == [True]


def test_a_training_that_falls_goes_back_to_the_best_with_a_smaller_rate(scene):
    first = scene.look(1, 3e-4, 0.5)
    second, third = scene.train(2, first, 0.9, 2), None
    third = scene.train(3, second, 0.6, 3)
    decision = scene.driver.reflect(scene.situation([first, second, third], second), third)
    [proposal] = scene.driver.propose(scene.situation([first, second, third], second, decision))
    assert proposal.parent == 2
    assert proposal.recipe["values"]["learning_rate"] == pytest.approx(1e-4)
    assert len(proposal.stages) == 2


def test_a_round_that_came_to_nothing_goes_back_to_the_best(scene):
    first = scene.look(1, 1e-4, 0.6)
    failed = replace(scene.train(2, first, 0.1, 2))
    failed.outcome = Outcome(None, "it crashed", error="it crashed", diverged=True)
    [proposal] = scene.driver.propose(scene.situation([first, failed], first))
    assert proposal.parent == 1
    assert proposal.recipe["values"]["learning_rate"] < 1e-4


def test_supervised_training_is_searched_in_the_same_way(make_task, details_of):
    details, task = details_of("nano_countdown"), make_task("nano_countdown", seconds=300.0)
    driver = SearchDriver(space_of(details), 0)
    looks = driver.propose(Situation(task, details, 1, [], None, None, [], task.deadline, 5))
    assert len(looks) > 3
    assert {stage["method"] for look in looks for stage in look.stages} == {"supervised"}
    trials = [
        Trial(n, 1, look, Outcome(0.9 if n == 2 else 0.1 * n / 10, "", "m", look.stages, [0.1], 8.0, 0.1))
        for n, look in enumerate(looks, start=1)
    ]
    said = driver.reflect(Situation(task, details, 2, trials, trials[1], None, [], task.deadline, 5), trials[1])
    assert (said["phase"], said["trials"]) == ("train", [2])
    [further] = driver.propose(Situation(task, details, 2, trials, trials[1], said, [], task.deadline, 5))
    assert [stage["start"] for stage in further.stages] == [0, trials[1].proposal.stages[0]["steps"]]


def test_where_every_recipe_diverged_lower_rates_are_tried(scene):
    trials = [scene.look(1, 1e-3, None), scene.look(2, 1e-2, None)]
    proposals = scene.driver.propose(scene.situation(trials, None))
    assert all(proposal.recipe["values"]["learning_rate"] < 1e-3 for proposal in proposals)
