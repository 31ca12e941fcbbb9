"""Two windows through the real scheduler: both are fitted, the better one goes live, and the page of it is its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient

from airflow_mlops.core.governance.reproduce_version import reproduce_version
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, embedded_stores, make_project

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

RETRAIN = {"policy": {"regret": 0.5, "or_alarm": True}, "alarm": {"windows": 1, "of": 1}, "cooldown": 1, "budget": 26}


def test_after_a_change_the_candidate_on_the_short_window_goes_live(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path, retrain=RETRAIN)
    project.fields["train"]["window"] = [1, "all"]
    declared = project.root / "include" / "loops" / f"{project.model}.yaml"
    declared.write_text(json.dumps(project.fields, indent=1))
    scheduler = start_scheduler(project.dags)
    project.first_champion(scheduler, KEYS[:3])
    first = project.details_of("candidate_registered", KEYS[2])
    assert first.candidate in ("linear@1", "linear@all")
    fits = [task for task in scheduler.task_instances(project.dag("train")) if task.task_id == "fit"]
    assert [task.state for task in fits] == ["success", "success"]

    for key in KEYS[3:5]:
        project.put(key, level=6.0)
        project.ingest(scheduler, key)
    refused = project.details_of("candidate_refused", KEYS[3])
    assert set(refused.by_window) == {"1", "all"}
    # The training of the week before was refused and judged, so the best of its candidates is the fresh model.
    assert project.judged("regret", KEYS[4]).fresh_candidate in ("linear@1", "linear@all")
    second = project.details_of("candidate_registered", KEYS[4])
    assert (second.version, second.candidate) == ("2", "linear@1")
    assert [pin.partition for pin in second.window.fitted] == [KEYS[3]]
    assert [pin.partition for pin in second.window.holdout] == [KEYS[4]]
    workspace = project.workspace
    assert list(workspace.evidence.get(second.profile)["windows"]) == [KEYS[3]]
    assert workspace.state().champion.number == "2"
    assert reproduce_version(workspace, "2").verdict == "identical"
    client = MlflowClient(tracking_uri=embedded_stores().tracking_uri, registry_uri=embedded_stores().tracking_uri)
    run = client.get_run(client.get_model_version(project.model, "2").run_id)
    assert {name: run.data.params[name] for name in ("candidate", "window")} == {"candidate": "linear@1", "window": "1"}
    assert_invariants(project.workspace)
