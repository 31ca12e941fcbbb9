"""A training function whose model is none, or that takes too much, is refused in words, and the champion stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, REGRESSION, Project, make_project, states

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.conftest import SchedulerFactory

MODEL = """
import time
import types

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline


class Methods:
{body}


def Odd():
    # Of a trusted type, so that its fit is tried, with methods of its own.
    model = LinearRegression()
    for name, method in vars(Methods).items():
        if not name.startswith("__"):
            setattr(model, name, types.MethodType(method, model))
    return model


def candidates(seed):
    return {{"odd": {model}}}
"""


IN_PIPELINE = 'make_pipeline(make_column_transformer(("passthrough", ["x1", "x2"])), Odd())'


def odd(*lines: str, model: str = IN_PIPELINE) -> str:
    """Return a training module whose one candidate has a body of its own."""
    return MODEL.format(body="\n".join(f"    {line}" for line in lines or ["pass"]), model=model)


SEVERAL = '"line": {IN_PIPELINE}, "groups": KMeans()'.format(IN_PIPELINE=IN_PIPELINE.replace("Odd", "LinearRegression"))
FIT = "def fit(self, X, y, sample_weight=None):"
BAD_MODELS = [
    (odd(FIT, "    return self"), ["candidate 'odd' is not fitted after fit"]),
    (odd(FIT, "    return None", model="Odd()"), ["gave a NoneType from fit"]),
    (
        odd("def predict(self, X):", "    return np.full(len(X), np.nan)"),
        ["candidate 'odd' gives no usable predictions", "100 NaN or infinite predictions for 100 rows"],
    ),
    (
        odd("def predict(self, X):", "    return np.zeros((len(X), 2))"),
        ["candidate 'odd' gives no usable predictions", "predictions of shape (100, 2) for 100 rows"],
    ),
    (
        odd(model=IN_PIPELINE.replace("x2", "y")),
        ["raised ValueError in fit", "the label 'y' is not given to models or features"],
    ),
]
TOO_MUCH = [
    (
        odd(FIT, "    while True:", "        time.sleep(0.1)"),
        ["candidate 'odd' took longer than 0.2 minutes (train.limits.minutes)", "it was killed after 12."],
    ),
    (
        odd(FIT, "    k = []", "    while True:", "        k += [np.ones(2_000_000)]", "        time.sleep(0.01)"),
        ["candidate 'odd' used more than 700 MB of memory (train.limits.memory_mb)", "it was killed at"],
    ),
]


def loop_with_champion(tmp_path: Path, start: SchedulerFactory, **train: Any) -> tuple[Project, InProcessScheduler]:
    """Return a loop whose version 1 is live, and its scheduler."""
    project = make_project(tmp_path)
    declared = project.fields["train"] | train
    # A model that fails must not use up the retrains of the year.
    changes: dict[str, Any] = {"train": declared, "retrain": project.fields["retrain"] | {"budget": 52}}
    project.fields.update(changes)
    (project.root / "include" / "loops" / f"{project.model}.yaml").write_text(json.dumps(project.fields))
    project.seed(KEYS[:2])
    return project, start(project.dags)


def refuse_each(project: Project, scheduler: InProcessScheduler, bad: list[tuple[str, list[str]]]) -> list[str]:
    """Deliver a week that alarms for each bad module; return the weeks once each module was refused by name."""
    weeks = KEYS[2 : 2 + len(bad)]
    for key, (source, words) in zip(weeks, bad, strict=True):
        project.write_training(source)
        project.put(key, level=6.0)
        project.ingest(scheduler, key)
        assert states(scheduler, project.dag("train"))["fit"] == "failed"
        reason = project.details_of("training_failed", key).reason
        error = [text for task, text in scheduler.failures() if task.task_id == "fit" and task.state == "failed"][-1]
        for word in words:
            assert word in reason
            assert word in error
        assert project.workspace.state().open_decision is None
        assert project.workspace.registry.aliases() == {"champion": "1"}
        assert project.details_of("predictions_published", key).rows == 120
    return weeks


def assert_a_good_function_mends_it(project: Project, scheduler: InProcessScheduler, weeks: list[str]) -> None:
    """Assert that the next week brings a new champion once the function is good again."""
    project.write_training(REGRESSION)
    for key in KEYS[2 + len(weeks) : 4 + len(weeks)]:
        project.put(key, level=6.0)
        project.ingest(scheduler, key)
    champion = project.workspace.state().champion
    assert champion is not None
    assert champion.number == "2", scheduler.failures()
    assert_invariants(project.workspace)


def test_a_model_that_is_none_is_refused_in_words_and_the_champion_stays(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = loop_with_champion(tmp_path, start_scheduler)
    weeks = refuse_each(project, scheduler, BAD_MODELS)
    assert_a_good_function_mends_it(project, scheduler, weeks)


def test_a_bad_candidate_of_several_is_left_out_and_a_good_one_becomes_the_champion(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = loop_with_champion(tmp_path, start_scheduler)
    bad = odd(FIT, "    raise ValueError('it is never fitted')").replace('{"odd":', f'{{{SEVERAL}, "odd":')
    project.write_training(f"from sklearn.cluster import KMeans\n{bad}")
    for key in KEYS[2:4]:
        project.put(key, level=6.0)
        project.ingest(scheduler, key)
    champion = project.workspace.state().champion
    assert champion is not None
    assert (champion.number, champion.details.candidate) == ("2", "line"), scheduler.failures()
    left_out = champion.details.left_out
    assert left_out is not None
    assert set(left_out) == {"groups", "odd"}
    assert "raised ValueError in fit: it is never fitted" in left_out["odd"]
    assert "KMeans is a clusterer" in left_out["groups"]
    assert "fit" not in {task.task_id for task, _ in scheduler.failures()}
    assert_invariants(project.workspace)


def test_a_fit_that_hangs_or_takes_too_much_memory_is_killed_and_the_champion_stays(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = loop_with_champion(tmp_path, start_scheduler, limits={"minutes": 0.2, "memory_mb": 700})
    weeks = refuse_each(project, scheduler, TOO_MUCH)
    assert_a_good_function_mends_it(project, scheduler, weeks)
    # Of the rows that the fits were given nothing is left.
    assert not list(project.workspace.scratch.rglob("rows*"))
