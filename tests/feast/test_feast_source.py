"""A Feast repository as a source: what was known at the time of each row, and never what came later."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import feast
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DeclarationError, PartitionRefusedError, SourceUnreadableError
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.toy_loop import ingest, toy_fields

FIRST, SECOND = "2013-01-06T00:00:00", "2013-01-13T00:00:00"
BOTH = {"features": ["trips:speed", "trips:rides", "grades:grade"]}
pytestmark = pytest.mark.filterwarnings("ignore:On demand feature view is an experimental feature:RuntimeWarning")


def day(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project with a feature repository of two views, and the entity rows of two weeks."""
    repo = tmp_path / "features"
    (repo / "data").mkdir(parents=True)
    (repo / "feature_store.yaml").write_text(
        f"project: p{uuid.uuid4().hex[:8]}\nprovider: local\nregistry: data/registry.db\n"
        "offline_store: {type: file}\nonline_store: {path: data/online.db}\nentity_key_serialization_version: 3\n"
    )
    trips = [
        # driver, time of the value, when it was written, speed, rides
        (1, day("2013-01-01"), day("2013-01-01"), 10.0, 1),
        (1, day("2013-01-03 12:00"), day("2013-01-03 12:00"), 11.0, 2),
        (1, day("2013-01-09"), day("2013-01-09"), 12.0, 3),
        (1, day("2013-01-10"), day("2013-02-01"), 99.0, 99),  # of the second week, and written long after it
        (2, day("2013-01-11"), day("2013-01-11"), 20.0, 4),
    ]
    grades = [(1, day("2013-01-01"), "a"), (2, day("2013-01-01"), "b")]
    pd.DataFrame(trips, columns=["driver", "at", "written", "speed", "rides"]).to_parquet(repo / "data/trips.parquet")
    pd.DataFrame(grades, columns=["driver", "at", "grade"]).to_parquet(repo / "data/grades.parquet")
    driver = feast.Entity(name="driver", join_keys=["driver"], value_type=feast.ValueType.INT64)

    def view(name: str, schema: list[feast.Field], **source: Any) -> feast.FeatureView:
        file = feast.FileSource(path=f"data/{name}.parquet", timestamp_field="at", **source)
        return feast.FeatureView(name=name, entities=[driver], schema=schema, source=file, ttl=timedelta(days=30))

    views = [
        view(
            "trips",
            [feast.Field(name="speed", dtype=Float64), feast.Field(name="rides", dtype=Int64)],
            created_timestamp_column="written",
        ),
        view("grades", [feast.Field(name="grade", dtype=String)]),
    ]
    renamed = feast.FeatureService(name="renamed", features=[views[0].with_name("journeys"), views[1]])
    services = [feast.FeatureService(name="model", features=views), renamed]
    feast.FeatureStore(repo_path=str(repo)).apply([driver, *views, on_demand(views[0]), *services])
    deliver(
        tmp_path,
        FIRST,
        [
            ("a", 1, "2013-01-03 11:59:59", 1.0),
            ("b", 1, "2013-01-03 12:00", 2.0),
            ("c", 2, "2013-01-04", 3.0),
            ("d", 1, "2013-01-03 12:00", 4.0),
            ("e", 3, "2013-01-04", None),
            ("f", None, "2013-01-04", 6.0),
        ],
    )
    deliver(tmp_path, SECOND, [("g", 1, "2013-01-12", 7.0), ("h", 2, "2013-01-12", 8.0)])
    return tmp_path


def on_demand(trips: feast.FeatureView) -> Any:
    """Return a view that is computed from the trips while it is read."""

    def doubled(rows: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"twice": rows["speed"] * 2})

    return on_demand_feature_view(
        sources=[trips], schema=[feast.Field(name="twice", dtype=Float64)], mode="pandas", name="doubled"
    )(doubled)


def deliver(project: Path, key: str, rows: list[tuple[Any, ...]]) -> None:
    """Put the entity rows of a week where the loop looks for them."""
    ids, drivers, times, labels = zip(*rows, strict=True)
    at = pa.array([datetime.fromisoformat(time) for time in times], pa.timestamp("us"))
    table = pa.table(
        {"id": ids, "driver": pa.array(drivers, pa.int64()), "at": at, "y": pa.array(labels, pa.float64())}
    )
    (project / "in").mkdir(exist_ok=True)
    pq.write_table(table, project / "in" / f"{key[:10]}.parquet")


def opened(project: Path, **wanted: Any) -> Workspace:
    """Return the loop's workspace on real stores."""
    entities = {"kind": "parquet", "uri": "in/{partition}.parquet"}
    source = {"kind": "feast", "repo": "features", "entities": entities, **(wanted or BOTH)}
    loop = Loop(**toy_fields(data={**toy_fields()["data"], "source": source, "tolerance": 0.5}))
    return open_workspace(loop, Stores.embedded(project / "home"), root=project, actor="tests")


