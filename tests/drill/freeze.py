"""Freeze ledgers of the present form, for the code of later releases to read: ``python -m tests.drill.freeze FOLDER``.

The histories of the drill, and one in which an earlier champion is recalled, are lived through on real stores. Each
leaves its ledger with its projection, and the state now, as of and before every partition, as the fold gives it.
Run it before the form of records, tables or facts changes, into a new folder of ``tests/unit/core/ledger/frozen``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from airflow_mlops.core.errors import MlopsError, NotReadyError, PolicyError, TrainingError
from airflow_mlops.core.governance.model_card import write_model_card
from airflow_mlops.core.ledger.fold import fold
from airflow_mlops.core.ledger.record import canonical_json
from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from airflow_mlops.core.ledger.training_details import Escalated
from airflow_mlops.core.open_workspace import Stores
from airflow_mlops.core.replay.recorded_replay import replay_and_record
from airflow_mlops.core.replay.replay_request import ReplayRequest
from airflow_mlops.core.retrain.decide_retrain import decide_by_hand
from airflow_mlops.core.rollout.approvals import record_approval
from airflow_mlops.core.rollout.control_rollout import approve_stage
from airflow_mlops.core.rollout.manual_rollback import roll_back_now
from airflow_mlops.core.rollout.roll_out import start_rollout
from airflow_mlops.core.training.assemble import assemble_training
from tests.drill.history import MODULE, Place, Results, Step, life_of_a_loop, life_with_late_labels
from tests.loop.by_core import live_through, register, roll_out
from tests.loop.project import KEYS, REGRESSION, Project, make_project
from tests.unit.core.ledger.plain_state import plain_state


def by_the_drill(root: Path, steps: Iterator[Step], *, labels: bool) -> Path:
    """Live through a history of the drill without any fault; return its ledger."""
    place = Place(root, labels)
    place.make()
    sys.path.insert(0, str(root))
    results: Results = {}
    for step in steps:
        try:
            results[step.name] = json.loads(json.dumps(step.run(place.open(), results), default=str))
        except MlopsError as error:
            if type(error).__name__ != step.refused:
                raise
    sys.path.remove(str(root))
    for name in [name for name in sys.modules if name.startswith(MODULE)]:
        del sys.modules[name]
    return place.home / "mlops" / "ledger.db"


def recalled(root: Path) -> Path:
    """Live through two champions, a recall of the first, and what comes to nothing; return the ledger."""
    watch = {"drift": {"alarm_rate": 0.001}, "performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20}}
    rollout = {"stages": [{"canary": 50}, {"live": 100}], "min_rows": 20}
    project = make_project(root, model="recalled", watch=watch, rollout=rollout)
    project.stores = Stores.embedded(root / "home" / "mlops")
    project.seed(KEYS[:2])
    for number, key in enumerate(KEYS[2:8]):
        project.put(key, level=6.0 if number < 4 else 0.0)
        live_through(project.workspace, key)
    workspace, last = project.workspace, KEYS[7]
    write_model_card(workspace, "1")
    request = ReplayRequest(policies=("never", "nightly"))
    replay_and_record(workspace, request, reason="spring is near", attempt="a replay")
    register(workspace, last, by_hand=True)
    with suppress(PolicyError):  # nobody answers, which is no approval
        record_approval(workspace, workspace.state().versions["3"], (), started_by=None)
    with suppress(NotReadyError):  # one partition cannot tell the two apart
        roll_out(workspace, last)
    roll_back_now(workspace, reason="a drill")
    decision = decide_by_hand(workspace, last)
    with suppress(NotReadyError):  # the same rows, code and seed again
        assemble_training(workspace, last)
    # A short loop never comes to the record of a champion whom no retrain helps.
    details = Escalated(champion="1", decision=decision.sequence, reason="no retrain of 3 has helped")
    workspace.record_fact(workspace.draft(details, "escalated:1", last))
    _with_an_approved_stage(project, KEYS[8])
    return root / "home" / "mlops" / "ledger.db"


def _with_an_approved_stage(project: Project, key: str) -> None:
    """Train on a partition first without and then with success, and let a person approve the first stage."""
    project.put(key)
    project.publish(key)
    project.write_training(REGRESSION.replace("return {", "return [] and {"))
    decide_by_hand(project.workspace, key)
    with suppress(TrainingError):
        assemble_training(project.workspace, key)
    project.write_training(REGRESSION)
    register(project.workspace, key, by_hand=True)
    project.fields["rollout"]["stages"][0]["approval"] = "human"
    start_rollout(project.workspace, key)
    approve_stage(project.workspace, 0, ("ann",))


LIVES: dict[str, Callable[[Path], Path]] = {
    "people": lambda root: by_the_drill(root, life_of_a_loop(), labels=False),
    "labels": lambda root: by_the_drill(root, life_with_late_labels(), labels=True),
    "recall": recalled,
}
"""The histories, by the names of the files that keep them; each returns its ledger."""


def keep_ledger(ledger: Path, file: Path) -> str:
    """Write a copy of a ledger whose state was read, without free pages; return the name of its model."""
    with closing(sqlite3.connect(ledger)) as database:
        model = str(database.execute("SELECT DISTINCT model FROM airflow_mlops_ledger").fetchone()[0])
    SqlLedger(f"sqlite:///{ledger}", model).state()
    with closing(sqlite3.connect(ledger)) as database:
        database.execute("VACUUM INTO ?", (str(file),))
    return model


def states_of(file: Path, model: str) -> dict[str, Any]:
    """Return the states that the fold gives of a ledger: now, and as of and before each partition."""
    records = list(SqlLedger(f"sqlite:///{file}", model).records())
    partitions = sorted({record.partition for record in records if record.partition})
    return {
        "model": model,
        "records": len(records),
        "now": plain_state(fold(records)),
        "as_of": {key: plain_state(fold(records, as_of=key)) for key in partitions},
        "before": {key: plain_state(fold(records, before=key)) for key in partitions},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Freeze the ledgers in a folder that is not there yet."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill.freeze", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a new folder, for the ledgers and their states")
    folder = parser.parse_args(argv).folder
    folder.mkdir(parents=True)
    scratch = Path(tempfile.mkdtemp(prefix="airflow-mlops-freeze-"))
    frozen: dict[str, Any] = {}
    try:
        for name, live in LIVES.items():
            file = folder / f"{name}.sqlite"
            with patch("platform.platform", return_value="Linux-x86_64"):  # no name of the machine is kept
                ledger = live(scratch / name)
            frozen[name] = states_of(file, keep_ledger(ledger, file))
            print(f"{name}: {frozen[name]['records']} records", flush=True)
    finally:
        shutil.rmtree(scratch)
    (folder / "states.json.gz").write_bytes(gzip.compress(canonical_json(frozen).encode(), mtime=0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
