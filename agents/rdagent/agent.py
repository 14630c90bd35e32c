"""Improves a model until its budget is spent: hypothesis, experiment, feedback, memory; on ``astune.refine``'s loop.

A candidate is a trial, its score is what came back, and the reflection on a round is what the next hypothesis starts
from. What is best so far is in ``output/model`` and ``code/`` at every moment; all else is in ``journal.jsonl``.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agents.common.bench import Bench
from agents.common.experiment import folder_size
from agents.common.launch import ColdLauncher, Launcher, WarmLauncher
from agents.common.script import run_agent
from agents.common.space import in_words
from agents.common.task import Deadline, Task
from agents.common.training.publish import is_model, publish_model
from agents.common.write_code import copy_code, write_code
from agents.rdagent.drivers import make_driver
from agents.rdagent.drivers.base import Driver, DriverExhausted, Situation
from agents.rdagent.experiment import Lab
from agents.rdagent.records import Journal, Outcome, Proposal, Trial
from astune.errors import AstuneError
from astune.refine.loop import refine
from astune.refine.loop_state import Attempt, Metered, Score, State
from astune.refine.memory import EpisodicMemory
from astune.refine.stop import Rounds, StopCondition

#: Seconds at the end that belong to nobody: for a machine that is slow to write, and for the last model's way out.
CLOSING_SECONDS = 2.0
#: With less than this left, no further experiment is begun.
LEAST_SECONDS = 8.0
#: Models of this many trials are kept when the disk fills; and how full it may be before the others go.
KEPT_MODELS, TIDY_SHARE = 3, 0.4
#: Questions to dev that are asked on the way: one a share of the budget.
ASK_SHARE = 0.2
_LESSONS = 8


@dataclass(frozen=True, slots=True)
class OutOfTime(StopCondition):
    """Ends when there is no time for another experiment."""

    deadline: Deadline

    def _reason(self, state: State[Any, Any]) -> str | None:
        return "the time is over" if self.deadline.seconds_left < LEAST_SECONDS else None


class ResearchAgent:
    """One run.

    Args:
        task: what is to be done, where, and until when.
        driver: proposes experiments.
        bench: the server.
        launcher: starts training scripts.
        details: what may be known of the scenario.
        max_rounds: a bound, whatever the time.
        tolerance: how far the score of a longer training may lie below the best and still take its place.
    """

    def __init__(
        self,
        task: Task,
        driver: Driver,
        bench: Bench,
        launcher: Launcher,
        details: dict[str, Any],
        *,
        max_rounds: int = 200,
        tolerance: float = 0.0,
    ) -> None:
        self.task = task
        self.driver = driver
        self.bench = bench
        self.details = details
        self.deadline = task.deadline.earlier_by(CLOSING_SECONDS)
        self.journal = Journal(task.workspace / "journal.jsonl")
        self.lab = Lab(task, launcher, bench, driver.judged_by_dev, self.deadline)
        self.base = Trial(0, 0, Proposal("The base model is what everything is measured against.", ""))
        self.carried = self.base
        self._max_rounds = max_rounds
        self._tolerance = tolerance
        self._asked_at = task.deadline.seconds_left

    def run(self) -> Trial:
        """Works until the time or the driver is exhausted; returns the trial that is handed in."""
        if self.journal.started:
            self._say(f"going on after {len(self.journal.trials)} trials")
        if not is_model(self.task.output_model):
            publish_model(self.task.base_model, self.task.output_model)
        self.lab.launcher.wait_until_ready()  # or the first experiment would seem to take so much longer
        with EpisodicMemory(self.task.workspace / "memory.sqlite") as memory:
            result = refine(
                lambda state: self._generate(state, memory),
                lambda state, trials: self._evaluate(state, trials, memory),
                lambda state, attempt: self._reflect(state, attempt, memory),
                stop=OutOfTime(self.deadline) | Rounds(1 + self._max_rounds),  # the base model is the first
                select=lambda state: self._selected(state),
                failures=(DriverExhausted, AstuneError),
            )
        self.journal.note("stopped", why=result.stopped, error=result.error)
        self._say(f"{result.stopped}: {result.error or ''}".rstrip(": "))
        chosen: Trial = self._confirmed(result.chosen.candidate, result.state)
        if chosen.number and chosen is not self.carried:
            self._publish(chosen)
        return chosen

    # --- the three steps of the loop ----------------------------------------------------------------------------

    def _generate(self, state: State[Trial, Any], memory: EpisodicMemory) -> Sequence[Trial | Metered[Trial]]:
        """The base model first; then what the journal holds of a round, or what the driver proposes for it."""
        number = len(state.rounds) - 1
        if number == 0:
            return [self.base]
        if known := self.journal.proposals(number):
            return known
        self._collect_answers()
        proposals = self.driver.propose(self._situation(state, number, memory))
        usage = self.driver.usage()
        trials = self.journal.propose(number, proposals)
        return [Metered(trials[0], usage), *trials[1:]]

    def _evaluate(
        self, state: State[Trial, Any], trials: Sequence[Trial], memory: EpisodicMemory
    ) -> Sequence[float | Score]:
        """Runs what has not been run; what does not fit into the round's time, or the run's, is masked."""
        scores = []
        begun = self.deadline.clock()
        for trial in trials:
            if trial.number and trial.outcome is None:
                self._experiment(trial, trials, begun, memory)
            scores.append(self._score(trial))
            if self._supersedes(trial):
                self._publish(trial)
        self._tidy()
        return scores

    def _reflect(self, state: State[Trial, Any], attempt: Attempt[Trial], memory: EpisodicMemory) -> Any:
        """What the driver makes of the round, kept so that it is not asked twice."""
        number = len(state.rounds) - 1
        if number == 0:
            return None
        if number not in self.journal.reflections:
            self._collect_answers()
            words = self.driver.reflect(self._situation(state, number + 1, memory), attempt.candidate)
            self.journal.reflect(number, words)
        return self.journal.reflections[number]

    def _situation(self, state: State[Trial, Any], number: int, memory: EpisodicMemory) -> Situation:
        trials = [trial for trial in self.journal.trials if trial.round < number]
        question = " ".join([self.task.scenario, *(trial.proposal.hypothesis for trial in trials[-1:])])
        return Situation(
            task=self.task,
            details=self.details,
            round=number,
            trials=trials,
            best=self.carried if self.carried.number else None,
            reflection=self.journal.reflections.get(number - 1),
            lessons=memory.recall(question, _LESSONS, shared=0.1) or memory.recent(_LESSONS),
            deadline=self.deadline,
            queries_left=self.bench.queries_left,
        )

    # --- experiments --------------------------------------------------------------------------------------------

    def _experiment(self, trial: Trial, trials: Sequence[Trial], begun: float, memory: EpisodicMemory) -> None:
        """Runs one trial and tells everybody who keeps records."""
        proposal = trial.proposal
        if (why := proposal.problem or self._no_time(trials, proposal, begun)) is not None:
            self.journal.end(trial, Outcome(None, why, error=why))
            return
        if not self.journal.begin(trial):
            words = "The experiment ended the agent itself twice (memory, disk or processes) and is not run again."
            self.journal.end(trial, Outcome(None, words, error=words))
            return
        code = str(self.lab.code(trial).relative_to(self.task.workspace))
        experiment = self.bench.begin(self.bench.propose(proposal.hypothesis, proposal.reason), proposal.recipe, code)
        outcome = self.lab.run(trial, self._start_model(trial), experiment)
        self.journal.end(trial, outcome)
        claimed = None if outcome.score is None else 100 * outcome.score
        log = self.lab.folder(trial) / "log.txt"
        self.bench.end(
            experiment,
            "failed" if outcome.score is None else "succeeded",
            outcome.feedback or outcome.error or "",
            claimed,
            str(log.relative_to(self.task.workspace)) if log.is_file() else None,
        )
        values = proposal.recipe.get("values") or proposal.recipe
        memory.add(proposal.hypothesis, in_words(values), outcome.feedback or str(outcome.error), outcome.score)
        shown = "failed" if outcome.score is None else f"{outcome.score:.3f}"
        self._say(f"trial {trial.number} (round {trial.round}): {shown}  {proposal.hypothesis}  {outcome.feedback}")

    def _no_time(self, trials: Sequence[Trial], proposal: Proposal, begun: float) -> str | None:
        if self.deadline.seconds_left < LEAST_SECONDS:
            return "It was not begun: the run's time is over."
        spent = [trial.outcome.seconds for trial in trials if trial.outcome is not None and trial.outcome.seconds]
        if proposal.round_seconds is None or not spent:
            return None
        mean = sum(spent) / len(spent)
        if self.deadline.clock() - begun + mean > max(proposal.round_seconds, 1.5 * mean):
            return "It was not begun: the time of its round is over."
        return None

    def _start_model(self, trial: Trial) -> Path | None:
        """The model that code may go on from. A replay begins at the base model, so here it does, too."""
        if self.task.track == "replay" or not self.carried.number or self.carried.outcome is None:
            return None
        return None if self.carried.outcome.model is None else Path(self.carried.outcome.model)

    @staticmethod
    def _score(trial: Trial) -> Score:
        if not trial.number:
            return Score(0.0)
        outcome = trial.outcome
        if outcome is None or outcome.score is None:
            return Score(float("-inf"), reason="not run" if outcome is None else outcome.error)
        return Score(outcome.score, feedback=outcome.feedback)

    # --- the best so far ----------------------------------------------------------------------------------------

    def _supersedes(self, trial: Trial) -> bool:
        """Whether a trial takes the place of what is carried: by its score, or as that one's longer training."""
        if trial.score is None or trial.outcome is None or trial.outcome.model is None:
            return False
        best = max(
            (one.score for one in self.journal.trials if one.score is not None and one is not trial), default=0.0
        )
        carried = self.carried.score or 0.0
        goes_on = trial.proposal.parent == self.carried.number and self.carried.number > 0
        return trial.score > carried or (goes_on and trial.score >= best - self._tolerance)

    def _selected(self, state: State[Trial, Any]) -> Attempt[Trial]:
        return next(attempt for attempt in state.attempts if attempt.candidate is self.carried)

    def _publish(self, trial: Trial) -> None:
        """Makes a trial the one that is handed in: its model, and the code that trains it from the base model."""
        assert trial.outcome is not None
        self.carried = trial
        if trial.outcome.model is None or not is_model(Path(trial.outcome.model)):
            return  # a journal from before: its model is in output/ already
        try:
            publish_model(Path(trial.outcome.model), self.task.output_model)
            if trial.proposal.code is None:
                write_code(self.task.code, trial.proposal.hypothesis, trial.outcome.stages)
            else:
                copy_code(self.lab.code(trial), self.task.code)
        except (AstuneError, OSError) as error:
            self._say(f"trial {trial.number} could not be handed in: {error}")
            return
        self._ask_dev(trial)

    def _ask_dev(self, trial: Trial) -> None:
        """Asks dev about a new best now and then, without waiting: the answer comes while training goes on."""
        left = self.deadline.seconds_left
        due = self._asked_at - left >= ASK_SHARE * self.task.budget.wall_seconds
        if trial.outcome is None or trial.outcome.dev is not None or self.driver.judged_by_dev:
            return
        if due and self.bench.queries_left > 1 and left > 3 * self.bench.seconds_of_an_answer:
            self._asked_at = left
            self.bench.ask(str(trial.outcome.model))

    def _collect_answers(self) -> None:
        for trial in self.journal.trials:
            if trial.outcome is not None and trial.outcome.model is not None and trial.outcome.dev is None:
                answer = self.bench.answer(trial.outcome.model)
                if answer is not None:
                    self.journal.scored(trial, answer.score)
                    self._say(f"trial {trial.number} scored {answer.score:.1f} % on dev")

    def _confirmed(self, chosen: Trial, state: State[Trial, Any]) -> Trial:
        """Asks dev about the last two that were carried, where there is time, and takes the better."""
        rivals = [chosen, *self._rivals(chosen)][:2]
        if len(rivals) < 2 or self.driver.judged_by_dev:
            return chosen
        for trial in rivals:
            assert trial.outcome is not None
            reserve = self.bench.seconds_of_an_answer * 1.5
            if trial.outcome.dev is None and self.deadline.seconds_left > reserve and trial.outcome.model is not None:
                answer = self.bench.evaluate(trial.outcome.model, self.deadline)
                if answer is not None:
                    self.journal.scored(trial, answer.score)
        first, second = (trial.outcome.dev if trial.outcome is not None else None for trial in rivals)
        return rivals[1] if first is not None and second is not None and second > first else chosen

    def _rivals(self, chosen: Trial) -> list[Trial]:
        """Others whose score says no less, those that dev has seen first."""
        others = [
            trial
            for trial in self.journal.trials
            if trial.score is not None and trial is not chosen and trial.score >= (chosen.score or 0) - self._tolerance
        ]
        return sorted(others, key=lambda trial: (trial.outcome is None or trial.outcome.dev is None, -trial.number))

    def _tidy(self) -> None:
        """Drops the models of losers when the disk fills."""
        if folder_size(self.task.workspace) < TIDY_SHARE * self.task.budget.disk_bytes:
            return
        scored = sorted(
            (one for one in self.journal.trials if one.score is not None), key=lambda one: -(one.score or 0)
        )
        keep = {trial.number for trial in scored[:KEPT_MODELS]} | {self.carried.number}
        for trial in self.journal.trials:
            if trial.number not in keep:
                shutil.rmtree(self.lab.folder(trial) / "model", ignore_errors=True)
                self.lab.forget(trial, [self.journal.trials[number - 1] for number in keep if number])

    @staticmethod
    def _say(words: str) -> None:
        print(" ".join(words.split()), flush=True)


def main() -> None:
    """Runs the agent that the benchmark has started."""
    task = Task.from_environment()
    if not is_model(task.output_model):
        publish_model(task.base_model, task.output_model)
    with ExitStack() as stack:
        bench = Bench.from_environment(task.budget.dev_queries)
        warm = task.arguments.get("driver", "search") == "search"
        launcher: Launcher = stack.enter_context(WarmLauncher()) if warm else ColdLauncher()
        details = bench.details(task.scenario)
        driver, tolerance = make_driver(task, details, bench)
        rounds = int(task.arguments.get("rounds", 200))
        ResearchAgent(task, driver, bench, launcher, details, max_rounds=rounds, tolerance=tolerance).run()


if __name__ == "__main__":
    run_agent(main)
