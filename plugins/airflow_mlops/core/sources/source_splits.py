"""Hold the splits of a partition together to the rules that a source holds it to where it is read in one pass."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.errors import SourceUnreadableError
from airflow_mlops.core.ports.partitions import SplitNotes
from airflow_mlops.core.sources.size_limits import Meter

MAX_BROKEN_ROWS = 100_000


def add_size(notes: SplitNotes, meter: Meter) -> None:
    """Add to the notes of a split what a meter has counted of it."""
    notes.rows += meter.rows
    notes.cells += meter.cells
    notes.bytes += meter.bytes


def check_size(limits: Limits, partition: str, names: Sequence[str], notes: Sequence[SplitNotes]) -> None:
    """Raise unless the splits of a partition are within its limits together.

    Parameters
    ----------
    limits : Limits
        Limits of the declaration.
    partition : str
        Key of the partition, for the error.
    names : sequence of str
        The file of each split, for the error.
    notes : sequence of SplitNotes
        The notes of each split.

    Raises
    ------
    PartitionRefusedError
        If they hold more rows, cells or bytes than declared.
    SourceUnreadableError
        If far too many rows are broken.
    """
    meter, broken = Meter(limits, partition), 0
    for name, split in zip(names, notes, strict=True):
        meter.add(split.rows, split.cells, name)
        meter.add_bytes(split.bytes, name)
        broken += len(split.broken)
    if broken > MAX_BROKEN_ROWS:
        first = next(row for split in notes for row in split.broken)
        raise SourceUnreadableError(
            f"partition {partition}: more than {MAX_BROKEN_ROWS:,} rows of its files are broken, the first at "
            f"{first.at}: it {first.reason}"
        )
