"""A gateway under the traffic of real flights: a good challenger goes live, and bad ones meet next to nobody.

A process of its own serves, MLflow is a server of its own, and another thread asks for the flights of later weeks
without a pause. The rollout's steps are those of its Dag's tasks, as often as its trigger would wake them.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import NotReadyError, RolledBackError
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.ports.signing_keys import KeyFolder
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.analyse_stage import reason_to_resume
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.child_processes import Child, start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.free_ports import free_port
from airflow_mlops.testing.gateway_process import TELL_TOKEN, GatewayProcess
from tests.loop.by_core import publish, register

pytestmark = pytest.mark.e2e

LOG = logging.getLogger(__name__)

HOUSE = Path(__file__).resolve().parents[2]
WEEKS = [f"2013-{day}T00:00:00" for day in ("01-06", "01-13", "01-20", "01-27", "02-03", "02-10", "02-17", "02-24")]
TRAFFIC = ("2013-03-03", "2013-03-10", "2013-03-17", "2013-03-24")
ROWS_A_REQUEST = 25
STAGES = [{"canary": 1, "sample": 300}, {"canary": 30, "sample": 300}, {"live": 100}]
METRICS = [
    {"metric": "errors", "worse_by": 0.02},
    {"metric": "latency", "at_most": 0.25, "quantile": 0.9},
    {"metric": "predictions", "at_most": 0.5},
]

TRAINING = '''
"""Challengers of the flights' air time: good, and bad in three ways."""
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from include.flights.training import air_time_candidates

NUMBERS = ["distance", "hour"]


def good(seed):
    return {"boosting": air_time_candidates(seed)["boosting"]}


def constant(seed):
    return {"constant": DummyRegressor()}


def slow(seed):
    trees = RandomForestRegressor(n_estimators=6000, max_depth=2, max_samples=50, random_state=seed)
    return {"forest": make_pipeline(ColumnTransformer([("numbers", SimpleImputer(), NUMBERS)]), trees)}


def picky(seed):
    encoder = OneHotEncoder(handle_unknown="error")
    columns = [("carrier", encoder, ["carrier"]), ("numbers", SimpleImputer(), NUMBERS)]
    trees = RandomForestRegressor(n_estimators=10, random_state=seed)
    return {"picky": make_pipeline(ColumnTransformer(columns), trees)}
