"""Validation in anybody's Dag, without a loop: a file, a frame, a table of PostgreSQL, a checkpoint that is there."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from airflow_mlops.testing.embedded_postgres import EmbeddedPostgres
from tests.loop.project import KEYS, make_project, states, week, why

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.conftest import SchedulerFactory

SUITE = """expectations:
  - {type: expect_column_values_to_not_be_null, kwargs: {column: id}}
  - {type: expect_column_values_to_be_between, kwargs: {column: price, min_value: 0, max_value: 100}}
  - {type: expect_column_values_to_be_in_set, kwargs: {column: shop, value_set: [a, b]}, severity: warning}
  - {type: expect_table_row_count_to_be_between, kwargs: {min_value: 10}, severity: info}
"""

DAG_FILE = '''"""An ordinary Dag that validates."""
from datetime import datetime
from pathlib import Path

from airflow.sdk import DAG, task

from airflow_mlops import ValidateSnapshotOperator, ValidateTableOperator

ROOT = Path(__file__).parents[1]
TOLD = ROOT / "told.txt"


def tell(context):
    warnings = context['validation_findings']['warning']
    TOLD.write_text(f"{{context['ti'].task_id}}: {{context['exception']}} {{warnings}}")


def frame():
    import pandas as pd

    return pd.read_parquet(ROOT / "prices.parquet")


with DAG("checks", schedule=None, start_date=datetime(2026, 1, 1)):
    {body}
'''
GOOD = pa.table({"id": ["x", "y", "z"], "price": [1.0, 2.0, 3.0], "shop": ["a", "b", "a"], "more": [1, 2, 3]})
BAD = pa.table({"id": ["x", None, "z"], "price": [1.0, 2000.0, -3.0], "shop": ["a", "b", "q"], "more": [1, 2, 3]})

KINDS = {
    "parquet": 'ValidateSnapshotOperator(task_id="v", rows="prices.parquet", {common})',
    "csv": 'ValidateSnapshotOperator(task_id="v", rows="prices.csv.gz", {common})',
    "function": 'ValidateSnapshotOperator(task_id="v", python_callable=frame, {common})',
    "xcom": 'ValidateSnapshotOperator(task_id="v", rows=task(frame)(), {common})',
}
TABLE = 'ValidateTableOperator(task_id="v", conn_id="shop_db", {what}, {{common}})'
COMMON = 'expectations="suite.yaml", root=ROOT, notify=[tell]'


def run(folder: Path, start: SchedulerFactory, body: str, rows: pa.Table = GOOD) -> InProcessScheduler:
    """Run a Dag with one validation on rows, and return its scheduler."""
    (folder / "suite.yaml").write_text(SUITE)
    pq.write_table(rows, folder / "prices.parquet")
    rows.to_pandas().to_csv(folder / "prices.csv.gz", index=False)
    (folder / "dags").mkdir(exist_ok=True)
    (folder / "dags" / "checks.py").write_text(DAG_FILE.format(body=body.format(common=COMMON)))
    scheduler = start(folder / "dags")
    scheduler.trigger("checks")
    scheduler.run_until_idle()
    return scheduler


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_any_kind_are_validated_without_a_loop(
    tmp_path: Path, start_scheduler: SchedulerFactory, kind: str
) -> None:
    scheduler = run(tmp_path, start_scheduler, KINDS[kind])
    assert scheduler.failures() == []
    report = scheduler.xcom("checks", "v")
    assert (report["rows"], report["expectations"], report["critical"], report["warning"]) == (3, 4, [], [])
    assert report["info"] == ["expect_table_row_count_to_be_between (min_value 10, observed 3)"]
    assert not (tmp_path / "told.txt").exists()


@pytest.mark.parametrize("kind", ["parquet", "csv", "function"])
def test_what_fails_critically_fails_the_task_with_column_limit_and_number(
    tmp_path: Path, start_scheduler: SchedulerFactory, kind: str
) -> None:
    scheduler = run(tmp_path, start_scheduler, KINDS[kind], BAD)
    assert states(scheduler, "checks") == {"v": "failed"}
    error = why(scheduler, "v")
    assert "2 of 4 expectations failed of 3 rows" in error
    assert "id: expect_column_values_to_not_be_null (1 row)" in error
    assert "price: expect_column_values_to_be_between (min_value 0, max_value 100, 2 rows)" in error
    assert "shop" not in error.partition("expectations failed")[2].partition("Traceback")[0]


def test_a_warning_is_told_and_the_task_succeeds(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    odd = GOOD.set_column(2, "shop", pa.array(["a", "q", "q"]))
    scheduler = run(tmp_path, start_scheduler, KINDS["parquet"], odd)
    assert scheduler.failures() == []
    message = (tmp_path / "told.txt").read_text()
    assert message.startswith("v: 1 warning of the validation: shop: expect_column_values_to_be_in_set")
    assert "2 rows" in message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(
            'ValidateSnapshotOperator(task_id="v", rows="prices.parquet", root=ROOT, expectations=[{{"type": '
            '"expect_column_values_to_not_be_null", "kwargs": {{"column": "nothing"}}}}])',
            "has no column 'nothing', so it could not be evaluated",
            id="missing_column",
        ),
        pytest.param(
            'ValidateSnapshotOperator(task_id="v", rows="prices.parquet", root=ROOT, expectations=[{{"type": '
            '"expect_column_values_to_be_between", "kwargs": {{"column": "id", "min_value": 3}}}}])',
            "could not be evaluated on id",
            id="engine_fault",
        ),
        pytest.param(
            'ValidateSnapshotOperator(task_id="v", rows="prices.parquet", root=ROOT)',
            "rows are given, and no expectations of them",
            id="no_suite",
        ),
        pytest.param(
            'ValidateSnapshotOperator(task_id="v", root=ROOT)', "exactly one of rows, python_callable", id="nothing"
        ),
        pytest.param(
            'ValidateSnapshotOperator(task_id="v", rows="suite.yaml", {common})', "cannot be read", id="no_parquet"
        ),
    ],
)
def test_a_fault_is_not_taken_for_failed_data(
    tmp_path: Path, start_scheduler: SchedulerFactory, body: str, words: str
) -> None:
    scheduler = run(tmp_path, start_scheduler, body)
    assert words in why(scheduler, "v")
    assert "expectations failed" not in why(scheduler, "v")


def test_a_small_file_of_very_many_rows_is_refused_from_its_footer(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    with pq.ParquetWriter(tmp_path / "huge.parquet", pa.schema([("id", pa.int8())])) as writer:
        group = pa.table({"id": pa.nulls(10_000_000, pa.int8())})
        for _ in range(11):
            writer.write_table(group, row_group_size=10_000_000)
    assert (tmp_path / "huge.parquet").stat().st_size < 745_000
    scheduler = run(
        tmp_path,
        start_scheduler,
        'ValidateSnapshotOperator(task_id="v", rows="huge.parquet", root=ROOT, expectations=[{{"type": '
        '"expect_column_values_to_not_be_null", "kwargs": {{"column": "id"}}}}])',
    )
    assert "holds 110,000,000 rows" in why(scheduler, "v")


def test_a_database_that_cannot_be_reached_may_be_tried_again(
    tmp_path: Path, start_scheduler: SchedulerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "login": "u", "password": "se$cret9"}
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", json.dumps(fields))
    scheduler = run(tmp_path, start_scheduler, TABLE.format(what='table="prices"'))
    error = why(scheduler, "v")
    assert "ConnectionError: prices: the database cannot be reached" in error
    assert "AirflowFailException" not in error
    assert "se$cret9" not in error


def test_a_file_that_is_not_there_yet_skips(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    scheduler = run(tmp_path, start_scheduler, 'ValidateSnapshotOperator(task_id="v", rows="later.csv", {common})')
    assert states(scheduler, "checks") == {"v": "skipped"}


def write_context(folder: Path, column: str = "price") -> None:
    """Write a file context of Great Expectations with one checkpoint, as somebody already has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx
        from great_expectations import expectations as gxe

        context = gx.get_context(mode="file", project_root_dir=str(folder))
        context.variables.progress_bars = {"globally": False}
        asset = context.data_sources.add_pandas("files").add_parquet_asset("rows", path=str(folder / "prices.parquet"))
        suite = context.suites.add(gx.ExpectationSuite("prices"))
        suite.add_expectation(gxe.ExpectColumnValuesToBeBetween(column=column, min_value=0, max_value=100))
        suite.add_expectation(gxe.ExpectColumnValuesToBeInSet(column="shop", value_set=["a", "b"], severity="warning"))
        definition = gx.ValidationDefinition(name="all", data=asset.add_batch_definition("all"), suite=suite)
        context.checkpoints.add(
            gx.Checkpoint(name="nightly", validation_definitions=[context.validation_definitions.add(definition)])
        )


