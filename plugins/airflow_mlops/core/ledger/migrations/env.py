"""Alembic's environment: run the migrations on a connection that is passed in and already holds the lock."""

from __future__ import annotations

from alembic import context

from airflow_mlops.core.ledger.sql_schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transactional_ddl=False,
)
context.run_migrations()
