"""A version is made again from its stored request, or it is said what is in the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from joblib import cpu_count
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, SGDRegressor
from threadpoolctl import threadpool_limits

from airflow_mlops.core.data.forget_subject import forget_subject
from airflow_mlops.core.errors import ReproductionError
from airflow_mlops.core.governance import reproduce_version as module
from airflow_mlops.core.governance.environment_change import environment_changes
from airflow_mlops.core.governance.explain_row import explain_row
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training import fit_estimator
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_fields, toy_loop, toy_rows, train, week

NOISE = [0.0]


def nudged(seed: int) -> Any:
    """Return a line whose fit can be nudged from outside, as a library that is not seeded would."""
    model = LinearRegression()
    model.fit = fit_nudged
    return model


def fit_nudged(X: Any, y: Any) -> LinearRegression:
    """Return a plain line, moved by ``NOISE``."""
    line: LinearRegression = LinearRegression().fit(X[["x"]], y)
    line.intercept_ = float(line.intercept_) + NOISE[0]
    return line


def seeded(seed: int) -> Any:
    """Return a model that draws random numbers and leaves seeding them to whoever fits it."""
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline

    return make_pipeline(make_column_transformer(("passthrough", ["x"])), SGDRegressor(max_iter=5, tol=None))


def boosted(seed: int) -> Any:
    """Return boosted trees, whose last digits depend on the number of threads that add up a histogram."""
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline

    trees = HistGradientBoostingRegressor(max_iter=5, min_samples_leaf=2, random_state=seed)
    return make_pipeline(make_column_transformer(("passthrough", ["x"])), trees)


def plain(seed: int) -> Any:
    """Return a model of every column that it may see."""
    return LinearRegression()


def write_contract(folder: Path, *, feature: bool) -> None:
    """Write a contract that shows the column ``z`` to models, or hides it."""
    columns = {
        "id": {"type": "text"},
        "at": {"type": "time", "zone": "none"},
        "x": {"type": "float", "nullable": False},
        "z": {"type": "float", "nullable": False, "feature": feature},
        "y": {"type": "float"},
    }
    fields = {"contract": "toy", "key": "id", "time": "at", "ignore": ["kind"], "columns": columns}
    (folder / "contract.yaml").write_text(json.dumps(fields))


def with_version(
    tmp_path: Path, function: str = "candidates", rows: dict[str, pd.DataFrame] | None = None, **changes: Any
) -> Workspace:
    """Return a loop with version 1."""
    where = "tests.unit.core.toy_loop" if function == "candidates" else __name__
    frames = rows or {week(number): toy_rows(number) for number in range(5)}
    fields = {"train": {"function": f"{where}:{function}", "window": 2}, "rollout": {"stages": [{"live": 100}]}}
    workspace = in_memory_workspace(toy_loop(**{**fields, **changes}), frames, scratch=tmp_path)
    for number in range(3):
        ingest(workspace, week(number))
    train(workspace, week(2))
    return workspace


@pytest.mark.filterwarnings("ignore:Maximum number of iteration")
@pytest.mark.parametrize("function", ["candidates", "seeded"])
def test_a_version_made_again_predicts_the_same_bits_and_is_the_same_file(tmp_path: Path, function: str) -> None:
    workspace = with_version(tmp_path, function)
    result = reproduce_version(workspace, "1")
    assert (result.verdict, result.rows, result.largest_difference, result.same_file) == ("identical", 120, 0.0, True)
    assert result.reason == "identical: all 120 predictions of its holdout are the same, bit for bit"
    assert workspace.state().reproduced["1"].details.verdict == "identical"


@pytest.mark.parametrize("threads", [1, 2])
def test_it_is_fitted_in_as_many_threads_as_then(tmp_path: Path, threads: int) -> None:
    with threadpool_limits(threads):
        workspace = with_version(tmp_path, "boosted")
    with threadpool_limits(3 - threads):
        result = reproduce_version(workspace, "1")
    assert (result.verdict, result.same_file, result.changed) == ("identical", True, ())


def test_more_threads_than_there_are_here_are_named_beside_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(fit_estimator, "arithmetic_in_use", lambda: {"openmp_threads": "4096", "blas_threads": "1"})
        workspace = with_version(tmp_path, "boosted")
    (changed,) = [text for text in reproduce_version(workspace, "1").changed if text.startswith("openmp")]
    assert changed == f"openmp_threads 4096, now {cpu_count()}"


def test_a_version_of_a_time_that_noted_no_arithmetic_is_compared_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(fit_estimator, "arithmetic_in_use", dict)
        workspace = with_version(tmp_path)
    assert reproduce_version(workspace, "1").changed == ()
    assert set(workspace.state().versions) == {"1"}


def test_a_version_that_comes_out_otherwise_is_different_or_within_the_stated_tolerance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = with_version(tmp_path, "nudged")
    monkeypatch.setitem(globals(), "NOISE", [0.5])
    result = reproduce_version(workspace, "1")
    assert (result.verdict, result.same_file) == ("different", False)
    assert "differ by up to 0.5 on 120 rows" in result.reason
    assert reproduce_version(workspace, "1", tolerance=0.6).verdict == "within tolerance"
    assert reproduce_version(workspace, "1", tolerance=0.4).verdict == "different"


@pytest.mark.parametrize("feature", [True, False])
def test_a_version_is_made_again_with_the_columns_of_its_fit_whatever_is_hidden_by_now(
    tmp_path: Path, feature: bool
) -> None:
    write_contract(tmp_path, feature=feature)
    data = {**toy_fields()["data"], "contract": "contract.yaml"}
    frames = {week(number): toy_rows(number).assign(z=lambda rows: rows["x"] ** 2) for number in range(3)}
    workspace = with_version(tmp_path, "plain", frames, data=data)
    write_contract(tmp_path, feature=not feature)
    later = Workspace(workspace.loop, workspace.root, workspace.scratch, workspace.ports, "test")
    assert later.contract is not None
    assert later.contract.hidden == (frozenset({"z"}) if feature else frozenset())
    result = reproduce_version(later, "1")
    assert (result.verdict, result.same_file) == ("identical", True)


def test_code_that_has_changed_since_is_refused_with_both_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = with_version(tmp_path)
    monkeypatch.setattr(module, "features_digest", lambda *_: "f" * 64)
    with pytest.raises(ReproductionError, match=r"made by .*toy_loop:candidates with .* it has ffffffffffff…"):
        reproduce_version(workspace, "1")
    assert not workspace.state().reproduced


def test_rows_that_were_erased_since_are_named(tmp_path: Path) -> None:
    workspace = with_version(tmp_path)
    object.__setattr__(workspace, "secret", "a secret of sixteen bytes or more")
    forget_subject(workspace, "1-7")
    with pytest.raises(ReproductionError, match=f"version 1 cannot be made again: .*{week(1)}"):
        reproduce_version(workspace, "1")


def test_a_version_that_never_was_is_refused_with_those_that_are(tmp_path: Path) -> None:
    workspace = with_version(tmp_path)
    with pytest.raises(ReproductionError, match="toy has no version 7; versions: 1"):
        reproduce_version(workspace, "7")


def test_what_is_installed_otherwise_is_named() -> None:
    then, now = {"numpy": "2.3.0", "python": "3.11.7"}, {"numpy": "2.4.6", "python": "3.11.7", "scipy": "1.16"}
    assert environment_changes(then, now) == ("numpy 2.3.0, now 2.4.6", "scipy absent, now 1.16")
    assert environment_changes({}, now) == ()


@pytest.mark.filterwarnings("ignore:The NumPy global RNG")
def test_a_row_is_traced_through_its_features_to_what_was_served(tmp_path: Path) -> None:
    workspace = with_version(tmp_path)
    run_rollout_step(workspace, start_rollout(workspace, week(2)), 0, week(2))
    ingest(workspace, week(3))
    score_partition(workspace, week(3))
    trace = explain_row(workspace, "1", "3-5")
    row = toy_rows(3).iloc[5]
    assert (trace.partition, trace.used_for) == (week(3), "neither fitted nor judged on it")
    assert trace.row["x"] == pytest.approx(row["x"])
    assert "y" not in trace.row
    assert trace.logged is not None
    assert trace.logged["served_prediction"] == pytest.approx(trace.prediction)
    assert trace.base + sum(contribution.added for contribution in trace.contributions) == pytest.approx(
        trace.prediction
    )
    assert trace.contributions[0].feature == "x"
    assert explain_row(workspace, "1", "1-5").used_for == "fitted on it"
    with pytest.raises(ReproductionError, match="no row of toy with that key in any of the 4 published partitions"):
        explain_row(workspace, "1", "9-9")


@pytest.mark.filterwarnings("ignore:The NumPy global RNG")
@pytest.mark.parametrize(
    ("key", "named"),
    [(lambda at: at, "5"), (float, "5.0"), (lambda at: pd.Timestamp(2013, 1, 1 + at), "2013-01-06")],
    ids=["whole_numbers", "numbers", "days"],
)
def test_a_row_is_found_by_its_key_of_whatever_type(tmp_path: Path, key: Callable[[int], Any], named: str) -> None:
    frames = {week(number): toy_rows(number, rows=28) for number in range(4)}
    for frame in frames.values():
        frame["id"] = [key(at) for at in range(28)]
    workspace = in_memory_workspace(toy_loop(rollout={"stages": [{"live": 100}]}), frames, scratch=tmp_path)
    for number in range(3):
        ingest(workspace, week(number))
    train(workspace, week(2))
    run_rollout_step(workspace, start_rollout(workspace, week(2)), 0, week(2))
    ingest(workspace, week(3))
    score_partition(workspace, week(3))
    trace = explain_row(workspace, "1", named)
    assert trace.row["x"] == pytest.approx(frames[week(3)]["x"].iloc[5])
    assert trace.logged is not None
    assert trace.logged["served_prediction"] == pytest.approx(trace.prediction)
