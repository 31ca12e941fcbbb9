"""The drill: every fault at every write of a loop, by ``make drill``; see docs/explanation/promises.md.

A loop lives through a history by the same functions as its tasks, on real stores. Then each point that it passes is
tried with each fault: the step runs again from the state before it, is disturbed there, and is tried again as Airflow
does. Afterwards the loop must stand where it stands without the fault, and its invariants must hold.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import cycle
from pathlib import Path
from typing import Any

from airflow_mlops.core.registry.bill_of_materials import bill_of_materials
from airflow_mlops.core.registry.recorded_environment import recorded_environment
from tests.drill.history import Place, life_of_a_loop, life_with_late_labels
from tests.drill.numbers import RESULT, add_numbers
from tests.drill.trials import Drill, DrillError, History, Reached

FAULTS = ("raise", "kill", "stop")
HISTORIES = {"a loop": (life_of_a_loop, False), "a loop with late labels": (life_with_late_labels, True)}
IMPORTED = ("mlflow", "deltalake", "sklearn.linear_model", "skops.io", "pandas", "model_signing.signing")
"""Are imported once, and opened in forks only."""


@dataclass
class Summary:
    """The trials of one process, and their violations."""

    points: list[str] = field(default_factory=list)
    tried: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Trial:
    """A fault at a point of a step."""

    reached: Reached
    fault: str


def trials_of(history: History, *, every: bool, shard: int, shards: int) -> list[Trial]:
    """Return the trials of one of several processes.

    Parameters
    ----------
    every : bool
        Whether each point is tried with each fault, in the first and the last step of each name that passes it; else
        each write is disturbed once, in the first step that makes it, before or after it and by the faults in turn.
    """
    chosen: list[Trial] = []
    if every:
        places: dict[tuple[str, str], list[Reached]] = {}
        for reached in history.reached():
            places.setdefault((history.steps[reached.step].name, reached.point), []).append(reached)
        ends = [place for passed in places.values() for place in dict.fromkeys((passed[0], passed[-1]))]
        chosen = [Trial(reached, fault) for reached in ends for fault in FAULTS]
    else:
        first: dict[str, list[Reached]] = {}
        for reached in history.reached():
            first.setdefault(reached.point.rpartition(".")[0], []).append(reached)
        sides = (points[number % 2] for number, points in enumerate(first.values()))
        chosen = [Trial(reached, fault) for reached, fault in zip(sides, cycle(FAULTS), strict=False)]
    return chosen[shard::shards]


def run_shard(arguments: argparse.Namespace, shard: int, folder: Path) -> int:
    """Run the trials of one process, and leave its summary in a file of the folder."""
    for name in IMPORTED:
        import_module(name)
    bill_of_materials(recorded_environment(), model="drilled", operation="", digest="")  # once, and not in every fork
    summary = Summary()
    for name, (steps, labels) in HISTORIES.items():
        kept = folder / f"{shard}-{labels:d}"
        (kept / "kept").mkdir(parents=True)
        drill = Drill(Place(kept / "place", labels), kept / "kept")
        tell(shard, f"{name}: without any fault")
        history = drill.undisturbed(list(steps()), lambda _: None)
        summary.points += sorted({reached.point for reached in history.reached()})
        trials = trials_of(history, every=arguments.every, shard=shard, shards=arguments.processes)
        for number, trial in enumerate(trials):
            step = history.steps[trial.reached.step]
            words = f"{step.name} ({trial.reached.step}), {trial.fault} at {trial.reached.point}"
            if number % 20 == 0:
                tell(shard, f"{name}: {number} of {len(trials)} trials, {len(summary.violations)} violations; {words}")
            try:
                summary.ended[drill.try_fault(history, trial.reached, trial.fault)] += 1
            except DrillError as error:
                summary.violations.append(f"{words}: {error}")
                tell(shard, f"VIOLATION: {words}: {error}")
            summary.tried[trial.fault] += 1
    (folder / f"{shard}.json").write_text(json.dumps(vars(summary)))
    return 0


def tell(shard: int, words: str) -> None:
    """Print where a process stands."""
    print(f"{time.strftime('%H:%M:%S')} [{shard}] {words}", flush=True)


def run_shards(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Run every process, and return their summaries; one that ends without an answer is an error."""
    children = []
    for shard in range(arguments.processes):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = run_shard(arguments, shard, folder)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        children.append(child)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(ended):
        raise SystemExit(f"the drill broke off: its processes ended with {ended}")
    return [json.loads((folder / f"{shard}.json").read_text()) for shard in range(arguments.processes)]


def add_up(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the numbers of the drill from those of its processes."""
    points = sorted({point for summary in summaries for point in summary["points"]})
    tried, ended = Counter[str](), Counter[str]()
    for summary in summaries:
        tried.update(summary["tried"])
        ended.update(summary["ended"])
    return {
        "points": len(points),
        "faults": list(FAULTS),
        "tried": sum(tried.values()),
        "tried_by_fault": dict(sorted(tried.items())),
        "ended": dict(sorted(ended.items())),
        "violations": [violation for summary in summaries for violation in summary["violations"]],
        "names": points,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the drill; return 1 if anything broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description=__doc__.partition("\n")[0])
    parser.add_argument("--every", action="store_true", help="each point with each fault; else each write once")
    parser.add_argument("--processes", type=int, default=1, help="processes that share the trials")
    arguments = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="airflow-mlops-drill-"))
    try:
        result = add_up(run_shards(arguments, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    add_numbers({**result, "writes": result})
    print(
        f"{result['points']} points, {result['tried']} faults tried {result['tried_by_fault']}, which ended "
        f"{result['ended']}; {len(result['violations'])} violations; in {RESULT.relative_to(Path.cwd())}"
    )
    return 1 if result["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
