"""A loop whose label is one of three texts, through the real scheduler: from its first rows to a retrain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from airflow_mlops.core.governance.reproduce_version import reproduce_version
from tests.loop.invariants import assert_invariants
from tests.loop.project import CLASSIFICATION, KEYS, Project, make_project, states, week

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

CLASSES = ["early", "on time", "late"]


def class_week(key: str, *, reverse: bool = False) -> pa.Table:
    """Return the rows of a week, labelled by the third that the number falls into; ``reverse`` turns the order."""
    rows = week(key)
    codes = np.digitize(rows["y"].to_numpy(), [-1.0, 1.0])
    names = CLASSES[::-1] if reverse else CLASSES
    return rows.set_column(rows.schema.get_field_index("y"), "y", pa.array([names[code] for code in codes]))


def class_project(folder: Path) -> Project:
    """Return a project whose loop predicts three classes."""
    project = make_project(folder, training=CLASSIFICATION)
    project.fields["data"]["classes"] = CLASSES
    project.fields["gates"] = [
        {"metric": "log_loss", "better_than": "dummy"},
        {"metric": "f1_macro", "at_least": 0.5},
        {"metric": "log_loss", "no_worse_than_champion_by": 0.5},
    ]
    project.fields["watch"]["performance"]["metric"] = "log_loss"
    declared = project.root / "include" / "loops" / f"{project.model}.yaml"
    declared.write_text(json.dumps(project.fields, indent=1))
    return project


def test_three_classes_of_text_are_trained_served_judged_and_trained_again(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = class_project(tmp_path)
    scheduler = start_scheduler(project.dags)
    for key in KEYS[:2]:
        project.put(key, class_week(key))
    project.first_champion(scheduler, KEYS[:2])
    assert scheduler.failures() == []
    registered = project.details_of("candidate_registered", KEYS[1])
    assert registered.classes == tuple(CLASSES)
    assert {"f1_macro", "roc_auc_ovr", "log_loss"} <= registered.metrics.keys()

    project.put(KEYS[2], class_week(KEYS[2]))
    project.ingest(scheduler, KEYS[2])
    served = project.served(KEYS[2])
    assert set(served["served_prediction"]) <= set(CLASSES)
    total = np.sum([served[f"served_probability_{name}"] for name in CLASSES], axis=0)
    np.testing.assert_allclose(total, 1)
    assert project.judged("performance", KEYS[2]).verdict == "no alarm"

    # The classes change their places: an alarm, and a model of the new weeks once two of them are there.
    for key in KEYS[3:5]:
        project.put(key, class_week(key, reverse=True))
        project.ingest(scheduler, key)
    assert project.judged("performance", KEYS[3]).verdict == "alarm"
    decided = project.details_of("retrain_decided", KEYS[4])
    assert (decided.retrain, decided.cause) == (True, "alarm: performance")
    assert project.details_of("candidate_registered", KEYS[4]).version == "2"
    promoted = [record.partition for record in project.of_kind("promoted")]
    assert promoted[0] == KEYS[1]
    assert len(promoted) == 2
    analysed = [record.details.verdict for record in project.of_kind("stage_analysed")]
    assert "pass" in analysed
    assert states(scheduler, project.dag("score"))["score"] == "success"
    assert reproduce_version(project.workspace, "2").verdict == "identical"
    assert_invariants(project.workspace)
