"""The tables. Times are seconds since the epoch (UTC); no row of these leaves the package (see ``records.py``).

A score is no column anywhere: it is counted from an evaluation's items whenever it is read, so that none can
be written that nobody computed, and a run cannot be ``scored`` without naming its evaluation.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Double, ForeignKey, Index, Integer, MetaData, UniqueConstraint, text
from sqlalchemy import CheckConstraint as Check
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from autorl_bench.store.columns import CleanText, Json, Short, state_column
from autorl_bench.store.states import ExperimentState, JobState, QueryState, Role, RunState, SubmissionState, Track

#: Every constraint has a name, so that a migration can speak of it.
NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

#: Counts up by itself: 64 bits on a server, SQLite's own row number (as wide) in a file.
Number = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """All tables of the store."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it from the class)
        str: CleanText(),
        float: Double(),
        dict[str, Any]: Json(),
        RunState: state_column(RunState),
        SubmissionState: state_column(SubmissionState),
        QueryState: state_column(QueryState),
        JobState: state_column(JobState),
        ExperimentState: state_column(ExperimentState),
        Track: state_column(Track),
        Role: state_column(Role),
    }


def _run(index: bool = True) -> Mapped[str]:
    return mapped_column(Short(120), ForeignKey("runs.id"), index=index)


class ScenarioRow(Base):
    """A scenario as it was when a run began: a later edit of its YAML doesn't change what was measured."""

    __tablename__ = "scenarios"
    digest: Mapped[str] = mapped_column(Short(64), primary_key=True)
    name: Mapped[str]
    content: Mapped[dict[str, Any]]
    created: Mapped[float]


class AgentRow(Base):
    """An agent at one version of its configuration."""

    __tablename__ = "agents"
    digest: Mapped[str] = mapped_column(Short(64), primary_key=True)
    name: Mapped[str]
    config: Mapped[dict[str, Any]]
    created: Mapped[float]


class RunRow(Base):
    """One agent's attempt at one scenario."""

    __tablename__ = "runs"
    __table_args__ = (Check("(state = 'scored') = (final_evaluation_id IS NOT NULL)", name="scored_by_evaluation"),)
    id: Mapped[str] = mapped_column(Short(120), primary_key=True)
    scenario_digest: Mapped[str] = mapped_column(Short(64), ForeignKey("scenarios.digest"))
    agent_digest: Mapped[str] = mapped_column(Short(64), ForeignKey("agents.digest"))
    track: Mapped[Track]
    seed: Mapped[int] = mapped_column(BigInteger)
    draw: Mapped[str] = mapped_column(Short(120), server_default="")
    budget: Mapped[dict[str, Any]]
    isolation: Mapped[str]
    state: Mapped[RunState]
    reasons: Mapped[list[Any]] = mapped_column(Json)
    token_hash: Mapped[str | None] = mapped_column(Short(64))
    final_evaluation_id: Mapped[int | None] = mapped_column(Number, ForeignKey("evaluations.id", use_alter=True))
    created: Mapped[float]
    started: Mapped[float | None]
    ended: Mapped[float | None]


class SubmissionRow(Base):
    """A copied and hashed submission."""

    __tablename__ = "submissions"
    __table_args__ = (
        Index(
            "one_final_submission_a_run",
            "run_id",
            unique=True,
            sqlite_where=text("final"),
            postgresql_where=text("final"),
        ),
    )
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    run_id: Mapped[str] = _run()
    number: Mapped[int]
    digest: Mapped[str] = mapped_column(Short(64))
    path: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    final: Mapped[bool]
    state: Mapped[SubmissionState]
    reasons: Mapped[list[Any]] = mapped_column(Json)
    report: Mapped[dict[str, Any]]
    created: Mapped[float]


class EvaluationRow(Base):
    """One model asked all items of one split."""

    __tablename__ = "evaluations"
    __table_args__ = (
        Index(
            "one_evaluation_a_role",
            "run_id",
            "role",
            unique=True,
            sqlite_where=text("role != 'dev'"),
            postgresql_where=text("role != 'dev'"),
        ),
    )
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    run_id: Mapped[str] = _run()
    submission_id: Mapped[int | None] = mapped_column(Number, ForeignKey("submissions.id"))
    role: Mapped[Role]
    split: Mapped[str] = mapped_column(Short(16))
    model_digest: Mapped[str] = mapped_column(Short(64))
    log_path: Mapped[str | None]
    seconds: Mapped[float]
    created: Mapped[float]


