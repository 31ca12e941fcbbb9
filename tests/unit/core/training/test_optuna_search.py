"""A declared search by Optuna: the same for one seed, judged on the newest rows, and taken up where it was killed."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from airflow_mlops.core.check_declaration import check_candidates, check_extras
from airflow_mlops.core.declaration.train import InInterpreter, Train
from airflow_mlops.core.errors import DeclarationError, TrainingError
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates
from airflow_mlops.core.evaluation.register_candidate import register_candidate
from airflow_mlops.core.evaluation.track_training import trial_runs
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.ports.fit_request import FitRequest, FitResult
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.registry.model_file import load_model
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.training import optuna_extra
from airflow_mlops.core.training.assemble import assemble_training
from airflow_mlops.core.training.child_step import ChildStep
from airflow_mlops.core.training.fit_candidate import fit_candidate
from airflow_mlops.core.training.fit_estimator import fit_request
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, week

ALPHA: dict[str, Any] = {"kind": "float", "low": 1e-3, "high": 1e6, "log": True}
BODY = """
import os
from pathlib import Path

from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression, Ridge, SGDRegressor
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeRegressor

HERE = Path(__file__).parent
RIDGE_FIT = Ridge.fit


def of(model):
    return make_pipeline(ColumnTransformer([("x", "passthrough", ["x"])]), model)


def searched(seed): return of(Ridge())
def unseeded(seed): return of(SGDRegressor())
def tree(seed): return of(DecisionTreeRegressor(random_state=seed))
def classes(seed): return of(LogisticRegression())
def spaced(seed): return of(Ridge()), {"ridge__alpha": [1, 2]}
def two(seed): return {"line": of(Ridge()), "tree": of(DecisionTreeRegressor(random_state=seed))}


def counted(seed):
    Ridge.fit = fit_and_count
    return of(Ridge())


def fit_and_count(self, X, y, sample_weight=None):
    fits = HERE / "fits.txt"
    with fits.open("a") as file:
        file.write(f"{len(X)} {self.alpha!r}\\n")
    killer = HERE / "kill"
    if killer.exists() and len(fits.read_text().splitlines()) == int(killer.read_text()):
        killer.unlink()
        os.kill(os.getpid(), 9)
    return RIDGE_FIT(self, X, y, sample_weight=sample_weight)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module of training functions in the project."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"optuna_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(BODY)
    return name


def settings(space: dict[str, Any], *, metric: str = "mae", **optuna: Any) -> dict[str, Any]:
    """Return the search of a request whose candidate ``model`` has a space."""
    declared = {"trials": 15, "sampler": "tpe", "spaces": {"model": space}, **optuna}
    train = Train(function="a:b", search={"optuna": declared})  # type: ignore[arg-type]
    return train.search.settings(metric)


@pytest.fixture
def ask(module: str, tmp_path: Path) -> Callable[..., FitRequest]:
    def request(function: str, search: dict[str, Any], **changes: Any) -> FitRequest:
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
            "search": search,
            "file": str(tmp_path / "out" / "model.skops"),
            "root": str(tmp_path),
        }
        return FitRequest(**{**fields, **changes})

    return request


def line(count: int = 500, *, turn: int = 10**6, weight: Any = None) -> FitRows:
    """Return rows of a straight line whose slope turns from 2 to -2 at a row."""
    source = np.random.default_rng(0)
    x = source.normal(size=count)
    y = np.where(np.arange(count) < turn, 2, -2) * x + source.normal(scale=0.1, size=count)
    return FitRows(pd.DataFrame({"x": x}), y, np.arange(count), weight)


def search_of(result: FitResult) -> dict[str, Any]:
    assert result.search is not None
    return result.search


# --- what is tried, and what wins --------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_one_seed_gives_the_same_trials_and_the_same_file_and_another_gives_others(ask: Any, sampler: str) -> None:
    search = settings({"ridge__alpha": ALPHA}, sampler=sampler)
    first, again, other = (fit_request(ask("searched", search, seed=seed), line()) for seed in (1, 1, 2))
    assert (first.digest, first.search) == (again.digest, again.search)
    assert [t["params"] for t in search_of(first)["trials"]] != [t["params"] for t in search_of(other)["trials"]]
    assert search_of(first)["method"] == f"optuna {sampler}"
    assert first.environment["optuna"].startswith("5.")


