"""The results of expectations as assertions about a dataset, and datasets that belong to no loop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from airflow_mlops.core.lineage.dataset_names import DatabaseAddress, file_dataset
from airflow_mlops.core.lineage.declared_sources import query_tables
from airflow_mlops.core.lineage.task_lineage import Assertion, Dataset, Datasets
from airflow_mlops.core.validation.suite import ExpectationResult

SEVERITIES = {"critical": "error", "warning": "warn"}
"""Severities of the checks in the words that OpenLineage uses; ``info`` is the same."""


def expectation_assertions(results: Iterable[ExpectationResult]) -> tuple[Assertion, ...]:
    """Return the results as assertions, without the values that were observed."""
    return tuple(
        Assertion(
            rule=result.type,
            success=result.success,
            column=result.column,
            severity=SEVERITIES.get(result.severity, result.severity),
            expected=result.declared or None,
            actual=f"{result.unexpected} unexpected rows" if result.by_row else None,
        )
        for result in results
    )


def file_lineage(
    path: str | Path, root: Path, *, rows: int | None = None, results: Iterable[ExpectationResult] = ()
) -> Datasets:
    """Return a file that was validated, with its rows and the result of each rule."""
    return Datasets((Dataset(file_dataset(str(path), root), rows=rows, assertions=expectation_assertions(results)),))


def table_lineage(
    address: DatabaseAddress,
    *,
    table: str | None,
    schema: str | None = None,
    query: str | None = None,
    results: Iterable[ExpectationResult] = (),
) -> Datasets:
    """Return the tables of a database that were validated.

    The results are about the table; where a query reads several, they are about none of them alone and are left out.
    """
    if table is not None:
        names = [f"{schema}.{table}" if schema else table]
    else:
        names = query_tables(str(query), address.dialect)
    datasets = [Dataset(address.table(name)) for name in names]
    if len(datasets) == 1:
        datasets = [replace(datasets[0], assertions=expectation_assertions(results))]
    return Datasets(tuple(datasets))
