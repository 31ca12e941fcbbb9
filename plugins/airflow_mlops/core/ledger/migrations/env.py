"""What Alembic runs to migrate: it is handed the connection, which holds the lock already."""

from __future__ import annotations

from alembic import context

from airflow_mlops.core.ledger.sql_schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transactional_ddl=False,
)
context.run_migrations()
