"""An agent's notebook, and which of its experiments a dev query was asked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Changes a store of version 0001 to 0002; earlier dev queries belong to no experiment."""
    op.create_table(
        "hypotheses",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("run_id", sa.String(120), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_hypotheses"),
        sa.UniqueConstraint("run_id", "number", name="uq_hypotheses_run_id_number"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_hypotheses_run_id_runs"),
    )
    op.create_table(
        "experiments",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("run_id", sa.String(120), nullable=False),
        sa.Column("hypothesis_id", NUMBER, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("code_path", sa.Text(), nullable=True),
        sa.Column("log_path", sa.Text(), nullable=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("claimed_score", sa.Double(), nullable=True),
        sa.Column("feedback", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("ended", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_experiments"),
        sa.UniqueConstraint("run_id", "number", name="uq_experiments_run_id_number"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_experiments_run_id_runs"),
        sa.ForeignKeyConstraint(["hypothesis_id"], ["hypotheses.id"], name="fk_experiments_hypothesis_id_hypotheses"),
    )
    with op.batch_alter_table("dev_queries") as dev_queries:
        dev_queries.add_column(sa.Column("experiment_id", NUMBER, nullable=True))
        dev_queries.create_foreign_key(
            "fk_dev_queries_experiment_id_experiments", "experiments", ["experiment_id"], ["id"]
        )
