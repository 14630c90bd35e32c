"""What the store hands out: frozen records, detached from any database. Times are seconds since the epoch (UTC)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from autorl_bench.store.states import ExperimentState, JobState, QueryState, Role, RunState, SubmissionState, Track
from autorl_bench.store.tables import Base
from autorl_bench.types import Evaluation, Flag, Reason

R = TypeVar("R")


def as_record(kind: type[R], row: Base, **more: Any) -> R:
    """A record of ``kind`` from a row with columns of the same names; ``more`` overrides or adds."""
    names = (field.name for field in fields(kind))  # type: ignore[arg-type]  # every kind here is a dataclass
    return kind(**{name: more[name] if name in more else getattr(row, name) for name in names})


def reasons_json(reasons: tuple[Reason, ...]) -> list[dict[str, str]]:
    """Reasons as a column holds them."""
    return [{"code": reason.code, "message": reason.message} for reason in reasons]


def reasons_of(value: list[dict[str, str]]) -> tuple[Reason, ...]:
    """Reasons from a column."""
    return tuple(Reason(**reason) for reason in value)


@dataclass(frozen=True, slots=True)
class ScenarioSnapshot:
    """A scenario as it was when a run began; ``digest`` is the SHA-256 of name and content."""

    digest: str
    name: str
    content: Mapping[str, Any]
    created: float


@dataclass(frozen=True, slots=True)
class AgentVersion:
    """An agent at one version of its configuration; ``digest`` is the SHA-256 of name and configuration."""

    digest: str
    name: str
    config: Mapping[str, Any]
    created: float


@dataclass(frozen=True, slots=True)
class Run:
    """One agent's attempt at one scenario. ``reasons`` say why it ended without a score.

    Runs of equal ``draw`` and seed are tested on the same hidden items, so that they can be compared item by item.
    """

    id: str
    scenario: str
    scenario_digest: str
    agent: str
    agent_digest: str
    track: Track
    seed: int
    draw: str
    budget: Mapping[str, Any]
    isolation: str
    state: RunState
    reasons: tuple[Reason, ...]
    final_evaluation_id: int | None
    created: float
    started: float | None
    ended: float | None


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission, copied to ``path`` and hashed; ``number`` counts a run's from 1; ``size`` in bytes."""

    id: int
    run_id: str
    number: int
    digest: str
    path: str
    size: int
    final: bool
    state: SubmissionState
    reasons: tuple[Reason, ...]
    report: Mapping[str, Any]
    created: float


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """An evaluation with its items; every number of ``evaluation`` is counted from them."""

    id: int
    run_id: str
    submission_id: int | None
    role: Role
    split: str
    model_digest: str
    seconds: float
    created: float
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class DevQuery:
    """A question for the dev score; ``key`` is the caller's, so that asking again is not a second question."""

    id: int
    run_id: str
    key: str
    model_digest: str
    state: QueryState
    reasons: tuple[Reason, ...]
    evaluation_id: int | None
    experiment_id: int | None
    created: float


@dataclass(frozen=True, slots=True)
class Job:
    """Work in the queue. ``attempts`` counts leases, those of workers that died included."""

    id: int
    run_id: str
    kind: str
    key: str
    payload: Mapping[str, Any]
    state: JobState
    attempts: int
    max_attempts: int
    available: float
    lease_expires: float | None
    worker: str | None
    result: Mapping[str, Any]
    error: str | None
    created: float
    ended: float | None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do a job until ``expires``; ``id`` is known to its holder alone."""

    id: str
    job: Job
    expires: float


@dataclass(frozen=True, slots=True)
class FlagRecord:
    """A finding against a run."""

    run_id: str
    flag: Flag
    created: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run had used by one moment, counted from its start: seconds, bytes, tokens of the agent's own LLM."""

    wall_seconds: float
    cpu_seconds: float
    gpu_seconds: float = 0.0
    peak_memory: int = 0
    disk: int = 0
    agent_tokens: int = 0


@dataclass(frozen=True, slots=True)
class MeterSample:
    """One measurement of a run's :class:`Usage`."""

    run_id: str
    usage: Usage
    created: float


@dataclass(frozen=True, slots=True)
class Event:
    """What happened and who caused it. ``run_id`` is None for what concerns no run."""

    id: int
    run_id: str | None
    actor: str
    what: str
    detail: Mapping[str, Any]
    created: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What an agent believes would help, in its own words; ``number`` counts a run's from 1."""

    id: int
    run_id: str
    number: int
    statement: str
    reason: str
    created: float


@dataclass(frozen=True, slots=True)
class Experiment:
    """How an agent tried a hypothesis. ``claimed_score`` is its word; what was measured is in its dev queries."""

    id: int
    run_id: str
    hypothesis_id: int
    number: int
    recipe: Mapping[str, Any]
    code_path: str | None
    log_path: str | None
    state: ExperimentState
    claimed_score: float | None
    feedback: str
    created: float
    ended: float | None
