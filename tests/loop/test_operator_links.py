"""The buttons of tasks in the Airflow UI lead to the page of the model, and say nothing where there is no server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow.models.xcom import XComModel
from sqlalchemy import select

from airflow_mlops.operators.links import MlflowRunLink, MlflowVersionLink, ModelPageLink
from airflow_mlops.testing.metadata import session_scope
from tests.loop.airflow_pages import airflow_client, token
from tests.loop.project import KEYS, make_project, night

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory


def links_of(dag_id: str, key: str) -> dict[str, str]:
    """Return the addresses that Airflow has stored for a button, by task."""
    query = select(XComModel).where(XComModel.dag_id == dag_id, XComModel.key == key)
    with session_scope() as session:
        return {row.task_id: XComModel.deserialize_value(row) for row in session.scalars(query)}


def test_tasks_that_a_person_looks_at_lead_to_the_page_of_their_model(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path, gates=[{"metric": "mae", "at_most": 0.0001}])
    scheduler = start_scheduler(project.dags)
    for key in KEYS[:2]:
        project.put(key)
        project.publish(key)
    scheduler.trigger(project.dag("nightly"), partition_key=night(KEYS[1]))
    scheduler.run_until_idle()
    train = project.dag("train")
    page = f"/airflow-mlops/models/{project.model}"
    assert links_of(train, ModelPageLink().xcom_key) == {"evaluate": page, "gate": page}
    failed = [task.task_id for task, _ in scheduler.failures()]
    assert "gate" in failed
    # MLflow is a database here, which has no pages.
    assert links_of(train, MlflowRunLink().xcom_key) == {"evaluate": ""}
    with airflow_client() as client:
        run = scheduler.dag_runs(train)[-1].run_id
        address = f"/api/v2/dags/{train}/dagRuns/{run}/taskInstances/gate/links"
        links = client.get(address, headers=token("VIEWER")).json()["extra_links"]
        assert links == {ModelPageLink.name: page}
        assert client.get(page, headers=token("VIEWER")).status_code == 200
    assert MlflowVersionLink.name == "MLflow version"
