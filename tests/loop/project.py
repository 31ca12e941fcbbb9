"""A small project of a user in a temporary folder: one loop, its Dags, its training function, its data.

The rows are made by numpy from a seed for each partition. The label is ``2 x1 + level + noise``, and a test
moves the level to make the champion wrong, so nothing here waits for chance.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.partition_key import partition_slug
from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.watch_details import WindowJudged
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.workspace import Workspace
from tests.loop.by_core import meet_change, publish, register, roll_out

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler

KEYS = [f"{date(2013, 1, 6) + timedelta(weeks=number)}T00:00:00" for number in range(16)]
"""Partition keys: the Sundays that close the weeks of 2013."""

_SERIAL = itertools.count(1)

REGRESSION = """
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline


def candidates(seed):
    return {"linear": make_pipeline(make_column_transformer(("passthrough", ["x1", "x2"])), LinearRegression())}
"""

CLASSIFICATION = """
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def candidates(seed):
    return {"logistic": make_pipeline(make_column_transformer(("passthrough", ["x1", "x2"])), LogisticRegression())}
"""

DAG_FILE = '''"""Airflow Dags of the test loop."""
from airflow_mlops import build_dags

build_dags("include/loops/{model}.yaml", default_args={{"retries": 0}})
'''


def night(key: str) -> str:
    """Return the key of the nightly run that follows the tick of a partition."""
    return (datetime.fromisoformat(key) + timedelta(hours=2)).isoformat()


def declaration(model: str, function: str, **changes: Any) -> dict[str, Any]:
    """Return the fields of a quick loop: a window of one week, an alarm at once, straight to live."""
    fields: dict[str, Any] = {
        "model": model,
        "owner": "tests",
        "data": {
            "source": {"kind": "parquet", "uri": f"include/data/{model}/{{partition}}.parquet"},
            "key": "id",
            "time": "at",
            "label": "y",
            "from": "2013-01-06",
            "until": "2013-12-29",
        },
        "train": {"function": function, "window": 1},
        "gates": [{"metric": "mae", "at_most": 4.0}, {"metric": "mae", "no_worse_than_champion_by": 0.1}],
        "rollout": {"stages": [{"shadow": 100}, {"canary": 50}, {"live": 100}], "margin": 0.25, "min_rows": 20},
        "watch": {"drift": {"alarm_rate": 0.001}, "performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20}},
        "retrain": {"policy": "alarm", "alarm": {"windows": 1, "of": 1}, "cooldown": 1},
    }
    return {**fields, **changes}


def week(
    key: str, *, rows: int = 120, level: float = 0.0, shift: float = 0.0, places: str = "ab", classes: bool = False
) -> pa.Table:
    """Return the rows of a week: features ``x1``, ``x2`` and ``place``, and the label ``y``.

    Parameters
    ----------
    level : float
        What is added to the label: the relation that a model learns.
    shift : float
        What is added to the feature ``x1``.
    places : str
        One letter for each category of ``place``.
    classes : bool
        Whether the label is 0 or 1, whichever side of ``level`` the sum falls on.
    """
    end = datetime.fromisoformat(key)
    random = np.random.default_rng(int(end.strftime("%Y%m%d")))
    x1, x2 = random.normal(size=rows), random.normal(size=rows)
    y = 2 * x1 + random.normal(scale=0.5, size=rows) + level
    return pa.table(
        {
            "id": [f"{partition_slug(key)}-{number:04}" for number in range(rows)],
            "at": [end - timedelta(hours=number % 168 + 1) for number in range(rows)],
            "x1": x1 + shift,
            "x2": x2,
            "place": [places[number % len(places)] for number in range(rows)],
            "y": (y > level).astype(np.int64) if classes else y,
        }
    )


@dataclass
class Project:
    """A user's project folder with one loop, and the view of it from outside Airflow."""

    root: Path
    model: str
    fields: dict[str, Any] = field(repr=False)
    stores: Stores | None = None

    @property
    def dags(self) -> Path:
        """The folder with the one Dag file."""
        return self.root / "dags"

    @property
    def workspace(self) -> Workspace:
        """The stores as they are now, opened anew."""
        return open_workspace(Loop(**self.fields), self.stores or embedded_stores(), root=self.root, actor="test")

    @property
    def records(self) -> list[Record[Any]]:
        """All ledger records, oldest first."""
        return list(self.workspace.ledger.records())

    def of_kind(self, *kinds: str) -> list[Record[Any]]:
        """Return the ledger records of some kinds, oldest first."""
        return [record for record in self.records if record.kind in kinds]

    def details_of(self, kind: str, partition: str) -> Any:
        """Return the details of the one record of a kind about a partition."""
        (record,) = [record for record in self.of_kind(kind) if record.partition == partition]
        return record.details

    def judged(self, check: str, partition: str) -> Any:
        """Return the details of the one judgement of a partition by a check."""
        records = self.workspace.ledger.records(WindowJudged, partition=partition)
        (details,) = [record.details for record in records if record.details.check == check]
        return details

    def file(self, key: str) -> Path:
        """Return where the source has the file of a partition."""
        return self.root / "include" / "data" / self.model / f"{partition_slug(key)}.parquet"

    def put(self, key: str, table: pa.Table | None = None, **made: Any) -> None:
        """Put the file of a partition where the source finds it; ``made`` goes to :func:`week`."""
        self.file(key).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(week(key, **made) if table is None else table, self.file(key))

    def dag(self, stage: str) -> str:
        """Return the id of one of the seven Dags."""
        return f"{self.model}_{stage}"

    def ingest(self, scheduler: InProcessScheduler, key: str) -> None:
        """Deliver a partition and run the Dags until nothing is left to do."""
        scheduler.trigger(self.dag("ingest"), partition_key=key)
        scheduler.run_until_idle()

    def at_night(self, scheduler: InProcessScheduler, key: str) -> None:
        """Run the nightly decision after a partition, and everything that follows from it."""
        scheduler.trigger(self.dag("nightly"), partition_key=night(key))
        scheduler.run_until_idle()

    def first_champion(self, scheduler: InProcessScheduler, keys: list[str]) -> None:
        """Ingest weeks of the old relation and let the night after them bring version 1 live."""
        for key in keys:
            if not self.file(key).exists():
                self.put(key)
            self.ingest(scheduler, key)
        self.at_night(scheduler, keys[-1])
        champion = self.workspace.state().champion
        assert champion is not None, scheduler.failures()
        assert champion.number == "1"

    def seed(self, keys: list[str]) -> None:
        """Publish weeks and bring version 1 live by the core alone: the quick start of a test about something else."""
        for key in keys:
            if not self.file(key).exists():
                self.put(key)
            self.publish(key)
        decide_and_record(self.workspace, keys[-1], trigger="nightly")
        self.register(keys[-1])
        roll_out(self.workspace, keys[-1])

    def publish(self, key: str) -> None:
        """Take a partition in by the core alone."""
        publish(self.workspace, key)

    def bring_challenger(self) -> None:
        """Bring version 2 into the first stage of its rollout by the core alone, after the relation has changed."""
        self.seed(KEYS[:2])
        for key in KEYS[2:4]:
            self.put(key, level=6.0)
            meet_change(self.workspace, key)
        with suppress(NotReadyError):  # a stage waits for more than one partition
            roll_out(self.workspace, KEYS[3])

    def register(self, key: str, *, by_hand: bool = False) -> None:
        """Train and register a candidate as of a partition by the core alone."""
        register(self.workspace, key, by_hand=by_hand)

    def served(self, key: str) -> dict[str, list[Any]]:
        """Return the predictions of a partition by column."""
        columns: dict[str, list[Any]] = self.workspace.predictions.read(key).to_pydict()
        return columns

    def write_training(self, source: str) -> None:
        """Replace the user's training module, as an editor would; a worker is a new process and sees it."""
        module = self.root / f"train_{self.model}" / "training.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(source)
        sys.modules.pop(f"train_{self.model}.training", None)
        importlib.invalidate_caches()


