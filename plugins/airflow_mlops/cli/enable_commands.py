"""The commands ``airflow-mlops enable`` and ``disable``: unpause or pause all Dags of a loop in one process."""

from __future__ import annotations

import argparse
import getpass
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_mlops.cli.loop_argument import add_command, loop_of
from airflow_mlops.core.errors import DeclarationError, NotReadyError
from airflow_mlops.ui.airflow_facts import DAGS

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

    from airflow_mlops.cli.loop_argument import Commands
    from airflow_mlops.core.declaration.loop import Loop


def add_commands(commands: Commands) -> None:
    """Add the commands of this module to those of the command line."""
    words = "unpause the Dags of a loop, those that listen before those that they hear"
    command = add_command(commands, "enable", enable, words)
    command.add_argument(
        "--past", action="store_true", help="also ingest the partitions that the source has since data.from, in order"
    )
    command.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="how long to wait for Airflow to read new Dags"
    )
    words = "pause the Dags of a loop, those that are heard before those that listen"
    add_command(commands, "disable", disable, words)


def enable(args: argparse.Namespace) -> None:
    """Unpause the Dags of a loop, and queue its past partitions if asked."""
    # Before Airflow is imported, which logs two lines for each run that is queued.
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")
    loop = loop_of(args)
    wait_for_dags(dag_ids(loop.model), args.wait)
    set_paused(dag_ids(loop.model), paused=False)
    if args.past:
        first, last = past_partitions(loop, args.root.resolve())
        backfill(loop, first, last)
        print(f"queued {loop.model}_ingest for each partition from {first} to {last}, the oldest first")
        night = loop.train.partitions_needed
        print(f"the first training: when {night} are published and the nightly Dag runs, or: {trigger_command(loop)}")


def disable(args: argparse.Namespace) -> None:
    """Pause the Dags of a loop."""
    set_paused(dag_ids(loop_of(args).model)[::-1], paused=True)


def trigger_command(loop: Loop) -> str:
    """Return the command that asks for a training now."""
    return f"airflow dags trigger {loop.model}_train"


def dag_ids(model: str) -> list[str]:
    """Return the ids of the Dags of a loop, consumers first."""
    return [f"{model}_{end}" for end in DAGS]


def wait_for_dags(ids: Sequence[str], seconds: float) -> None:
    """Wait until Airflow knows all of some Dags, at most so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and known_dags(ids) < len(ids):
        time.sleep(0.5)


def known_dags(ids: Sequence[str]) -> int:
    """Return how many of some Dags Airflow has read; 0 where its database has no tables yet."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import func, select

    query = select(func.count()).where(DagModel.dag_id.in_(ids), DagModel.is_stale.is_(False))
    try:
        with explain_missing_tables(), create_session() as session:
            return session.scalar(query) or 0
    except NotReadyError:
        return 0


def set_paused(ids: Sequence[str], *, paused: bool) -> None:
    """Pause or unpause Dags, one after another, and print what was done to each.

    Raises
    ------
    NotReadyError
        At the end, if Airflow knows not all of them; names those, and what to do.
    """
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session

    unknown = []
    with explain_missing_tables(), create_session() as session:
        for dag_id in ids:
            dag = session.get(DagModel, dag_id)
            if dag is None or dag.is_stale:
                unknown.append(dag_id)
                continue
            was = dag.is_paused
            if was != paused:
                dag.is_paused = paused
                record_action(session, dag_id, "pause" if paused else "unpause")
                # Each by itself: a process that is killed in between has lost no event.
                session.commit()
            print(
                f"{dag_id:<32}  {describe_change(was=was, paused=paused)}{describe_open_runs(session, dag_id, paused)}"
            )
    if unknown:
        raise NotReadyError(
            f"Airflow does not know {', '.join(unknown)}: the dag-processor has not read the Dag file, or failed to; "
            "wait half a minute, look at `airflow dags list-import-errors`, and see that dags/ of this project is the "
            "Dags folder of the Airflow in AIRFLOW_HOME"
        )


def describe_change(*, was: bool, paused: bool) -> str:
    """Return the new state of a Dag as text, or that it had it already."""
    state = "paused" if paused else "enabled"
    return f"was {state} already" if was == paused else state


def describe_open_runs(session: Session, dag_id: str, paused: bool) -> str:
    """Return a warning for a Dag that is paused while a run of it is under way; an empty text otherwise."""
    from airflow.models.dagrun import DagRun
    from sqlalchemy import func, select

    if not paused:
        return ""
    query = select(func.count()).where(DagRun.dag_id == dag_id, DagRun.state == "running")
    count = session.scalar(query) or 0
    return f"; {count} under way: its tasks go on, and what they emit is not heard before enable" if count else ""


def record_action(session: Session, dag_id: str, action: str) -> None:
    """Add an entry to Airflow's audit log, as ``airflow dags pause`` does."""
    from airflow.models.log import Log

    person = getpass.getuser()
    session.add(Log(f"cli_{action}", None, person, person, "airflow-mlops", dag_id=dag_id))


@contextmanager
def explain_missing_tables() -> Iterator[None]:
    """Turn the error of a metadata database without tables into one that says what to do.

    Raises
    ------
    NotReadyError
        If the database cannot be asked.
    """
    from sqlalchemy.exc import OperationalError, ProgrammingError

    try:
        yield
    except (OperationalError, ProgrammingError) as error:
        reason = str(error.orig).splitlines()[0]
        raise NotReadyError(
            f"Airflow's database cannot be asked ({reason}): start `airflow standalone` once, or run `airflow db "
            "migrate`, with the AIRFLOW_HOME of this command"
        ) from None


def past_partitions(loop: Loop, root: Path) -> tuple[str, str]:
    """Return the keys of the first declared partition and of the newest one that the source has in full.

    Raises
    ------
    DeclarationError
        If no first partition is declared.
    SourceMissingError
        If the source has none since then.
    """
    from airflow_mlops.core.dry_run.newest_partition import newest_partition
    from airflow_mlops.hooks.workspace import WorkspaceHook

    data = loop.data
    if data.first_moment is None:
        raise DeclarationError("is not declared, so the past has no beginning; declare the first tick", key="data.from")
    now = datetime.fromtimestamp(time.time(), UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    source = WorkspaceHook().workspace(loop, root=root, actor="nobody").source
    # The partition of the newest rows may still be open.
    last = min(newest_partition(loop, source, now), data.schedule.tick_by(now), data.last_moment or "9999")
    return data.schedule.closing(data.first_moment), last


def backfill(loop: Loop, first: str, last: str) -> None:
    """Queue an ingest run for each partition between two keys that has none, by Airflow's own backfill.

    Raises
    ------
    NotReadyError
        If Airflow refuses, as while another backfill of the Dag is under way.
    """
    from airflow.models.backfill import NoBackfillRunsToCreate, ReprocessBehavior, _create_backfill
    from airflow.sdk.exceptions import AirflowException

    # Airflow reads the bounds on the clock of the timetable, whichever zone they state.
    bounds = [loop.data.schedule.local(key).replace(tzinfo=UTC) for key in (first, last)]
    dag_id = f"{loop.model}_ingest"
    try:
        _create_backfill(
            dag_id=dag_id,
            from_date=bounds[0],
            to_date=bounds[1],
            max_active_runs=1,
            reverse=False,
            dag_run_conf=None,
            triggering_user_name=getpass.getuser(),
            reprocess_behavior=ReprocessBehavior.NONE,
        )
    except (AirflowException, NoBackfillRunsToCreate) as error:
        raise NotReadyError(f"the past partitions of {dag_id} were not queued: {error}") from None