CHECKPOINT = 'ValidateSnapshotOperator(task_id="v", checkpoint="{name}", root=ROOT, notify=[tell])'


@pytest.mark.parametrize(
    ("rows", "state", "words"),
    [
        (GOOD, "success", ""),
        (BAD, "failed", "price: expect_column_values_to_be_between (min_value 0.0, max_value 100.0, 2 rows)"),
    ],
)
def test_a_checkpoint_that_is_there_is_run_by_its_name(
    tmp_path: Path, start_scheduler: SchedulerFactory, rows: pa.Table, state: str, words: str
) -> None:
    write_context(tmp_path)
    scheduler = run(tmp_path, start_scheduler, CHECKPOINT.format(name="nightly"), rows)
    assert states(scheduler, "checks") == {"v": state}
    if words:
        assert words in why(scheduler, "v")
        assert "shop: expect_column_values_to_be_in_set" in (tmp_path / "told.txt").read_text()
    else:
        assert scheduler.xcom("checks", "v")["expectations"] == 2


def test_a_checkpoint_that_cannot_be_evaluated_or_is_not_there_says_so(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    write_context(tmp_path, column="no_such_column")
    faulty = run(tmp_path, start_scheduler, CHECKPOINT.format(name="nightly"))
    assert "could not be evaluated on no_such_column" in why(faulty, "v")
    (tmp_path / "dags" / "checks.py").write_text(DAG_FILE.format(body=CHECKPOINT.format(name="weekly")))
    faulty.sync()
    faulty.trigger("checks")
    faulty.run_until_idle()
    errors = [text for _, text in faulty.failures()]
    assert any("there is no checkpoint 'weekly'; there are nightly" in text for text in errors)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path_factory.mktemp("pg"), ["shop"])
    server.start()
    yield server
    server.stop()


