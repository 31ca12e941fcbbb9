"""A loop whose every connection holds a secret, by ``python -m tests.loop.canary_history FOLDER S3 WEBHOOK``.

It lives in a process of its own, since Airflow sets up lineage and tracing once. Rows are in PostgreSQL, the ledger as
well, the lake is in S3. It goes to its first champion, then each service refuses in turn. The answer on standard output
is JSON: the states of the tasks by phase, the errors, and the ledger.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.testing.airflow_home import isolate_airflow
from airflow_mlops.testing.embedded_postgres import EmbeddedPostgres
from tests.loop.traced_history import SETTINGS

if TYPE_CHECKING:
    from tests.loop.project import Project

CONTRACT = """
contract: shop
key: id
time: at
columns:
  id: {type: text, nullable: false}
  at: {type: time, zone: UTC}
  x1: {type: float}
  x2: {type: float}
  place: {type: text, mask: true}
  y: {type: float}
"""
CANARY = "canary0f7d3c"
"""The beginning of each planted secret; no hash and no name has it by chance."""
WATCH = {"drift": {"alarm_rate": 0.001}, "performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20}}
ROLLOUT = {"stages": [{"shadow": 100}, {"live": 100}], "margin": 0.25, "min_rows": 20}
CHAT = {"kind": "webhook", "conn_id": "chat"}
CLOSED = 1
"""A port of loopback on which nobody listens."""


def canary(place: str) -> str:
    """Return the secret of a connection."""
    return f"{CANARY}-{place}"


def connect(conn_id: str, **fields: Any) -> None:
    """Write a connection into the environment; its password is a canary unless it is given."""
    described = {"password": canary(conn_id.replace("_", "-")), "login": "ann", **fields}
    os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(described)


def sell(uri: str, key: str, **made: Any) -> None:
    """Put the rows of a week into the table of the shop."""
    import psycopg

    from tests.loop.project import week

    rows = [tuple((row | {"at": row["at"].replace(tzinfo=UTC)}).values()) for row in week(key, **made).to_pylist()]
    with psycopg.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.executemany("insert into sales values (%s, %s, %s, %s, %s, %s)", rows)


def refusals(s3: dict[str, Any], database: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the connections with which a service refuses, by the connection that is replaced."""
    shop = {**database, "extra": {}, "host": "127.0.0.1", "port": CLOSED, "schema": "shop"}
    store = {**s3, "extra": {**s3["extra"], "endpoint_url": f"http://127.0.0.1:{CLOSED}"}}
    address = f"http://ann:{canary('mlops-registry')}@127.0.0.1:{CLOSED}"
    return {
        "mlops_signing": {"conn_type": "generic"},  # its password is a canary and no key
        "mlops_registry": {"conn_type": "http", "host": address},
        "mlops_lake": store,
        "mlops_ledger": {**shop, "schema": "ledger"},
        "warehouse": shop,
    }


@dataclass(frozen=True)
class Services:
    """The services of the loop: a PostgreSQL with its shop, an S3 and a receiver of messages, by their connections."""

    server: EmbeddedPostgres
    endpoint: str
    chat: str

    @property
    def database(self) -> dict[str, Any]:
        """The connection to the PostgreSQL, without the name of a database."""
        return {"conn_type": "postgres", "login": "postgres", "extra": {"host": self.server.socket_folder}}

    @property
    def store(self) -> dict[str, Any]:
        """The connection to the lake."""
        place = {"region_name": "us-east-1", "endpoint_url": self.endpoint, "path": "s3://lake/in"}
        return {"conn_type": "aws", "extra": place}

    @property
    def shop(self) -> str:
        """The address of the shop."""
        return self.server.uri("shop", "psycopg").replace("postgresql+psycopg", "postgresql")

    def connect(self) -> None:
        """Write the connection of each into the environment, with its canary."""
        connect("warehouse", **self.database, schema="shop")
        connect("mlops_ledger", **self.database, schema="ledger")
        connect("mlops_lake", **self.store)
        connect("mlops_privacy", conn_type="generic")
        connect("chat", conn_type="http", host=self.chat, extra={"trust_env": False})


def shop_project(folder: Path) -> Project:
    """Return a loop over the shop whose messages go to the chat."""
    from tests.loop.project import make_project

    notify = {kind: [CHAT] for kind in ("promoted", "alarm", "failed", "refused")}
    project = make_project(folder, watch=WATCH, rollout=ROLLOUT, notify=notify)
    source = {"kind": "sql", "conn_id": "warehouse", "table": "sales"}
    project.fields["data"] |= {"source": source, "contract": "include/contract.yaml"}
    (project.root / "include" / "contract.yaml").write_text(CONTRACT)
    (project.root / "include" / "loops" / f"{project.model}.yaml").write_text(json.dumps(project.fields))
    return project


def live(project: Project, services: Services) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Run the loop to its first champion, and on while each service refuses in turn.

    Returns
    -------
    phases : dict
        The number of tasks by their state, of each phase.
    errors : list of str
        The errors of the tasks that failed.
    """
    from tests.loop.forked_tasks import ForkingScheduler
    from tests.loop.project import KEYS

    states: Counter[str] = Counter()
    phases: dict[str, dict[str, int]] = {}
    with ForkingScheduler(project.dags) as scheduler:

        def end_phase(name: str) -> None:
            now = Counter(str(task.state) for task in scheduler.task_instances())
            phases[name] = dict(now - states)
            states.update(now - states)

        for number, key in enumerate(KEYS[:3]):
            sell(services.shop, key)
            project.ingest(scheduler, key)
            if number == 1:
                project.at_night(scheduler, key)
        end_phase("success")
        for number, (conn_id, refusing) in enumerate(refusals(services.store, services.database).items(), start=3):
            name = f"AIRFLOW_CONN_{conn_id.upper()}"
            kept = os.environ.pop(name, None)
            sell(services.shop, KEYS[number], level=6.0)
            connect(conn_id, **refusing)
            project.ingest(scheduler, KEYS[number])
            scheduler.trigger(project.dag("train"), partition_key=KEYS[2])
            scheduler.run_until_idle()
            end_phase(conn_id)
            del os.environ[name]
            os.environ.update({} if kept is None else {name: kept})
        return phases, [text for _, text in scheduler.failures()]


def run_loop(folder: Path, endpoint: str, chat: str) -> dict[str, Any]:
    """Run the loop below a folder; return the states of its tasks by phase, the errors and the ledger."""
    import psycopg

    from airflow_mlops.hooks.workspace import WorkspaceHook

    server = EmbeddedPostgres(folder / "pg", ["shop", "ledger"])
    server.start()
    services = Services(server, endpoint, chat)
    columns = "id text, at timestamptz, x1 double precision, x2 double precision, place text, y double precision"
    with psycopg.connect(services.shop, autocommit=True) as connection:
        connection.execute(f"create table sales ({columns})")
    services.connect()
    project = shop_project(folder / "project")
    phases, errors = live(project, services)
    project.stores = WorkspaceHook().stores()
    ledger = [record.stored for record in project.records]
    server.stop()
    return {"phases": phases, "errors": errors, "ledger": ledger}


def main() -> None:
    """Run the loop below a folder."""
    folder, endpoint, chat = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the tasks print is no answer
    isolate_airflow(folder / "airflow")
    os.environ.update(SETTINGS)
    from airflow_mlops.testing.metadata import create_metadata

    create_metadata()
    (folder / "project").mkdir()
    answers.write(json.dumps(run_loop(folder, endpoint, chat)))
    answers.close()


if __name__ == "__main__":
    main()
