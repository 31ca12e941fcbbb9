"""A history without any fault, and trials: one step of it with a fault at one point, and the attempts after it.

Each attempt is a fork of this process, which itself opens no store: an attempt finds what a worker finds. A process is
killed as by ``kill -9``, has an error raised in it, or is stopped where it stands: then a second attempt runs beside
it, and afterwards the first goes on, as an old attempt does whose scheduler took it for dead.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import delete

from airflow_mlops.core import fault_point
from airflow_mlops.core.errors import MlopsError
from airflow_mlops.core.ledger.sql_schema import LEASE
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.workspace import Workspace
from tests.drill.history import MODULE, SENT, Place, Results, Step

RAISED = 3
"""Exit code of an attempt in which the fault was raised to the end."""
PATIENCE = 4.0
"""Seconds that a second attempt gets before the first, which may hold what it waits for, goes on."""
LONGEST = 120.0
"""Seconds after which an attempt counts as one that never ends."""
ANSWER, LOG = "answer.json", "attempt.log"


@dataclass(frozen=True)
class Reached:
    """A point that a step passes."""

    step: int
    point: str


@dataclass
class History:
    """A history without any fault: the points that each step passes, and where the loop stands after it."""

    steps: list[Step]
    points: list[Counter[str]] = field(default_factory=list)
    views: list[Any] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)

    def reached(self) -> list[Reached]:
        """Return every point of every step, in the order of the history."""
        return [Reached(step, point) for step, points in enumerate(self.points) for point in points]


class DrillError(AssertionError):
    """A fault has broken something."""


class Drill:
    """Runs steps of a history in a place, with and without a fault.

    Parameters
    ----------
    place : Place
        The project and its stores.
    folder : Path
        Where the state before each step is kept.
    """

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self.folder = place, folder

    def undisturbed(self, steps: list[Step], report: Callable[[str], None]) -> History:
        """Run a history without any fault, keep the state before each of its steps, and return what it is like."""
        self.place.make()
        history = History(steps)
        for number, step in enumerate(steps):
            report(f"{number + 1}/{len(steps)} {step.name}")
            copy_place(self.place.root, self.folder / str(number))
            (self.folder / f"{number}.json").write_text(json.dumps(self._results(history)))
            status, answer = self._wait(self._fork(step, self._results(history), traced=True), LONGEST)
            if status != 0:
                raise DrillError(f"{step.name} fails without any fault: {self._log()}")
            if answer["outcome"] not in ("done", step.refused):
                raise DrillError(f"{step.name} ends with {answer['outcome']}: {self._log()}")
            history.points.append(Counter(answer["points"]))
            history.answers.append(answer)
            history.views.append(self._view())
        return history

    def try_fault(self, history: History, reached: Reached, fault: str) -> str:
        """Run a step with a fault, then as often as it takes, and raise DrillError unless all is as without it.

        Returns
        -------
        str
            How the attempt with the fault ended: ``raised``, ``killed``, ``stopped`` or ``went on``.
        """
        step = history.steps[reached.step]
        shutil.rmtree(self.place.root)
        copy_place(self.folder / str(reached.step), self.place.root)
        results = json.loads((self.folder / f"{reached.step}.json").read_text())
        child = self._fork(step, results, fault=f"{reached.point}:{fault}")
        ended = self._stopped(child, step, results) if fault == "stop" else self._failed(child, fault)
        expected = history.answers[reached.step]["outcome"]
        self._attempt_again(step, results, expected)
        if history.points[reached.step]["ledger.take_lease.before"]:
            # Who was killed while it sent keeps the others from sending for a while, which has passed now.
            self._wait(self._fork(Step("later", end_leases), {}), LONGEST)
            self._attempt_again(step, results, expected)
        view = self._view()
        differences = differing(history.views[reached.step], view)
        if differences:
            raise DrillError("; ".join(differences))
        return ended

    def _failed(self, child: int, fault: str) -> str:
        status, _ = self._wait(child, LONGEST)
        if fault == "kill":
            if status != -signal.SIGKILL:
                raise DrillError(f"was not killed at the point, and ended with {status}: {self._log()}")
            return "killed"
        return "raised" if status == RAISED else "went on"

    def _stopped(self, child: int, step: Step, results: Results) -> str:
        """Run a second attempt beside the first, which is stopped, and let that go on afterwards."""
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            raise DrillError(f"was not stopped at the point, and ended with {os.waitstatus_to_exitcode(status)}")
        second = self._fork(step, results)
        ended = self._ends_within(second, PATIENCE)
        os.kill(child, signal.SIGCONT)
        self._wait(child, LONGEST)
        if not ended:
            self._wait(second, LONGEST)
        return "stopped"

    def _attempt_again(self, step: Step, results: Results, expected: str) -> None:
        """Run a step as Airflow runs a task again.

        After an attempt that was whole it may find nothing left to do, and refuse: where the loop stands is compared
        afterwards. An error that trying again should mend, or one that is none of the loop's own, breaks the trial.
        """
        status, _ = self._wait(self._fork(step, results), LONGEST)
        if status != 0:
            raise DrillError(f"the next attempt ends with {status}, not with {expected}: {self._log()}")

    def _view(self) -> Any:
        """Return where the loop stands, seen by a process of its own that reconciles it and checks what must hold."""
        status, answer = self._wait(
            self._fork(Step("view", lambda workspace, _: seen(self.place, workspace)), {}), LONGEST
        )
        if status != 0:
            raise DrillError(f"what must hold does not: {self._log()}")
        return answer["result"]

    def _results(self, history: History) -> Results:
        named = zip(
            (step.name for step in history.steps), (answer["result"] for answer in history.answers), strict=False
        )
        return {name: result for name, result in named if result is not None}

    def _fork(self, step: Step, results: Results, *, fault: str = "", traced: bool = False) -> int:
        """Run a step in a fork, and return its process id; its answer is left in a file of its own."""
        child = os.fork()
        if child:
            return child
        status = 1
        try:
            status = self._attempt(step, results, fault, traced)
        except BaseException:  # nothing of a fork may run on into the code of its parent
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _attempt(self, step: Step, results: Results, fault: str, traced: bool) -> int:
        log = os.open(self.folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ["AIRFLOW_HOME"] = str(self.place.home)
        points: list[str] = []
        if traced:
            fault_point.observers.append(points.append)
        os.environ[fault_point.VARIABLE] = fault
        sys.path.insert(0, str(self.place.root))
        try:
            result, outcome = step.run(self.place.open(), results), "done"
        except MlopsError as error:
            result, outcome = None, type(error).__name__
            traceback.print_exc()
            if fault or error.retryable:
                return RAISED if isinstance(error.__cause__, fault_point.InjectedError) else 1
        except fault_point.InjectedError:
            return RAISED
        answer = {"result": result, "outcome": outcome, "points": points, "modules": sorted(sys.modules)}
        (self.folder / f"{os.getpid()}.{ANSWER}").write_text(json.dumps(answer, default=str))
        return 0

    def _wait(self, child: int, seconds: float) -> tuple[int, Any]:
        """Return the exit code of an attempt, and its answer if it has one."""
        if not self._ends_within(child, seconds):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise DrillError(f"did not end within {seconds:g} s: {self._log()}")
        return self._status, self._answer(child)

    def _ends_within(self, child: int, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                self._status = os.waitstatus_to_exitcode(status)
                return True
            time.sleep(0.005)
        return False

    def _answer(self, child: int) -> Any:
        file = self.folder / f"{child}.{ANSWER}"
        if not file.exists():
            return None
        answer = json.loads(file.read_text())
        file.unlink()
        import_all(answer.pop("modules"))
        return answer

    def _log(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / LOG).read_text(errors="replace")[-1500:]
        return ""


def copy_place(source: Path, target: Path) -> None:
    """Copy a place; files of the lake are linked, which are written once, under a name of their own."""

    def copy_file(source: str, target: str) -> str:
        if "/lake/" in source and source.endswith((".parquet", ".json", ".skops")):
            os.link(source, target)
        else:
            shutil.copyfile(source, target)
            shutil.copymode(source, target)
        return target

    shutil.copytree(source, target, symlinks=True, copy_function=copy_file)


def import_all(names: list[str]) -> None:
    """Import what an attempt has imported, so that the next one, a fork of this process, need not."""
    for name in names:
        if name not in sys.modules and not name.startswith(MODULE):
            with contextlib.suppress(ImportError):
                import_module(name)


def seen(place: Place, workspace: Workspace) -> Any:
    """Reconcile a loop, check its invariants, and return where it stands, without times and addresses."""
    from tests.loop.invariants import assert_invariants, versions_in_registry

    reconcile(workspace)
    assert_invariants(workspace)
    state = workspace.state()
    recorded = [record for record in workspace.ledger.records() if record.kind not in ("notified", *REPEATED)]
    repeated = {essence(record) for record in workspace.ledger.records() if record.kind in REPEATED}
    records = sorted([*map(essence, recorded), *repeated])
    sent = place.root / SENT
    machine = state.machine
    return {
        "records": records,
        "aliases": workspace.registry.aliases(),
        "versions": sorted(versions_in_registry(workspace.loop.model)),
        "champion": state.champion.number if state.champion else None,
        "candidate": state.candidate.number if state.candidate else None,
        "rollout": [state.rollout.version.number, state.rollout.stage] if state.rollout else None,
        "in quarantine": sorted(state.quarantined),
        "a retrain is open": machine.open_decision is not None,
        "predictions": {key: rows_of(workspace, key) for key in sorted(state.scored)},
        "messages": sorted(set(sent.read_text().splitlines())) if sent.exists() else [],
    }


def end_leases(workspace: Workspace, _: Results) -> None:
    """End the leases of processes that were killed, as their time does."""
    ledger: Any = workspace.ledger
    with ledger._engine.begin() as connection:
        connection.execute(delete(LEASE))


def rows_of(workspace: Workspace, key: str) -> list[Any]:
    """Return the number of predictions of a partition, and their sum."""
    rows = workspace.predictions.read(key, version=workspace.state().scored[key].version)
    return [rows.num_rows, float(sum(rows.column("served").to_pylist())) if "served" in rows.schema.names else None]


def essence(record: Any) -> str:
    """Return the essence of a record, without numbers of other records, versions of tables, times and digests."""
    details = {name: value for name, value in record.to_json()["details"].items() if name in SAID}
    return json.dumps([record.kind, record.partition, details], sort_keys=True, default=str)


REPEATED = ("reproduced",)
"""Kinds of which every attempt records one: each is a look of its own."""
SAID = frozenset(
    (
        "action", "by", "candidate", "cause", "champion", "check", "column", "kind", "look", "model", "name", "passed",
        "previous", "quarantined", "retrain", "rows", "share", "stage", "trigger", "verdict",
    )
)  # fmt: skip
"""The fields of records that must be the same, whatever an attempt before has left."""


def differing(expected: Any, actual: Any) -> list[str]:
    """Return the differences between two views, a sentence each."""
    sentences = []
    for name, value in expected.items():
        if actual[name] == value:
            continue
        if isinstance(value, list):
            missing = list((Counter(map(str, value)) - Counter(map(str, actual[name]))).elements())
            more = list((Counter(map(str, actual[name])) - Counter(map(str, value))).elements())
            sentences.append(f"{name}: missing {missing[:3]}, in addition {more[:3]}")
        else:
            sentences.append(f"{name}: {actual[name]!r}, without the fault {value!r}")
    return sentences
