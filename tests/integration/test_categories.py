"""A loop with categories goes through every stage; its versions keep their levels whatever arrives and is declared."""

from __future__ import annotations

import importlib
import json
import logging
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from airflow_mlops.core.data.input_schema import MAX_LEVELS, UnseenValueError, version_schema
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.declaration.contract import read_contract
from airflow_mlops.core.declaration.user_function import BOOSTERS
from airflow_mlops.core.declaration.watch import CheckName
from airflow_mlops.core.errors import RegistryError, TrainingError
from airflow_mlops.core.governance.explain_row import explain_row
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.registry.load import copy_folder, load_version
from airflow_mlops.core.replay.fit_history import fit_history
from airflow_mlops.core.replay.past_partitions import past_partitions
from airflow_mlops.core.report.evidently_report import evidently_report
from airflow_mlops.core.rollout.manual_rollback import roll_back_now
from airflow_mlops.core.rollout.roll_out import start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.window import pin_published, read_partition
from airflow_mlops.core.watch.checks.run_checks import run_checks
from airflow_mlops.core.watch.drift.detect_drift import detect_drift
from airflow_mlops.core.watch.drift.profile_partition import profile_partition
from airflow_mlops.core.watch.measure_regret import measure_regret
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.watch.training_serving_skew import replay_rows
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.ledger.histories import draft_of
from tests.unit.core.toy_loop import FIELDS, go_live, ingest, toy_loop, toy_rows, train, week

WEEKS = 6
LEVELS = ["amber", "blue", "coral", "dune"]
EFFECT = {"amber": 0.0, "blue": 10.0, "coral": 20.0, "dune": 30.0, "fawn": 5.0}
TRAINING = """
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def boosted(seed):
    return {"boosted": HistGradientBoostingRegressor(max_iter=60, min_samples_leaf=5)}


def leaves(seed):
    from lightgbm import LGBMRegressor

    same = {"n_jobs": 1, "deterministic": True, "force_row_wise": True, "random_state": seed}
    return {"leaves": LGBMRegressor(n_estimators=60, min_child_samples=5, verbose=-1, **same)}


def rounds(seed):
    from xgboost import XGBRegressor

    return {"rounds": XGBRegressor(n_estimators=60, enable_categorical=True, n_jobs=1, random_state=seed)}


def symmetric(seed):
    from catboost import CatBoostRegressor

    same = {"thread_count": 1, "random_seed": seed, "allow_writing_files": False, "verbose": False}
    return {"symmetric": CatBoostRegressor(iterations=120, cat_features=["shop", "size"], **same)}


def encoded(seed):
    columns = [("shops", OneHotEncoder(handle_unknown="ignore"), ["shop", "size"]), ("x", "passthrough", ["x"])]
    return {"encoded": make_pipeline(ColumnTransformer(columns), Ridge())}


def shops(frame, history):
    past = history.rows(partitions=1, columns=["shop", "size"]) if history.partitions else history.rows(
        columns=["shop", "size"]
    )
    assert frame["shop"].dtype == past["shop"].dtype == "category"
    assert list(frame["size"].cat.categories) == list(past["size"].cat.categories) == ["s", "m", "l"]
    return frame[["shop", "size", "x"]].assign(is_blue=frame["shop"] == "blue")
"""
WAYS: dict[str, Any] = {
    "boosted": {"function": "categories:boosted"},
    "encoded": {"function": "categories:encoded"},
    "lightgbm": {"function": "categories:leaves"},
    "xgboost": {"function": "categories:rounds"},
    "catboost": {"function": "categories:symmetric"},
    "function": {"function": "categories:boosted"},
}