def test_trials_are_fitted_on_older_rows_judged_on_newer_ones_and_the_best_is_fitted_on_all(
    ask: Any, tmp_path: Path
) -> None:
    # Only the newest fifth turned: there a slope near 0 is less wrong than the slope of all other rows.
    search = settings({"ridge__alpha": ALPHA})
    turned, straight = (fit_request(ask("searched", search), line(turn=at)) for at in (400, 10**6))
    assert turned.best_params["ridge__alpha"] > 1e5
    assert straight.best_params["ridge__alpha"] < 100
    model = load_model(tmp_path / "out" / "model.skops", straight.digest)
    assert model.named_steps["ridge"].coef_[0] == pytest.approx(2, abs=0.02)
    summary = search_of(straight)
    assert (summary["tried"], summary["validated_on"], summary["metric"]) == (15, 100, "mae")
    assert summary["rounds"] == [{"candidates": 15, "rows": 400}]
    best = summary["trials"][0]
    assert (best["params"], best["score"]) == (straight.best_params, summary["best_score"])
    assert [t["score"] for t in summary["trials"]] == sorted(t["score"] for t in summary["trials"])


def test_the_sampler_learns_from_the_trials_before(ask: Any) -> None:
    search = {s: settings({"ridge__alpha": ALPHA}, trials=40, sampler=s) for s in ("tpe", "random")}
    near = {}
    for sampler, declared in search.items():
        tried = search_of(fit_request(ask("searched", declared), line(turn=400)))["trials"]
        near[sampler] = sum(trial["params"]["ridge__alpha"] > 1e5 for trial in tried)
    assert near["tpe"] >= 2 * near["random"]


def test_each_kind_of_parameter_is_tried_within_its_declaration(ask: Any) -> None:
    space: dict[str, Any] = {
        "decisiontreeregressor__max_depth": {"kind": "int", "low": 1, "high": 6},
        "decisiontreeregressor__min_samples_leaf": {"kind": "int", "low": 1, "high": 64, "log": True},
        "decisiontreeregressor__ccp_alpha": {"kind": "float", "low": 0, "high": 0.1},
        "decisiontreeregressor__max_features": {"kind": "categorical", "values": ["sqrt", 1.0, None]},
    }
    tried = search_of(fit_request(ask("tree", settings(space, trials=30)), line()))["trials"]
    values = {name.partition("__")[2]: [trial["params"][name] for trial in tried] for name in space}
    assert set(values["max_depth"]) <= set(range(1, 7))
    assert all(type(value) is int and 1 <= value <= 64 for value in values["min_samples_leaf"])
    assert all(0 <= value <= 0.1 for value in values["ccp_alpha"])
    assert set(values["max_features"]) == {"sqrt", 1.0, None}
    assert len(set(values["max_depth"])) > 2


def test_a_fit_that_draws_without_a_seed_is_the_same_again(ask: Any) -> None:
    search = settings({"sgdregressor__alpha": {"kind": "float", "low": 1e-6, "high": 1, "log": True}})
    first, again = (fit_request(ask("unseeded", search), line()) for _ in range(2))
    assert first.digest == again.digest


def test_parameters_that_were_tried_are_not_fitted_twice(ask: Any, tmp_path: Path) -> None:
    search = settings({"ridge__alpha": {"kind": "categorical", "values": [1, 10]}})
    result = ChildStep().fit(ask("counted", search), line())
    assert search_of(result)["tried"] == 15
    assert Counter(entry.split()[0] for entry in (tmp_path / "fits.txt").read_text().splitlines()) == {
        "400": 2,
        "500": 1,
    }


def test_weights_count_in_fits_and_in_scores(ask: Any) -> None:
    # The newest hundred rows have both slopes; their weights say which one counts.
    search = settings({"ridge__alpha": ALPHA})
    weight = np.where(np.arange(500) < 450, 1.0, 0.0)
    best = [
        fit_request(ask("searched", search), line(turn=450, weight=weight)).best_params["ridge__alpha"]
        for weight in (weight, np.where(np.arange(500) < 450, 1e-9, 1.0) + (np.arange(500) < 400))
    ]
    assert best[0] < 100
    assert best[1] > 1e5


@pytest.mark.parametrize(("metric", "codes"), [("log_loss", 2), ("accuracy", 2), ("brier", 3), ("log_loss", 3)])
def test_classes_are_judged_by_the_metric_of_the_loop(ask: Any, metric: str, codes: int) -> None:
    rows = line()
    label = np.digitize(rows.label, [-1, 1] if codes == 3 else [1]).astype(np.int64)
    space = {"logisticregression__C": {"kind": "float", "low": 1e-6, "high": 10, "log": True}}
    request = ask("classes", settings(space, metric=metric), classifies=True)
    result = fit_request(request, FitRows(rows.features, label, rows.moment))
    assert result.best_params["logisticregression__C"] > 1e-3
    scores = [trial["score"] for trial in search_of(result)["trials"]]
    assert scores == sorted(scores, reverse=metric == "accuracy")


