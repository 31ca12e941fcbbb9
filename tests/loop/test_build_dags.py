"""build_dags makes the same seven Dags on every parse, joined by partitioned assets only, and costs little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.loop.project import Project, make_project

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

STAGES = ["control", "ingest", "nightly", "rollout", "score", "train", "watch"]

# Parses a Dag file as Airflow does, and prints the Dags as Airflow would store them.
PARSE = """
import json, sys
from contextlib import nullcontext
from pathlib import Path

folder, only = Path(sys.argv[1]), sys.argv[2]
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.serialized_objects import DagSerialization

with _airflow_parsing_context_manager(only, "task") if only else nullcontext():
    bag = BundleDagBag(dag_folder=str(folder), bundle_path=folder, bundle_name="dags-folder")
heavy = sorted(
    {name.partition(".")[0] for name in sys.modules}
    & {"pandas", "sklearn", "scipy", "mlflow", "great_expectations", "deltalake", "pyarrow", "skops"}
)
# In the order in which Airflow compares them to see whether a Dag has a new version.
in_order = SerializedDagModel._sort_serialized_dag_dict
dags = {
    name: json.dumps(in_order(DagSerialization.to_dict(dag)), sort_keys=True) for name, dag in sorted(bag.dags.items())
}
print("\\n" + json.dumps({"dags": dags, "errors": bag.import_errors, "heavy": heavy}))
"""


def parse(project: Project, *, seed: str = "0", only: str = "") -> dict[str, Any]:
    """Return the Dags that a new process parses from the Dag folder of a project."""
    ended = subprocess.run(
        [sys.executable, "-c", PARSE, str(project.dags), only],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    parsed: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    assert parsed["errors"] == {}
    return parsed


def test_two_parses_in_separate_processes_give_the_same_bytes_and_import_nothing_heavy(
    tmp_path: Path, airflow_home: Path
) -> None:
    project = make_project(tmp_path)
    first, second = parse(project, seed="1"), parse(project, seed="20")
    assert list(first["dags"]) == [project.dag(stage) for stage in STAGES]
    assert first["dags"] == second["dags"]
    assert first["heavy"] == second["heavy"] == []


def test_a_task_that_starts_builds_its_own_dag_only(tmp_path: Path, airflow_home: Path) -> None:
    project = make_project(tmp_path)
    assert list(parse(project, only=project.dag("score"))["dags"]) == [project.dag("score")]


def test_the_dags_meet_through_partitioned_assets_only(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    project = make_project(tmp_path)
    scheduler = start_scheduler(project.dags)
    heard = {"score": "snapshot", "watch": "predictions", "train": "retrain", "rollout": "candidate"}
    emitted = {
        "ingest": ["snapshot"],
        "score": ["predictions"],
        "watch": ["candidate?", "retrain?"],
        "nightly": ["retrain?"],
        "train": ["candidate"],
        "rollout": ["champion", "champion?"],
        "control": [],
    }
    assert scheduler.dag_ids == [project.dag(stage) for stage in STAGES]
    for stage in STAGES:
        dag = scheduler._dags[project.dag(stage)]
        # A replay takes long, and an abort does not wait for it.
        assert dag.max_active_runs == (8 if stage == "control" else 1)
        outlets = {outlet.name for task in dag.tasks for outlet in task.outlets}
        assert sorted(outlets) == [f"{project.model}_{word}" for word in emitted[stage]]
        timetable = dag.timetable
        if stage in heard:
            assert type(timetable).__name__ == "PartitionedAssetTimetable"
            assert timetable.asset_condition.uri == f"mlops://{project.model}/{heard[stage]}"
        elif stage == "control":
            assert type(timetable).__name__ == "NullTimetable"  # a person starts it
        else:
            assert type(timetable).__name__ == "CronPartitionTimetable"
        assert not {type(task).__name__ for task in dag.tasks} & {"TriggerDagRunOperator", "ExternalTaskSensor"}


def test_each_stage_runs_where_it_is_declared_to_and_fits_where_fits_do(tmp_path: Path, airflow_home: Path) -> None:
    from airflow_mlops.core.declaration.loop import Loop
    from airflow_mlops.factories.build_dags import build_dags

    fields = make_project(tmp_path).fields
    template = {"pod_template_file": "pods/fit.yaml"}
    loop = Loop(
        **fields,
        resources={
            "default": {"queue": "small", "pool": "loops"},
            "train": {"pool": "trainings"},
            "fit": {"queue": "big", "slots": 2, "executor_config": template},
            "score": {"executor_config": {"pod_template_file": "pods/score.yaml"}},
        },
    )
    dags = build_dags(loop, root=tmp_path, default_args={"queue": "of the Dag file", "retries": 0})
    places = {
        f"{stage}.{task.task_id}": (task.pool, task.pool_slots, task.queue, task.executor_config, task.retries)
        for stage in STAGES
        for task in dags[f"{loop.model}_{stage}"].tasks
    }
    assert places["train.fit"] == ("trainings", 2, "big", template, 0)
    assert places["train.evaluate"] == places["train.register"] == ("trainings", 1, "small", {}, 0)
    assert places["score.score"] == ("loops", 1, "small", {"pod_template_file": "pods/score.yaml"}, 0)
    others = [place for name, place in places.items() if not name.startswith(("train", "score"))]
    assert len(others) > 10
    assert all(place == ("loops", 1, "small", {}, 0) for place in others)
    plain = build_dags(Loop(**fields), root=tmp_path, default_args={"queue": "of the Dag file"})
    assert plain[f"{loop.model}_train"].task_dict["fit"].queue == "of the Dag file"
    assert plain[f"{loop.model}_train"].task_dict["fit"].pool == "default_pool"


def test_what_is_declared_to_be_watched_has_its_task_and_its_place(tmp_path: Path, airflow_home: Path) -> None:
    from airflow_mlops.core.declaration.loop import Loop
    from airflow_mlops.factories.build_dags import build_dags

    fields = make_project(tmp_path).fields
    source = {"kind": "parquet", "uri": "include/labels/{partition}.parquet"}
    watched = Loop(
        **{
            **fields,
            "data": {**fields["data"], "labels": {"source": source, "delay": 1}},
            "watch": {**fields["watch"], "checks": ["predictions"], "max_age": 9, "overdue": 48},
            "retrain": {"policy": {"regret": 0.1}},
        }
    )
    dags = build_dags(watched, root=tmp_path)
    ingest, watch, nightly = (dags[f"{watched.model}_{name}"] for name in ("ingest", "watch", "nightly"))
    assert ingest.task_dict["snapshot"].upstream_task_ids == {"labels"}
    assert ingest.task_dict["snapshot"].trigger_rule == "all_done"
    assert watch.task_dict["decide"].upstream_task_ids == {"drift", "performance", "regret", "checks"}
    assert set(nightly.task_dict) == {"decide", "overdue"}
    plain = build_dags(Loop(**fields), root=tmp_path)
    assert set(plain[f"{watched.model}_nightly"].task_dict) == {"decide"}
    assert "labels" not in plain[f"{watched.model}_ingest"].task_dict


def test_every_dag_says_what_it_does_and_whose_it_is_and_markup_of_the_declaration_stays_text(
    tmp_path: Path, airflow_home: Path
) -> None:
    from airflow_mlops.core.declaration.loop import Loop
    from airflow_mlops.factories.build_dags import build_dags

    fields = make_project(tmp_path).fields
    hostile = "<img src=x> [here](javascript:alert(1))\n# a | b"
    rollout = {"stages": [{"shadow": 100}, {"canary": 10, "approval": "human"}, {"live": 100}]}
    loop = Loop(**{**fields, "owner": "the risk team", "tier": "high", "purpose": hostile, "rollout": rollout})
    dags = build_dags(loop, root=tmp_path)
    docs = {dag_id.removeprefix(f"{loop.model}_"): str(dag.doc_md) for dag_id, dag in dags.items()}
    for dag in dags.values():
        assert dag.tags == {"airflow-mlops", loop.model, "tier:high", "owner:the risk team"}
    for doc in docs.values():
        assert "| Owner | the risk team |" in doc
        assert r"\<img src=x\> \[here\](javascript:alert(1)) \# a \| b" in doc
        assert "<img" not in doc.replace(r"\<", "")
    assert "| Gates | mae at most 4.0; mae no worse than the champion by 0.1 |" in docs["train"]
    assert r"shadow\_100 → canary\_10 (a person approves) → live\_100" in docs["rollout"]
    assert "1 of 1 windows alarm; cooldown 1 partitions" in docs["watch"]
    assert "0 0 \\* \\* 0 in UTC" in docs["ingest"] or "@weekly in UTC" in docs["ingest"]


def test_the_form_of_the_control_dag_holds_what_is_typed_to_its_schema(tmp_path: Path, airflow_home: Path) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    from airflow_mlops.core.declaration.loop import Loop
    from airflow_mlops.factories.build_dags import build_dags

    loop = Loop(**make_project(tmp_path).fields)
    params = build_dags(loop, root=tmp_path)[f"{loop.model}_control"].params
    assert {name: params.get_param(name).schema["title"] for name in params} == {
        "action": "Action",
        "reason": "Reason",
        "version": "Version",
        "to": "To",
        "partition": "Partition",
        "policies": "Policies",
        "window": "Window",
        "until": "Until",
        "split": "Split",
    }
    with pytest.raises(ParamValidationError):
        params.get_param("action").resolve("explode")
    with pytest.raises(ParamValidationError):
        params.get_param("version").resolve("9" * 251)


def test_an_unknown_key_is_an_import_error_that_names_file_line_and_key(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path)
    file = tmp_path / "include" / "loops" / f"{project.model}.yaml"
    lines = file.read_text().splitlines()
    (number,) = [number for number, line in enumerate(lines, start=1) if '"window": 1' in line]
    file.write_text("\n".join(lines).replace('"window"', '"windows"'))
    with pytest.raises(ImportError) as raised:
        start_scheduler(project.dags)
    assert f"{project.model}.yaml:{number}: train.windows: unknown key (value 1); did you mean 'window'?" in str(
        raised.value
    )


def test_a_training_function_that_is_not_there_is_an_import_error(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path)
    project.write_training("def candidate(seed): ...\n")
    with pytest.raises(ImportError, match=r"training\.py has no function 'candidates'; did you mean 'candidate'\?"):
        start_scheduler(project.dags)