def write_contract(folder: Path, **changed: Any) -> None:
    """Write the contract, with some columns declared otherwise."""
    columns = {
        "id": {"type": "text", "nullable": False},
        "at": {"type": "time", "zone": "none", "nullable": False},
        "x": {"type": "float"},
        "shop": {"type": "category"},
        "size": {"type": "category", "levels": ["s", "m", "l"]},
        "y": {"type": "float"},
    }
    fields = {"contract": "rows", "key": "id", "time": "at", "columns": {**columns, **changed}}
    (folder / "contract.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))


def shop_rows(number: int, *, unseen: bool = True) -> pa.Table:
    """Return the rows of a week: the label depends on the shop; from week 4 on there is a shop that was not before."""
    frame = toy_rows(number, rows=240).drop(columns="kind")
    random = np.random.default_rng(number)
    shops: list[str | None] = random.choice(LEVELS, len(frame)).tolist()
    if unseen and number >= 4:
        shops[:6] = ["fawn"] * 6
    frame["y"] += np.array([EFFECT[str(shop)] for shop in shops])
    for place in range(7, len(frame), 60) if number != 1 else ():
        shops[place] = None
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.append_column("shop", pa.array(shops, pa.string()))
    return table.append_column("size", pa.array(random.choice(["s", "m", "l"], len(frame)).tolist(), pa.string()))


def make_loop(folder: Path, way: str, **changed: Any) -> Workspace:
    """Return a loop with six delivered weeks."""
    (folder / "categories.py").write_text(TRAINING)
    write_contract(folder)
    features = {"features": "categories:shops"} if way == "function" else {}
    slices = ["shop", "size"]
    fields: dict[str, Any] = {
        "data": {**FIELDS["data"], "contract": "contract.yaml", **features},
        "train": {**WAYS[way], "window": 2},
        "rollout": {"stages": [{"shadow": 100}, {"live": 100}]},
        "evaluate": {"slices": slices},
        "gates": [{"metric": "mae", "at_most": 8}, {"metric": "mae", "slices": ["shop"], "at_most": 50, "min_rows": 9}],
        "watch": {
            "drift": {"alarm_rate": 0.01},
            "performance": {"metric": "mae", "worse_by": 1.0, "slices": slices, "min_rows": 20},
            "checks": list(get_args(CheckName)),
        },
        "retrain": {"confidence": "none"},
        **changed,
    }
    rows = {week(number): shop_rows(number) for number in range(WEEKS)}
    return in_memory_workspace(toy_loop(**fields), rows, scratch=folder, root=folder)


def reopened(workspace: Workspace, **changed: Any) -> Workspace:
    """Return the loop under another contract."""
    write_contract(workspace.root, **changed)
    return Workspace(workspace.loop, workspace.root, workspace.scratch, workspace.ports, "test")


def champion_of(workspace: Workspace) -> Version:
    champion = workspace.state().champion
    assert champion is not None
    return champion


def predictions(workspace: Workspace, number: int) -> pd.DataFrame:
    """Return the predictions of the newest scoring of a week, by key."""
    scored = workspace.state().scored[week(number)]
    return workspace.predictions.read(week(number), version=scored.version).to_pandas().set_index("key")


@pytest.fixture(scope="module", params=WAYS)
def workspace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a loop with a champion and two scored weeks, of which the second has a shop that nobody has seen."""
    made = make_loop(tmp_path_factory.mktemp(request.param), request.param)
    for number in range(4):
        ingest(made, week(number))
    go_live(made, week(2))
    ingest(made, week(4))
    for number in (3, 4):
        score_partition(made, week(number))
    return made


def test_a_version_records_the_sorted_values_of_its_window_and_the_declared_levels(workspace: Workspace) -> None:
    details = champion_of(workspace).details
    assert details.levels == {"shop": tuple(LEVELS), "size": ("s", "m", "l")}
    assert details.metrics["mae"] < 2.5
    assert workspace.evidence.get(str(details.report))["request"]["levels"]["shop"] == LEVELS


def test_snapshots_hold_plain_text(workspace: Workspace) -> None:
    assert workspace.snapshots.read(week(4)).schema.field("shop").type == pa.string()
    assert workspace.state().published[week(4)].columns["shop"] == "string"


def test_features_are_of_the_same_types_in_every_week_and_for_any_rows(workspace: Workspace) -> None:
    maker = FeatureMaker(workspace, version_schema(workspace, champion_of(workspace)))
    types = set()
    for number in range(5):
        pin = pin_published(workspace.state(), week(number))
        rows = read_partition(workspace, pin, label=False)
        for part in (rows, rows.head(1), rows[rows["shop"].isna()]):
            features = maker.make(part, pin.partition, pin.version)
            types.add(tuple((name, kind) for name, kind in sorted(features.dtypes.items())))
    assert len(types) == 1
    assert list(dict(next(iter(types)))["shop"].categories) == LEVELS


def test_unseen_values_are_counted_with_the_predictions(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    state = workspace.state()
    assert state.scored[week(3)].unseen is None
    assert state.scored[week(4)].unseen == {"1": {"shop": 6}}


def test_an_unseen_value_is_predicted_as_a_null(workspace: Workspace) -> None:
    pin = pin_published(workspace.state(), week(4))
    rows = read_partition(workspace, pin, label=False)
    champion = champion_of(workspace)
    nulls = rows.assign(shop=rows["shop"].where(rows["shop"] != "fawn", None))
    maker = FeatureMaker(workspace, version_schema(workspace, champion))
    features = maker.make(nulls, pin.partition, pin.version)
    expected = predict(load_version(workspace, champion), features, classifies=False)
    served = predictions(workspace, 4)["served_prediction"].loc[rows["id"]]
    np.testing.assert_allclose(served, expected, rtol=1e-12)


def test_a_row_alone_is_predicted_as_in_its_batch(workspace: Workspace) -> None:
    assert replay_rows(workspace, week(4)).difference is None


def test_everything_that_watches_reads_categories(workspace: Workspace) -> None:
    assert not detect_drift(workspace, week(3)).failed
    assert profile_partition(workspace, week(4))["missing"] == []
    results = run_checks(workspace, week(3))
    assert results.keys() == set(get_args(CheckName))
    assert not [judged.message for judged in results.values() if judged.failed]
    assert measure_performance(workspace, week(3)).verdict == "no alarm"
    assert "shop" in evidently_report(workspace, week(4))
    contents: dict[str, bytes] = workspace.evidence.contents  # type: ignore[attr-defined]
    assert '"(missing)"' in json.dumps([json.loads(content) for content in contents.values()])


def test_an_explained_row_shows_its_values(workspace: Workspace) -> None:
    row = shop_rows(4).to_pylist()[0]
    explained = explain_row(workspace, "1", row["id"])
    assert explained.row["shop"] == "fawn"
    assert {"shop", "size", "x"} <= {contribution.feature for contribution in explained.contributions}


def test_a_version_is_reproduced_bit_for_bit(workspace: Workspace) -> None:
    reproduction = reproduce_version(workspace, "1")
    assert (reproduction.verdict, reproduction.same_file) == ("identical", True)


@pytest.mark.parametrize("package", BOOSTERS)
def test_a_changed_file_of_a_booster_is_refused_and_the_version_before_serves_again(
    package: str, tmp_path: Path
) -> None:
    made = make_loop(tmp_path, package, rollout={"stages": [{"live": 100}]})
    for number in range(5):
        ingest(made, week(number))
    go_live(made, week(2))
    go_live(made, week(3))
    second = champion_of(made)
    assert second.details.environment[package] == importlib.import_module(package).__version__
    (copy_folder(made, second) / "model.skops").write_bytes(b"CBM1")
    made.registry.versions[1].content = b"CBM1"  # type: ignore[attr-defined]
    with pytest.raises(RegistryError, match=r"version 2 of toy is refused: model\.skops"):
        score_partition(made, week(4))
    assert roll_back_now(made, reason="changed").champion == "1"
    assert set(score_partition(made, week(4)).served) == {"1"}


@pytest.mark.parametrize("package", BOOSTERS)
def test_a_version_that_was_stopped_early_is_reproduced_bit_for_bit(package: str, tmp_path: Path) -> None:
    train_fields = {**WAYS[package], "window": 2, "early_stopping": {"rounds": 2}}
    made = make_loop(tmp_path, package, train=train_fields, rollout={"stages": [{"live": 100}]})
    for number in range(4):
        ingest(made, week(number))
    go_live(made, week(2))
    details = champion_of(made).details
    model = load_version(made, champion_of(made))
    best = {"lightgbm": "best_iteration_", "xgboost": "best_iteration", "catboost": "tree_count_"}[package]
    assert details.best_params == {"iterations": getattr(model, best) + (package == "xgboost")}
    request = made.evidence.get(str(details.report))["request"]
    assert request["early_stopping"] == {"rounds": 2, "validation": 10}
    reproduction = reproduce_version(made, "1")
    assert (reproduction.verdict, reproduction.same_file) == ("identical", True)
    assert set(score_partition(made, week(3)).served) == {"1"}


def test_a_replay_predicts_what_the_loop_predicted(workspace: Workspace) -> None:
    history = fit_history(workspace, past_partitions(workspace), processes=1)
    fitted = [model for models in history.models.values() for model in models.values()]
    assert [model.failed for model in fitted] == [None] * len(fitted)
    (as_of_training,) = history.models[2].values()
    np.testing.assert_allclose(
        as_of_training.predictions[4], predictions(workspace, 4)["champion_prediction"].to_numpy(), rtol=1e-12
    )


def loop_with_champion(folder: Path, **changed: Any) -> Workspace:
    made = make_loop(folder, "boosted", **changed)
    for number in range(4):
        ingest(made, week(number))
    go_live(made, week(2))
    return made


@pytest.mark.parametrize(
    "shop",
    [{"type": "text", "feature": False}, {"type": "category", "levels": ["blue", "amber"]}, {"type": "text"}],
    ids=["hidden", "other levels", "text"],
)
def test_a_champion_keeps_its_categories_under_another_contract_and_back(shop: dict[str, Any], tmp_path: Path) -> None:
    before = loop_with_champion(tmp_path)
    score_partition(before, week(3))
    expected = predictions(before, 3)["champion_prediction"]
    changed = reopened(before, shop=shop)
    changed.source.frames[week(3)] = shop_rows(3).slice(1)  # type: ignore[attr-defined]
    ingest(changed, week(3))
    assert score_partition(changed, week(3)).unseen is None
    again = predictions(changed, 3)["champion_prediction"]
    np.testing.assert_allclose(again, expected.loc[again.index], rtol=1e-12)
    assert replay_rows(changed, week(3)).difference is None
    assert reproduce_version(changed, "1").verdict == "identical"
    assert not detect_drift(changed, week(3)).failed

    back = reopened(changed)
    ingest(back, week(4))
    assert score_partition(back, week(4)).unseen == {"1": {"shop": 6}}


def test_a_history_shows_a_champion_the_columns_of_its_fit(tmp_path: Path) -> None:
    made = make_loop(tmp_path, "function")
    for number in range(4):
        ingest(made, week(number))
    go_live(made, week(2))
    score_partition(made, week(3))
    hidden = reopened(made, shop={"type": "category", "feature": False})
    assert replay_rows(hidden, week(3)).difference is None
    with pytest.raises(TrainingError, match="'shop'"):
        train(hidden, week(3))


def test_a_fit_in_another_process_makes_the_same_file(tmp_path: Path) -> None:
    digests = set()
    for name, limits in {"here": {}, "there": {"limits": {"minutes": 5}}}.items():
        (tmp_path / name).mkdir()
        made = make_loop(tmp_path / name, "boosted", train={**WAYS["boosted"], "window": 2, **limits})
        for number in range(3):
            ingest(made, week(number))
        train(made, week(2))
        digests.add(made.state().versions["1"].details.artefact)
    assert len(digests) == 1


def test_a_champion_of_text_keeps_text_when_the_column_becomes_a_category(tmp_path: Path) -> None:
    made = make_loop(tmp_path, "encoded")
    made = reopened(made, shop={"type": "text"}, size={"type": "text"})
    for number in range(4):
        ingest(made, week(number))
    go_live(made, week(2))
    assert champion_of(made).details.levels is None
    now = reopened(made)
    assert score_partition(now, week(3)).unseen is None
    assert replay_rows(now, week(3)).difference is None
    assert reproduce_version(now, "1").verdict == "identical"
    assert train(now, week(3)) == "2"
    assert now.state().versions["2"].details.levels == {"shop": tuple(LEVELS), "size": ("s", "m", "l")}


def test_each_version_of_a_rollout_sees_its_own_levels(tmp_path: Path) -> None:
    made = loop_with_champion(tmp_path, rollout={"stages": [{"canary": 50}, {"live": 100}]})
    for number in (4, 5):
        ingest(made, week(number))
    assert train(made, week(5)) == "2"
    assert made.state().versions["2"].details.levels == {
        "shop": tuple(sorted([*LEVELS, "fawn"])),
        "size": ("s", "m", "l"),
    }
    start_rollout(made, week(5))
    made.record_fact(draft_of(made, "stage_entered", "s", week(5), version="2", stage=0, kind="canary", share=50))
    made.source.frames[week(6)] = shop_rows(6)  # type: ignore[attr-defined]
    ingest(made, week(6))
    scored = score_partition(made, week(6))
    assert set(scored.served) == {"1", "2"}
    assert scored.unseen == {"1": {"shop": 6}}
    both = predictions(made, 6)
    pin = pin_published(made.state(), week(6))
    rows = read_partition(made, pin, label=False)
    for number, column in (("1", "champion_prediction"), ("2", "challenger_prediction")):
        version = made.state().versions[number]
        features = FeatureMaker(made, version_schema(made, version)).make(rows, pin.partition, pin.version)
        np.testing.assert_array_equal(both[column].loc[rows["id"]], load_version(made, version).predict(features))


def test_regret_holds_two_versions_with_their_own_levels_against_each_other(tmp_path: Path) -> None:
    policy = {"policy": {"regret": 1.0}}
    made = loop_with_champion(tmp_path, retrain=policy)
    for number in (4, 5):
        ingest(made, week(number))
        score_partition(made, week(number))
    measured = measure_regret(made, week(5))
    assert measured.verdict == "measured", measured.message
    assert measured.regret is not None
    assert measured.regret < 0.5


def test_an_unseen_value_is_an_error_by_choice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = reopened(loop_with_champion(tmp_path), shop={"type": "category", "unseen": "error"})
    score_partition(made, week(3))
    ingest(made, week(4))
    with pytest.raises(UnseenValueError) as refused:
        score_partition(made, week(4))
    message = str(refused.value)
    for word in (week(4), "6 rows", "column 'shop'", "'fawn'", "version 1", "'amber', 'blue'", "declare unseen: null"):
        assert word in message
    assert week(4) not in made.state().scored
    lenient = reopened(made)
    with caplog.at_level(logging.WARNING):
        assert score_partition(lenient, week(4)).unseen == {"1": {"shop": 6}}
    assert "'shop' in 6 rows" in caplog.text


def test_levels_do_not_depend_on_the_order_of_rows_nor_on_rows_without_a_label(tmp_path: Path) -> None:
    made = make_loop(tmp_path, "boosted")
    for number in range(3):
        rows = shop_rows(number)
        frame = rows.to_pandas().sample(frac=1, random_state=number).reset_index(drop=True)
        if number == 0:
            frame.loc[0, ["shop", "y"]] = ["zinc", None]
        made.source.frames[week(number)] = pa.Table.from_pandas(  # type: ignore[attr-defined]
            frame, rows.schema, preserve_index=False
        )
        ingest(made, week(number))
    go_live(made, week(2))
    levels = champion_of(made).details.levels
    assert levels is not None
    assert levels["shop"] == tuple(LEVELS)


def test_a_category_with_too_many_values_is_refused_with_what_to_do(tmp_path: Path) -> None:
    made = make_loop(tmp_path, "boosted")
    for number in range(3):
        rows = shop_rows(number)
        count = 600
        frame = pd.concat([rows.to_pandas()] * 3).head(count).reset_index(drop=True)
        frame = frame.assign(
            id=[f"{number}-{row}" for row in range(count)], shop=[f"{number}-{row}" for row in range(count)]
        )
        made.source.frames[week(number)] = pa.Table.from_pandas(  # type: ignore[attr-defined]
            frame, rows.schema, preserve_index=False
        )
        ingest(made, week(number))
    with pytest.raises(TrainingError, match=rf"'shop' has 1,200 different values .* at most {MAX_LEVELS:,} levels"):
        train(made, week(2))
    assert "declare type: text" in [record.details for record in made.ledger.records()][-1].reason


def test_a_contract_without_categories_has_the_digest_that_it_had(tmp_path: Path) -> None:
    write_contract(tmp_path, shop={"type": "text"}, size={"type": "text"})
    column = read_contract(tmp_path / "contract.yaml").to_dict()["columns"]["shop"]
    assert column.keys().isdisjoint({"levels", "unseen"})
