"""Events of OpenLineage, as a service on loopback receives them from a loop under the real scheduler.

Each history runs in a process of its own, in which Airflow loads the listener of its provider as in any installation.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.declaration.partition_key import partition_slug
from tests.loop.openlineage_spec import check_event
from tests.loop.project import KEYS, week
from tests.loop.receivers import Webhook, webhook
from tests.unit.core.sources.small_service import Answer, small_service

HOUSE = Path(__file__).parents[2]
ENDS = {"success": "COMPLETE", "skipped": "COMPLETE", "failed": "FAIL"}
"""Type of the event that ends a run in a state."""


@dataclass(frozen=True)
class History:
    """Tasks, runs and ledger of a history, and the events that were received of it."""

    model: str
    root: str
    tasks: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    records: list[dict[str, Any]]
    errors: list[str]
    events: list[dict[str, Any]]
    log: str

    def ended(self, job: str, partition: str | None = None) -> list[dict[str, Any]]:
        """Return the events that ended a task, by the end of its name, oldest first."""
        return [
            event
            for event in self.events
            if event["eventType"] in ("COMPLETE", "FAIL")
            and event["job"]["name"] == f"{self.model}_{job}"
            and partition in (None, event["run"]["facets"]["airflow"]["dagRun"].get("partition_key"))
        ]

    def one(self, job: str, partition: str) -> dict[str, Any]:
        """Return the one event that ended a task of a partition."""
        (event,) = self.ended(job, partition)
        return event

    def record(self, kind: str, partition: str) -> dict[str, Any]:
        """Return the one record of a kind about a partition."""
        (record,) = [entry for entry in self.records if entry["kind"] == kind and entry["partition"] == partition]
        return record


def run_history(name: str, folder: Path, receiver: Webhook, **environment: str) -> History:
    """Run a history of ``lineage_history`` whose events go to a receiver."""
    (folder / "project").mkdir(parents=True)
    transport = {"type": "http", "url": f"http://127.0.0.1:{receiver.port}", "retry": {"total": 0}}
    settings = {
        "PYTHONPATH": os.pathsep.join([str(HOUSE / "plugins"), str(HOUSE)]),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
        **environment,
    }
    command = [sys.executable, "-m", "tests.loop.lineage_history", name, str(folder)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    ended = subprocess.run(
        command, cwd=HOUSE, env={**inherited, **settings}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return History(**json.loads(ended.stdout), events=[*receiver.bodies, *receiver.refused], log=ended.stderr)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """A loop that is trained, retrained after a change, and rolled back when the change has gone."""
    with webhook() as receiver:
        yield run_history("there_and_back", tmp_path_factory.mktemp("lineage"), receiver)


def names(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return namespace and name of datasets."""
    return [(dataset["namespace"], dataset["name"]) for dataset in datasets]


def version_of(dataset: Mapping[str, Any]) -> str:
    """Return the version of a dataset."""
    return str(dataset["facets"]["version"]["datasetVersion"])


def parts_of(dataset: Mapping[str, Any]) -> list[str]:
    """Return the identifiers of the parts of an input."""
    condition = dataset["inputFacets"]["subset"]["inputCondition"]
    return [part["identifier"] for part in condition["partitions"]]


def published(history: History, key: str) -> str:
    """Return the version of a published snapshot, from the ledger."""
    details = history.record("snapshot_published", key)["details"]
    return f"{key}@{details['version']}:{details['digest']}"


def test_every_event_is_one_of_the_specification(history: History) -> None:
    for event in history.events:
        check_event(event)


def test_every_task_that_ran_and_every_run_is_reported_exactly_once(history: History) -> None:
    expected = Counter((ENDS[entry["state"]], entry["job"], entry["run"]) for entry in history.tasks if entry["tries"])
    received = Counter(
        (event["eventType"], event["job"]["name"], event["run"]["facets"]["airflow"]["dagRun"]["run_id"])
        for event in history.events
        if event["eventType"] != "START" and "." in event["job"]["name"]
    )
    assert received == expected, history.log[-4000:]
    assert {"COMPLETE", "FAIL"} == {kind for kind, _, _ in received}
    ended_runs = [event for event in history.events if event["job"]["name"] in {run["job"] for run in history.runs}]
    assert Counter(event["eventType"] for event in ended_runs if event["eventType"] != "START") == Counter(
        ENDS[run["state"]] for run in history.runs
    )


