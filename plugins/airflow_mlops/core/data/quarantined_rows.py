"""Rows in quarantine: what arrived, as text, and every reason why it was kept back.

A row is kept as JSON text by column, whatever its types were: rows that fit no schema have to fit here,
and rows of years with different columns lie in one table. :mod:`read_text` reads them back.
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

from airflow_mlops.core.data.read_text import written_as_text
from airflow_mlops.core.ports.partitions import BrokenRow

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string()),  # null where the row has none
        pa.field("stage", pa.string()),  # contract or expectations
        pa.field("reasons", pa.string()),  # JSON list
        pa.field("row", pa.string()),  # JSON object of text and null; of a broken row {"": the text that stood there}
        pa.field("at", pa.string()),  # where a broken row stood
    ]
)


def quarantined(bad: pa.RecordBatch, reasons: list[list[str]], *, key: str, stage: str) -> pa.Table:
    """Return bad rows as the quarantine keeps them.

    Parameters
    ----------
    bad : pyarrow.RecordBatch
        The rows, as they may be written: masked where that is asked for.
    reasons : list of list of str
        The reasons against each of them.
    """
    names = bad.schema.names
    texts = [written_as_text(column).to_pylist() for column in bad.columns]
    rows = [json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in zip(*texts, strict=True)]
    return pa.table(
        {
            "key": pa.array(texts[names.index(key)], pa.string()),
            "stage": pa.array([stage] * len(rows), pa.string()),
            "reasons": pa.array([json.dumps(each, ensure_ascii=False) for each in reasons], pa.string()),
            "row": pa.array(rows, pa.string()),
            "at": pa.nulls(len(rows), pa.string()),
        },
        schema=SCHEMA,
    )


def broken(rows: list[BrokenRow], *, withheld: bool) -> pa.Table:
    """Return rows that no reader could split; their text is ``withheld`` where the contract masks any column."""
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
    """Return whether a quarantined row never was split into columns."""
    return set(row) == {""}


def with_columns(rows: pa.Table, names: list[str]) -> pa.RecordBatch:
    """Return quarantined rows as columns of text again, null where a row has no such column."""
    found = [json.loads(text) for text in rows.column("row").to_pylist()]
    return pa.RecordBatch.from_arrays(
        [pa.array([row.get(name) for row in found], pa.string()) for name in names], names=names
    )


class Spool:
    """Bad rows of one pass, in a file, so that memory does not grow with them."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="airflow-mlops-")
        self._path = Path(self._folder.name) / "rows.parquet"
        self._writer = pq.ParquetWriter(self._path, SCHEMA)
        self.rows = 0
        self.reasons: dict[str, int] = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._folder.cleanup()

    def add(self, rows: pa.Table) -> None:
        """Keep rows of the quarantine's schema."""
        if rows.num_rows == 0:
            return
        self._writer.write_table(rows.select(SCHEMA.names).cast(SCHEMA))
        self.rows += rows.num_rows
        for entry in pc.value_counts(rows.column("reasons")).to_pylist():
            for reason in json.loads(entry["values"]):
                rule = rule_of(reason)
                self.reasons[rule] = self.reasons.get(rule, 0) + entry["counts"]

    def reader(self) -> pa.RecordBatchReader:
        """Return all rows, in order. Nothing can be added afterwards."""
        self._writer.close()

        def batches() -> Iterator[pa.RecordBatch]:
            with pq.ParquetFile(self._path) as file:
                yield from file.iter_batches()

        return pa.RecordBatchReader.from_batches(SCHEMA, batches())

    @property
    def worst(self) -> str:
        """The reason that stands most often, in words; empty without bad rows."""
        if not self.reasons:
            return ""
        rule = max(self.reasons, key=lambda name: self.reasons[name])
        return f"most often {rule} ({self.reasons[rule]:,} rows)"


def rule_of(reason: str) -> str:
    """Return a reason without the value in it, so that rows which break one rule count together.

    >>> rule_of("distance: 'far' is no float")
    'distance: is no float'
    """
    column, colon, rest = reason.partition(": ")
    if rest.startswith("is not unique"):
        return f"{column}: is not unique"
    for mark in (" is no ", " is not finite", " lies before", " lies after"):
        if mark in rest:
            return f"{column}: {rest[rest.rindex(mark) + 1 :]}"
    return f"{column}{colon}{rest}"
