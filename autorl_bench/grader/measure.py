"""Evaluations of a run's models on its splits: which items, which base, which log folder."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from autorl_bench.bench import Bench
from autorl_bench.evaluator import evaluate
from autorl_bench.scenarios import Scenario, load_items, make_checker
from autorl_bench.store.records import Run
from autorl_bench.types import Evaluation, Item, Split


@dataclass(frozen=True, slots=True)
class Measured:
    """An evaluation, the number of its split's items, and how many seconds it took."""

    evaluation: Evaluation
    n_items: int
    seconds: float


@dataclass(frozen=True)
class Measuring:
    """One run's evaluations."""

    bench: Bench
    run: Run
    scenario: Scenario

    @classmethod
    def of(cls, bench: Bench, run: Run) -> Measuring:
        """For the scenario as it was when the run was made."""
        return cls(bench, run, bench.scenario_of(run))

    def items(self, split: Split) -> Sequence[Item]:
        """The items of a split; the hidden ones are drawn with a seed that only the vault's key gives."""
        seed = self.bench.home.test_seed(self.scenario.id, self.run.draw, self.run.seed)
        return _items(self.bench, self.scenario.model_dump_json(), split, seed)

    def measure(self, model: Path, split: Split, name: str) -> Measured:
        """Evaluates a model on a split. Raises as :func:`~autorl_bench.evaluator.evaluate`, and TaskError."""
        scenario, items, began = self.scenario, self.items(split), time.monotonic()
        evaluation = evaluate(
            model,
            self.bench.base_model(scenario),
            items,
            make_checker(scenario),
            scenario.generation,
            log_dir=self.bench.home.evaluations(self.run.id),
            episode=scenario.episode,
            renderer=scenario.prompt.renderer,
            name=name,
            seed=self.run.seed,
        )
        return Measured(evaluation, len(items), time.monotonic() - began)


@lru_cache(maxsize=32)
def _items(bench: Bench, scenario: str, split: Split, seed: int) -> tuple[Item, ...]:
    """Drawing takes a second or two, and a run's dev items are asked for again and again."""
    return tuple(load_items(Scenario.model_validate_json(scenario), split, bench.home.roots, seed))


def model_digest(folder: Path) -> str:
    """A name for the weights of one of our own models: the hash over its safetensors files."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            digest.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
