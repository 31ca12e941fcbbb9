"""``engine: sql`` is refused at the declaration where there is no database that could be queried."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlops.core.errors import DeclarationError
from tests.unit.core.toy_loop import toy_fields, toy_loop

SOURCES: list[dict[str, Any]] = [
    {"kind": "parquet", "uri": "toy/{partition}.parquet"},
    {"kind": "delta", "uri": "toy"},
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source["kind"])
def test_a_source_of_another_kind_is_refused_with_what_to_declare(source: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError) as refused:
        toy_loop(engine="sql", data={**toy_fields()["data"], "source": source})
    assert refused.value.key == "engine"
    assert f"the source is of kind {source['kind']}" in refused.value.message
    assert "declare engine: local" in refused.value.message


def test_a_table_and_a_query_may_be_judged_in_their_database() -> None:
    for place in ({"table": "sales"}, {"query": "SELECT * FROM sales WHERE at >= :start AND at < :end"}):
        source = {"kind": "sql", "conn_id": "warehouse", **place}
        assert toy_loop(engine="sql", data={**toy_fields()["data"], "source": source}).engine == "sql"
