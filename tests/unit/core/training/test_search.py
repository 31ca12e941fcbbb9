"""A search is validated on the newest part of the window, sees nothing else, and says what it tried."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.declaration.user_function import build_candidates
from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates
from airflow_mlops.core.evaluation.register_candidate import register_candidate
from airflow_mlops.core.ports.fit_request import FitRequest, FitResult
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.ports.registry import Registration
from airflow_mlops.core.registry.model_file import load_model
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.training.assemble import TrainingRequest, assemble_training
from airflow_mlops.core.training.fit_candidate import candidate_file, fit_candidate, fit_request_of, rows_of
from airflow_mlops.core.training.fit_estimator import fit_request
from airflow_mlops.core.training.search_parameters import scorer, split_in_time
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, week

BODY = """
from scipy.stats import loguniform
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline


def of(model):
    return make_pipeline(ColumnTransformer([("x", "passthrough", ["x"])]), model)


def searched(seed): return of(Ridge()), {"ridge__alpha": loguniform(1e-3, 1e6)}
def gridded(seed): return {"grid": (of(Ridge()), {"ridge__alpha": [1e-3, 1e3, 1e6]})}
def large_grid(seed): return of(Ridge()), {"ridge__alpha": list(range(1, 200))}
def classes(seed): return of(LogisticRegression()), {"logisticregression__C": [1e-6, 1.0]}
def misspelt(seed): return of(Ridge()), {"ridge__alfa": [1]}
def empty(seed): return of(Ridge()), {}
def no_dict(seed): return of(Ridge()), [1, 2]
def no_values(seed): return of(Ridge()), {"ridge__alpha": []}
def one_value(seed): return of(Ridge()), {"ridge__alpha": 3.0}
def odd_name(seed): return {"../a": of(Ridge())}
def breaking(seed): return of(Ridge()), {"ridge__alpha": [-1.0, -2.0]}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module of training functions in the project."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"search_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(BODY)
    return name


@pytest.fixture
def ask(module: str, tmp_path: Path) -> Callable[..., FitRequest]:
    def request(function: str, **changes: Any) -> FitRequest:
        fields: dict[str, Any] = {
            "model": "toy",
            "operation": "o",
            "candidate": "model",
            "attempt": "1",
            "function": f"{module}:{function}",
            "seed": 0,
            "classifies": False,
            "label": "y",
            "window": (),
            "search": {"candidates": 9, "factor": 3, "validation": 20, "metric": "mae"},
            "file": str(tmp_path / "model.skops"),
            "root": str(tmp_path),
        }
        return FitRequest(**{**fields, **changes})

    return request


def line(count: int = 500, *, turn: int = 10**6) -> FitRows:
    """Return rows of a straight line whose slope turns from 2 to -2 at a row."""
    source = np.random.default_rng(0)
    x = source.normal(size=count)
    y = np.where(np.arange(count) < turn, 2, -2) * x + source.normal(scale=0.1, size=count)
    return FitRows(pd.DataFrame({"x": x}), y, np.arange(count))


@given(
    moment=st.lists(st.integers(0, 30), min_size=2, max_size=80).filter(lambda values: len(set(values)) > 1),
    validation=st.integers(1, 90),
)
def test_every_validated_row_is_newer_than_every_fitted_one(moment: list[int], validation: int) -> None:
    when = np.asarray(moment)
    older, newer = split_in_time(when, validation)
    assert len(older) > 0
    assert len(newer) > 0
    assert when[older].max() < when[newer].min()
    assert sorted([*older, *newer]) == list(range(len(moment)))


def test_rows_of_one_moment_cannot_be_searched(ask: Any) -> None:
    rows = line()
    with pytest.raises(TrainingError, match=r"candidate 'model': the rows of the window are all of one moment"):
        fit_request(ask("searched"), FitRows(rows.features, rows.label, np.zeros(500, np.int64)))


def test_what_wins_is_best_on_the_newest_rows_and_fitted_on_all(ask: Any, tmp_path: Path) -> None:
    # Only the newest fifth turned: there a slope near 0 is less wrong than the slope of all other rows.
    turned, straight = (fit_request(ask("gridded", candidate="grid"), line(turn=at)) for at in (400, 10**6))
    assert straight.best_params == {"ridge__alpha": 0.001}
    assert turned.best_params == {"ridge__alpha": 1e6}
    model = load_model(tmp_path / "model.skops", straight.digest)
    assert model.named_steps["ridge"].coef_[0] == pytest.approx(2, abs=0.02)


def test_a_small_grid_is_tried_whole_and_a_larger_space_is_sampled_by_the_seed(ask: Any) -> None:
    grid = fit_request(ask("gridded", candidate="grid"), line()).search
    assert grid is not None
    assert (grid["method"], grid["tried"], grid["metric"], grid["validated_on"]) == (
        "HalvingGridSearchCV",
        3,
        "mae",
        100,
    )
    for function in ("searched", "large_grid"):
        first, again, other = (fit_request(ask(function, seed=seed), line()) for seed in (1, 1, 2))
        assert first.search is not None
        assert (first.search["method"], first.search["tried"]) == ("HalvingRandomSearchCV", 9)
        assert (first.digest, first.search) == (again.digest, again.search)
        assert first.search != other.search
        assert [round_["candidates"] for round_ in first.search["rounds"]] == [9, 3, 1]


def test_the_score_is_written_as_the_metric_is_read_and_belongs_to_the_parameters_that_won(ask: Any) -> None:
    result = fit_request(ask("searched"), line())
    assert result.search is not None
    best = result.search["trials"][0]
    assert (best["params"], best["score"]) == (result.best_params, result.search["best_score"])
    assert 0.05 < best["score"] < 0.2  # the noise has a mean absolute error of 0.08
    assert FitResult.from_dict(result.to_dict()) == result


