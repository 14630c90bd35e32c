"""What a driver is: it proposes experiments and makes something of what came back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agents.common.task import Deadline, Task
from agents.rdagent.records import Proposal, Trial
from astune.refine.loop_state import Usage
from astune.refine.memory import Lesson


@dataclass(frozen=True, slots=True)
class Situation:
    """What a driver decides by.

    Attributes:
        task: the run.
        details: what may be known of the scenario.
        round: number of the round that is to be proposed, from 1.
        trials: all so far, those of the last round included.
        best: the best of them; None before the first success.
        reflection: what the driver made of the last round.
        lessons: from memory, the most relevant first.
        deadline: training has to be over by then.
        queries_left: questions to dev that are left.
    """

    task: Task
    details: dict[str, Any]
    round: int
    trials: Sequence[Trial]
    best: Trial | None
    reflection: Any
    lessons: Sequence[Lesson]
    deadline: Deadline
    queries_left: int


class DriverExhausted(Exception):
    """A driver that has nothing to propose any more; the best so far stands."""


class Driver(Protocol):
    """Where proposals come from."""

    @property
    def judged_by_dev(self) -> bool:
        """Whether experiments are scored on dev as long as questions are left; else by their training."""
        ...

    @property
    def warm(self) -> bool:
        """Whether scripts may run as forks of an interpreter that has imported the trainer."""
        ...

    def propose(self, situation: Situation) -> list[Proposal]:
        """The next round's experiments, most promising first.

        Raises:
            DriverExhausted: there is nothing more to try.
        """
        ...

    def reflect(self, situation: Situation, trial: Trial) -> Any:
        """What follows from a round whose best trial this is: JSON, for ``propose`` and the journal."""
        ...

    def usage(self) -> Usage:
        """What the driver's own model has used since it was last asked."""
        ...