'''


@dataclass
class Town:
    """The loop, its gateway, and everything that can be switched off."""

    folder: Path
    workspace: Workspace
    gateway: GatewayProcess
    mlflow_url: str
    mlflow: Child
    week: int = 0

    def workspace_of(self, training: str) -> Workspace:
        """Return the workspace of the loop, trained by a function of the module above."""
        loop = self.workspace.loop
        train = loop.train.model_copy(update={"function": f"challengers.training:{training}"})
        return replace(self.workspace, loop=loop.model_copy(update={"train": train}))

    def challenger(self, training: str) -> str:
        """Ingest a new week and start the rollout of a new version; return its number."""
        workspace, key = self.workspace_of(training), WEEKS[self.week]
        self.week += 1
        publish(workspace, key)
        decide_and_record(workspace, key, trigger="person")
        number = register(workspace, key)
        assert start_rollout(workspace, key) == number
        return number

    def roll_out(self, number: str, *, patience_seconds: float = 400) -> str | None:
        """Do what the tasks of the rollout's Dag do until it has ended; return why it was rolled back, if it was."""
        deadline, stage = time.monotonic() + patience_seconds, 0
        while stage < len(STAGES):
            try:
                run_rollout_step(self.workspace, number, stage, WEEKS[self.week - 1])
                stage += 1
            except RolledBackError as error:
                return str(error)
            except NotReadyError as held:
                while reason_to_resume(self.workspace, number, stage) is None:
                    if time.monotonic() > deadline:
                        pytest.fail(f"after {patience_seconds:g} s: {held}")
                    time.sleep(0.2)
        return None


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    (folder / "include").symlink_to(HOUSE / "include")
    (folder / "challengers").mkdir()
    (folder / "challengers" / "training.py").write_text(TRAINING)
    loop = Loop(
        model="flights_online",
        owner="tests",
        data={
            "source": {"kind": "parquet", "uri": "include/data/flights_air_time/{partition}.parquet"},
            "contract": "include/contracts/flights_air_time.yaml",
            "key": "flight_id",
            "time": "scheduled_departure",
            "label": "air_time",
        },
        train={"function": "challengers.training:good", "window": 1},
        gates=[{"metric": "mae", "at_most": 1000.0}],
        retrain={"confidence": "none"},
        rollout={"target": "gateway", "stages": STAGES, "min_rows": 60, "metrics": METRICS},
    )
    (folder / "loop.yaml").write_text(json.dumps(loop.to_dict()))
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "kept")),
    ]
    mlflow = start_child("mlflow", command, dict(os.environ), folder / "mlflow.out")
    url = f"http://127.0.0.1:{port}"
    gateway: GatewayProcess | None = None
    try:
        wait_until_ready(mlflow, lambda: answers(f"{url}/health"), timeout_seconds=120)
        stores = replace(Stores.embedded(folder / "mlops"), tracking_uri=url, artifact_location=None)
        opened = open_workspace(loop, stores, root=folder, actor="tests")
        keys = KeyFolder(folder / "mlops" / "keys")
        keys.private()
        (folder / "trusted.pem").write_text("".join(keys.trusted().values()))
        gateway = GatewayProcess(
            folder / "loop.yaml", folder, folder / "mlops" / "lake", folder / "gateway", [folder / "trusted.pem"]
        ).start()
        address = gateway.url
        ports = replace(opened.ports, target=lambda at: GatewayTarget(at, [address], TELL_TOKEN))
        made = Town(folder, replace(opened, ports=ports), gateway, url, mlflow)
        for key in WEEKS[:2]:
            publish(made.workspace, key)
        made.week = 2
        assert made.roll_out(made.challenger("good")) is None  # the first one has nobody to be worse than
        yield made
    finally:
        if gateway is not None:
            gateway.stop()
        stop_sessions([mlflow.pid], patience_seconds=10)
        mlflow.process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


@contextmanager
def flights(town: Town, *, new_carrier: bool = False) -> Iterator[dict[str, int]]:
    """Ask for the flights of later weeks without a pause; yields how often each version has answered.

    With ``new_carrier`` every thirtieth flight is of a company that no model has seen.
    """
    frames = [pd.read_parquet(HOUSE / "include" / "data" / "flights_air_time" / f"{week}.parquet") for week in TRAFFIC]
    frame = pd.concat(frames).drop(columns=["air_time"])
    frame["scheduled_departure"] = frame["scheduled_departure"].map(lambda at: at.isoformat())
    rows = json.loads(frame.to_json(orient="records"))
    if new_carrier:
        for row in rows[::30]:
            row["carrier"] = "ZZ"
    counts: dict[str, int] = {"requested": 0, "failed": 0}
    over = threading.Event()

    def work() -> None:
        at = 0
        with town.gateway.client() as client:
            while not over.is_set():
                body = [
                    {**rows[number % len(rows)], "flight_id": f"{rows[number % len(rows)]['flight_id']}-{number}"}
                    for number in range(at, at + ROWS_A_REQUEST)
                ]
                at += ROWS_A_REQUEST
                answer = client.post("/predict", json=body)
                counts["requested"] += ROWS_A_REQUEST
                if answer.status_code != 200:
                    counts["failed"] += ROWS_A_REQUEST
                    continue
                for version in answer.json()["versions"]:
                    counts[version] = counts.get(version, 0) + 1

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield counts
    finally:
        over.set()
        worker.join()


def champion_of(town: Town) -> str:
    champion = town.workspace.state().champion
    assert champion is not None
    return champion.number


def served_by(town: Town) -> dict[str, Any]:
    routed: dict[str, Any] = town.gateway.control("GET", "traffic").json()["traffic"]
    return routed


def test_a_good_challenger_goes_live_under_traffic_without_a_request_lost(town: Town) -> None:
    number = town.challenger("good")
    with flights(town) as counts:
        assert town.roll_out(number) is None
        enough = time.monotonic() + 2
        while time.monotonic() < enough:
            time.sleep(0.1)
    assert counts["failed"] == 0
    assert champion_of(town) == number == served_by(town)["champion"]
    assert served_by(town)["challenger"] is None
    assert counts[number] > 100


@pytest.mark.parametrize(
    ("training", "new_carrier", "words"),
    [("constant", False, "unlike"), ("picky", True, "rows failed"), ("slow", False, "slower|by taking over")],
)
def test_a_bad_challenger_is_rolled_back_and_one_request_in_a_hundred_has_not_met_it(
    town: Town, training: str, new_carrier: bool, words: str
) -> None:
    before = champion_of(town)
    # The traffic does not wait for a challenger to be trained, and does not end with it.
    with flights(town, new_carrier=new_carrier) as counts:
        number = town.challenger(training)
        why = town.roll_out(number)
    met = counts.get(number, 0)
    LOG.info("%s: %s of %s requests met version %s; %s", training, met, counts["requested"], number, why)
    assert why is not None
    assert "canary_1" in why
    # The planned looks find it, or the gateway itself before them.
    assert any(word in why for word in words.split("|")), why
    assert counts["failed"] == 0
    assert met < 0.01 * counts["requested"]
    assert champion_of(town) == before == served_by(town)["champion"]
    assert served_by(town)["challenger"] is None
    assert number in town.workspace.state().quarantined


def test_a_rollback_with_mlflow_down_takes_less_than_a_minute(town: Town) -> None:
    before, number = champion_of(town), town.challenger("good")
    with flights(town):
        assert town.roll_out(number) is None
    assert served_by(town)["champion"] == number
    stop_sessions([town.mlflow.pid], patience_seconds=10)
    town.mlflow.process.wait()
    assert not answers(f"{town.mlflow_url}/health")
    # Lake, ledger and keys are the embedded ones below AIRFLOW_HOME.
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(town.folder),
        "AIRFLOW_CONN_MLOPS_REGISTRY": json.dumps({"conn_type": "http", "host": town.mlflow_url}),
        "AIRFLOW_CONN_MLOPS_GATEWAY": town.gateway.connection,
    }
    ended = subprocess.run(
        [sys.executable, "-m", "airflow_mlops.cli", "rollback", "loop.yaml", "--reason", "the drill"],
        cwd=town.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert served_by(town)["champion"] == before
    assert "the aliases follow with the next reconcile" in ended.stdout
