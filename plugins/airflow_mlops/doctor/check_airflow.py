"""Checks of Airflow: its executor, databases that are files, the scheduler's warmth, and the Dags of loops."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from airflow_mlops.core.errors import MlopsError
from airflow_mlops.doctor.diagnosis import OK, WARNING, WRONG, Finding, Surroundings

LOCAL = "LocalExecutor"
PROCESSES = Path("/proc")


def is_local() -> bool:
    """Return whether all tasks are forks of a scheduler of this machine."""
    from airflow.configuration import conf

    return str(conf.get("core", "executor")).rpartition(".")[2] == LOCAL


def check_executor(_surroundings: Surroundings) -> Iterator[Finding]:
    """Yield which executor runs tasks, and whether the stores on this machine reach its workers."""
    from airflow.configuration import conf

    from airflow_mlops.hooks.workspace import WorkspaceHook, lake_of

    executor = conf.get("core", "executor")
    if is_local():
        yield Finding("executor", OK, f"{executor}: all tasks run on this machine")
        return
    yield Finding("executor", OK, executor)
    hook = WorkspaceHook()
    lake = hook.find_connection("mlops_lake")
    remedy = "airflow connections add {} --conn-json JSON"
    if _ledger_is_file():
        seen = f"the ledger is a SQLite file on this machine, and workers of {executor} may run on others"
        yield Finding("executor", WRONG, seen, remedy.format("mlops_ledger"))
    if lake is None:
        seen = f"the lake is a folder of this machine's AIRFLOW_HOME, and workers of {executor} may run on others"
        yield Finding("executor", WRONG, seen, remedy.format("mlops_lake"))
    elif lake_of(lake).is_local:
        seen = f"the lake is the folder {lake_of(lake).uri}, which every worker of {executor} must share"
        yield Finding("executor", WARNING, seen, remedy.format("mlops_lake"))


def _ledger_is_file() -> bool:
    from airflow_mlops.hooks.workspace import WorkspaceHook

    try:
        return WorkspaceHook().existing_ledger_url().drivername == "sqlite"
    except MlopsError:  # a file that is not there yet
        return True


def check_database(_surroundings: Surroundings) -> Iterator[Finding]:
    """Yield whether Airflow's own database answers, and whether it is a file that its processes lock for each other."""
    from airflow.configuration import conf
    from airflow.utils.session import create_session
    from sqlalchemy import make_url, text
    from sqlalchemy.exc import SQLAlchemyError

    url = make_url(conf.get("database", "sql_alchemy_conn"))
    shown = url.render_as_string(hide_password=True)
    try:
        with create_session() as session:
            session.execute(text("SELECT 1 FROM dag LIMIT 1"))
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        yield Finding("database", WRONG, f"Airflow's database {shown} cannot be read: {reason}", "airflow db migrate")
        return
    if url.drivername.startswith("sqlite"):
        seen = (
            f"Airflow's database is the file {url.database}: its scheduler, Dag processor, API server and tasks are "
            "several processes and wait for each other's locks; good for a try"
        )
        remedy = "export AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql+psycopg2://USER:PASSWORD@HOST/airflow"
        yield Finding("database", WARNING, seen, remedy)
    else:
        yield Finding("database", OK, f"Airflow's database is {shown}")
    yield from _shared_ledger()


def _shared_ledger() -> Iterator[Finding]:
    """Yield that the ledger is a file which tasks of this machine lock for each other, if it is one."""
    from airflow.configuration import conf

    tasks = conf.getint("core", "parallelism")
    if is_local() and tasks > 1 and _ledger_is_file():
        seen = f"the ledger is a SQLite file, and up to {tasks} tasks at once wait for its lock; good for a try"
        yield Finding("database", WARNING, seen, "airflow connections add mlops_ledger --conn-json JSON")