class ItemRow(Base):
    """How one item of an evaluation went."""

    __tablename__ = "items"
    __table_args__ = (UniqueConstraint("evaluation_id", "item_id"),)
    evaluation_id: Mapped[int] = mapped_column(Number, ForeignKey("evaluations.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[str] = mapped_column(Short(200))
    correct: Mapped[bool | None]
    completion: Mapped[str]
    tokens: Mapped[int]
    truncated: Mapped[bool]


class DevQueryRow(Base):
    """A question for the dev score, which costs budget."""

    __tablename__ = "dev_queries"
    __table_args__ = (UniqueConstraint("run_id", "key"),)
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    run_id: Mapped[str] = _run(index=False)
    key: Mapped[str] = mapped_column(Short(120))
    model_digest: Mapped[str] = mapped_column(Short(64))
    state: Mapped[QueryState]
    reasons: Mapped[list[Any]] = mapped_column(Json)
    evaluation_id: Mapped[int | None] = mapped_column(Number, ForeignKey("evaluations.id"))
    experiment_id: Mapped[int | None] = mapped_column(Number, ForeignKey("experiments.id"))
    created: Mapped[float]


class JobRow(Base):
    """Work for a worker process."""

    __tablename__ = "jobs"
    __table_args__ = (UniqueConstraint("run_id", "key"), Index("ix_jobs_state_kind", "state", "kind"))
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    run_id: Mapped[str] = _run(index=False)
    kind: Mapped[str] = mapped_column(Short(32))
    key: Mapped[str] = mapped_column(Short(120))
    payload: Mapped[dict[str, Any]]
    state: Mapped[JobState]
    attempts: Mapped[int]
    max_attempts: Mapped[int]
    available: Mapped[float]
    lease: Mapped[str | None] = mapped_column(Short(32))
    lease_expires: Mapped[float | None]
    worker: Mapped[str | None]
    result: Mapped[dict[str, Any]]
    error: Mapped[str | None]
    created: Mapped[float]
    ended: Mapped[float | None]


class LaneRow(Base):
    """When a run's jobs were last served: the queue takes from the run that has waited longest."""

    __tablename__ = "lanes"
    run_id: Mapped[str] = mapped_column(Short(120), ForeignKey("runs.id"), primary_key=True)
    served: Mapped[int] = mapped_column(BigInteger)


class FlagRow(Base):
    """A finding against a run."""

    __tablename__ = "flags"
    __table_args__ = (UniqueConstraint("run_id", "code"),)
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    run_id: Mapped[str] = _run(index=False)
    code: Mapped[str] = mapped_column(Short(64))
    message: Mapped[str]
    evidence: Mapped[dict[str, Any]]
    created: Mapped[float]


class MeterRow(Base):
    """What a run had used at one moment, all counted from its start."""

    __tablename__ = "meter_samples"
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    run_id: Mapped[str] = _run()
    wall_seconds: Mapped[float]
    cpu_seconds: Mapped[float]
    gpu_seconds: Mapped[float]
    peak_memory: Mapped[int] = mapped_column(BigInteger)
    disk: Mapped[int] = mapped_column(BigInteger)
    agent_tokens: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[float]


class EventRow(Base):
    """What happened and who caused it; only ever appended."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    run_id: Mapped[str | None] = mapped_column(Short(120), ForeignKey("runs.id"), index=True)
    actor: Mapped[str]
    what: Mapped[str] = mapped_column(Short(64))
    detail: Mapped[dict[str, Any]]
    created: Mapped[float]


class HypothesisRow(Base):
    """What an agent believes would help; its own words, not checked by anyone."""

    __tablename__ = "hypotheses"
    __table_args__ = (UniqueConstraint("run_id", "number"),)
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    run_id: Mapped[str] = _run(index=False)
    number: Mapped[int]
    statement: Mapped[str]
    reason: Mapped[str]
    created: Mapped[float]


class ExperimentRow(Base):
    """How an agent tried a hypothesis, and what it says came out."""

    __tablename__ = "experiments"
    __table_args__ = (UniqueConstraint("run_id", "number"),)
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    run_id: Mapped[str] = _run(index=False)
    hypothesis_id: Mapped[int] = mapped_column(Number, ForeignKey("hypotheses.id"))
    number: Mapped[int]
    recipe: Mapped[dict[str, Any]]
    code_path: Mapped[str | None]
    log_path: Mapped[str | None]
    state: Mapped[ExperimentState]
    claimed_score: Mapped[float | None]
    feedback: Mapped[str]
    created: Mapped[float]
    ended: Mapped[float | None]