def test_no_run_has_two_ends(history: History) -> None:
    ends = Counter(event["run"]["runId"] for event in history.events if event["eventType"] != "START")
    assert set(ends.values()) == {1}


def test_an_ingest_leads_from_the_declared_files_to_the_published_version(history: History) -> None:
    event = history.one("ingest.publish", KEYS[2])
    (source,), (snapshot,) = event["inputs"], event["outputs"]
    address = f"{history.root}/include/data/{history.model}/{{partition}}.parquet"
    assert names([source]) == [("file", address)]
    (file,) = source["inputFacets"]["subset"]["inputCondition"]["locations"]
    assert file.endswith(f"/{partition_slug(KEYS[2])}.parquet")
    assert snapshot["namespace"] == "file"
    assert snapshot["name"].endswith(f"/lake/{history.model}/snapshots")
    assert version_of(snapshot) == published(history, KEYS[2])
    assert snapshot["outputFacets"]["outputStatistics"]["rowCount"] == 120
    columns = history.record("snapshot_published", KEYS[2])["details"]["columns"]
    assert {field["name"]: field["type"] for field in snapshot["facets"]["schema"]["fields"]} == columns
    facet = event["run"]["facets"]["mlops_loop"]
    record = history.record("snapshot_published", KEYS[2])
    assert (facet["model"], facet["partition"]) == (history.model, KEYS[2])
    assert facet["records"] == [{"sequence": record["sequence"], "kind": record["kind"], "hash": record["hash"]}]


def test_a_validation_tells_the_result_of_each_rule_and_no_value(history: History) -> None:
    (snapshot,) = history.one("ingest.validate", KEYS[2])["inputs"]
    assertions = snapshot["inputFacets"]["dataQualityAssertions"]["assertions"]
    results = {(entry["assertion"], entry.get("column")): entry for entry in assertions}
    assert results[("expect_column_values_to_not_be_null", "x1")]["success"] is True
    failed = results[("expect_column_mean_to_be_between", "x2")]
    assert (failed["success"], failed["severity"], failed["expected"]) == (False, "warn", "min_value 5")
    assert "actual" not in failed


