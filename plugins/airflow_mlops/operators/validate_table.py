"""The operator that validates a table or a query in its database; in a module of its own, as no loop imports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_mlops.operators.notified import Notify
from airflow_mlops.operators.stage import translate_errors
from airflow_mlops.operators.stage_lineage import DatasetReporter
from airflow_mlops.operators.validation import report_findings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.lineage.task_lineage import Datasets
    from airflow_mlops.core.validation.suite import ExpectationResult


class ValidateTableOperator(DatasetReporter, BaseOperator):
    """Check expectations on a table or a query in its database, which counts; no row leaves it.

    :param conn_id: connection of the database, of any type whose provider gives a SQLAlchemy URL, or of SQLite
    :param table: name of the table, as the database has it
    :param schema: schema of the table
    :param query: one SELECT instead of a table
    :param expectations: path of a suite below ``root``, or a list of mappings with ``type``, ``kwargs``, ``severity``
    :param root: folder that the path of the suite is relative to
    :param notify: notifiers or callbacks called with warnings, as functions or by ``module:name``

    Fails if a critical expectation fails, with column, limit and number; returns a report.
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

        with self.keeping_error(), translate_errors():
            self.keep_datasets(self.datasets)
            expectations = parse_expectations(self.expectations, Path(self.root))
            validator = GxSqlValidator(
                database_url(self.conn_id), table=self.table, query=self.query, schema=self.schema
            )
            results = validator.check(expectations)
            self.keep_datasets(lambda: self.datasets(results))
            return report_findings(
                Findings(self.table or "the query", None, tuple(results)), context, self.notify, self.root
            )

    def datasets(self, results: Sequence[ExpectationResult] = ()) -> Datasets:
        """Return the tables that are read, with the result of each rule once there is one."""
        from airflow_mlops.core.lineage.rule_results import table_lineage
        from airflow_mlops.hooks.connections import database_address

        address = database_address(self.conn_id)
        return table_lineage(address, table=self.table, schema=self.schema, query=self.query, results=results)
