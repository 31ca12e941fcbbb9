"""The quarantine: the text of each bad row, and every reason against it.

A row is stored as a JSON object of texts, so that rows of any schema fit into one table over the years.
:mod:`read_text` converts the texts back.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_mlops.core.data.read_text import format_column
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ports.partitions import BrokenRow, PartitionedTable

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string()),  # null if the row has none
        pa.field("stage", pa.string()),  # contract or expectations
        pa.field("reasons", pa.string()),  # JSON list
        pa.field("row", pa.string()),  # JSON object of text and null; of a broken row {"": its text}
        pa.field("at", pa.string()),  # place of a broken row in the source
    ]
)


def quarantine_rows(bad: pa.RecordBatch, reasons: list[list[str]], *, key: str, stage: str) -> pa.Table:
    """Return bad rows in the schema of the quarantine.

    Parameters
    ----------
    bad : pyarrow.RecordBatch
        The rows, masked already where the contract masks a column; shape (n_rows, n_columns).
    reasons : list of list of str
        The reasons against each row, of length n_rows.
    key : str
        Column that identifies a row.
    stage : str
        The check that refused the rows: ``contract`` or ``expectations``.
    """
    names = bad.schema.names
    texts = [format_column(column).to_pylist() for column in bad.columns]
    rows = [json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in zip(*texts, strict=True)]
    return pa.table(
        {
            "key": pa.array(texts[names.index(key)], pa.string()),
            "stage": pa.array([stage] * len(rows), pa.string()),
            "reasons": pa.array(
                [json.dumps(reasons_of_row, ensure_ascii=False) for reasons_of_row in reasons], pa.string()
            ),
            "row": pa.array(rows, pa.string()),
            "at": pa.nulls(len(rows), pa.string()),
        },
        schema=SCHEMA,
    )


def quarantine_broken(rows: list[BrokenRow], *, withheld: bool) -> pa.Table:
    """Return rows that could not be split into columns in the schema of the quarantine.

    Parameters
    ----------
    rows : list of BrokenRow
        The rows, with their text and their place.
    withheld : bool
        Whether to leave out their text, because the contract masks a column that may be in it.
    """
    return pa.table(
        {
            "key": pa.nulls(len(rows), pa.string()),
            "stage": pa.array(["contract"] * len(rows), pa.string()),
            "reasons": pa.array([json.dumps([row.reason], ensure_ascii=False) for row in rows], pa.string()),
            "row": pa.array(
                [json.dumps({"": "(withheld: the contract masks columns)" if withheld else row.text}) for row in rows],
                pa.string(),
            ),
            "at": pa.array([row.at for row in rows], pa.string()),
        },
        schema=SCHEMA,
    )


def is_broken(row: Mapping[str, str | None]) -> bool:
    """Return whether a quarantined row could not be split into columns."""
    return set(row) == {""}


def split_columns(rows: pa.Table, names: list[str]) -> pa.RecordBatch:
    """Return quarantined rows as columns of text, null where a row lacks the column."""
    objects = [json.loads(text) for text in rows.column("row").to_pylist()]
    return pa.RecordBatch.from_arrays(
        [pa.array([row.get(name) for row in objects], pa.string()) for name in names], names=names
    )


def open_quarantine(table: PartitionedTable, state: LoopState, partition: str) -> pa.RecordBatchReader:
    """Return the quarantined rows of a partition batch by batch, of its publication or of its newest refusal.

    Raises
    ------
    DataError
        If there are no such rows.
    """
    published = state.published.get(partition)
    if published is None or partition in state.refused:
        return table.batches(partition)
    if published.quarantine_version is None:
        raise DataError(f"partition {partition} has no rows in quarantine")
    return table.batches(partition, version=published.quarantine_version)


FORMS = {
    "is no time with a zone": "for clocks without a zone, or another form, declare zone or format in the contract",
    "is no time": "for another form, declare format in the contract",
    "is no date": "for another form, declare format in the contract",
    "is no float": "for other signs than those of 1234.5, declare decimal or thousands in data.source",
    "is no decimal": "for other signs than those of 1234.5, declare decimal or thousands in data.source",
    "is no bool": "for other words, declare true_values and false_values in data.source",
}
"""Where to declare another written form of values, by the rule that they break."""


class Spool:
    """The bad rows of one pass, kept in a file so that memory does not grow with them."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="airflow-mlops-")
        self._path = Path(self._folder.name) / "rows.parquet"
        try:
            self._writer = pq.ParquetWriter(self._path, SCHEMA)
        except BaseException:
            self._folder.cleanup()
            raise
        self.rows = 0
        self.reasons: dict[str, int] = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.close()  # writes, which a full disk refuses
        finally:
            self._folder.cleanup()

    def add(self, rows: pa.Table) -> None:
        """Add rows of the quarantine's schema, and count their reasons."""
        if rows.num_rows == 0:
            return
        self._writer.write_table(rows.select(SCHEMA.names).cast(SCHEMA))
        reasons: dict[str, int] = {}
        for entry in pc.value_counts(rows.column("reasons")).to_pylist():
            for reason in json.loads(entry["values"]):
                rule = rule_name(reason)
                reasons[rule] = reasons.get(rule, 0) + entry["counts"]
        self.count(rows.num_rows, reasons)

    def count(self, rows: int, reasons: Mapping[str, int]) -> None:
        """Count rows, and how many of them break each rule; another process may keep the rows."""
        self.rows += rows
        for rule, number in reasons.items():
            self.reasons[rule] = self.reasons.get(rule, 0) + number

    def reader(self) -> pa.RecordBatchReader:
        """Return all rows in order; no row can be added afterwards."""
        self._writer.close()

        def batches() -> Iterator[pa.RecordBatch]:
            with pq.ParquetFile(self._path) as file:
                yield from file.iter_batches()

        return pa.RecordBatchReader.from_batches(SCHEMA, batches())

    @property
    def worst(self) -> str:
        """The most frequent reason, in words; empty without bad rows."""
        if not self.reasons:
            return ""
        rule = max(self.reasons, key=lambda name: self.reasons[name])
        count = self.reasons[rule]
        return f"most often {rule} ({count:,} row{'s' if count > 1 else ''})"

    @property
    def advice(self) -> str:
        """Return where to declare another written form, if that is the most frequent reason; empty otherwise."""
        rule = max(self.reasons, key=lambda name: self.reasons[name], default="")
        return FORMS.get(rule.partition(": ")[2].partition("(")[0], "")


def rule_name(reason: str) -> str:
    """Return a reason without its value, so that rows that break the same rule count together.

    >>> rule_name("distance: 'far' is no float")
    'distance: is no float'
    """
    column, colon, rest = reason.partition(": ")
    if rest.startswith("is not unique"):
        return f"{column}: is not unique"
    for mark in (" is no ", " is not finite", " lies before", " lies after"):
        if mark in rest:
            return f"{column}: {rest[rest.rindex(mark) + 1 :]}"
    return f"{column}{colon}{rest}"
