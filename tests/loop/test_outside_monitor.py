"""A monitor outside wakes the loop: its trigger, its alarms in the ledger, and the one training that follows."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.triggers.outside_monitor import OutsideMonitorTrigger
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, make_project, states
from tests.unit.core.sources.small_service import Answer, SmallService, small_service

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "wake-the-loop-from-outside.md"


def dag_of_the_page(model: str) -> str:
    """Return the Dag that the page shows, for a loop of another name."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return str(code).replace("bakery", model)


@contextmanager
def monitor(monkeypatch: pytest.MonkeyPatch, *answers: Answer) -> Iterator[SmallService]:
    """Serve these answers, one after another and the last of them for ever, as the connection ``monitor``."""
    left = list(answers)

    def answer(_path: str, _headers: Mapping[str, str]) -> Answer:
        return left.pop(0) if len(left) > 1 else left[0]

    with small_service(answer) as service:
        connection = {
            "conn_type": "http",
            "host": "127.0.0.1",
            "port": service.port,
            "login": "loop",
            "password": "secret",
            "extra": {"trust_env": False, "X-Tenant": "shops"},
        }
        monkeypatch.setenv("AIRFLOW_CONN_MONITOR", json.dumps(connection))
        yield service


def listing(*ids: str, **fields: Any) -> Answer:
    """Return an answer that lists alarms."""
    return Answer(json.dumps({"alarms": [{"id": id_, "message": f"found {id_}", **fields} for id_ in ids]}).encode())


def events_of(trigger: OutsideMonitorTrigger, count: int, *, within: float = 20.0) -> list[Any]:
    """Return the ids of the alarms of a trigger's first events."""

    async def collected() -> list[Any]:
        events = []
        async with asyncio.timeout(within):
            async for event in trigger.run():
                events.append([alarm["id"] for alarm in event.payload["alarms"]])
                if len(events) == count:
                    break
        return events

    return asyncio.run(collected())


def test_alarms_that_are_new_come_as_one_event_and_those_that_stay_listed_as_none(
    airflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [listing("a", "b"), listing("a", "b"), listing("b", "c"), listing("c"), listing("c", "a")]
    with monitor(monkeypatch, *answers) as service:
        trigger = OutsideMonitorTrigger(conn_id="monitor", path="/v1/alarms?open=1", poll_seconds=0.0)
        assert events_of(trigger, 3) == [["a", "b"], ["c"], ["a"]]
        path, headers = service.requests[0]
    assert path == "/v1/alarms?open=1"
    assert headers["authorization"].startswith("Basic ")
    assert headers["x-tenant"] == "shops"


@pytest.mark.parametrize(
    "broken",
    [
        Answer(b"<html>down</html>"),
        Answer(b"", status=503),
        Answer(b"", status=401),
        Answer(b"", status=204),
        Answer(b"", status=302, headers={"Location": "http://127.0.0.1:1/elsewhere"}),
        Answer(b"x" * (2 << 20)),
        Answer(b'[{"id"', length=1000),
        Answer(b'{"alarms": "many"}'),
    ],
    ids=["no JSON", "broken", "refused", "nothing", "elsewhere", "too much", "cut off", "no list"],
)
def test_a_monitor_that_breaks_is_asked_again_and_its_listed_alarms_are_not_told_twice(
    airflow_home: Path, monkeypatch: pytest.MonkeyPatch, broken: Answer
) -> None:
    told_again = [] if broken.status != 204 else ["a"]  # a monitor that lists nothing has let go of them
    with monitor(monkeypatch, listing("a"), broken, listing("a", "b")):
        events = events_of(OutsideMonitorTrigger(conn_id="monitor", poll_seconds=0.0), 2)
    assert events == [["a"], [*told_again, "b"]]


def test_a_connection_that_is_not_there_yet_is_asked_for_again(
    airflow_home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trigger = OutsideMonitorTrigger(conn_id="monitor", poll_seconds=0.01)
    with pytest.raises(TimeoutError):
        events_of(trigger, 1, within=0.3)
    assert caplog.text.count("Airflow has no connection 'monitor'") == 1
    with monitor(monkeypatch, listing("a")):
        assert events_of(trigger, 1) == [["a"]]


def hear_the_monitor(project: Project) -> None:
    """Run the trigger that Airflow keeps for the watched asset until its first event, and hand that event on."""
    from airflow.models.asset import AssetModel
    from airflow.models.trigger import Trigger
    from airflow.sdk._shared.module_loading import import_string
    from sqlalchemy import select

    from airflow_mlops.testing.metadata import session_scope

    async def first(trigger: Any) -> Any:
        async with asyncio.timeout(20):
            return await anext(aiter(trigger.run()))

    with session_scope() as session:
        asset = session.scalar(select(AssetModel).where(AssetModel.name == f"{project.model}_alarms"))
        assert asset is not None
        (row,) = asset.triggers
        event = asyncio.run(first(import_string(row.classpath)(**row.kwargs)))
        Trigger.submit_event(row.id, event, session=session)


def test_alarms_of_a_monitor_that_is_watched_or_calls_become_one_training(
    tmp_path: Path, start_scheduler: SchedulerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, watch={})
    (project.dags / "outside.py").write_text(dag_of_the_page(project.model))
    project.seed(KEYS[:2])
    project.put(KEYS[2])
    project.publish(KEYS[2])
    score_partition(project.workspace, KEYS[2])
    assert not decide_and_record(project.workspace, KEYS[2], trigger="watch").details.retrain
    scheduler = start_scheduler(project.dags)
    scheduler.sync()  # an asset is watched once a Dag that is not paused asks for it
    scheduler.pause(project.dag("rollout"))
    with monitor(monkeypatch, listing("a1", "a2")) as service:
        hear_the_monitor(project)
        scheduler.run_until_idle()
        hear_the_monitor(project)  # a triggerer that was started anew tells all of it again
        scheduler.run_until_idle()
    # What another program sends over Airflow's API is heard by the same Dag.
    scheduler.emit(f"https://monitor/{project.model}", alarms=[{"id": "a3", "message": "found a3"}], from_rest_api=True)
    scheduler.run_until_idle()
    assert set(service.paths) == {f"/alarms?model={project.model}"}
    assert scheduler.failures() == []
    recorded = [(record.partition, record.details.message) for record in project.of_kind("window_judged")]
    assert recorded == [(KEYS[2], "found a1; found a2"), (KEYS[2], "found a3 and 2 more")]
    decided = [record for record in project.of_kind("retrain_decided") if record.details.trigger == "outside"]
    assert [(record.partition, record.details.cause) for record in decided] == [
        (KEYS[2], "alarm: outside"),
        (KEYS[2], "joined"),
    ]
    (started,) = [record for record in project.of_kind("training_started") if record.partition == KEYS[2]]
    assert started.details.decision == decided[0].sequence
    assert [run.partition_key for run in scheduler.dag_runs(project.dag("train"))] == [KEYS[2]]
    dag_id = f"{project.model}_outside"
    assert [run.partition_key for run in scheduler.dag_runs(dag_id)] == [None] * 3
    assert states(scheduler, dag_id) == {"record": "success", "decide": "success", "wake": "skipped"}
    assert_invariants(project.workspace)