def put_table(postgres: EmbeddedPostgres, rows: pa.Table) -> None:
    engine = sa.create_engine(postgres.uri("shop", "psycopg"))
    frame: pd.DataFrame = rows.to_pandas()
    frame.to_sql("prices", engine, if_exists="replace", index=False)
    engine.dispose()


@pytest.mark.parametrize("what", ['table="prices"', 'table="prices", schema="public"', 'query="SELECT * FROM prices"'])
def test_a_table_is_validated_where_it_lies(
    tmp_path: Path,
    start_scheduler: SchedulerFactory,
    postgres: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    connect(monkeypatch, postgres)
    put_table(postgres, GOOD)
    scheduler = run(tmp_path, start_scheduler, TABLE.format(what=what))
    assert scheduler.failures() == []
    assert scheduler.xcom("checks", "v")["critical"] == []
    put_table(postgres, BAD)
    scheduler.trigger("checks")
    scheduler.run_until_idle()
    error = why(scheduler, "v")
    assert "price: expect_column_values_to_be_between (min_value 0, max_value 100, 2 rows)" in error
    assert "shop: expect_column_values_to_be_in_set" in (tmp_path / "told.txt").read_text()


def connect(monkeypatch: pytest.MonkeyPatch, postgres: EmbeddedPostgres, name: str = "SHOP_DB") -> None:
    """Declare the connection as a person would, by its fields."""
    fields: dict[str, Any] = {
        "conn_type": "postgres",
        "login": "postgres",
        "schema": "shop",
        "host": postgres.socket_folder,
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(fields))


ALERTS = """
from pathlib import Path


def tell(context):
    warnings = context["validation_findings"]["warnings"]
    Path(__file__).with_name("told.txt").write_text(f"{context['ti'].task_id} {context['exception']} {len(warnings)}")
"""


def test_the_callbacks_of_a_loop_hear_of_its_warnings_although_nothing_fails(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path)
    package = f"{project.model}_alerts"
    (tmp_path / package).mkdir()
    (tmp_path / package / "pager.py").write_text(ALERTS)
    (tmp_path / "include" / "suite.yaml").write_text(
        "expectations:\n- {type: expect_column_values_to_be_between, "
        "kwargs: {column: x1, min_value: 0}, severity: warning}\n"
    )
    project.fields |= {
        "notify": [f"{package}.pager:tell"],
        "data": {**project.fields["data"], "expectations": "include/suite.yaml"},
    }
    (tmp_path / "include" / "loops" / f"{project.model}.yaml").write_text(json.dumps(project.fields))
    scheduler = start_scheduler(project.dags)
    project.put(KEYS[0], week(KEYS[0]))
    project.ingest(scheduler, KEYS[0])
    assert scheduler.failures() == []
    message = (tmp_path / package / "told.txt").read_text()
    assert message.startswith("validate 1 warning of the validation: x1: expect_column_values_to_be_between")


def test_the_dags_of_the_page_run_as_they_stand(
    tmp_path: Path, start_scheduler: SchedulerFactory, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "validate-anything.md").read_text()
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    (suite,) = [code for kind, code in blocks if kind == "yaml"]
    for folder in ("dags", "include/expectations", "include/data"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "include" / "expectations" / "prices.yaml").write_text(suite)
    rows = pa.concat_tables([GOOD] * 4).set_column(0, "id", pa.array([f"n{number}" for number in range(12)]))
    pq.write_table(rows, tmp_path / "include" / "data" / "prices.parquet")
    pq.write_table(rows, tmp_path / "prices.parquet")
    put_table(postgres, rows)
    connect(monkeypatch, postgres, "SHOP")
    write_context(tmp_path)
    for number, code in enumerate(code for kind, code in blocks if kind == "python"):
        (tmp_path / "dags" / f"page_{number}.py").write_text(code)
    scheduler = start_scheduler(tmp_path / "dags")
    assert scheduler.dag_ids == ["checkpoint_checked", "prices_checked"]
    for dag_id in scheduler.dag_ids:
        scheduler.trigger(dag_id)
    scheduler.run_until_idle()
    assert scheduler.failures() == []
    assert states(scheduler, "prices_checked") == {"file": "success", "frame": "success", "table": "success"}
    assert states(scheduler, "checkpoint_checked") == {"nightly": "success"}
