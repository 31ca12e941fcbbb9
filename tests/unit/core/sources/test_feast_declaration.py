"""A Feast source is declared like any other; without Feast the error says what to install."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from airflow_mlops.core.declaration.data import FeastSource
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DeclarationError, SourceUnreadableError
from airflow_mlops.core.ports.connections import NoConnections
from airflow_mlops.core.sources.feast_join import cast_feature, distinct_pairs
from airflow_mlops.core.sources.feast_source import FeastRows
from airflow_mlops.core.sources.source_factory import open_source
from airflow_mlops.testing.in_memory import InMemorySource
from tests.unit.core.toy_loop import toy_fields

FIELDS: dict[str, Any] = {
    "kind": "feast",
    "repo": "features",
    "features": ["trips:speed"],
    "entities": {"kind": "parquet", "uri": "in/{partition}.parquet"},
}


def declare_loop(**changes: Any) -> Loop:
    source = {name: value for name, value in {**FIELDS, **changes}.items() if value is not None}
    return Loop(**toy_fields(data={**toy_fields()["data"], "source": source}))


def test_a_feast_source_needs_no_contract_because_it_knows_types() -> None:
    source = declare_loop().data.source
    assert isinstance(source, FeastSource)
    assert source.features == ("trips:speed",)
    sql = {"kind": "sql", "conn_id": "warehouse", "table": "trips"}
    assert declare_loop(entities=sql, features=None, feature_service="model").data.source.kind == "feast"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"feature_service": "model"}, "exactly one of feature_service, features"),
        ({"features": None}, "exactly one of feature_service, features"),
        ({"features": ["speed"]}, "should match pattern"),
        ({"entities": {"kind": "csv", "uri": "{partition}.csv"}}, "'csv'"),
        ({"entities": {**FIELDS}}, "'feast'"),
        ({"entities": None}, "data.source.entities: is required and missing"),
    ],
)
def test_a_declaration_that_leaves_a_choice_open_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises((DeclarationError, ValidationError), match=reason):
        declare_loop(**changes)


@pytest.mark.skipif(importlib.util.find_spec("feast") is not None, reason="Feast is installed here")
def test_without_feast_the_error_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"data.source.kind: .* pip install airflow-mlops\[feast\]"):
        open_source(declare_loop(), NoConnections(), root=tmp_path)


def test_without_a_repository_the_error_names_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(DeclarationError, match=r"'no/such' holds no feature_store\.yaml"):
        FeastRows(InMemorySource({}), tmp_path / "no/such", repo="no/such", time="at", features=["trips:speed"])


def test_each_pair_of_entity_and_time_is_asked_once_and_rows_without_either_never() -> None:
    moment = pa.timestamp("ns", tz="Europe/Paris")
    batch = pa.RecordBatch.from_pydict(
        {"a": [1, 2, 1, None, 1], "b": ["x", "x", "x", "x", "y"], "at": pa.array([0, 0, 0, 0, None], moment)}
    )
    pairs, pair_of_row = distinct_pairs(batch, ["a", "b"], "at")
    assert pairs.select(["a", "b"]).to_pylist() == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]
    assert pair_of_row.tolist() == [0, 1, 0, -1, -1]
    assert pairs.schema.field("event_timestamp").type == pa.timestamp("us", tz="UTC")


def test_integers_that_became_floats_are_integers_again_unless_a_float_may_have_rounded_them() -> None:
    assert cast_feature(pa.array([1.0, None]), pa.int64(), "it").to_pylist() == [1, None]
    with pytest.raises(SourceUnreadableError, match="it holds 9007199254740992, which Feast gave as a float"):
        cast_feature(pa.array([2.0**53]), pa.int64(), "it")
    for values, kind in ((pa.array([1.5]), pa.int64()), (pa.array(["1"]), pa.float64()), (pa.array([1]), pa.string())):
        with pytest.raises(SourceUnreadableError, match=f"it is declared as {kind} and holds"):
            cast_feature(values, kind, "it")