def test_the_drift_and_the_retrain_stand_in_the_events_of_the_watch(history: History) -> None:
    verdicts = {
        key: history.one("watch.decide", key)["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
        for key in KEYS[2:4]
    }
    assert {(entry["assertion"], entry["success"]) for entry in verdicts[KEYS[2]]} >= {
        ("drift", False),
        ("performance", False),
    }
    decided = history.one("watch.decide", KEYS[3])["run"]["facets"]["mlops_loop"]["records"]
    (record,) = [entry for entry in history.records if entry["sequence"] == decided[0]["sequence"]]
    assert (record["kind"], record["hash"]) == ("retrain_decided", decided[0]["hash"])
    assert record["details"]["retrain"] is True


def test_a_training_leads_from_the_versions_of_its_window_to_the_candidate_and_the_version(history: History) -> None:
    (fit,), (register,) = history.ended("train.fit", KEYS[3]), history.ended("train.register", KEYS[3])
    registered = history.record("candidate_registered", KEYS[3])
    window = registered["details"]["window"]
    assert parts_of(fit["inputs"][0]) == [published(history, pin["partition"]) for pin in window["fitted"]]
    (candidate,) = fit["outputs"]
    assert (candidate["namespace"], candidate["name"]) == ("mlflow", f"{history.model}/candidates/linear")
    assert version_of(candidate) == registered["details"]["artefact"]
    pinned = [published(history, pin["partition"]) for part in ("fitted", "holdout") for pin in window[part]]
    assert sorted(parts_of(register["inputs"][0])) == sorted(pinned)
    assert names(register["inputs"])[1] == names([candidate])[0]
    assert names(register["outputs"]) == [("mlflow", history.model)]
    assert version_of(register["outputs"][0]) == registered["details"]["version"] == "2"
    (prove,) = history.ended("train.prove", KEYS[3])
    assert version_of(prove["inputs"][0]) == "2"
    assert {event["run"]["facets"]["mlops_loop"]["version"] for event in (register, prove)} == {"2"}


def test_predictions_come_from_a_snapshot_and_a_version_and_the_endpoint_from_the_version(history: History) -> None:
    score = history.one("score.score", KEYS[2])
    snapshot, model = score["inputs"]
    assert version_of(snapshot) == published(history, KEYS[2])
    assert (model["name"], version_of(model)) == (history.model, "1")
    (predictions,) = score["outputs"]
    assert predictions["name"].endswith(f"/lake/{history.model}/predictions")
    assert predictions["outputFacets"]["outputStatistics"]["rowCount"] == 120
    promote = history.ended("rollout.start")[0]
    assert (names(promote["inputs"]), version_of(promote["inputs"][0])) == ([("mlflow", history.model)], "1")
    assert names(promote["outputs"]) == [("mlflow", f"{history.model}@champion")]
    assert version_of(promote["outputs"][0]) == "1"


def test_while_a_challenger_is_in_shadow_both_versions_are_inputs_of_the_predictions(history: History) -> None:
    _, model = history.one("score.score", KEYS[4])["inputs"]
    assert version_of(model) == "1"
    assert parts_of(model) == ["1", "2"]


def test_a_rollback_is_a_failure_whose_record_and_remaining_champion_are_told(history: History) -> None:
    event = history.one("rollout.shadow_100.analyse", KEYS[4])
    assert event["eventType"] == "FAIL"
    rolled_back = history.record("rolled_back", KEYS[4])
    facet = event["run"]["facets"]["mlops_loop"]
    assert facet["version"] == rolled_back["details"]["version"] == "2"
    assert facet["records"][-1]["hash"] == rolled_back["hash"]
    assert version_of(event["inputs"][0]) == "2"
    assert version_of(event["outputs"][0]) == "1"
    assert rolled_back["details"]["reason"] in event["run"]["facets"]["errorMessage"]["message"]


def test_a_refused_candidate_is_a_failure_without_an_output(history: History) -> None:
    event = history.one("train.gate", KEYS[2])
    assert event["eventType"] == "FAIL"
    assert event["outputs"] == []
    refused = history.record("candidate_refused", KEYS[2])
    assert event["run"]["facets"]["mlops_loop"]["records"][0]["hash"] == refused["hash"]


def test_the_graph_leads_from_the_files_to_the_endpoint_without_a_gap(history: History) -> None:
    edges = [
        (source, target)
        for event in history.events
        for source in names(event["inputs"])
        for target in names(event["outputs"])
    ]
    reached = {("file", f"{history.root}/include/data/{history.model}/{{partition}}.parquet")}
    for _ in edges:
        reached |= {target for source, target in edges if source in reached}
    assert ("mlflow", f"{history.model}@champion") in reached
    assert any(name.endswith("/predictions") for _, name in reached)


def rows_of(path: str) -> Answer:
    """Answer with the rows of the first partition, with nonsense for the second, and with an error after that."""
    key = next(key for key in KEYS if key.partition("T")[0] in path)
    if key == KEYS[0]:
        rows = week(key).to_pandas()
        rows["at"] = rows["at"].dt.tz_localize("UTC")
        return Answer(rows.to_json(orient="records", date_format="iso").encode())
    return Answer(b"<html>") if key == KEYS[1] else Answer(status=500)


def test_no_secret_of_a_connection_or_a_query_is_in_any_event(tmp_path: Path) -> None:
    secrets = ("word-of-the-shop", "token-in-a-header", "key-in-a-path")
    with webhook() as receiver, small_service(lambda path, headers: rows_of(path)) as shop:
        connection = {
            "conn_type": "http",
            "host": f"http://127.0.0.1:{shop.port}",
            "login": "reader",
            "password": secrets[0],
            "extra": {"headers": {"X-Token": secrets[1]}, "trust_env": False},
        }
        history = run_history("from_a_service", tmp_path, receiver, AIRFLOW_CONN_SHOP=json.dumps(connection))
    path, headers = shop.requests[0]
    assert secrets[2] in path
    assert headers["x-token"] == secrets[1]
    assert [history.one("ingest.snapshot", key)["eventType"] for key in KEYS[:3]] == ["COMPLETE", "FAIL", "FAIL"]
    (source,) = history.one("ingest.snapshot", KEYS[0])["inputs"]
    assert names([source]) == [(f"http://127.0.0.1:{shop.port}", "/rows")]
    assert [names(history.one("ingest.snapshot", key)["inputs"]) for key in KEYS[1:3]] == [names([source])] * 2
    message = history.one("ingest.snapshot", KEYS[1])["run"]["facets"]["errorMessage"]["message"]
    assert "/rows?... cannot be read" in message
    text = json.dumps(history.events)
    assert [secret for secret in secrets if secret in text] == []


def test_lineage_that_cannot_be_read_or_sent_fails_no_task(tmp_path: Path) -> None:
    with webhook() as receiver:
        receiver.status = 500
        history = run_history("broken_lineage", tmp_path, receiver)
    assert [task["state"] for task in history.tasks] == ["success"] * 2
    assert history.errors == []
    assert "the lineage of this task is not known" in history.log
    refused = {event["job"]["name"]: event for event in history.events if event["eventType"] == "COMPLETE"}
    event = refused["broken.snapshot"]
    assert (event["inputs"], event["outputs"]) == ([], [])
    assert event["run"]["facets"]["mlops_loop"]["partition"] == KEYS[0]
    assert refused["broken.verify"]["run"]["facets"]["mlops_loop"]["model"] == history.model


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The events that ended the tasks of operators outside of a loop, by the name of the task."""
    with webhook() as receiver:
        history = run_history("alone", tmp_path_factory.mktemp("alone"), receiver)
    ended = [event for event in history.events if event["eventType"] in ("COMPLETE", "FAIL")]
    events = {event["job"]["name"].partition(".")[2]: event for event in ended if "." in event["job"]["name"]}
    assert set(events) == {"file", "refused", "frame", "table", "query", "missing", "profile"}, history.log[-2000:]
    return {**events, "": {"root": history.root, "model": history.model}}


def rules(event: dict[str, Any]) -> list[tuple[str, bool]]:
    """Return the rules about the one input of an event, and whether they were met."""
    (dataset,) = event["inputs"]
    facet = dataset.get("inputFacets", {}).get("dataQualityAssertions", {})
    return [(entry["assertion"], entry["success"]) for entry in facet.get("assertions", [])]


def test_events_of_operators_outside_of_a_loop_are_of_the_specification(alone: dict[str, dict[str, Any]]) -> None:
    for task, event in alone.items():
        if task:
            check_event(event)


def test_a_file_that_is_validated_alone_is_an_input_with_the_result_of_each_rule(
    alone: dict[str, dict[str, Any]],
) -> None:
    file = f"{alone['']['root']}/include/data/{alone['']['model']}/{partition_slug(KEYS[0])}.parquet"
    for task, rule in (("file", "not_be_null"), ("refused", "be_between")):
        event = alone[task]
        assert (names(event["inputs"]), event["outputs"]) == ([("file", file)], [])
        assert rules(event) == [(f"expect_column_values_to_{rule}", task == "file")]
        assert event["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"] == 120
    assert [alone[task]["eventType"] for task in ("file", "refused")] == ["COMPLETE", "FAIL"]


def test_a_table_that_is_validated_alone_is_an_input_by_its_name_in_the_database(
    alone: dict[str, dict[str, Any]],
) -> None:
    database = f"{alone['']['root']}/shop.db"
    assert names(alone["table"]["inputs"]) == [("sqlite", f"{database}.prices")]
    assert rules(alone["table"]) == [("expect_column_values_to_not_be_null", True)]
    assert names(alone["query"]["inputs"]) == [("sqlite", f"{database}.{table}") for table in ("prices", "shops")]
    assert (names(alone["missing"]["inputs"]), rules(alone["missing"])) == ([("sqlite", f"{database}.nowhere")], [])
    assert alone["missing"]["eventType"] == "FAIL"


def test_a_frame_has_no_name_and_a_profile_reads_the_snapshot(alone: dict[str, dict[str, Any]]) -> None:
    assert (alone["frame"]["inputs"], alone["frame"]["outputs"]) == ([], [])
    ((namespace, name),) = names(alone["profile"]["inputs"])
    assert (namespace, name.endswith(f"/lake/{alone['']['model']}/snapshots")) == ("file", True)
    assert version_of(alone["profile"]["inputs"][0]).startswith(f"{KEYS[1]}@")


def test_a_task_without_a_loop_has_no_facet_of_one(alone: dict[str, dict[str, Any]]) -> None:
    with_facet = {task for task, event in alone.items() if "mlops_loop" in event.get("run", {}).get("facets", {})}
    assert with_facet == {"profile"}