def embedded_stores() -> Stores:
    """Return the stores that the loops of this session use when no connection is declared."""
    return Stores.embedded(Path(os.environ["AIRFLOW_HOME"]) / "mlops")


def states(scheduler: InProcessScheduler, dag_id: str, key: str | None = None) -> dict[str, str | None]:
    """Return the states of the tasks of a Dag's newest run (for a partition)."""
    runs = [run for run in scheduler.dag_runs(dag_id) if key in (None, run.partition_key)]
    assert runs, f"{dag_id} has no run for {key}"
    return {task.task_id: task.state for task in scheduler.task_instances(dag_id) if task.run_id == runs[-1].run_id}


def why(scheduler: InProcessScheduler, task_id: str) -> str:
    """Return the error of the one failed task of that id."""
    (text,) = [text for record, text in scheduler.failures() if record.task_id == task_id and record.state == "failed"]
    return text


def make_project(folder: Path, *, model: str | None = None, training: str = REGRESSION, **changes: Any) -> Project:
    """Write a project; unless it is given one, with a model name, and so stores and modules, that no other test has."""
    model = model or f"loop_{os.getpid()}_{next(_SERIAL)}"
    fields = declaration(model, f"train_{model}.training:candidates", **changes)
    project = Project(folder, model, fields)
    for name in ("dags", "include/loops"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    project.write_training(training)
    # JSON is YAML, and keeps the types of the fields.
    (folder / "include" / "loops" / f"{model}.yaml").write_text(json.dumps(fields, indent=1))
    (folder / "dags" / "loop_dags.py").write_text(DAG_FILE.format(model=model))
    return project
