"""Replay the year: ingest each week through Airflow's API, and the next one when the loop is idle.

A bare backfill of ingest would run ahead of training; here the weeks arrive as they would have.
Each loop goes at its own pace, in a thread of its own.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

from airflow_mlops.core.declaration.data import ParquetSource
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.ledger.fold import fold
from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from airflow_mlops.core.sources.parquet_source import ParquetFiles
from airflow_mlops.testing.stack import LocalStack
from include.demo.report import week_line

DAGS = ("ingest", "score", "watch", "nightly", "train", "rollout", "control")
ROOT = Path(__file__).resolve().parents[2]
SETTLE_SECONDS = 300.0


def replay_year(stack: LocalStack, loops: list[Loop], *, weeks: int | None) -> None:
    """Replay all weeks, or the first ``weeks``, through every loop; returns when all loops are idle."""
    dag_ids = [f"{loop.model}_{name}" for loop in loops for name in DAGS]
    stack.client.wait_for_dags(*dag_ids)
    # Consumers first: an event that comes while its consumer is paused is dropped for good.
    stack.client.unpause(*sorted(dag_ids, key=lambda dag_id: dag_id.endswith(("_ingest", "_nightly"))))
    with ThreadPoolExecutor(len(loops)) as threads:
        for future in [threads.submit(replay_loop, stack, loop, weeks) for loop in loops]:
            future.result()


def replay_loop(stack: LocalStack, loop: Loop, weeks: int | None) -> None:
    """Replay the weeks of one loop."""
    ledger = SqlLedger(stack.database_uri("mlops"), loop.model)
    for partition in partitions_of(loop)[:weeks]:
        began = time.monotonic()
        stack.client.trigger(f"{loop.model}_ingest", partition)
        stack.wait_until_settled(f"{loop.model}_", timeout_seconds=SETTLE_SECONDS)
        stack.client.trigger(f"{loop.model}_nightly", nightly_key(partition))
        stack.wait_until_settled(f"{loop.model}_", timeout_seconds=SETTLE_SECONDS)
        print(week_line(loop, fold(ledger.records()), partition, time.monotonic() - began), flush=True)


def partitions_of(loop: Loop) -> list[str]:
    """Return the keys of the weeks between the loop's ``from`` and ``until`` that have a file."""
    assert loop.data.from_ is not None
    assert loop.data.until is not None
    assert isinstance(loop.data.source, ParquetSource)
    tick, until = datetime.fromisoformat(loop.data.from_), datetime.fromisoformat(loop.data.until)
    source, keys = ParquetFiles(loop.data.source.uri, root=ROOT), []
    while tick <= until:
        if source.path(tick.isoformat()).exists():
            keys.append(tick.isoformat())
        tick += timedelta(weeks=1)
    return keys


def nightly_key(partition: str) -> str:
    """Return the tick of the nightly Dag that follows a week."""
    return (datetime.fromisoformat(partition) + timedelta(hours=2)).isoformat()
