"""Runs that are compared may share a draw of the hidden items."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Changes a store of version 0002 to 0003: each earlier run had a draw of its own."""
    # Not in a batch: SQLite would write the table anew, and lose the constraint that a score needs an evaluation.
    op.add_column("runs", sa.Column("draw", sa.String(120), nullable=False, server_default=""))
    op.execute("UPDATE runs SET draw = id")
