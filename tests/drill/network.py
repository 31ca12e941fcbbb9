"""A bad network before MLflow and S3: every kind of request of a loop disturbed, by ``make drill EVERY=1``.

A loop lives on a real MLflow server and a real S3 server, each behind a proxy. At every step each kind of request that
it makes is disturbed in an attempt of its own, once or for as long as the attempt goes on; then the task is tried again
on another machine, as Airflow does, until nothing is disturbed any more. In the end the loop must stand where it stands
without any fault, and its invariants must hold.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import MlopsError
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.ports.signing_keys import KeyFolder
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.child_processes import start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.faulty_proxy import FAULTS
from airflow_mlops.testing.free_ports import free_port
from tests.contracts.conftest import answers
from tests.drill.history import (
    SECRET,
    Place,
    Results,
    Step,
    acted,
    answered,
    decided,
    fields,
    ingested,
    rolled_out,
    trained,
    watched,
)
from tests.drill.numbers import HOUSE, RESULT, add_numbers
from tests.drill.trials import REPEATED, DrillError, differing, essence, rows_of
from tests.faulty_network import IMPATIENT, MLFLOW, Network, faulty_network, lake_in
from tests.loop.invariants import assert_invariants, versions_in_registry
from tests.loop.project import KEYS

DURATIONS: dict[str, int | None] = {"once": 1, "always": None}
"""How often a request of an attempt is disturbed: once, so that the client's own repetition passes, or each time."""
TRIED = (
    ("refused", "always"),
    ("unavailable before", "always"),
    ("unavailable after", "once"),
    ("unavailable after", "always"),
    ("slow", "once"),
    ("cut", "once"),
    ("cut", "always"),
    ("stale", "always"),
)
"""The faults, each with its duration."""
MOST_ATTEMPTS = 400


