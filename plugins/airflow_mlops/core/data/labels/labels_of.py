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
from dataclasses import asdict, dataclass, replace
from hashlib import sha256

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.data.labels.take_labels import TABLE
from airflow_mlops.core.data.read_text import format_column
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.ledger.data_details import LabelsArrived, SubjectForgotten
from airflow_mlops.core.ledger.facts import Facts
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.workspace import Workspace

_PIN = re.compile(r"([0-9T:-]{19})@([0-9]+)")

Deliveries = Facts[LabelsArrived]
"""The deliveries that the ledger knows, by their ticks: ``LoopState.labels``."""


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


def counting(labels: Deliveries, partition: str, as_of: str | None = None) -> dict[str, LabelsArrived]:
    """Return the deliveries that may label a partition's rows, of ticks up to ``as_of``; all by default."""
    return {tick: known for tick, known in labels.items(since=partition, until=as_of) if known.since <= partition}


def pin_labels(labels: Deliveries, partition: str, as_of: str | None = None) -> str | None:
    """Return the pin of a partition's labels as of a tick; None where no delivery counts."""
    deliveries = counting(labels, partition, as_of)
    if not deliveries:
        return None
    return str(LabelPin(max(deliveries), max(known.version for known in deliveries.values())))


def digest_of_labels(labels: Deliveries, partition: str, as_of: str | None = None) -> str:
    """Return 16 digits that tell a partition's labels as of a tick from others; empty where none is known to be its.

    A delivery that was corrected elsewhere gives the same.
    """
    deliveries = counting(labels, partition, as_of).items()
    parts = [f"{tick}:{known.touched[partition]}" for tick, known in deliveries if partition in known.touched]
    return sha256(" ".join(parts).encode()).hexdigest()[:16] if parts else ""


def wholly_labelled(labels: Deliveries, partitions: Iterable[str], as_of: str) -> list[str]:
    """Return the partitions, oldest first, to whose labels no delivery after ``as_of`` can add any.

    One is left out that surely has none: no key of any delivery was its, and none was unknown.
    """
    newest = labels.newest(until=as_of)
    if newest is None:
        return []
    closed = [key for key in sorted(partitions) if key <= labels[newest].since]
    return [key for key in closed if _may_have_labels(labels, key, as_of)]


def _may_have_labels(labels: Deliveries, partition: str, as_of: str) -> bool:
    deliveries = counting(labels, partition, as_of).values()
    return any(partition in known.touches or known.unknown for known in deliveries)


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
        self._records: list[Record[LabelsArrived | SubjectForgotten]] | None = None
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

    def _deliveries(self, partition: str, pin: LabelPin) -> dict[str, LabelsArrived]:
        if self._records is None:
            self._records = list(self._workspace.ledger.records(LabelsArrived, SubjectForgotten))
        deliveries: dict[str, LabelsArrived] = {}
        for record in self._records:
            tick, details = str(record.partition), record.details
            if isinstance(details, SubjectForgotten):
                deliveries |= erased_in(details, deliveries, pin)
            elif details.since <= partition <= tick <= pin.until and details.version <= pin.version:
                deliveries[tick] = details
        if not deliveries:
            raise DataError(f"the ledger knows no labels of {partition} up to {pin}")
        return deliveries

    def _delivery(self, tick: str, known: LabelsArrived) -> pd.Series[float]:
        at = (tick, known.version)
        if at not in self._read:
            self._read[at] = self._rows(tick, known)
        return self._read[at]

    def _rows(self, tick: str, known: LabelsArrived) -> pd.Series[float]:
        if known.rows == 0:
            return nothing()
        rows = self._workspace.ports.table(TABLE).read(tick, version=known.version)
        digest = content_digest(rows)
        if digest != known.digest:
            raise DataError(
                f"labels {tick} in version {known.version} have the digest {digest[:12]}…, the ledger states "
                f"{known.digest[:12]}…"
            )
        return pd.Series(rows["label"].to_numpy(), pd.Index(rows["key"].to_pylist(), dtype=str))


def erased_in(
    forgotten: SubjectForgotten, deliveries: Mapping[str, LabelsArrived], pin: LabelPin
) -> dict[str, LabelsArrived]:
    """Return those of the deliveries that the erasure of a subject has replaced, as they are since."""
    changes = {tick: change.labels for tick, change in forgotten.partitions.items() if tick in deliveries}
    return {
        tick: replace(deliveries[tick], **asdict(labels))
        for tick, labels in changes.items()
        if labels is not None and labels.version <= pin.version
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
