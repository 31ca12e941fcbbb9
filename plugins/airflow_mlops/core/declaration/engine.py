"""The key ``engine``: where the rows of a partition are worked on, and which sources can be worked on there."""

from typing import Literal

from airflow_mlops.core.declaration.data import AnySource, CsvSource, SqlSource
from airflow_mlops.core.errors import DeclarationError

Engine = Literal["local", "spark", "sql"]

NOT_SPLIT = {
    "xlsx": "a workbook is read in one pass",
    "sql": "a database answers one query",
    "http": "a service gives one page after another",
    "feast": "features are joined by Feast in one process",
}
"""Why the rows of a kind of source are not split."""


def require_splittable(source: AnySource) -> None:
    """Raise DeclarationError unless executors can read parts of a partition from a source by themselves.

    Raises
    ------
    DeclarationError
        With the reason, and what to declare instead.
    """
    reason = NOT_SPLIT.get(source.kind)
    if isinstance(source, CsvSource) and source.is_cut_by_time:
        reason = "a text of all partitions is cut in one pass, as a row without a time belongs to the row before it"
    if reason is not None:
        raise DeclarationError(
            f"is spark, and the source is of kind {source.kind}: {reason}; spark reads parquet, orc, delta and "
            "iceberg, and csv and json in files of their own for each partition; declare engine: local",
            key="engine",
        )


def require_database(source: AnySource) -> None:
    """Raise DeclarationError unless the rows of a source lie in a database, which can be asked about them.

    Raises
    ------
    DeclarationError
        With the kind of the source, and what to declare instead.
    """
    if not isinstance(source, SqlSource):
        raise DeclarationError(
            f"is sql, and the source is of kind {source.kind}: only a source of kind sql has a database that can be "
            "asked about its rows before they are fetched; declare engine: local",
            key="engine",
        )
