"""Several windows: each candidate is fitted on each of them, and a version is that of its own window."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from airflow_mlops.core.declaration.user_function import CANDIDATE_NAME
from airflow_mlops.core.declaration.windowed_candidate import windowed_name
from airflow_mlops.core.errors import DeclarationError, TrainingError
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates
from airflow_mlops.core.governance.model_card import model_card
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.ports.fit_request import FitRequest
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.training.assemble import TrainingRequest, assemble_training, stored_request
from airflow_mlops.core.training.fit_candidate import candidate_file, fit_candidate, fit_request_of
from airflow_mlops.core.training.optuna_search import declared_space
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import candidates, ingest, toy_loop, toy_rows, train, week

HOUSE = Path(__file__).resolve().parents[4]

WEEKS = 7


def two(seed: int) -> dict[str, Any]:
    """Return a straight line, and one that is held near zero."""
    held = make_pipeline(ColumnTransformer([("x", "passthrough", ["x"])]), Ridge(alpha=1e6))
    return {**candidates(seed), "held": held}


def declared(window: Any, function: str = "candidates", **fields: Any) -> dict[str, Any]:
    """Return the section ``train`` of the toy with these windows."""
    module = __name__ if function == "two" else "tests.unit.core.toy_loop"
    return {"function": f"{module}:{function}", "window": window, **fields}


def published(
    tmp_path: Path, window: Any, slopes: list[float], function: str = "candidates", **fields: Any
) -> Workspace:
    """Return the toy loop with weeks of these slopes published."""
    frames = {week(number): toy_rows(number, slope=slope) for number, slope in enumerate(slopes)}
    workspace = in_memory_workspace(toy_loop(train=declared(window, function, **fields)), frames, scratch=tmp_path)
    for key in frames:
        ingest(workspace, key)
    return workspace


def assembled(workspace: Workspace, key: str) -> TrainingRequest:
    """Return the request of a training that a person asked for."""
    decide_and_record(workspace, key, trigger="person")
    return assemble_training(workspace, key)


def partitions(pins: Any) -> list[str]:
    return [pin.partition for pin in pins]


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ([13, 4], r"numbers of partitions that rise, each once, and all at its end, such as .*; write \[4, 13\]"),
        (["all", 4], r"write \[4, all\] \(value \['all', 4\]\)"),
        ([4, 4, "all"], r"write \[4, all\]"),
        ([], r"a list of windows has numbers .* \(value \[\]\)"),
        ([0, 4], "holds 0, which is neither a number of partitions from 1 on nor all"),
        ([4, "every"], "holds 'every', which is neither"),
        ([4, True], "holds True, which is neither"),
        ([2, 4.5], "holds 4.5, which is neither"),
    ],
)
def test_a_list_that_is_no_rising_list_of_windows_is_refused_at_its_key(window: Any, words: str) -> None:
    with pytest.raises(DeclarationError, match=rf"^train\.window: .*{words}"):
        toy_loop(train=declared(window))


def test_a_list_of_one_window_is_that_window(tmp_path: Path) -> None:
    plain, listed = (toy_loop(train=declared(window)) for window in (2, [2]))
    assert listed == plain
    requests = [
        assembled(published(tmp_path / str(number), window, [2.0] * 4), week(3))
        for number, window in enumerate((2, [2]))
    ]
    assert requests[0] == requests[1]
    assert "windows" not in requests[0].to_dict()
    assert requests[0].candidates == ("line",)


@pytest.mark.parametrize(
    ("window", "available", "lengths"),
    [
        ([4, 13, "all"], 20, {"4": 4, "13": 13, "all": 20}),
        ([4, 13, "all"], 13, {"4": 4, "all": 13}),
        ([4, 13, "all"], 9, {"4": 4, "all": 9}),
        ([4, 13, "all"], 3, {"all": 3}),
        ([4, 13], 9, {"4": 4, "13": 9}),
        ([4, 13], 2, {"13": 2}),
        ("all", 5, {"all": 5}),
    ],
)
def test_a_window_that_is_longer_than_the_history_is_all_of_it_once(
    window: Any, available: int, lengths: dict[str, int]
) -> None:
    assert toy_loop(train=declared(window)).train.window_lengths(available) == lengths


@pytest.mark.parametrize(
    ("window", "fields", "needed"),
    [([4, 13, "all"], {}, 5), ([4, "all"], {"at_least": 2}, 3), ([4, 13], {"holdout": 3}, 7), ([1, "all"], {}, 2)],
)
def test_the_shortest_window_decides_when_the_first_training_may_start(
    window: Any, fields: dict[str, Any], needed: int
) -> None:
    assert toy_loop(train=declared(window, **fields)).train.partitions_needed == needed


def test_no_name_of_the_user_is_that_of_a_candidate_on_a_window() -> None:
    for window in ("4", "all"):
        assert not re.fullmatch(CANDIDATE_NAME, windowed_name("line", window))


def test_each_candidate_is_fitted_on_each_window_before_the_same_holdout(tmp_path: Path) -> None:
    workspace = published(tmp_path, [2, 4, "all"], [2.0] * WEEKS, "two")
    request = assembled(workspace, week(6))
    assert request.candidates == ("held@2", "held@4", "held@all", "line@2", "line@4", "line@all")
    fits = {name: fit_candidate(workspace, request, name) for name in request.candidates}
    assert {name: fit["rows"] // 120 for name, fit in fits.items() if name.startswith("line")} == {
        "line@2": 2,
        "line@4": 4,
        "line@all": 6,
    }
    for length, name in ((2, "line@2"), (4, "line@4"), (6, "line@all")):
        own = request.of_candidate(name).window
        assert partitions(own.fitted) == [week(number) for number in range(6 - length, 6)]
        assert own.holdout == request.window.holdout
    report = workspace.evidence.get(evaluate_candidates(workspace, request, list(fits.values()))["report"])
    assert [entry["candidate"] for entry in report["candidates"]] == list(request.candidates)
    assert len({entry["loss"] for entry in report["candidates"]}) == 6


def test_a_request_with_windows_is_read_as_it_was_written(tmp_path: Path) -> None:
    workspace = published(tmp_path, [2, "all"], [2.0] * 5)
    request = assembled(workspace, week(4))
    assert stored_request(workspace, workspace.evidence.put(request.to_dict())) == request
    fit = fit_request_of(workspace, request, "line@2", candidate_file(workspace, request.operation, "line@2"))
    assert FitRequest.from_dict(fit.to_dict()) == fit
    assert (fit.candidate, [pin["partition"] for pin in fit.window]) == ("line@2", [week(2), week(3)])


def test_a_fit_in_a_process_of_its_own_finds_the_candidate_of_the_user(tmp_path: Path) -> None:
    # The process knows the folder of the project alone, where it finds the user's function.
    workspace = replace(published(tmp_path, [2, "all"], [2.0] * 5, limits={"memory_mb": 8000}), root=HOUSE)
    request = assembled(workspace, week(4))
    fits = {name: fit_candidate(workspace, request, name) for name in request.candidates}
    assert {name: fit["rows"] for name, fit in fits.items()} == {"line@2": 240, "line@all": 480}
    assert {name: fit["candidate"] for name, fit in fits.items()} == {name: name for name in fits}


def test_the_space_of_a_search_is_that_of_the_candidate_on_every_window(tmp_path: Path) -> None:
    spaces = {"line": {"linearregression__fit_intercept": {"kind": "categorical", "values": [True, False]}}}
    workspace = published(tmp_path, [2, "all"], [2.0] * 5, search={"optuna": {"spaces": spaces}})
    request = assembled(workspace, week(4))
    for name in request.candidates:
        fit = fit_request_of(workspace, request, name, candidate_file(workspace, request.operation, name))
        assert list(declared_space(fit) or {}) == ["linearregression__fit_intercept"]


def test_other_windows_are_another_request(tmp_path: Path) -> None:
    operations = {
        assembled(published(tmp_path / str(number), window, [2.0] * 5), week(4)).operation
        for number, window in enumerate(("all", [2, "all"], [3, "all"]))
    }
    assert len(operations) == 3


def test_after_a_change_the_short_window_wins_and_the_version_is_of_its_own_partitions(tmp_path: Path) -> None:
    workspace = published(tmp_path, [2, "all"], [2.0] * 4 + [6.0] * 3)
    train(workspace, week(6))
    version = workspace.state().versions["1"]
    details = version.details
    assert details.candidate == "line@2"
    assert partitions(details.window.fitted) == [week(4), week(5)]
    assert partitions(details.window.holdout) == [week(6)]
    assert details.rows == 240
    assert list(workspace.evidence.get(str(details.profile))["windows"]) == [week(4), week(5)]
    assert load_version(workspace, version)[-1].coef_ == pytest.approx([6.0], abs=0.2)
    assert reproduce_version(workspace, "1").verdict == "identical"
    assert reproduce_version(workspace, "1").same_file
    sections = {section.title: section for section in model_card(workspace, "1").sections}
    assert "Candidate 'line@2'" in " ".join(sections["What it is for"].texts)
    assert [row[:2] for row in sections["Data"].tables[0].rows] == [
        (week(4), "fitted"),
        (week(5), "fitted"),
        (week(6), "judged"),
    ]


def test_where_nothing_changes_the_long_window_wins(tmp_path: Path) -> None:
    workspace = published(tmp_path, [1, "all"], [2.0] * WEEKS)
    train(workspace, week(6))
    assert workspace.state().versions["1"].details.candidate == "line@all"
    assert reproduce_version(workspace, "1").verdict == "identical"


def test_a_window_that_nothing_can_be_learned_from_is_left_out_with_its_reason(tmp_path: Path) -> None:
    frames = {week(number): toy_rows(number) for number in range(5)}
    frames[week(3)]["y"] = 7.0
    workspace = in_memory_workspace(toy_loop(train=declared([1, "all"])), frames, scratch=tmp_path)
    for key in frames:
        ingest(workspace, key)
    request = assembled(workspace, week(4))
    assert request.candidates == ("line@all",)
    reason = "all 120 labels 'y' of the training window are of one value: 7.0"
    assert request.refused == {"line@1": reason}
    fits = [fit_candidate(workspace, request, name) for name in request.candidates]
    evaluated = evaluate_candidates(workspace, request, fits)
    assert evaluated["left_out"] == {"line@1": reason}


def test_where_the_longest_window_teaches_nothing_none_does(tmp_path: Path) -> None:
    frames = {week(number): toy_rows(number).assign(y=np.nan) for number in range(3)}
    workspace = in_memory_workspace(toy_loop(train=declared([1, "all"])), frames, scratch=tmp_path)
    for key in frames:
        ingest(workspace, key)
    with pytest.raises(TrainingError, match="no row of the training window has a label"):
        assembled(workspace, week(2))
