"""The operator that validates a table or a query where it lies; apart from the others, which every loop imports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_mlops.operators.notified import Notify
from airflow_mlops.operators.validation import conclude, failures_told_apart

if TYPE_CHECKING:
    from airflow.sdk import Context


class ValidateTableOperator(BaseOperator):
    """Check expectations on a table or a query where it lies: the database counts, and no row leaves it.

    :param conn_id: connection of the database, of any type whose provider gives a SQLAlchemy URL, or of SQLite
    :param table: name of the table, as the database has it
    :param schema: schema of the table
    :param query: one SELECT in the place of a table
    :param expectations: path of a suite below ``root``, or a list of mappings with ``type``, ``kwargs``, ``severity``
    :param root: folder that the path of the suite starts from
    :param notify: notifiers or callbacks told of warnings, as functions or by ``module:name``

    Fails where a critical expectation fails, with column, limit and number; returns a report.
    """

    template_fields: Sequence[str] = ("table", "schema")
    ui_color = "#e8f1fb"

    def __init__(
        self,
        *,
        conn_id: str,
        expectations: str | Path | Sequence[Mapping[str, Any]],
        table: str | None = None,
        schema: str | None = None,
        query: str | None = None,
        root: str | Path = ".",
        notify: Notify = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.expectations = expectations
        self.table = table
        self.schema = schema
        self.query = query
        self.root = str(root)
        self.notify = notify

    def execute(self, context: Context) -> dict[str, Any]:
        """Validate; see the class."""
        from airflow_mlops.core.validation.gx_sql_validator import GxSqlValidator
        from airflow_mlops.core.validation.validate_rows import Findings, parse_expectations
        from airflow_mlops.hooks.connections import database_url

        with failures_told_apart():
            expectations = parse_expectations(self.expectations, Path(self.root))
            validator = GxSqlValidator(
                database_url(self.conn_id), table=self.table, query=self.query, schema=self.schema
            )
            results = validator.check(expectations)
            return conclude(Findings(self.table or "the query", None, tuple(results)), context, self.notify, self.root)
