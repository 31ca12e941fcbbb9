"""The page of the loops' metrics: true values, no invented ones, and a ledger that cannot be read is said to be so."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from sqlalchemy import create_engine, text

from airflow_mlops.cli import main
from airflow_mlops.core.ledger.record_counts import NO_RECORDS
from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from airflow_mlops.core.ledger.sql_schema import REVISION
from airflow_mlops.observe.ledger_collector import ledger_registry
from tests.contracts.prometheus.measured_loops import (
    Samples,
    append,
    hours_ago,
    make_ledger,
    promote,
    publish_hourly,
    samples_of,
)
from tests.contracts.prometheus.prometheus_server import promtool

KEYS = [f"2013-01-{day:02}T00:00:00" for day in (6, 13, 20, 27)]
SUNDAY = 1357430400
WEEK = 7 * 24 * 3600


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def ledger_of(home: Path) -> Callable[[str], SqlLedger]:
    return make_ledger(home)


@pytest.fixture
def page(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[], Samples]:
    """Return a function that reads the page of the command line."""

    def read() -> Samples:
        assert main(["metrics"]) == 0
        return samples_of(capsys.readouterr().out)

    return read


def of_model(samples: Samples, model: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a model alone, their names without the prefix."""
    return {
        (key[0].removeprefix("airflow_mlops_"), *(label for label in key[1:] if label != model)): value
        for key, value in samples.items()
        if model in key[1:]
    }


def test_a_loop_in_full_swing_is_measured(ledger_of: Callable[[str], SqlLedger], page: Callable[[], Samples]) -> None:
    ledger = ledger_of("busy")
    for key in KEYS:
        append(ledger, "snapshot_published", key)
    append(ledger, "retrain_decided", KEYS[0], retrain=True, cause="clock")
    append(ledger, "retrain_decided", KEYS[1], retrain=False, cause="cooldown")
    promote(ledger, KEYS[0])
    append(ledger, "partition_refused", "2013-02-03T00:00:00", stage="ingest", reason="no rows")
    for key in KEYS[1:3]:
        append(ledger, "predictions_published", key)
    judged = {"check": "performance", "metric": "mae", "reference": 1.0, "rows": 90}
    append(ledger, "window_judged", KEYS[1], verdict="alarm", value=3.0, **judged)
    append(ledger, "window_judged", KEYS[2], verdict="alarm", value=2.5, check="drift")
    append(ledger, "window_judged", KEYS[1], verdict="no alarm", value=1.0, check="concept")
    append(ledger, "escalated", KEYS[2], champion="1", reason="nothing helps")
    append(ledger, "candidate_registered", KEYS[2], version="2", request="r2")
    append(ledger, "rollout_started", KEYS[2], version="2")
    append(ledger, "stage_entered", KEYS[2], version="2", stage=1, kind="canary", share=25)
    append(ledger, "rollout_paused", KEYS[2], version="2", reason="lunch")
    samples = of_model(page(), "busy")
    age = samples.pop(("champion_age_seconds",))
    assert abs(age - (time.time() - SUNDAY)) < 60
    assert samples == {
        ("projection_readable",): 1,
        ("ledger_records",): 20,
        ("champion_info", "1"): 1,
        ("champion_trained_until_timestamp_seconds",): SUNDAY,
        ("newest_published_timestamp_seconds",): SUNDAY + 3 * WEEK,
        ("newest_scored_timestamp_seconds",): SUNDAY + 2 * WEEK,
        ("partition_interval_seconds",): WEEK,
        ("refused_partitions",): 1,
        ("quarantined_ratio",): 0.1,
        ("label_delay_seconds",): WEEK,
        ("performance_value", "mae"): 3.0,
        ("performance_reference", "mae"): 1.0,
        ("newest_judged_timestamp_seconds", "performance"): SUNDAY + WEEK,
        ("newest_judged_timestamp_seconds", "drift"): SUNDAY + 2 * WEEK,
        ("alarm_open", "performance"): 1,
        ("alarm_open", "drift"): 1,
        ("escalation_open",): 1,
        ("approvals_open",): 0,
        ("rollout_info", "canary", "2"): 1,
        ("rollout_open",): 1,
        ("rollout_paused",): 1,
        ("rollout_stage",): 1,
        ("rollout_share_ratio",): 0.25,
        ("alarms_total", "performance"): 1,
        ("alarms_total", "drift"): 1,
        ("alarms_total", "concept"): 0,
        ("retrains_total",): 1,
        ("promotions_total",): 1,
        ("rollbacks_total",): 0,
        ("refusals_total",): 1,
    }