@dataclass
class Machines:
    """The machines on which attempts run: each has the project, the keys and the ledger, and nothing else yet."""

    root: Path
    network: Network
    attempts: int = 0

    def open(self, model: str) -> Workspace:
        """Return the stores of a model, opened by the next machine."""
        self.attempts += 1
        machine = self.root / "machines" / str(self.attempts)
        shutil.rmtree(machine.with_name(str(self.attempts - 1)), ignore_errors=True)
        stores = Stores(
            lake_in(self.network),
            f"sqlite:///{self.root / 'ledger.db'}",
            self.network.urls()[MLFLOW],
            scratch=machine,
            secret=SECRET,
            keys=KeyFolder(self.root / "keys"),
        )
        return open_workspace(Loop(**{**fields(labels=False), "model": model}), stores, root=self.root, actor="drill")


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Yield the address of an MLflow server of its own."""
    folder.mkdir(parents=True)
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "kept")),
        *("--allowed-hosts", f"127.0.0.1:{port}"),
    ]
    child = start_child("mlflow", command, dict(os.environ), folder / "server.log")
    try:
        wait_until_ready(child, lambda: answers(f"http://127.0.0.1:{port}/health"), timeout_seconds=120)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop_sessions([child.pid], patience_seconds=2)
        child.process.wait()


def life_on_a_network() -> Iterator[Step]:
    """Yield the history of a loop: a first champion, an alarm, a second champion in stages, a rollback."""
    for key in KEYS[:2]:
        yield from ingested(key)
    yield from decided(KEYS[1], "nightly")
    yield from trained(KEYS[1])
    yield from answered(KEYS[1], approve=True)
    yield from rolled_out(KEYS[1])
    for key in KEYS[2:4]:
        yield from ingested(key)
        yield from watched(key)
        yield from trained(key, passes=key == KEYS[3])
    yield from answered(KEYS[3], approve=True)
    yield from rolled_out(KEYS[3], 0, 1, 2)
    yield acted("rollback", to="1")


@dataclass
class Lived:
    """The life of a loop: how its disturbed attempts ended, where it stands, and its violations."""

    ended: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    view: Any = None


def live(machines: Machines, model: str, steps: Sequence[Step]) -> Lived:
    """Live through a history, each step of which is tried until no request of it is left to be disturbed."""
    lived, results = Lived(), Results()
    for number, step in enumerate(steps):
        try:
            take_step(machines, model, step, results, lived)
        except Exception as error:
            traceback.print_exc()
            lived.violations.append(f"{step.name} ({number}): {type(error).__name__}: {error}")
            return lived
    try:
        lived.view = standing(machines.open(model))
    except Exception as error:
        traceback.print_exc()
        lived.violations.append(f"what must hold does not: {type(error).__name__}: {error}")
    return lived


def take_step(machines: Machines, model: str, step: Step, results: Results, lived: Lived) -> None:
    """Try a step until an attempt is not disturbed, and note what must not be.

    Raises
    ------
    DrillError
        If the step does not end as it must, once nothing is disturbed any more.
    """
    for _ in range(MOST_ATTEMPTS):
        machines.network.begin_attempt(step.name)
        outcome, words = attempt(machines, model, step, results)
        disturbed = machines.network.end_attempt()
        if not disturbed:
            break
        lived.ended["went on" if outcome == "done" else "failed"] += 1
        if outcome not in ("done", "again", step.refused) and machines.network.fault() != "stale":
            # It claims that trying again is of no use: then it ends so without a fault, too. Who is given an old answer
            # cannot know, and refuses; a person starts the task again.
            later, _ = attempt(machines, model, step, results)
            if later != outcome:
                lived.violations.append(f"{step.name}: {disturbed}: {words}; and then {later}")
    else:
        raise DrillError(f"is disturbed in more than {MOST_ATTEMPTS} attempts")
    # After an attempt that was whole there may be nothing left to do.
    if outcome == "again" or (outcome not in ("done", step.refused) and step.name not in results):
        raise DrillError(f"ends with {outcome} although nothing is disturbed: {words}")


def attempt(machines: Machines, model: str, step: Step, results: Results) -> tuple[str, str]:
    """Run a step once; return ``done``, ``again`` or the name of the error that nobody retries, and its message."""
    try:
        result = step.run(machines.open(model), results)
    except MlopsError as error:
        return "again" if error.retryable else type(error).__name__, f"{type(error).__name__}: {error}"
    except Exception as error:  # Airflow tries again after an error that is none of the loop's own
        return "again", f"! {type(error).__name__}: {error}"
    results[step.name] = json.loads(json.dumps(result, default=str))
    return "done", ""


def standing(workspace: Workspace) -> Any:
    """Reconcile a loop, check its invariants, and return where it stands, without times and addresses."""
    reconcile(workspace)
    assert_invariants(workspace)
    state = workspace.state()
    # A request that was carried out twice has left a ghost, which has a number: versions are counted without ghosts.
    versions = sorted(versions_in_registry(workspace.loop.model, workspace.ports.addresses.registry), key=int)
    ordinal = {number: str(count) for count, number in enumerate(versions, start=1)}
    return {
        "records": sorted(
            plain_essence(record, ordinal) for record in workspace.ledger.records() if record.kind not in REPEATED
        ),
        "aliases": {alias: ordinal[number] for alias, number in workspace.registry.aliases().items()},
        "versions": list(ordinal.values()),
        "champion": ordinal[state.champion.number] if state.champion else None,
        "in quarantine": sorted(ordinal[number] for number in state.quarantined),
        "predictions": {key: rows_of(workspace, key) for key in sorted(state.scored)},
    }


def plain_essence(record: Record[Any], ordinal: dict[str, str]) -> str:
    """Return the essence of a record, with its versions by their ordinals.

    Which rows a challenger serves follows from its number, so their count in an analysis is left out.
    """
    kind, partition, details = json.loads(essence(record))
    if kind == "stage_analysed":
        del details["rows"]
    numbered = {name: ordinal.get(details[name], details[name]) for name in ("champion", "previous") if name in details}
    return json.dumps([kind, partition, details | numbered], sort_keys=True)


def drill(machines: Machines, chosen: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Live through the history without any fault and with each of those chosen, and return the numbers."""
    expected = live(machines, "undisturbed", list(life_on_a_network()))
    if expected.view is None:
        raise DrillError(f"fails without any fault: {expected.violations}")
    tried, ended, kinds = dict[str, int](), Counter[str](), set[str]()
    violations: list[str] = []
    for fault, duration in chosen:
        began, name = time.monotonic(), f"{fault}, {duration}"
        machines.network.begin_sweep(fault, DURATIONS[duration])
        lived = live(machines, name.replace(", ", "-").replace(" ", "-"), list(life_on_a_network()))
        places = machines.network.tried()
        machines.network.end_sweep()
        if lived.view is not None:
            lived.violations += differing(expected.view, lived.view)
        tried[name] = len(places)
        kinds |= {kind for _, kind in places}
        ended.update(lived.ended)
        violations += [f"{name}: {words}" for words in lived.violations]
        print(
            f"{name}: {len(places)} requests disturbed in {time.monotonic() - began:.0f} s, which ended "
            f"{dict(sorted(lived.ended.items()))}; {len(lived.violations)} violations",
            flush=True,
        )
    return {
        "tried": sum(tried.values()),
        "faults": tried,
        "requests": len(kinds),
        "ended": dict(sorted(ended.items())),
        "violations": violations,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Disturb every kind of request, add the numbers to those of the drill; return 1 if anything broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill.network", description=__doc__.partition("\n")[0])
    parser.add_argument("--fault", choices=FAULTS, action="append", help="only these faults")
    arguments = parser.parse_args(argv)
    os.environ.update(IMPATIENT)
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    folder = Path(tempfile.mkdtemp(prefix="airflow-mlops-network-"))
    Place(folder).make()
    sys.path.insert(0, str(folder))
    try:
        with mlflow_server(folder / "mlflow") as url, faulty_network(url) as network:
            chosen = [(fault, duration) for fault, duration in TRIED if fault in (arguments.fault or FAULTS)]
            result = drill(Machines(folder, network), chosen)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    add_numbers({"network": result})
    for violation in result["violations"]:
        print(f"VIOLATION: {violation}")
    print(
        f"{result['tried']} requests of {result['requests']} kinds disturbed {result['faults']}, which ended "
        f"{result['ended']}; {len(result['violations'])} violations; in {RESULT.relative_to(HOUSE)}"
    )
    return 1 if result["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
