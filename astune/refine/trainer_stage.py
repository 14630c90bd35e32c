"""What a trainer offers to ``SelfRefineAgent``: how to sample, grade and merge. The agent knows nothing else of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from astune.refine.types import Attempt, Grade, GradeRequest, History, Sampler

Row = TypeVar("Row")


class TrainerStage(Protocol):
    """The trainer's side of the refine stage; it speaks of the batch that ``refine_batch`` was called with.

    With several processes, each calls ``refine_batch`` once a batch, and the agent calls every method here (and
    ``sampler.sample``) in the same order on each, with empty lists where a process has no row. So each of them may
    hold collective operations. Sampling and grading are left out on all processes at once, where
    :meth:`any_process` says that there is nothing to do.
    """

    @property
    def sampler(self) -> Sampler:
        """Samples critiques and refined answers.

        It may have a method ``excess(messages) -> int``, the tokens that a prompt is too long by (0 or less: it
        fits). With it, a critique that does not fit is cut; without it such a row ends with the sample's ``error``.
        """
        ...

    @property
    def first(self) -> Sequence[Attempt]:
        """The first attempts of the batch with their grades, one a row."""
        ...

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade an attempt, by the run's own reward functions and the rule that graded the first ones."""
        ...

    def merge(self, result: Any, histories: Sequence[History]) -> Any | None:
        """A new result of the same form, with refined rows as the run's credit says; None where no process has any.

        Called for every batch, also where nothing was refined. Under ``replace``, row ``history.row`` takes
        ``history.final`` where ``history.kept`` is above 0. ``result`` stays as it is.
        """
        ...

    def any_process(self, flag: bool) -> bool:
        """Whether it is so on any process."""
        ...

    @property
    def is_main(self) -> bool:
        """Whether this process prints and logs."""
        ...

    def gather(self, rows: list[Row]) -> list[Row]:
        """The rows of all processes, in order of their ranks; ``rows`` itself where there is one process."""
        ...


class RefiningTrainer(Protocol):
    """What ``SelfRefineAgent(trainer)`` asks of its trainer. It reads ``refine_stage`` when a batch comes."""

    @property
    def refine_stage(self) -> TrainerStage:
        """The trainer's side of the stage."""
        ...