def test_trials_whose_fit_raises_are_listed_last_and_the_others_go_on(ask: Any) -> None:
    search = settings({"ridge__alpha": {"kind": "categorical", "values": [-1.0, 1.0]}})
    result = fit_request(ask("searched", search), line())
    assert result.best_params == {"ridge__alpha": 1.0}
    last = search_of(result)["trials"][-1]
    assert (last["score"], last["params"]) == (None, {"ridge__alpha": -1.0})
    assert "'alpha' parameter" in last["error"]
    runs = list(trial_runs("o", search_of(result)))
    assert len(runs) == 15
    assert (runs[0].params, set(runs[0].metrics)) == ({"ridge__alpha": "1.0"}, {"validation_mae"})
    assert runs[-1].metrics == {}


def test_a_search_in_which_nothing_can_be_fitted_says_so(ask: Any, tmp_path: Path) -> None:
    search = settings({"ridge__alpha": {"kind": "float", "low": -2, "high": -1}})
    with pytest.raises(TrainingError, match=r"candidate 'model': no parameters that were tried gave a mae; the first"):
        fit_request(ask("searched", search), line())
    assert list((tmp_path / "out").iterdir()) == []


# --- killed, and taken up again ----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [7, 16])
def test_a_search_that_is_killed_goes_on_and_gives_the_same_model_bit_for_bit(
    ask: Any, tmp_path: Path, at: int
) -> None:
    search, fits = settings({"ridge__alpha": ALPHA}), tmp_path / "fits.txt"
    whole = ChildStep().fit(ask("counted", search, file=str(tmp_path / "whole" / "model.skops")), line())
    tried = fits.read_text().splitlines()
    assert len(tried) == 16
    fits.unlink()
    (tmp_path / "kill").write_text(str(at))
    with pytest.raises(TrainingError, match="ended by signal 9"):
        ChildStep().fit(ask("counted", search), line())
    resumed = ChildStep().fit(ask("counted", search), line())
    assert (resumed.digest, resumed.search) == (whole.digest, whole.search)
    # The fit that was killed is the only one that was begun twice.
    assert fits.read_text().splitlines() == [*tried[:at], *tried[at - 1 :]]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.skops"]


@pytest.mark.parametrize(
    ("changed", "fits_again"),
    [({}, 9), ({"attempt": "2"}, 15)],
)
def test_only_the_same_attempt_takes_up_what_is_kept_and_a_torn_line_is_dropped(
    ask: Any, tmp_path: Path, changed: dict[str, str], fits_again: int
) -> None:
    search, fits = settings({"ridge__alpha": ALPHA}), tmp_path / "fits.txt"
    (tmp_path / "kill").write_text("8")
    with pytest.raises(TrainingError, match="ended by signal 9"):
        ChildStep().fit(ask("counted", search), line())
    kept = tmp_path / "out" / "model.skops.trials"
    written = kept.read_text()
    assert len(written.splitlines()) == 8
    kept.write_text(written[:-5])  # the last of seven outcomes is cut
    fits.unlink()
    ChildStep().fit(ask("counted", search, **changed), line())
    assert len(fits.read_text().splitlines()) == fits_again + 1


# --- in a loop ---------------------------------------------------------------------------------------------------


def decided_loop(module: str, tmp_path: Path, function: str, spaces: dict[str, Any], **train: Any) -> Workspace:
    """Return a loop with four weeks, a declared search and a decision to retrain."""
    frames = {week(number): toy_rows(number) for number in range(4)}
    search = {"optuna": {"trials": 8, "spaces": spaces}}
    fields = {"function": f"{module}:{function}", "window": 2, "search": search, **train}
    workspace = in_memory_workspace(toy_loop(train=fields), frames, scratch=tmp_path / "s", root=tmp_path)
    for number in range(4):
        ingest(workspace, week(number))
    decide_and_record(workspace, week(3), trigger="nightly")
    return workspace


