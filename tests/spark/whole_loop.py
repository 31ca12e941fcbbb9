"""A small loop lived through by each engine, to compare what its ledger holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops.core.rollout.score_partition import score_partition
from tests.same_records import facts, rows_of
from tests.spark.engines import open_engine
from tests.unit.core.toy_loop import go_live, ingest, toy_fields, toy_rows, week

WEEKS = 4
TIMES_AND_ADDRESSES = {"fit_seconds", "training_seconds", "report", "source", "signature"}
"""Fields of a version that differ from one training to the next: the report holds seconds, too."""


def compare_loops(root: Path, engines: tuple[str, str]) -> None:
    """Ingest, train, go live and score: a loop of one engine, and one whose engine changes to ``engines`` and back.

    Both ledgers must hold the same records but for times and addresses, and both lakes the same predictions.
    """
    for number in range(WEEKS):
        folder = root / "toy" / week(number)[:10]
        folder.mkdir(parents=True)
        rows = pa.Table.from_pandas(toy_rows(number), preserve_index=False)
        for place in range(3):
            pq.write_table(rows.slice(place * 40, 40), folder / f"{place}.parquet")
    fields = toy_fields()
    fields["data"]["source"]["uri"] = "toy/{partition}/"
    alone = {engine: open_engine(fields, root, "local", home=root / "alone") for engine in engines}
    changing = {engine: open_engine(fields, root, engine, home=root / "changing") for engine in engines}
    for workspaces in (alone, changing):
        for number in range(WEEKS):
            workspace = workspaces[engines[number % 2]]
            ingest(workspace, week(number))
            if number == WEEKS - 2:
                go_live(workspace, week(number))
        score_partition(workspace, week(WEEKS - 1))
    one, other = alone[engines[0]], changing[engines[0]]
    assert list(map(lasting, facts(other))) == list(map(lasting, facts(one)))
    for table in ("snapshots", "quarantine", "predictions"):
        assert rows_of(other, table) == rows_of(one, table)


def lasting(fact: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the parts of a record that a second life of the loop repeats."""
    *place, evidence, details = fact
    kept = {name: value for name, value in details.items() if name not in TIMES_AND_ADDRESSES}
    return *place, evidence if len(kept) == len(details) else len(evidence), kept
