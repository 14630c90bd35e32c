"""Draws a recipe at random, trains it in full, asks dev, keeps the best, until the budget is spent.

The space is the one that ``rdagent`` searches (``agents/common/space.py``), and scripts start as fast as they do there:
what differs is the search.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agents.common import jsonl
from agents.common.bench import Bench
from agents.common.experiment import Ended, Limits, run_script, script_environment
from agents.common.launch import Launcher, Start, WarmLauncher
from agents.common.script import run_agent
from agents.common.space import Recipe, Space, in_words, space_of
from agents.common.task import Deadline, Task
from agents.common.training.publish import is_model, publish_model
from agents.common.write_code import copy_code, write_code

CLOSING_SECONDS = 2.0
#: With less than this left for training, no further recipe is drawn.
LEAST_SECONDS = 15.0


@dataclass(slots=True)
class RandomSearch:
    """One run. ``results.jsonl`` keeps what each draw came to, so that a search that was killed goes on."""

    task: Task
    bench: Bench
    launcher: Launcher
    space: Space
    best: float
    max_draws: int = 500

    @property
    def deadline(self) -> Deadline:
        """Everything is over by then."""
        return self.task.deadline.earlier_by(CLOSING_SECONDS)

    def run(self) -> None:
        """Draws until the time is over."""
        results = self.task.workspace / "results.jsonl"
        known = jsonl.read(results)
        self.best = max((float(row["score"]) for row in known), default=self.best)
        for number, recipe in self._draws():
            if number <= len(known):
                continue
            reserve = self.bench.seconds_of_an_answer if self.bench.queries_left else 0.0
            seconds = self.deadline.seconds_left - reserve
            if seconds < LEAST_SECONDS:
                break
            score = self._try(number, recipe, seconds)
            jsonl.append(results, {"number": number, "recipe": dict(recipe), "score": score})

    def _draws(self) -> Iterator[tuple[int, Recipe]]:
        rng = Random(f"random_search:{self.task.seed}")
        for number in range(1, self.max_draws + 1):
            yield number, self.space.draw(rng)

    def _try(self, number: int, recipe: Recipe, seconds: float) -> float:
        """Trains a recipe and asks for its score, percent; a better one takes the place of what is handed in."""
        folder = self.task.workspace / "experiments" / f"{number:03d}"
        stages = [self.space.stage(recipe, self.space.full_steps(recipe))]
        script = write_code(folder / "code", f"Draw {number}: {in_words(recipe)}", stages)
        words = f"A recipe drawn at random may be a good one: {in_words(recipe)}."
        code = str(script.parent.relative_to(self.task.workspace))
        experiment = self.bench.begin(self.bench.propose(words, "It was drawn."), recipe, code)
        ended = self._train(folder, script, seconds)
        if not ended.succeeded or not is_model(folder / "model"):
            self.bench.end(experiment, "failed", f"Nothing came of it: {ended.log[-500:]}", None, None)
            return 0.0
        score, told = self._score(folder / "model", experiment, ended.report)
        self.bench.end(experiment, "succeeded", told, score, None)
        print(f"draw {number}: {score:.1f} % ({told}): {in_words(recipe)}", flush=True)
        if score > self.best:
            self.best = score
            publish_model(folder / "model", self.task.output_model)
            write_code(folder / "code", words, ended.report.get("stages", stages))
            copy_code(folder / "code", self.task.code)
        return score

    def _train(self, folder: Path, script: Path, seconds: float) -> Ended:
        report = folder / "report.json"
        environment = script_environment(
            self.task, folder / "model", seconds, AUTORL_CACHE=str(folder / "cache"), AUTORL_REPORT=str(report)
        )
        start = Start(script, script.parent, environment, folder / "log.txt")
        return run_script(self.launcher, start, Limits(seconds, output=2**24), report=report)

    def _score(self, model: Path, experiment: int | None, report: Any) -> tuple[float, str]:
        dev = self.bench.evaluate(str(model), self.deadline, experiment=experiment)
        if dev is not None:
            return dev.score, f"on dev, {dev.low:.1f} to {dev.high:.1f}"
        return 100 * float(report.get("score") or 0.0), "of its own training; dev gave no score"


def main() -> None:
    """Runs the agent that the benchmark has started."""
    task = Task.from_environment()
    if not is_model(task.output_model):
        publish_model(task.base_model, task.output_model)
    with WarmLauncher() as launcher:
        bench = Bench.from_environment(task.budget.dev_queries)
        details = bench.details(task.scenario)
        space = space_of(details, int(task.arguments.get("steps", 30)))
        draws = int(task.arguments.get("draws", 500))
        RandomSearch(task, bench, launcher, space, float(details["baseline_score"]), draws).run()


if __name__ == "__main__":
    run_agent(main)
