"""Measure the pages of models: the list of fifty, and one of ten thousand partitions, through Airflow's application.

A page is asked for as a browser does, by an administrator, in this process; CPU time is of this process alone. Nothing
that a page keeps from one request to the next helps it: what is kept is dropped before each.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cpu_time import cpu_of
from benchmarks.long_ledger import MODEL, ledger_of
from benchmarks.row import Row

MODELS, RECORDS_EACH, PARTITIONS = 50, 10_000, 10_000
RECORDS_OF_PARTITIONS = 52_000
"""Records of an hourly loop of ten thousand partitions, and a few more."""
ROUNDS = 7
BAR_MS, BAR_KB = 300.0, 200.0
JUDGED, COLUMNS = 24, 20


def page_50_models() -> list[Row]:
    """Return the rows: CPU of the list of fifty models of 10,000 records each, and its size."""
    with pages_of(fleet) as get:
        return measure("page_50_models", get, "/models", f"the list of {MODELS} models of {RECORDS_EACH:,} records")


def page_model() -> list[Row]:
    """Return the rows: CPU of the page of a model of 10,000 partitions, and its size."""
    with pages_of(long_history) as get:
        return measure("page_model", get, f"/models/{MODEL}", f"a model of {PARTITIONS:,} partitions")


def measure(name: str, get: Callable[[str], bytes], path: str, subject: str, *, bar_ms: float = BAR_MS) -> list[Row]:
    """Return the rows of one page; the peer of its CPU time is a page without a model, which Airflow answers alike."""
    get(path)
    ours, empty = [], []
    for number in range(ROUNDS):
        ours.append(1_000 * cpu_of(lambda: get(path)))
        empty.append(1_000 * cpu_of(lambda: get("/style.css")))
        print(f"\r    round {number + 1}/{ROUNDS}", end="", flush=True)
    print()
    page, style = median(ours), median(empty)
    kilobytes = len(get(path)) / 1_000
    return [
        Row(
            name=name,
            ours=round(page, 1),
            peer=round(style, 1),
            unit="CPU ms",
            peer_name=f"the style sheet by the same application; ours is {subject}",
            ratio=round(page / style, 2),
            bar=f"ours <= {bar_ms:g} CPU ms",
            reached=page <= bar_ms,
        ),
        Row(
            name=f"{name}_size",
            ours=round(kilobytes, 1),
            peer=BAR_KB,
            unit="kB",
            peer_name="the bar",
            ratio=round(kilobytes / BAR_KB, 3),
            bar=f"ours <= {BAR_KB:g} kB, not packed",
            reached=kilobytes <= BAR_KB,
        ),
    ]


@contextmanager
def pages_of(write_stores: Callable[[Path], list[str]]) -> Iterator[Callable[[str], bytes]]:
    """Yield a function that gets a page of the stores that ``write_stores`` writes and names the models of."""
    from airflow_mlops.core.open_workspace import EMBEDDED_LEDGER
    from airflow_mlops.testing.metadata import create_metadata

    create_metadata()
    ledger = Path(os.environ["AIRFLOW_HOME"]) / "mlops" / EMBEDDED_LEDGER
    ledger.parent.mkdir(parents=True, exist_ok=True)
    add_dags(write_stores(ledger))
    with opened_pages() as get:
        yield get
    ledger.unlink()


@contextmanager
def opened_pages() -> Iterator[Callable[[str], bytes]]:
    """Yield a function that gets a page of the models that Airflow and the embedded stores know."""
    from airflow.api_fastapi.app import create_app, get_auth_manager, purge_cached_app
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    from airflow_mlops.ui import model_pages

    purge_cached_app()
    client = TestClient(create_app(apps="core"))
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="ann", role="ADMIN"))

    def get(path: str) -> bytes:
        model_pages.SUMMARIES.clear()
        answer = client.get(f"/airflow-mlops{path}", headers={"Authorization": f"Bearer {token}"})
        if answer.status_code != 200:
            raise RuntimeError(f"{path} answered {answer.status_code}: {answer.text[:400]}")
        return bytes(answer.content)

    yield get
    purge_cached_app()


def fleet(ledger: Path) -> list[str]:
    """Write a ledger of fifty models of 10,000 records each: one history, under fifty names."""
    shutil.copyfile(ledger_of(RECORDS_EACH).removeprefix("sqlite:///"), ledger)
    names = [f"{MODEL}_{number:02}" for number in range(MODELS)]
    with sqlite3.connect(ledger) as connection:
        for table in ("airflow_mlops_ledger", "airflow_mlops_fact", "airflow_mlops_projected"):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "model"]
            listed = ", ".join(f'"{column}"' for column in columns)
            for name in names:
                connection.execute(
                    f"INSERT INTO {table} (model, {listed}) SELECT ?, {listed} FROM {table} WHERE model = ?",  # noqa: S608
                    (name, MODEL),
                )
            connection.execute(f"DELETE FROM {table} WHERE model = ?", (MODEL,))  # noqa: S608
    return names


def long_history(ledger: Path) -> list[str]:
    """Write a ledger of ten thousand partitions, the newest of which have the evidence of their drift and gates."""
    from airflow_mlops.core.ledger.evidence_files import EvidenceFiles
    from airflow_mlops.core.ledger.record import Draft
    from airflow_mlops.core.ledger.sql_ledger import SqlLedger
    from airflow_mlops.core.ledger.watch_details import DriftJudged

    shutil.copyfile(ledger_of(RECORDS_OF_PARTITIONS).removeprefix("sqlite:///"), ledger)
    store = SqlLedger(f"sqlite:///{ledger}", MODEL)
    state = store.state()
    if len(state.published) < PARTITIONS:
        raise RuntimeError(f"the ledger of the benchmark has {len(state.published)} partitions")
    evidence = EvidenceFiles(ledger.parent / "lake" / MODEL / "evidence")
    for sequence, key in enumerate(state.drift.last(JUDGED), start=state.sequence):
        columns = [
            {"column": f"feature_{place}", "distance": 0.01 * place, "drifted": place == 19, "verdict": "no alarm"}
            for place in range(COLUMNS)
        ]
        digest = evidence.put({"partition": key, "columns": columns})
        details = DriftJudged(verdict="alarm", message="feature_19 moved", rows=1_000, champion="1", report=digest)
        store.append(Draft(details, f"drift again:{key}", key, "benchmark", (digest,)), read=sequence)
    return [MODEL]


def add_dags(models: list[str]) -> None:
    """Make Airflow know the Dags of loops, as its dag-processor would."""
    from airflow.models.dag import DagModel, DagTag
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    from airflow_mlops.ui.airflow_facts import DAGS, TAG

    with create_session() as session:
        for table in (DagTag, DagModel):
            session.execute(delete(table))
        session.merge(DagBundleModel(name="benchmarks"))
        session.flush()
        for dag_id in (f"{model}_{end}" for model in models for end in DAGS):
            fields: dict[str, Any] = {"bundle_name": "benchmarks", "relative_fileloc": "x", "fileloc": "x"}
            session.add(DagModel(dag_id=dag_id, is_stale=False, is_paused=False, owners="ann", **fields))
            session.flush()
            session.add(DagTag(name=TAG, dag_id=dag_id))
