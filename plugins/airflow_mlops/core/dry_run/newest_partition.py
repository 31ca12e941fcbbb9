"""Find the newest partition that a source has, by going back tick by tick."""

from __future__ import annotations

import numpy as np

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.partition_key import partition_key
from airflow_mlops.core.errors import SourceMissingError
from airflow_mlops.core.ports.partitions import Source
from airflow_mlops.core.sources.csv_table import CsvTable
from airflow_mlops.core.sources.lake_table import LakeTable
from airflow_mlops.core.sources.orc_source import OrcTable
from airflow_mlops.core.sources.parquet_table import ParquetTable
from airflow_mlops.core.sources.xlsx_source import XlsxTable

MAX_TICKS = {
    "parquet": 20_000,
    "orc": 20_000,
    "csv": 20_000,
    "json": 20_000,
    "xlsx": 20_000,
    "delta": 400,
    "iceberg": 400,
    "sql": 400,
    "http": 60,
    "feast": 400,
}
"""How many ticks back each kind of source is searched: a missing file costs less than a request."""


def newest_partition(loop: Loop, source: Source, now: str) -> str:
    """Return the key of the newest partition that a source has.

    Parameters
    ----------
    loop : Loop
        The declaration: its ticks, and the first and last of them.
    source : Source
        The source of rows.
    now : str
        The present time as an ISO time in UTC; no later tick is searched.

    Raises
    ------
    SourceMissingError
        If there is none; names the ticks that were searched.
    DataError, SourceUnreachableError
        If a source cannot tell whether it has rows.
    """
    data = loop.data
    if isinstance(source, CsvTable | ParquetTable | OrcTable | LakeTable | XlsxTable):
        newest = source.newest(partition_key(now))
        if not np.isnat(newest):
            return data.schedule.next(partition_key(str(newest.astype("datetime64[s]"))))
    last = min(partition_key(now), data.last_moment or partition_key(now))
    tick = data.schedule.tick_by(last)
    first = tick
    for _ in range(MAX_TICKS[data.source.kind]):
        if data.first_moment is not None and tick < data.first_moment:
            break
        try:
            with source.open(tick):
                return tick
        except SourceMissingError:
            first, tick = tick, data.schedule.previous(tick)
    raise SourceMissingError(
        f"no partition from {first} to {last} is there: correct data.source, or name a partition with --partition"
    )