def test_what_is_not_known_has_no_sample(ledger_of: Callable[[str], SqlLedger], page: Callable[[], Samples]) -> None:
    ledger = ledger_of("young")
    append(ledger, "snapshot_published", KEYS[0], rows=0, quarantined=0)
    append(ledger, "window_judged", KEYS[0], check="performance", verdict="insufficient data", metric="mae")
    samples = of_model(page(), "young")
    assert {name for name, *_ in samples} == {
        "projection_readable",
        "ledger_records",
        "newest_published_timestamp_seconds",
        "refused_partitions",
        "approvals_open",
        "rollout_open",
        "newest_judged_timestamp_seconds",
        "alarm_open",
        "alarms_total",
        "retrains_total",
        "promotions_total",
        "rollbacks_total",
        "refusals_total",
    }
    assert not any(math.isnan(value) for value in samples.values())


def test_a_new_champion_closes_an_alarm_and_the_count_of_alarms_stays(
    ledger_of: Callable[[str], SqlLedger], page: Callable[[], Samples]
) -> None:
    ledger = ledger_of("mended")
    append(ledger, "window_judged", KEYS[0], check="drift", verdict="alarm")
    assert of_model(page(), "mended")["alarm_open", "drift"] == 1
    promote(ledger, KEYS[1])
    samples = of_model(page(), "mended")
    assert (samples["alarm_open", "drift"], samples["alarms_total", "drift"]) == (0, 1)


def test_labels_of_their_own_tell_the_delay(ledger_of: Callable[[str], SqlLedger], page: Callable[[], Samples]) -> None:
    ledger = ledger_of("late")
    for key in KEYS:
        append(ledger, "predictions_published", key)
    labels = {"since": KEYS[0], "digest": "d", "version": 1}
    append(ledger, "labels_arrived", KEYS[3], touches={KEYS[0]: 80, KEYS[1]: 2}, **labels)
    assert of_model(page(), "late")["label_delay_seconds",] == 2 * WEEK


