"""Explain rows outside their partition by the name of their file: named by the start of a period, or by its end."""

from __future__ import annotations

import re

from airflow_mlops.core.data.enforce_contract import Enforcement
from airflow_mlops.core.declaration.data import AnySource, FeastSource, HttpSource, IcebergSource, SqlSource

_MOST = 0.5
_BY_END = re.compile(r"\{(partition|year|month|day|hour|end(:[^{}]*)?)\}")
_BY_START = re.compile(r"\{start(:[^{}]*)?\}")


def naming_hint(enforcement: Enforcement, arrived: int) -> str | None:
    """Return a sentence if most rows lie on the side of the partition that a wrong placeholder puts them on."""
    key, template = _template(enforcement.data.source)
    by_start = _BY_START.search(template)
    by_end = None if by_start else _BY_END.search(template)
    if by_end and enforcement.early > _MOST * arrived:
        return (
            f"{enforcement.early:,} of {arrived:,} rows lie after the partition, which ends at "
            f"{enforcement.interval.end.isoformat()}: {by_end[0]} in {key} names that end; if the source names its "
            "files or pages by the start of their period, write {start} there, for example {start:%Y-%m-%d}"
        )
    if by_start and enforcement.late > _MOST * arrived:
        return (
            f"{enforcement.late:,} of {arrived:,} rows lie before the partition, which starts at "
            f"{enforcement.interval.start.isoformat()}: {by_start[0]} in {key} names that start; if the source names "
            "its files or pages by the end of their period, write {end} there, for example {end:%Y-%m-%d}"
        )
    return None


def _template(source: AnySource) -> tuple[str, str]:
    """Return the key of the template of a source and the template; an empty one of a database."""
    if isinstance(source, FeastSource):
        return "data.source.entities.uri", "" if isinstance(source.entities, SqlSource) else source.entities.uri
    if isinstance(source, HttpSource):
        return "data.source.path", source.path
    return "data.source.uri", "" if isinstance(source, SqlSource | IcebergSource) else source.uri
