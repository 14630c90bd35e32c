"""Runs, what they submitted, how it was evaluated, the queue, and what was seen on the way."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CIRCULAR = "fk_runs_final_evaluation_id_evaluations"


def upgrade() -> None:
    """Creates the store."""
    _catalogue()
    _runs()
    _results()
    _queue()
    _ledger()
    if op.get_bind().dialect.name != "sqlite":  # SQLite has it from the table's creation, before evaluations exist
        op.create_foreign_key(CIRCULAR, "runs", "evaluations", ["final_evaluation_id"], ["id"])


def _short(name: str, length: int, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _text(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _seconds(name: str, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _whole(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _large(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _yes_no(name: str, nullable: bool = False) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=nullable)


def _number(name: str = "id", nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, NUMBER, nullable=nullable)


def _primary(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=f"pk_{table}")


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=f"uq_{table}_{'_'.join(columns)}")


def _refers(table: str, column: str, target: str, key: str = "id") -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.{key}"], name=f"fk_{table}_{column}_{target}")


def _run_index(table: str) -> None:
    op.create_index(f"ix_{table}_run_id", table, ["run_id"])


def _catalogue() -> None:
    for table, content in (("scenarios", "content"), ("agents", "config")):
        columns = (_short("digest", 64), _text("name"), _text(content), _seconds("created"))
        op.create_table(table, *columns, _primary(table, "digest"))


def _runs() -> None:
    op.create_table(
        "runs",
        _short("id", 120),
        _short("scenario_digest", 64),
        _short("agent_digest", 64),
        _short("track", 32),
        _large("seed"),
        _text("budget"),
        _text("isolation"),
        _short("state", 32),
        _text("reasons"),
        _short("token_hash", 64, nullable=True),
        _number("final_evaluation_id", nullable=True),
        _seconds("created"),
        _seconds("started", nullable=True),
        _seconds("ended", nullable=True),
        _primary("runs", "id"),
        _refers("runs", "scenario_digest", "scenarios", "digest"),
        _refers("runs", "agent_digest", "agents", "digest"),
        sa.ForeignKeyConstraint(["final_evaluation_id"], ["evaluations.id"], name=CIRCULAR, use_alter=True),
        sa.CheckConstraint(
            "(state = 'scored') = (final_evaluation_id IS NOT NULL)", name=op.f("ck_runs_scored_by_evaluation")
        ),
    )


def _results() -> None:
    op.create_table(
        "submissions",
        _number(),
        _short("run_id", 120),
        _whole("number"),
        _short("digest", 64),
        _text("path"),
        _large("size"),
        _yes_no("final"),
        _short("state", 32),
        _text("reasons"),
        _text("report"),
        _seconds("created"),
        _primary("submissions", "id"),
        _refers("submissions", "run_id", "runs"),
    )
    _run_index("submissions")
    _partly_unique("one_final_submission_a_run", "submissions", ["run_id"], "final")
    op.create_table(
        "evaluations",
        _number(),
        _short("run_id", 120),
        _number("submission_id", nullable=True),
        _short("role", 32),
        _short("split", 16),
        _short("model_digest", 64),
        _text("log_path", nullable=True),
        _seconds("seconds"),
        _seconds("created"),
        _primary("evaluations", "id"),
        _refers("evaluations", "run_id", "runs"),
        _refers("evaluations", "submission_id", "submissions"),
    )
    _run_index("evaluations")
    _partly_unique("one_evaluation_a_role", "evaluations", ["run_id", "role"], "role != 'dev'")
    op.create_table(
        "items",
        _number("evaluation_id"),
        _whole("position"),
        _short("item_id", 200),
        _yes_no("correct", nullable=True),
        _text("completion"),
        _whole("tokens"),
        _yes_no("truncated"),
        _primary("items", "evaluation_id", "position"),
        _unique("items", "evaluation_id", "item_id"),
        _refers("items", "evaluation_id", "evaluations"),
    )
    op.create_table(
        "dev_queries",
        _number(),
        _short("run_id", 120),
        _short("key", 120),
        _short("model_digest", 64),
        _short("state", 32),
        _text("reasons"),
        _number("evaluation_id", nullable=True),
        _seconds("created"),
        _primary("dev_queries", "id"),
        _unique("dev_queries", "run_id", "key"),
        _refers("dev_queries", "run_id", "runs"),
        _refers("dev_queries", "evaluation_id", "evaluations"),
    )


def _partly_unique(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=True, sqlite_where=condition, postgresql_where=condition)


def _queue() -> None:
    op.create_table(
        "jobs",
        _number(),
        _short("run_id", 120),
        _short("kind", 32),
        _short("key", 120),
        _text("payload"),
        _short("state", 32),
        _whole("attempts"),
        _whole("max_attempts"),
        _seconds("available"),
        _short("lease", 32, nullable=True),
        _seconds("lease_expires", nullable=True),
        _text("worker", nullable=True),
        _text("result"),
        _text("error", nullable=True),
        _seconds("created"),
        _seconds("ended", nullable=True),
        _primary("jobs", "id"),
        _unique("jobs", "run_id", "key"),
        _refers("jobs", "run_id", "runs"),
    )
    op.create_index("ix_jobs_state_kind", "jobs", ["state", "kind"])
    lanes = (_short("run_id", 120), _large("served"), _primary("lanes", "run_id"), _refers("lanes", "run_id", "runs"))
    op.create_table("lanes", *lanes)


def _ledger() -> None:
    op.create_table(
        "flags",
        _number(),
        _short("run_id", 120),
        _short("code", 64),
        _text("message"),
        _text("evidence"),
        _seconds("created"),
        _primary("flags", "id"),
        _unique("flags", "run_id", "code"),
        _refers("flags", "run_id", "runs"),
    )
    op.create_table(
        "meter_samples",
        _number(),
        _short("run_id", 120),
        _seconds("wall_seconds"),
        _seconds("cpu_seconds"),
        _seconds("gpu_seconds"),
        _large("peak_memory"),
        _large("disk"),
        _large("agent_tokens"),
        _seconds("created"),
        _primary("meter_samples", "id"),
        _refers("meter_samples", "run_id", "runs"),
    )
    _run_index("meter_samples")
    op.create_table(
        "events",
        _number(),
        _short("run_id", 120, nullable=True),
        _text("actor"),
        _short("what", 64),
        _text("detail"),
        _seconds("created"),
        _primary("events", "id"),
        _refers("events", "run_id", "runs"),
    )
    _run_index("events")