def test_promtool_finds_nothing_to_say_about_the_page(
    ledger_of: Callable[[str], SqlLedger], capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = ledger_of("linted")
    publish_hourly(ledger, newest=0.5)
    promote(ledger, hours_ago(1))
    append(ledger, "window_judged", hours_ago(1), check="performance", verdict="alarm", metric="mae", value=1.0)
    assert main(["metrics"]) == 0
    assert promtool("check", "metrics", text=capsys.readouterr().out) == ""


def test_a_program_reads_the_same_as_json(
    ledger_of: Callable[[str], SqlLedger], page: Callable[[], Samples], capsys: pytest.CaptureFixture[str]
) -> None:
    append(ledger_of("plain"), "snapshot_published", KEYS[0])
    samples = page()
    assert main(["metrics", "--json"]) == 0
    families = json.loads(capsys.readouterr().out)
    read = {
        (family["name"], *sample["labels"].values()): sample["value"]
        for family in families
        for sample in family["samples"]
    }
    assert read == samples
    assert {family["type"] for family in families} == {"gauge", "counter"}


def test_a_file_is_replaced_at_once_and_a_folder_that_is_missing_is_named(
    ledger_of: Callable[[str], SqlLedger], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(ledger_of("filed"), "snapshot_published", KEYS[0])
    file = tmp_path / "textfiles" / "airflow_mlops.prom"
    assert main(["metrics", "--into", str(file)]) == 1
    assert f"{file}: cannot be written: No such file or directory" in capsys.readouterr().err
    file.parent.mkdir()
    file.write_text("airflow_mlops_up 0\n")
    before = file.stat().st_ino
    assert main(["metrics", "--into", str(file)]) == 0
    assert samples_of(file.read_text())[("airflow_mlops_up",)] == 1
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert file.stat().st_ino != before


def test_without_a_ledger_the_page_says_so_and_none_is_made(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics"]) == 0
    printed = capsys.readouterr()
    assert samples_of(printed.out)[("airflow_mlops_up",)] == 0
    assert printed.err.startswith(f"airflow-mlops: the ledger cannot be read: there is no ledger at {home}")
    assert len(printed.err.splitlines()) == 1
    assert not home.exists()


def test_a_ledger_of_an_earlier_release_is_not_migrated_by_a_look(
    ledger_of: Callable[[str], SqlLedger], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(ledger_of("old"), "snapshot_published", KEYS[0])
    with sqlite3.connect(home / "mlops" / "ledger.db") as connection:
        connection.execute("UPDATE airflow_mlops_schema SET version_num = '0001'")
    assert main(["metrics"]) == 0
    printed = capsys.readouterr()
    assert samples_of(printed.out)[("airflow_mlops_up",)] == 0
    assert f"the ledger is at migration 0001, and this release reads migration {REVISION}" in printed.err
    with sqlite3.connect(home / "mlops" / "ledger.db") as connection:
        assert connection.execute("SELECT version_num FROM airflow_mlops_schema").fetchall() == [("0001",)]


def test_a_locked_ledger_is_down_within_seconds_and_up_again_afterwards(
    ledger_of: Callable[[str], SqlLedger], home: Path
) -> None:
    append(ledger_of("locked"), "snapshot_published", KEYS[0])
    lines: list[str] = []
    registry = ledger_registry(lambda: f"sqlite:///{home / 'mlops' / 'ledger.db'}", lines.append)

    def up() -> float:
        return samples_of(generate_latest(registry).decode())[("airflow_mlops_up",)]

    with sqlite3.connect(home / "mlops" / "ledger.db", isolation_level=None) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        assert (up(), up()) == (0, 0)
        assert time.monotonic() - began < 10
        writer.execute("ROLLBACK")
    assert up() == 1
    assert lines == [
        "the ledger cannot be read: the ledger did not answer: database is locked",
        "the ledger can be read again",
    ]


def test_a_state_that_cannot_be_read_hides_no_other_loop(
    ledger_of: Callable[[str], SqlLedger], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in ("broken", "whole"):
        append(ledger_of(model), "snapshot_published", KEYS[0])
    append(ledger_of("broken"), "snapshot_published", KEYS[1])
    with sqlite3.connect(home / "mlops" / "ledger.db") as connection:
        # As a later release would have written it, after the state was last read.
        connection.execute("DELETE FROM airflow_mlops_projected WHERE model = 'broken'")
        connection.execute(
            "INSERT INTO airflow_mlops_projected SELECT 'broken', 1, hash FROM airflow_mlops_ledger "
            "WHERE model = 'broken' AND sequence = 1"
        )
        connection.execute(
            "UPDATE airflow_mlops_ledger SET kind = 'of_tomorrow' WHERE model = 'broken' AND sequence = 2"
        )
    assert main(["metrics"]) == 0
    printed = capsys.readouterr()
    samples = samples_of(printed.out)
    assert samples[("airflow_mlops_up",)] == 1
    assert of_model(samples, "broken") == {("projection_readable",): 0}
    assert samples["airflow_mlops_newest_published_timestamp_seconds", "whole"] == SUNDAY
    assert "the state of broken cannot be read: no such kind of record: 'of_tomorrow'" in printed.err


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return str(request.getfixturevalue("postgres_url"))


def test_a_count_goes_on_where_it_ended_and_a_ledger_written_anew_is_counted_anew(url: str, fresh_name: str) -> None:
    ledger = SqlLedger(url, fresh_name)
    append(ledger, "promoted", KEYS[0], version="1")
    first = ledger.count_records()
    append(ledger, "rolled_back", KEYS[1], version="1")
    append(ledger, "retrain_decided", KEYS[1], retrain=True)
    append(ledger, "window_judged", KEYS[1], check="drift", verdict="alarm")
    second = ledger.count_records(first)
    assert second == ledger.count_records(NO_RECORDS)
    assert (second.promotions, second.rollbacks, second.retrains, second.alarms) == (1, 1, 1, {"drift": 1})
    engine = create_engine(url)
    with engine.begin() as connection:
        # Nobody counts the first record again: a sum that did would show three promotions.
        connection.execute(
            text("UPDATE airflow_mlops_ledger SET kind = 'promoted' WHERE model = :m AND sequence = 2"),
            {"m": fresh_name},
        )
    assert ledger.count_records(second) == second
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE airflow_mlops_ledger SET hash = 'another' WHERE model = :m AND sequence = 4"),
            {"m": fresh_name},
        )
    engine.dispose()
    anew = ledger.count_records(second)
    assert (anew.promotions, anew.rollbacks) == (2, 0)
