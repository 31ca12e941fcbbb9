"""A thousand turns of a loop in memory, disturbed at random, beside the same turns that nobody disturbs."""

from __future__ import annotations

import gc
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from airflow_mlops.core import fault_point
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import GateError, MlopsError, NotReadyError, RolledBackError
from airflow_mlops.core.fault_point import InjectedError
from airflow_mlops.core.ledger.record import Record, verify_chain
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from benchmarks.row import Row

TURNS = 1_000
SHARE = 0.15
"""The share of the points that are passed at which an error is raised."""
SEED = 19
PERIOD = 40
"""Turns after which the relation between features and label changes."""


@dataclass
class Faults:
    """Raises an error at some of the points that are passed, in the order of a seed."""

    chance: random.Random
    share: float
    raised: Counter[str] = field(default_factory=Counter)

    def __call__(self, point: str) -> None:
        """Raise InjectedError at this point, or let it pass."""
        if self.chance.random() < self.share:
            self.raised[point] += 1
            raise InjectedError(point)


def soak_turns(*, turns: int = TURNS) -> list[Row]:
    """Return the row: what differs between a loop that was disturbed and one that was not, after a thousand turns."""
    faults = Faults(chance_of(SEED), SHARE)
    with tempfile.TemporaryDirectory(prefix="airflow-mlops-soak-") as folder:
        root = Path(folder)
        (root / "soaked.py").write_text(TRAINING)
        quiet, _ = live(root, "quiet", turns, Faults(chance_of(SEED), 0.0))
        disturbed, records = live(root, "disturbed", turns, faults)
    differences = (quiet - disturbed).total() + (disturbed - quiet).total()
    promoted = [record.details for record in records if record.kind == "promoted"]
    lines = sum(after.previous != before.version for before, after in pairwise(promoted))
    broken = lines + int(verify_chain(records) != len(records))
    print(f"    {faults.raised.total():,} faults at {len(faults.raised)} points; {len(promoted)} champions in one line")
    return [
        Row(
            name="soak_turns",
            ours=differences + broken,
            peer=faults.raised.total(),
            unit="violations",
            peer_name=f"faults in {turns:,} turns",
            ratio=(differences + broken) / max(faults.raised.total(), 1),
            bar="no violation",
            reached=differences + broken == 0 and faults.raised.total() > turns,
        )
    ]


def chance_of(seed: int) -> random.Random:
    """Return the draws of a seed."""
    return random.Random(seed)  # noqa: S311 - draws for a benchmark


def live(root: Path, name: str, turns: int, faults: Faults) -> tuple[Counter[str], list[Record[Any]]]:
    """Live through turns with faults; return what the records say, and the records."""
    from tests.drill.trials import essence
    from tests.loop.project import declaration, week

    frames: dict[str, Any] = {}
    fields = declaration("soaked", "soaked:candidates", gates=[{"metric": "mae", "at_most": 4.0}])
    fields["data"]["until"] = "2113-12-29"
    workspace = in_memory_workspace(Loop(**fields), frames, scratch=root / name, root=root)
    fault_point.observers.append(faults)
    try:
        for number, key in enumerate(keys(turns)):
            level = 6.0 * (number // PERIOD % 2)
            frames[key] = pa.table(week(key, rows=60, level=level))
            for step in turn(key):
                insist(step, workspace)
            if number % 100 == 99:
                gc.collect()
                print(f"\r    {number + 1:,} turns, {faults.raised.total():,} faults", end="", flush=True)
    finally:
        fault_point.observers.remove(faults)
        print()
    records = list(workspace.ledger.records())
    return Counter(map(essence, records)), records


TRAINING = """
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline


def candidates(seed):
    return {"linear": make_pipeline(make_column_transformer(("passthrough", ["x1", "x2"])), LinearRegression())}
"""


def keys(turns: int) -> Iterator[str]:
    """Yield the keys of weekly partitions."""
    from datetime import datetime, timedelta

    first = datetime(2013, 1, 6)  # noqa: DTZ001
    return ((first + timedelta(weeks=number)).isoformat() for number in range(turns))


def turn(key: str) -> Iterator[Callable[[Workspace], Any]]:
    """Yield the tasks of one turn of a loop, each to be tried until it has ended."""
    from airflow_mlops.core.retrain.decide_retrain import decide_and_record
    from airflow_mlops.core.rollout.reconcile_aliases import reconcile
    from airflow_mlops.core.rollout.score_partition import score_partition
    from airflow_mlops.core.watch.drift.detect_drift import detect_drift
    from airflow_mlops.core.watch.performance.measure_performance import measure_performance
    from tests.loop.by_core import publish, register, roll_out

    yield lambda workspace: publish(workspace, key)
    yield lambda workspace: score_partition(workspace, key)
    yield lambda workspace: detect_drift(workspace, key)
    yield lambda workspace: measure_performance(workspace, key)
    yield lambda workspace: decide_and_record(workspace, key, trigger="nightly")
    yield lambda workspace: register(workspace, key)
    yield lambda workspace: roll_out(workspace, key)
    yield reconcile


def insist(step: Callable[[Workspace], Any], workspace: Workspace) -> None:
    """Try a task until it ends, be it with a refusal that is its answer."""
    while True:
        try:
            with suppress(NotReadyError, GateError, RolledBackError):
                step(workspace)
        except InjectedError:
            continue
        except MlopsError as error:
            if not isinstance(error.__cause__, InjectedError):
                raise
            continue
        return
