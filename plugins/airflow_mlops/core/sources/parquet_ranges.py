"""Cut the rows of a Parquet file into ranges that are read by themselves, in the batches of the whole file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.parquet as pq

RANGE_ROWS = 262_144
"""Rows of the shortest range but the last; a shorter one costs more to send than to read."""


@dataclass(frozen=True)
class RowRange:
    """Some rows of a file.

    ``groups`` are the row groups that hold them, ``skip`` the rows of these groups before the first, ``rows`` their
    number, and ``size`` the rows of a batch.
    """

    groups: tuple[int, ...]
    skip: int
    rows: int
    size: int


def row_ranges(metadata: pq.FileMetaData, groups: Sequence[int], size: int) -> list[RowRange]:
    """Return the ranges of row groups that are read together in batches of ``size`` rows, in their order.

    Batches do not end where row groups do, so a range ends with the first batch that ends in or behind its last group:
    it reads its own groups, and the first rows of the next.
    """
    ends = [0]
    for group in groups:
        ends.append(ends[-1] + metadata.row_group(group).num_rows)
    ranges: list[RowRange] = []
    start = 0
    for end in ends[1:]:
        stop = min(-(-end // size) * size, ends[-1])
        if stop == start or (stop - start < RANGE_ROWS and stop < ends[-1]):
            continue
        held = [place for place in range(len(groups)) if ends[place] < stop and ends[place + 1] > start]
        ranges.append(RowRange(tuple(groups[place] for place in held), start - ends[held[0]], stop - start, size))
        start = stop
    return ranges
