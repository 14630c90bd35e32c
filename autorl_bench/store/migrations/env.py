"""Alembic's entry: runs the migrations on the connection, and in the transaction, of ``autorl_bench.store.migrate``."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
    render_as_batch=True,
)
context.run_migrations()
