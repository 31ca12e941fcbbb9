"""Three hundred loops in one Airflow: what a turn of a loop costs there, beside a turn of a loop that is alone in it.

A turn is one partition through all Dags of a loop: ingest, score, watch, the night, training, shadow, canary, live: 23
tasks that end in a new champion. The rows are few and the model is a straight line, so that Airflow and the stores are
what is measured. Airflow's scheduler and the tasks run in one process on SQLite; CPU time is told apart by both. What a
real worker takes to start, and the parsing of the Dags, are not in it; see ``warm_workers`` and ``parse_300_loops``.

First one loop is declared and takes its turns alone. Then the others are declared too; the first loop takes turns
while they stand still, and then eighty take a turn at once. The others have a published partition. So the whole
ends within a quarter of an hour of one core; a turn of all three hundred takes three times as long.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from airflow_mlops.testing.own_executor import cpu_seconds
from airflow_mlops.testing.scheduler import InProcessScheduler
from benchmarks.row import Row

if TYPE_CHECKING:
    from tests.loop.project import Project

LOOPS = int(os.environ.get("LOOPS", "300"))
TURNING = int(os.environ.get("TURNING", "80"))
"""Loops that take a turn at once."""
ALONE = 3
"""Turns of the first loop alone, and of the first loop among others that stand still."""
TIMEOUT_SECONDS = 3_600.0
TURN_BAR, PAGE_BAR_MS = 1.25, 1_200.0
QUICK: dict[str, Any] = {
    "gates": [{"metric": "mae", "at_most": 10.0}],
    "retrain": {"policy": {"clock": 1}, "cooldown": 0, "budget": 52, "confidence": "none", "recall": 0},
}
"""A loop that trains on every partition, and whose candidate always passes."""
DAG_FILE = '''"""Airflow Dags of many loops."""
from airflow_mlops import build_dags

for model in {models!r}:
    globals().update(build_dags(f"include/loops/{{model}}.yaml", default_args={{"retries": 0}}))
'''


@dataclass(frozen=True)
class Turns:
    """The CPU seconds of turns, all in all and of their tasks alone."""

    turns: int
    seconds: float
    task_seconds: float

    @property
    def each(self) -> float:
        """The CPU seconds of one turn."""
        return self.seconds / self.turns

    def describe(self, words: str) -> str:
        """Return one line about them."""
        tasks = self.task_seconds / self.turns
        return (
            f"    {words}: {self.each:.2f} CPU s a turn, {tasks:.2f} of the tasks, {self.each - tasks:.2f} between them"
        )


def loops_300_turn(*, loops: int = LOOPS, turning: int = TURNING) -> list[Row]:
    """Return the rows: CPU seconds of a turn among many loops beside one that is alone, and of the list of all."""
    with tempfile.TemporaryDirectory(prefix="airflow-mlops-loops-") as folder, many_loops(Path(folder), loops) as fleet:
        alone = fleet.first_turns("one loop, alone")
        fleet.declare(loops)
        quiet = fleet.first_turns(f"one of {loops} loops, while the others stand still")
        fleet.publish(fleet.projects[turning:])
        busy = fleet.turn_at_once(fleet.projects[1:turning])
        fleet.verify([2 + 2 * ALONE, *[2] * (turning - 1), *[0] * (loops - turning)])
        page = list_row(loops)
    return [
        turn_row("loops_300_turn", busy, alone, f"a loop alone in it; ours is {busy.turns} of {loops} at once"),
        turn_row(
            "loops_300_quiet", quiet, alone, f"a loop alone in it; ours is one beside {loops - 1} that stand still"
        ),
        page,
    ]


def turn_row(name: str, ours: Turns, peer: Turns, peer_name: str) -> Row:
    """Return the row of a turn beside one of a loop that is alone."""
    return Row(
        name=name,
        ours=round(ours.each, 3),
        peer=round(peer.each, 3),
        unit="CPU s/turn",
        peer_name=peer_name,
        ratio=round(ours.each / peer.each, 3),
        bar=f"ratio <= {TURN_BAR:g}",
        reached=ours.each <= TURN_BAR * peer.each,
    )


def list_row(loops: int) -> Row:
    """Return the row of the list of all models."""
    from benchmarks.pages import measure, opened_pages

    with opened_pages() as get:
        return measure("page_300_models", get, "/models", f"the list of {loops} models", bar_ms=PAGE_BAR_MS)[0]


@contextmanager
def many_loops(folder: Path, loops: int) -> Iterator[Fleet]:
    """Yield the loops, of which the first is declared."""
    from airflow_mlops.testing.metadata import create_metadata, forget_everything
    from tests.loop.project import make_project

    for library in ("alembic", "mlflow", "mlflow.store.db.utils"):
        logging.getLogger(library).setLevel(logging.WARNING)
    create_metadata()
    forget_everything()
    projects = [make_project(folder, model=f"loop_{number:03}", **QUICK) for number in range(loops)]
    fleet = Fleet(folder, projects)
    with fleet.scheduler:
        yield fleet
    forget_everything()


class Fleet:
    """Loops of one project folder, and the scheduler of their Airflow."""

    def __init__(self, folder: Path, projects: list[Project]) -> None:
        from tests.loop.project import KEYS

        self._dag_file, self.projects, self._keys = folder / "dags" / "loop_dags.py", projects, KEYS
        self._next = iter(KEYS[2:])
        self._write_dags(1)
        projects[0].seed(KEYS[:2])
        self.scheduler = InProcessScheduler(self._dag_file.parent)
        self._turn(projects[:1], next(self._next))  # imports, and first uses of libraries

    def declare(self, count: int) -> None:
        """Declare the first ``count`` loops, and unpause their Dags."""
        self._write_dags(count)
        self.scheduler.sync()
        self.scheduler.unpause(*self.scheduler.dag_ids)

    def publish(self, projects: list[Project]) -> None:
        """Take a partition of loops in by the core alone."""
        for number, project in enumerate(projects):
            project.put(self._keys[0])
            project.publish(self._keys[0])
            print(f"\r    {number + 1}/{len(projects)} loops have a partition", end="", flush=True)
        print()

    def first_turns(self, words: str) -> Turns:
        """Return the median of some turns of the first loop."""
        turns = [self._turn(self.projects[:1], next(self._next)) for _ in range(ALONE)]
        middle = median(turn.seconds for turn in turns)
        (result, *_) = [turn for turn in turns if turn.seconds == middle]
        print(result.describe(words), flush=True)
        return result

    def turn_at_once(self, projects: list[Project]) -> Turns:
        """Bring loops their first champion by the core alone, and return the cost of a turn of them at once."""
        for number, project in enumerate(projects):
            project.seed(self._keys[:2])
            print(f"\r    {number + 1}/{len(projects)} loops have a champion", end="", flush=True)
        print()
        turns = self._turn(projects, self._keys[2])
        print(turns.describe(f"{len(projects)} of {len(self.projects)} loops at once"), flush=True)
        return turns

    def verify(self, champions: list[int]) -> None:
        """Raise RuntimeError unless no task failed, and every ledger is whole and has so many champions."""
        from airflow_mlops.core.ledger.record import verify_chain

        problems = [f"{record.dag_id}.{record.task_id} failed: {words}" for record, words in self.scheduler.failures()]
        for project, expected in zip(self.projects, champions, strict=True):
            records = project.records
            promoted = sum(record.kind == "promoted" for record in records)
            if not records or verify_chain(records) != len(records) or promoted != expected:
                problems.append(f"{project.model} has {len(records)} records and {promoted} champions, not {expected}")
        if problems:
            raise RuntimeError("; ".join(problems[:5]))
        print(f"    {len(self.projects)} ledgers are verified", flush=True)

    def _turn(self, projects: list[Project], key: str) -> Turns:
        """Take one partition through all Dags of loops, all at once."""
        from tests.loop.project import night

        for project in projects:
            project.put(key)
        before, tasks_before = cpu_seconds(), self.scheduler.task_seconds
        self._run((project.dag("ingest") for project in projects), key)
        self._run((project.dag("nightly") for project in projects), night(key))
        return Turns(len(projects), cpu_seconds() - before, self.scheduler.task_seconds - tasks_before)

    def _run(self, dags: Iterable[str], key: str) -> None:
        for dag in dags:
            self.scheduler.trigger(dag, partition_key=key)
        self.scheduler.run_until_idle(timeout_seconds=TIMEOUT_SECONDS)

    def _write_dags(self, count: int) -> None:
        self._dag_file.write_text(DAG_FILE.format(models=[project.model for project in self.projects[:count]]))
