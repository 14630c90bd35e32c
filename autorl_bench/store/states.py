"""States and the transitions between them: the one place that says what may follow what."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from autorl_bench.store.errors import TransitionError


class RunState(StrEnum):
    """Where a run is. The last four are ends; only ``SCORED`` has a score."""

    CREATED = "created"
    RUNNING = "running"
    SUBMITTED = "submitted"
    EVALUATING = "evaluating"
    SCORED = "scored"
    INVALID = "invalid"
    INTERRUPTED = "interrupted"
    INFRASTRUCTURE = "infrastructure"

    @property
    def is_end(self) -> bool:
        """Whether nothing follows."""
        return not RUN_TRANSITIONS[self]


_ALWAYS = frozenset({RunState.INVALID, RunState.INTERRUPTED, RunState.INFRASTRUCTURE})

#: From each state of a run to the states that may follow it.
RUN_TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.CREATED: _ALWAYS | {RunState.RUNNING},
    RunState.RUNNING: _ALWAYS | {RunState.SUBMITTED},
    RunState.SUBMITTED: _ALWAYS | {RunState.EVALUATING},
    RunState.EVALUATING: _ALWAYS | {RunState.SCORED},
    RunState.SCORED: frozenset(),
    RunState.INVALID: frozenset(),
    RunState.INTERRUPTED: frozenset(),
    RunState.INFRASTRUCTURE: frozenset(),
}


class SubmissionState(StrEnum):
    """What became of a submission: ``INVALID`` is its own fault, ``INFRASTRUCTURE`` is ours."""

    RECEIVED = "received"
    SCORED = "scored"
    INVALID = "invalid"
    INFRASTRUCTURE = "infrastructure"


class QueryState(StrEnum):
    """What became of a dev query. All but ``INFRASTRUCTURE`` count against the budget."""

    OPEN = "open"
    ANSWERED = "answered"
    INVALID = "invalid"
    INFRASTRUCTURE = "infrastructure"


class JobState(StrEnum):
    """Where a job is. The last three are ends."""

    WAITING = "waiting"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ExperimentState(StrEnum):
    """Where an agent's experiment is, by its own account."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Track(StrEnum):
    """What is evaluated: the model that the submitted code trains anew, or the submitted weights."""

    REPLAY = "replay"
    WEIGHTS = "weights"


class Role(StrEnum):
    """What an evaluation is for. Each but ``DEV`` happens at most once a run: the test is opened once.

    ``BASELINE`` and ``DEV_BASELINE`` are of the base model. ``CLAIMED`` is of weights that came along with code that is
    replayed: the score is the replayed model's.
    """

    BASELINE = "baseline"
    DEV_BASELINE = "dev_baseline"
    DEV = "dev"
    FINAL = "final"
    TWIN = "twin"
    CLAIMED = "claimed"


def check_run_transition(run_id: str, now: RunState, to: RunState) -> None:
    """Refuses what may not follow.

    Raises:
        TransitionError: ``to`` cannot follow ``now``; the message names what can.
    """
    if to in RUN_TRANSITIONS[now]:
        return
    if now.is_end:
        raise TransitionError(f"run {run_id} has ended ({now}); it cannot become {to}")
    after = ", ".join(sorted(RUN_TRANSITIONS[now]))
    raise TransitionError(f"run {run_id} is {now}; {to} cannot follow that, only: {after}")