def kept(workspace: Workspace, key: str) -> dict[str, tuple[Any, ...]]:
    """Ingest a week and return the features in its snapshot, by the row's id."""
    message = ingest(workspace, key)
    rows = workspace.snapshots.read(key, version=message.version).to_pylist()
    return {row["id"]: (row["speed"], row["rides"], row["grade"]) for row in rows}


@pytest.mark.parametrize("wanted", [BOTH, {"feature_service": "model"}], ids=["features", "service"])
def test_a_snapshot_holds_what_was_known_at_the_time_of_each_row_and_loses_none(
    project: Path, wanted: dict[str, Any]
) -> None:
    workspace = opened(project, **wanted)
    assert kept(workspace, FIRST) == {
        "a": (10.0, 1, "a"),  # a second before the next value
        "b": (11.0, 2, "a"),  # at the very time of it
        "d": (11.0, 2, "a"),  # the same entity and time again
        "c": (None, None, "b"),  # a value of one view lies in the future, that of the other does not
        "e": (None, None, None),  # nothing is known of this entity
        "f": (None, None, None),  # and this row has none
    }
    # The value of the 10th was written in February: nobody knew it on the 12th.
    assert kept(workspace, SECOND) == {"g": (12.0, 3, "a"), "h": (20.0, 4, "b")}
    published = workspace.state().published[FIRST]
    assert published.columns == {
        "id": "string",
        "driver": "int64",
        "at": "timestamp[us]",
        "y": "double",
        "speed": "double",
        "rides": "int64",
        "grade": "string",
    }
    entities = {"files": published.origin["entities"]["files"]}
    assert published.origin == {
        "repo": "features",
        "entities": entities,
        **({"feature_service": "model"} if "feature_service" in wanted else {"features": BOTH["features"]}),
    }


def test_a_value_that_becomes_known_afterwards_changes_no_earlier_partition(project: Path) -> None:
    workspace = opened(project)
    first = ingest(workspace, FIRST)
    file = project / "features/data/trips.parquet"
    late = pd.DataFrame([(1, day("2013-01-02"), day("2013-01-08"), 50.0, 50)])
    old = pd.read_parquet(file)
    pd.concat([old, late.set_axis(old.columns, axis=1)]).to_parquet(file)
    assert ingest(opened(project), FIRST) == first
    assert [record.kind for record in workspace.ledger.records()] == ["snapshot_published"]


def test_a_batch_of_many_rows_is_joined_row_by_row(project: Path) -> None:
    rows = [(str(row), 1 + row % 2, "2013-01-12" if row % 3 else "2013-01-08", float(row)) for row in range(70_000)]
    deliver(project, SECOND, rows)
    feature_rows = kept(opened(project), SECOND)
    expected = {1: {0: (11.0, 2, "a"), 1: (12.0, 3, "a")}, 2: {0: (None, None, "b"), 1: (20.0, 4, "b")}}
    assert feature_rows == {row[0]: expected[row[1]][int(row[2] == "2013-01-12")] for row in rows}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"features": ["trips:spede"]}, "the view 'trips' has no feature 'spede'; it has"),
        ({"features": ["journeys:speed"]}, "cannot be read: FeatureViewNotFoundException: .*journeys"),
        ({"features": ["doubled:twice"]}, "cannot be read: FeatureViewNotFoundException: .*doubled"),
        ({"feature_service": "renamed"}, "'renamed' renames or pins the view 'trips', which is not supported; list"),
        ({"feature_service": "modle"}, "cannot be read: FeatureServiceNotFoundException: .*modle"),
    ],
)
def test_what_the_repository_does_not_have_is_named(project: Path, wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceUnreadableError, match=message):
        ingest(opened(project, **wanted), FIRST)


def test_entity_rows_without_the_key_of_a_view_are_refused(project: Path) -> None:
    path = project / "in" / f"{FIRST[:10]}.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["driver"]), path)
    with pytest.raises(SourceUnreadableError, match="no column 'driver', by which the view 'trips' is joined"):
        ingest(opened(project), FIRST)


def test_a_store_that_lost_its_file_is_told_of_in_the_ledger(project: Path) -> None:
    (project / "features/data/trips.parquet").unlink()
    workspace = opened(project)
    with pytest.raises(SourceUnreadableError, match="the feature repository features cannot be read"):
        ingest(workspace, FIRST)
    assert [record.kind for record in list(workspace.ledger.records())] == ["partition_refused"]


def test_features_count_against_the_limits_of_a_partition(project: Path) -> None:
    workspace = opened(project)
    fields = workspace.loop.model_dump(by_alias=True)
    fields["data"]["limits"]["cells"] = 6 * 6
    loop = Loop(**fields)
    with pytest.raises(PartitionRefusedError, match="42 cells"):
        ingest(open_workspace(loop, Stores.embedded(project / "home"), root=project, actor="tests"), FIRST)


def test_a_folder_without_a_feature_store_is_a_wrong_declaration(project: Path) -> None:
    (project / "features/feature_store.yaml").unlink()
    with pytest.raises(DeclarationError, match=r"data.source.repo: 'features' holds no feature_store.yaml"):
        ingest(opened(project), FIRST)