@pytest.mark.parametrize("limits", [{}, {"minutes": 5}])
def test_a_searched_version_is_recorded_and_reproduced_bit_for_bit(
    module: str, tmp_path: Path, limits: dict[str, float]
) -> None:
    workspace = decided_loop(module, tmp_path, "two", {"line": {"ridge__alpha": ALPHA}}, limits=limits)
    request = assemble_training(workspace, week(3))
    assert request.search is not None
    assert request.search["optuna"]["spaces"]["line"]["ridge__alpha"] == ALPHA
    fits = [fit_candidate(workspace, request, name) for name in request.candidates]
    evaluated = evaluate_candidates(workspace, request, fits)
    number = register_candidate(workspace, request, evaluated)["version"]
    details = workspace.state().versions[number].details
    assert details.candidate == "line"
    assert set(details.best_params) == {"ridge__alpha"}
    line_report, tree_report = workspace.evidence.get(str(details.report))["candidates"]
    assert line_report["search"]["tried"] == 8
    assert tree_report["search"] is None
    reproduction = reproduce_version(workspace, number)
    assert (reproduction.verdict, reproduction.same_file) == ("identical", True)


@pytest.mark.parametrize(
    ("function", "spaces", "message"),
    [
        (
            "searched",
            {"model": {"ridge__alfa": ALPHA}},
            r"'ridge__alfa', which it has not; did you mean 'ridge__alpha'",
        ),
        ("spaced", {"model": {"ridge__alpha": ALPHA}}, "the function gives a search space of it, and train.search"),
        ("two", {"lime": {"ridge__alpha": ALPHA}}, r"gives no candidate 'lime'; did you mean 'line'\?"),
    ],
)
def test_a_space_that_does_not_fit_its_candidate_is_refused_before_the_fit(
    module: str, tmp_path: Path, function: str, spaces: dict[str, Any], message: str
) -> None:
    loop = toy_loop(train={"function": f"{module}:{function}", "search": {"optuna": {"spaces": spaces}}})
    with pytest.raises(DeclarationError, match=message):
        check_candidates(loop, tmp_path)


def test_a_job_without_the_extra_says_what_to_install(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna_extra, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"candidate 'model': .* needs optuna, .*'airflow-mlops\[optuna\]'"):
        fit_request(ask("searched", settings({"ridge__alpha": ALPHA})), line())


def test_without_the_extra_the_declaration_is_refused_with_the_command_that_installs_it(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"function": f"{module}:searched", "search": {"optuna": {"spaces": {"model": {"ridge__alpha": ALPHA}}}}}
    elsewhere = {**train, "runs_on": {"kind": "interpreter", "python": "env/bin/python"}}
    check_extras(toy_loop(train=train), tmp_path)
    monkeypatch.setattr(optuna_extra, "find_spec", lambda name: None)
    command = r"which is not installed.*: pip install 'airflow-mlops\[optuna\]'"
    with pytest.raises(DeclarationError, match=command) as error:
        check_extras(toy_loop(train=train), tmp_path)
    assert error.value.key == "train.search.optuna"
    with pytest.raises(DeclarationError, match=command):  # where it is fitted, whether that is here or not
        check_candidates(toy_loop(train=train), tmp_path)
    check_extras(toy_loop(train=elsewhere), tmp_path)  # it is needed there, and not here
    assert isinstance(toy_loop(train=elsewhere).train.runs_on, InInterpreter)


@pytest.mark.parametrize(
    ("optuna", "message"),
    [
        ({"kind": "float", "low": 1, "high": 1}, "low must be less than high; they are 1 and 1"),
        ({"kind": "float", "low": 0, "high": 1, "log": True}, "a range with log: true begins above 0, and low is 0"),
        ({"kind": "int", "low": 1.5, "high": 3}, "low and high of kind int are whole numbers, not 1.5 and 3"),
        ({"kind": "categorical", "values": [1]}, "at least 2 items"),
        ({"kind": "categorical", "values": [1, True]}, "each value stands once, and 1 and true are one value"),
        ({"kind": "loguniform", "low": 1, "high": 3}, "kind"),
        ({"kind": "int", "low": 1, "high": 3, "step": 2}, "step"),
        ({"kind": "float", "low": 1, "high": math.inf}, "finite number"),
    ],
)
def test_a_parameter_that_cannot_be_searched_is_refused(optuna: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings({"x": optuna})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"quantiles": [0.1, 0.5, 0.9]}, "search.optuna searches no models of quantiles"),
        ({"early_stopping": {}}, "search.optuna searches no models of early_stopping"),
    ],
)
def test_what_is_not_fitted_in_one_go_is_not_searched(other: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Train(function="a:b", search={"optuna": {"spaces": {"m": {"x": ALPHA}}}}, **other)  # type: ignore[arg-type]


def test_a_search_without_optuna_has_the_settings_that_it_always_had() -> None:
    # The digest of a training request covers them, so another key would make every model again.
    assert json.dumps(Train(function="a:b").search.settings("mae"), sort_keys=True) == (
        '{"candidates": 27, "factor": 3, "metric": "mae", "validation": 20}'
    )
