"""The labels of a partition's rows: what deliveries have said of them, seen as of a partition.

    pin = pin_labels(state.labels, "2013-03-10T00:00:00", as_of="2013-03-24T00:00:00")
    labels_of(workspace, "2013-03-10T00:00:00", pin)

A pin names no labels, it says up to where they count: deliveries of ticks up to ``until``, in the versions of the table
``labels`` up to ``version``. The ledger knows each delivery with its version and its digest and forgets none, so a
pin gives the same labels for ever, however often they are corrected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.data.labels.take_labels import TABLE
from airflow_mlops.core.data.read_text import format_column
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.workspace import Workspace

_PIN = re.compile(r"([0-9T:-]{19})@([0-9]+)")

Deliveries = Mapping[str, Mapping[str, Any]]
"""What the ledger says of deliveries, by their ticks: ``LoopState.labels``."""


@dataclass(frozen=True)
class LabelPin:
    """Up to which tick, and which version of the table, deliveries count. ``str`` is how it is kept."""

    until: str
    version: int

    def __str__(self) -> str:
        return f"{self.until}@{self.version}"

    @classmethod
    def of(cls, text: str) -> LabelPin:
        """Return the pin that ``str`` wrote.

        >>> LabelPin.of("2013-03-24T00:00:00@7")
        LabelPin(until='2013-03-24T00:00:00', version=7)

        Raises
        ------
        DataError
            If it is none.
        """
        found = _PIN.fullmatch(text)
        if found is None:
            raise DataError(f"{text!r} does not pin labels; 2013-03-24T00:00:00@7 would")
        return cls(found[1], int(found[2]))


def counting(labels: Deliveries, partition: str, as_of: str | None = None) -> dict[str, Mapping[str, Any]]:
    """Return the deliveries that may label a partition's rows, of ticks up to ``as_of``; all by default."""
    return {
        tick: of
        for tick, of in sorted(labels.items())
        if of["since"] <= partition <= tick and (as_of is None or tick <= as_of)
    }


def pin_labels(labels: Deliveries, partition: str, as_of: str | None = None) -> str | None:
    """Return the pin of a partition's labels as of a tick; None where no delivery counts."""
    found = counting(labels, partition, as_of)
    if not found:
        return None
    return str(LabelPin(max(found), max(int(of["version"]) for of in found.values())))


def digest_of_labels(labels: Deliveries, partition: str, as_of: str | None = None) -> str:
    """Return what tells a partition's labels as of a tick from others, 16 digits; empty where none is known to be its.

    A delivery that was corrected elsewhere gives the same.
    """
    parts = [f"{tick}:{of['touched'][partition]}" for tick, of in counting(labels, partition, as_of).items()
             if partition in of["touched"]]  # fmt: skip
    return sha256(" ".join(parts).encode()).hexdigest()[:16] if parts else ""


def wholly_labelled(labels: Deliveries, partitions: Iterable[str], as_of: str) -> list[str]:
    """Return the partitions, oldest first, to whose labels no delivery after ``as_of`` can add any.

    One is left out that surely has none: no key of any delivery was its, and none was unknown.
    """
    newest = max((tick for tick in labels if tick <= as_of), default=None)
    if newest is None:
        return []
    closed = [key for key in sorted(partitions) if key <= str(labels[newest]["since"])]
    return [
        key
        for key in closed
        if any(key in of["touches"] or of["unknown"] for of in counting(labels, key, as_of).values())
    ]


def labels_of(workspace: Workspace, partition: str, pin: str | None) -> pd.Series[float]:
    """Return the labels of a partition's rows, by key as text; of two deliveries, that of the newer tick counts.

    Raises
    ------
    DataError
        If a delivery is not what the ledger says.
    """
    return LabelReader(workspace).of(partition, pin)


class LabelReader:
    """Reads the labels of one partition after another; what deliveries hold is kept between them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._records: list[Record] | None = None
        self._read: dict[tuple[str, int], pd.Series[float]] = {}

    def of(self, partition: str, pin: str | None) -> pd.Series[float]:
        """Return the labels of a partition's rows; see :func:`labels_of`."""
        if pin is None:
            return nothing()
        asked = LabelPin.of(pin)
        wanted = self._deliveries(partition, asked)
        # Deliveries of a window overlap, those of a far later partition do not.
        self._read = {at: rows for at, rows in self._read.items() if at[0] >= partition}
        parts = [self._delivery(tick, of) for tick, of in sorted(wanted.items())]
        whole = pd.concat([part for part in parts if len(part)] or parts[:1])
        return whole[~whole.index.duplicated(keep="last")]

    def _deliveries(self, partition: str, pin: LabelPin) -> dict[str, Mapping[str, Any]]:
        if self._records is None:
            kinds = ("labels_arrived", "subject_forgotten")
            self._records = [one for one in self._workspace.ledger.records() if one.kind in kinds]
        found: dict[str, Mapping[str, Any]] = {}
        for record in self._records:
            tick, details = str(record.partition), record.details
            if record.kind == "subject_forgotten":
                found |= erased_in(record, found, pin)
            elif details["since"] <= partition <= tick <= pin.until and int(details["version"]) <= pin.version:
                found[tick] = details
        if not found:
            raise DataError(f"the ledger knows no labels of {partition} up to {pin}")
        return found

    def _delivery(self, tick: str, of: Mapping[str, Any]) -> pd.Series[float]:
        at = (tick, int(of["version"]))
        if at not in self._read:
            self._read[at] = self._rows(tick, of)
        return self._read[at]

    def _rows(self, tick: str, of: Mapping[str, Any]) -> pd.Series[float]:
        if int(of["rows"]) == 0:
            return nothing()
        rows = self._workspace.ports.table(TABLE).read(tick, version=int(of["version"]))
        found = content_digest(rows)
        if found != of["digest"]:
            raise DataError(
                f"labels {tick} in version {of['version']} have the digest {found[:12]}…, the ledger says "
                f"{str(of['digest'])[:12]}…"
            )
        return pd.Series(rows["label"].to_numpy(), pd.Index(rows["key"].to_pylist(), dtype=str))


def erased_in(record: Record, found: Deliveries, pin: LabelPin) -> dict[str, Mapping[str, Any]]:
    """Return those of the deliveries that the erasure of a subject has replaced, as they are since."""
    changed = {tick: changes.get("labels") for tick, changes in record.details["partitions"].items() if tick in found}
    return {
        tick: {**found[tick], **labels}
        for tick, labels in changed.items()
        if labels is not None and int(labels["version"]) <= pin.version
    }


def nothing() -> pd.Series[float]:
    """Return the labels of no row."""
    found: pd.Series[float] = pd.Series(np.zeros(0), pd.Index([], dtype=str))
    return found


def with_labels(frame: pd.DataFrame, keys: pa.ChunkedArray, labels: pd.Series[float], column: str) -> pd.DataFrame:
    """Return rows with their labels in a column of floats; NaN where there is none.

    Parameters
    ----------
    frame : DataFrame, shape (n_rows, n_columns)
        What a delivery says of a row counts before the label that the row has itself.
    keys : pyarrow.ChunkedArray, shape (n_rows,)
        Keys of the rows.
    """
    texts = [text for chunk in keys.chunks for text in format_column(chunk).to_pylist()]
    delivered = labels.reindex(texts).to_numpy(np.float64)
    if column in frame.columns:
        own = frame[column].to_numpy(np.float64, na_value=np.nan)
        delivered = np.where(np.isnan(delivered), own, delivered)
    return frame.assign(**{column: delivered})
