"""The labels of a partition's rows, from the deliveries up to a tick.

    pin = pin_labels(state.labels, "2013-03-10T00:00:00", as_of="2013-03-24T00:00:00")
    labels_of(workspace, "2013-03-10T00:00:00", pin)

A pin selects the deliveries of ticks up to ``until``, in versions of the table ``labels`` up to ``version``. The ledger
has every delivery with its version and its digest, so a pin gives the same labels for ever, however often they are
corrected.
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
from airflow_mlops.core.data.label_classes import encode_delivered
from airflow_mlops.core.data.labels.take_labels import TABLE
from airflow_mlops.core.data.read_text import format_column
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.ledger.data_details import LabelsArrived, SubjectForgotten
from airflow_mlops.core.ledger.facts import Facts
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.workspace import Workspace

_PIN = re.compile(r"([0-9T:-]{19})@([0-9]+)")

Deliveries = Facts[LabelsArrived]
"""The recorded deliveries by tick: ``LoopState.labels``."""


@dataclass(frozen=True)
class LabelPin:
    """The last tick and the last version of the table up to which deliveries count; stored as its ``str``."""

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
            If the text is no pin.
        """
        match = _PIN.fullmatch(text)
        if match is None:
            raise DataError(f"{text!r} does not pin labels; 2013-03-24T00:00:00@7 would")
        return cls(match[1], int(match[2]))


def relevant_deliveries(labels: Deliveries, partition: str, as_of: str | None = None) -> dict[str, LabelsArrived]:
    """Return the deliveries that may label a partition's rows, of ticks up to ``as_of``; all by default."""
    return {
        tick: delivery for tick, delivery in labels.items(since=partition, until=as_of) if delivery.since <= partition
    }


def pin_labels(labels: Deliveries, partition: str, as_of: str | None = None) -> str | None:
    """Return the pin of a partition's labels as of a tick; None where no delivery counts."""
    deliveries = relevant_deliveries(labels, partition, as_of)
    if not deliveries:
        return None
    return str(LabelPin(max(deliveries), max(delivery.version for delivery in deliveries.values())))


def digest_of_labels(labels: Deliveries, partition: str, as_of: str | None = None) -> str:
    """Return 16 digits that identify the labels of a partition as of a tick; empty if it has none.

    Corrections of labels of other partitions do not change them.
    """
    deliveries = relevant_deliveries(labels, partition, as_of).items()
    parts = [f"{tick}:{delivery.touched[partition]}" for tick, delivery in deliveries if partition in delivery.touched]
    return sha256(" ".join(parts).encode()).hexdigest()[:16] if parts else ""


def fully_labelled_partitions(labels: Deliveries, partitions: Iterable[str], as_of: str) -> list[str]:
    """Return the partitions, oldest first, to which no delivery after ``as_of`` can add labels.

    A partition that certainly has no label is left out: no delivery had one of its keys or an unknown key.
    """
    newest = labels.newest(until=as_of)
    if newest is None:
        return []
    closed = [key for key in sorted(partitions) if key <= labels[newest].since]
    return [key for key in closed if _may_have_labels(labels, key, as_of)]


def _may_have_labels(labels: Deliveries, partition: str, as_of: str) -> bool:
    deliveries = relevant_deliveries(labels, partition, as_of).values()
    return any(partition in delivery.touches or delivery.unknown for delivery in deliveries)


def labels_of(workspace: Workspace, partition: str, pin: str | None) -> pd.Series[float]:
    """Return the labels of a partition's rows by key as text; the delivery of the newest tick wins.

    Raises
    ------
    DataError
        If a delivery differs from its digest in the ledger.
    """
    return LabelReader(workspace).of(partition, pin)


class LabelReader:
    """Reads the labels of one partition after another, and caches deliveries between them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._records: list[Record[LabelsArrived | SubjectForgotten]] | None = None
        self._read: dict[tuple[str, int], pd.Series[float]] = {}

    def of(self, partition: str, pin: str | None) -> pd.Series[float]:
        """Return the labels of a partition's rows; see :func:`labels_of`."""
        if pin is None:
            return no_labels()
        label_pin = LabelPin.of(pin)
        deliveries = self._deliveries(partition, label_pin)
        # Deliveries of a window overlap, those of a far later partition do not.
        self._read = {key: rows for key, rows in self._read.items() if key[0] >= partition}
        parts = [self._delivery(tick, delivery) for tick, delivery in sorted(deliveries.items())]
        labels = pd.concat([part for part in parts if len(part)] or parts[:1])
        return labels[~labels.index.duplicated(keep="last")]

    def _deliveries(self, partition: str, pin: LabelPin) -> dict[str, LabelsArrived]:
        if self._records is None:
            self._records = list(self._workspace.ledger.records(LabelsArrived, SubjectForgotten))
        deliveries: dict[str, LabelsArrived] = {}
        for record in self._records:
            tick, details = str(record.partition), record.details
            if isinstance(details, SubjectForgotten):
                deliveries |= erased_deliveries(details, deliveries, pin)
            elif details.since <= partition <= tick <= pin.until and details.version <= pin.version:
                deliveries[tick] = details
        if not deliveries:
            raise DataError(f"the ledger knows no labels of {partition} up to {pin}")
        return deliveries

    def _delivery(self, tick: str, delivery: LabelsArrived) -> pd.Series[float]:
        key = (tick, delivery.version)
        if key not in self._read:
            self._read[key] = self._rows(tick, delivery)
        return self._read[key]

    def _rows(self, tick: str, delivery: LabelsArrived) -> pd.Series[float]:
        if delivery.rows == 0:
            return no_labels()
        rows = self._workspace.ports.table(TABLE).read(tick, version=delivery.version)
        digest = content_digest(rows)
        if digest != delivery.digest:
            raise DataError(
                f"labels {tick} in version {delivery.version} have the digest {digest[:12]}…, the ledger states "
                f"{delivery.digest[:12]}…"
            )
        labels = encode_delivered(rows["label"], self._workspace.loop.class_names)
        return pd.Series(labels, pd.Index(rows["key"].to_pylist(), dtype=str))


def erased_deliveries(
    forgotten: SubjectForgotten, deliveries: Mapping[str, LabelsArrived], pin: LabelPin
) -> dict[str, LabelsArrived]:
    """Return the deliveries that the erasure of a subject rewrote, in their new versions."""
    changes = {tick: change.labels for tick, change in forgotten.partitions.items() if tick in deliveries}
    return {
        tick: replace(deliveries[tick], **asdict(labels))
        for tick, labels in changes.items()
        if labels is not None and labels.version <= pin.version
    }


def no_labels() -> pd.Series[float]:
    """Return an empty series of labels."""
    labels: pd.Series[float] = pd.Series(np.zeros(0), pd.Index([], dtype=str))
    return labels


def with_labels(frame: pd.DataFrame, keys: pa.ChunkedArray, labels: pd.Series[float], column: str) -> pd.DataFrame:
    """Return rows with their labels in a column of floats, NaN without a label.

    Parameters
    ----------
    frame : DataFrame, shape (n_rows, n_columns)
        The rows; a delivered label takes precedence over the label in the row itself.
    keys : pyarrow.ChunkedArray, shape (n_rows,)
        Keys of the rows.
    """
    texts = [text for chunk in keys.chunks for text in format_column(chunk).to_pylist()]
    delivered = labels.reindex(texts).to_numpy(np.float64)
    if column in frame.columns:
        own_labels = frame[column].to_numpy(np.float64, na_value=np.nan)
        delivered = np.where(np.isnan(delivered), own_labels, delivered)
    return frame.assign(**{column: delivered})