def check_dags(surroundings: Surroundings) -> Iterator[Finding]:
    """Yield the Dags of declared loops that are paused, and loops of which Airflow has no Dag."""
    from airflow.utils.session import create_session
    from sqlalchemy.exc import SQLAlchemyError

    from airflow_mlops.ui.airflow_facts import loop_facts

    if not surroundings.loops:
        return
    try:
        with create_session() as session:
            facts = loop_facts(session, list(surroundings.loops))
    except SQLAlchemyError:
        return  # the check of Airflow's database names what is wrong with it
    for model in surroundings.loops:
        loop = facts.get(model)
        if loop is None:
            seen = f"Airflow has no Dag of {model}: its Dag file is not in the Dags folder, or was not read yet"
            yield Finding("dags", WARNING, seen, "airflow dags list-import-errors")
            continue
        for dag_id in loop.paused:
            yield Finding("dags", WARNING, f"{dag_id} is paused: nothing starts it", f"airflow dags unpause {dag_id}")
        if not loop.paused:
            yield Finding("dags", OK, f"{model} has {len(loop.dags)} Dags, none of them paused")


def check_pools(surroundings: Surroundings) -> Iterator[Finding]:
    """Yield the declared pools that Airflow lacks, or with fewer slots than a task takes: it never starts."""
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    most: dict[str, int] = {}
    for loop in surroundings.loops.values():
        for name, slots in ({} if loop.resources is None else loop.resources.pools()).items():
            most[name] = max(most.get(name, 1), slots)
    if not most:
        return
    try:
        with create_session() as session:
            sizes = dict(session.execute(select(Pool.pool, Pool.slots)).all())
    except SQLAlchemyError:
        return  # the check of Airflow's database names what is wrong with it
    for name, slots in sorted(most.items()):
        remedy = f"airflow pools set {shlex.quote(name)} {max(slots, 4)} 'tasks of loops'"
        if name not in sizes:
            yield Finding("pools", WRONG, f"Airflow has no pool {name!r}, so tasks that take it never start", remedy)
        elif 0 <= sizes[name] < slots:
            seen = f"pool {name!r} has {sizes[name]} slots, and a task takes {slots}, so it never starts"
            yield Finding("pools", WRONG, seen, remedy)
        else:
            yield Finding("pools", OK, f"pool {name!r} has {sizes[name]} slots; a task takes {slots} at most")


def check_warmth(_surroundings: Surroundings) -> Iterator[Finding]:
    """Yield whether a scheduler of this machine, whose workers are its forks, has imported what tasks need."""
    if not is_local():
        yield Finding("workers", OK, "workers are no forks of the scheduler")
        return
    kinds = {kind for kind in map(scheduler_kind, command_lines()) if kind}
    if "cold" in kinds:
        seen = "a scheduler runs that has imported nothing, so every task imports for seconds"
        yield Finding(
            "workers", WARNING, seen, "python -m airflow_mlops.warm_scheduler   # instead of: airflow scheduler"
        )
    elif kinds:
        yield Finding("workers", OK, "the scheduler has imported what tasks need")
    else:
        yield Finding("workers", OK, "no scheduler of this AIRFLOW_HOME runs on this machine")


def command_lines() -> Iterator[list[str]]:
    """Yield the command lines of the processes that this user can see, and whose AIRFLOW_HOME is this one."""
    for process in PROCESSES.glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
            variables = (process / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has ended, or is not ours to see
        home = next((line.partition("=")[2] for line in variables if line.startswith("AIRFLOW_HOME=")), None)
        if home == os.environ.get("AIRFLOW_HOME"):
            yield command


def scheduler_kind(command: list[str]) -> str | None:
    """Return ``warm`` or ``cold`` for the command line of a scheduler, and None for any other.

    >>> scheduler_kind(["python", "-m", "airflow_mlops.warm_scheduler"])
    'warm'
    >>> scheduler_kind(["/usr/bin/python", "/usr/bin/airflow", "scheduler"])
    'cold'
    >>> scheduler_kind(["airflow", "dag-processor"])
    """
    if "airflow_mlops.warm_scheduler" in command:
        return "warm"
    names = [Path(word).name for word in command]
    return "cold" if "airflow" in names and "scheduler" in command else None