def test_classes_are_compared_by_log_loss_also_where_the_newest_rows_are_of_one_class(ask: Any) -> None:
    rows = line()
    label = (rows.label > 0).astype(np.int64)
    label[400:] = 1
    search = {"candidates": 9, "factor": 3, "validation": 20, "metric": "log_loss"}
    request = ask("classes", classifies=True, search=search)
    result = fit_request(request, FitRows(rows.features, label, rows.moment))
    assert result.search is not None
    assert result.search["best_score"] > 0


@pytest.mark.parametrize("metric", ["mae", "rmse", "log_loss", "brier", "accuracy"])
def test_every_metric_that_compares_models_row_by_row_has_a_scorer(metric: str) -> None:
    assert callable(scorer(metric))


@pytest.mark.filterwarnings("ignore")
def test_a_search_in_which_nothing_can_be_fitted_says_so(ask: Any) -> None:
    with pytest.raises(TrainingError, match=r"(?s)candidate 'model' raised ValueError in fit: .*fits failed"):
        fit_request(ask("breaking"), line())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("misspelt", r"has no parameter 'ridge__alfa' to search; did you mean 'ridge__alpha'\?"),
        ("empty", "the search space of 'model' is empty; give a dict"),
        ("no_dict", "the search space of 'model' is a list; give a dict"),
        ("no_values", r"gives \[\] for 'ridge__alpha'; give a list of values, or a distribution"),
        ("one_value", "gives 3.0 for 'ridge__alpha'"),
        ("odd_name", r"calls a candidate '../a'; a name has letters"),
    ],
)
def test_a_space_that_cannot_be_searched_is_named(module: str, tmp_path: Path, function: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        build_candidates(f"{module}:{function}", tmp_path, 0)


# --- in a loop --------------------------------------------------------------------------------------------------


def decided_loop(
    module: str, tmp_path: Path, *, function: str = "searched", scratch: str = "s", **train: Any
) -> Workspace:
    """Return a loop with four weeks and a decision to retrain."""
    frames = {week(number): toy_rows(number) for number in range(4)}
    fields = {"function": f"{module}:{function}", "window": 2, **train}
    workspace = in_memory_workspace(toy_loop(train=fields), frames, scratch=tmp_path / scratch, root=tmp_path)
    for number in range(4):
        ingest(workspace, week(number))
    decide_and_record(workspace, week(3), trigger="nightly")
    return workspace


def test_the_search_of_a_loop_never_sees_the_holdout_and_its_result_says_what_won(module: str, tmp_path: Path) -> None:
    workspace = decided_loop(module, tmp_path, search={"candidates": 9})
    request = assemble_training(workspace, week(3))
    assert request.search == {"candidates": 9, "factor": 3, "validation": 20, "metric": "mae"}
    fit_inputs = fit_request_of(workspace, request, "model", candidate_file(workspace, request.operation, "model"))
    rows = rows_of(workspace, fit_inputs)
    # Two weeks, each of one moment; the third is the holdout. The newer week validates.
    assert np.unique(np.asarray(rows.moment)).tolist() == [0, 1]
    fit = fit_candidate(workspace, request, "model")
    assert fit["search"]["validated_on"] == 120
    assert (fit["rows"], fit["seed"], list(fit["best_params"])) == (240, 0, ["ridge__alpha"])


def test_the_settings_of_a_search_are_part_of_the_request_only_where_there_is_one(module: str, tmp_path: Path) -> None:
    first, other = (
        assemble_training(decided_loop(module, tmp_path, scratch=name, search={"candidates": count}), week(3))
        for name, count in (("a", 5), ("b", 6))
    )
    assert first.operation != other.operation
    plain = [
        assemble_training(
            decided_loop("tests.unit.core.toy_loop", tmp_path / name, function="candidates", **changes), week(3)
        )
        for name, changes in (("c", {}), ("d", {"search": {"candidates": 5}}))
    ]
    assert plain[0].operation == plain[1].operation
    assert plain[0].search is None


def test_a_request_written_before_there_were_searches_can_be_read(tmp_path: Path) -> None:
    request = assemble_training(decided_loop("tests.unit.core.toy_loop", tmp_path, function="candidates"), week(3))
    old = {name: value for name, value in request.to_dict().items() if name not in ("search", "code")}
    read = TrainingRequest.from_dict(old)
    assert (read.search, read.code, read.operation) == (None, None, request.operation)


def test_what_a_search_chose_is_kept_with_the_version_in_the_registry_and_in_the_ledger(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = decided_loop(module, tmp_path, search={"candidates": 9})
    registered: list[Registration] = []
    register = workspace.registry.register
    monkeypatch.setattr(workspace.registry, "register", lambda given: registered.append(given) or register(given))
    request = assemble_training(workspace, week(3))
    evaluated = evaluate_candidates(workspace, request, [fit_candidate(workspace, request, "model")])
    number = register_candidate(workspace, request, evaluated)["version"]
    details = workspace.state().versions[number].details
    ((name, chosen),) = details.best_params.items()
    assert name == "ridge__alpha"
    report = workspace.evidence.get(str(details.report))["candidates"][0]
    assert report["search"]["tried"] == 9
    assert report["best_params"] == {name: chosen}
    assert registered[0].params == {
        "candidate": "model",
        "seed": "0",
        "function": f"{module}:searched",
        name: str(chosen),
    }
