"""A rollout that cannot be judged holds and is woken again; a challenger that is worse or raises goes back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, make_project, states, why

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.conftest import SchedulerFactory

PERFORMANCE = {"performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20}}
BAKED = {"stages": [{"shadow": 100, "bake": 1}, {"live": 100}], "min_rows": 20}

KNOWS_ITS_PLACES_ONLY = """
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def candidates(seed):
    columns = make_column_transformer((OneHotEncoder(handle_unknown="error"), ["place"]), ("passthrough", ["x1"]))
    return {"linear": make_pipeline(columns, LinearRegression())}
"""


def challenger_in_shadow(project: Project, scheduler: InProcessScheduler, places: str = "ab") -> None:
    """Deliver two weeks of a new relation, so that version 2 enters shadow and waits for one more week."""
    for key in KEYS[2:4]:
        project.put(key, level=6.0, places=places)
        project.ingest(scheduler, key)
    assert states(scheduler, project.dag("rollout")) == {
        "start": "success",
        "shadow_100.enter": "success",
        "shadow_100.analyse": "skipped",
        "live_100.promote": "skipped",
    }
    assert project.workspace.registry.aliases() == {"champion": "1", "challenger": "2"}


def assert_rolled_back(project: Project, scheduler: InProcessScheduler, *words: str) -> None:
    """Assert that version 2 went back at the fifth week, saying why, and that version 1 serves on."""
    assert states(scheduler, project.dag("rollout"), KEYS[4]) == {
        "start": "success",
        "shadow_100.enter": "success",
        "shadow_100.analyse": "failed",
        "live_100.promote": "upstream_failed",
    }
    (record,) = project.of_kind("rolled_back")
    assert (record.partition, record.details.version) == (KEYS[4], "2")
    for word in words:
        assert word in record.details.reason
        assert word in why(scheduler, "shadow_100.analyse")
    assert set(project.workspace.state().quarantined) == {"2"}
    assert project.workspace.registry.aliases() == {"champion": "1"}
    project.put(KEYS[5])
    project.ingest(scheduler, KEYS[5])
    scored = project.details_of("predictions_published", KEYS[5])
    assert (scored.served, scored.challenger) == ({"1": 120}, None)
    assert not [run for run in scheduler.dag_runs(project.dag("rollout")) if run.partition_key == KEYS[5]]
    assert_invariants(project.workspace)


def test_a_rollout_without_enough_rows_holds_and_the_next_partition_wakes_it(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(
        tmp_path,
        watch=PERFORMANCE,
        rollout={"stages": [{"shadow": 100}, {"canary": 50}, {"live": 100}], "min_rows": 150},
    )
    project.seed(KEYS[:2])
    scheduler = start_scheduler(project.dags)
    for key in KEYS[2:4]:
        project.put(key, level=6.0)
        project.ingest(scheduler, key)
    held = {
        "start": "success",
        "shadow_100.enter": "success",
        "shadow_100.analyse": "skipped",
        "canary_50.enter": "skipped",
        "canary_50.analyse": "skipped",
        "live_100.promote": "skipped",
    }
    assert states(scheduler, project.dag("rollout")) == held
    analysis = project.of_kind("stage_analysed")[-1].details
    assert (analysis.verdict, analysis.reason) == ("inconclusive", "120 labelled rows, 150 are needed to say")
    assert project.workspace.registry.aliases() == {"champion": "1", "challenger": "2"}
    assert_invariants(project.workspace)

    project.put(KEYS[4], level=6.0, rows=400)
    project.ingest(scheduler, KEYS[4])
    woken = states(scheduler, project.dag("rollout"), KEYS[4])
    assert woken == dict.fromkeys(held, "success")
    assert project.details_of("retrain_decided", KEYS[4]).cause == "joined"
    assert project.workspace.registry.aliases() == {"champion": "2"}
    assert_invariants(project.workspace)


def test_a_challenger_that_gets_worse_is_rolled_back_and_says_by_how_much(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path, watch=PERFORMANCE, rollout=BAKED)
    project.seed(KEYS[:2])
    scheduler = start_scheduler(project.dags)
    challenger_in_shadow(project, scheduler)
    project.put(KEYS[4])  # the old relation is back, which the champion knows
    project.ingest(scheduler, KEYS[4])
    assert_rolled_back(project, scheduler, "shadow_100: worse: ", "on 120 rows")


def test_a_challenger_that_raises_is_rolled_back_and_every_row_is_served_by_the_champion(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path, training=KNOWS_ITS_PLACES_ONLY, watch=PERFORMANCE, rollout=BAKED)
    for key in KEYS[:2]:
        project.put(key, places="abc")
    project.seed(KEYS[:2])
    scheduler = start_scheduler(project.dags)
    challenger_in_shadow(project, scheduler)
    project.put(KEYS[4], places="abc")
    project.ingest(scheduler, KEYS[4])
    assert project.details_of("predictions_published", KEYS[4]).served == {"1": 120}
    assert set(project.served(KEYS[4])["challenger_prediction"]) == {None}
    assert_rolled_back(project, scheduler, "the challenger cannot predict", "unknown categories ['c']")
