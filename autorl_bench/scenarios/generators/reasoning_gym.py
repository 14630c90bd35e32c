"""Any family of reasoning-gym, by its name: a scenario of one needs no code."""

from __future__ import annotations

from random import Random
from typing import Any

from autorl_bench.scenarios.problem import Problem


class ReasoningGym:
    """Draws problems of the family ``dataset``; ``config`` is the family's own configuration.

    The library decides nothing about answers: the scenario's checker does (``math``, where they are numbers).

    Raises:
        ValueError: reasoning-gym is not installed, there is no such family, or it refuses the configuration.
    """

    def __init__(self, dataset: str, config: dict[str, Any] | None = None) -> None:
        try:
            from reasoning_gym.factory import create_dataset  # type: ignore[import-untyped]
        except ImportError as error:
            raise ValueError("a reasoning-gym family needs the library: pip install 'astune[bench]'") from error
        self._create = create_dataset
        self._dataset, self._config = dataset, dict(config or {})
        try:
            self._one(0)
        except (AssertionError, TypeError, ValueError) as error:
            raise ValueError(f"reasoning-gym refuses {dataset!r} with {self._config}: {error}") from error

    def draw(self, rng: Random, index: int) -> Problem:
        """Draws one problem; its key is its question."""
        entry = self._one(rng.getrandbits(62))
        question, answer = str(entry["question"]), str(entry["answer"])
        return Problem(question, question, answer, answer)

    def _one(self, seed: int) -> dict[str, Any]:
        entry: dict[str, Any] = self._create(self._dataset, seed=seed, size=1, **self._config)[0]
        return entry
