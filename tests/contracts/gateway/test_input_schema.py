"""A gateway keeps what a version was fitted on: the levels of its categories, and columns that are hidden by now."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from catboost import CatBoostRegressor
from lightgbm import LGBMRegressor
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from xgboost import XGBRegressor

from airflow_mlops.core.data.input_schema import InputSchema
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.core.training.model_input import model_input
from airflow_mlops.core.training.predict import predict
from airflow_mlops.testing.gateway_process import TELL_TOKEN, GatewayProcess
from tests.contracts.gateway.test_shadow import wait_for_telemetry
from tests.contracts.gateway.toy_project import ToyProject, line
from tests.unit.core.toy_loop import ingest, toy_loop, week

CONTRACT = """
contract: toy
key: id
time: at
columns:
  id: {type: text, nullable: false}
  at: {type: time}
  x: {type: float}
  kind: {type: category}
  place: {type: category, unseen: error}
  stops: {type: int, nullable: false, feature: false}
  y: {type: float}
"""
OLD = {"kind": ("a", "b"), "place": ("north", "south")}
NEW = {"kind": ("a", "b", "c"), "place": ("north", "south", "west")}
Start = Callable[[str], tuple[ToyProject, GatewayProcess, GatewayTarget]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a gateway of a loop with a contract."""
    made: list[ToyProject] = []

    def begin(contract: str) -> tuple[ToyProject, GatewayProcess, GatewayTarget]:
        project = ToyProject(tmp_path, contract=contract)
        made.append(project)
        gateway = project.gateway().start()
        return project, gateway, GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)

    yield begin
    for project in made:
        project.close()


def row(**changed: Any) -> dict[str, Any]:
    """Return a good row."""
    return {"id": "a", "x": 1.0, "kind": "a", "place": "north", "stops": 0, **changed}


def by_kind(levels: dict[str, tuple[str, ...]]) -> Any:
    """Return a model that was fitted on the columns kind and x, whose prediction shows the level of kind."""
    names = levels["kind"]
    frame = pd.DataFrame({"kind": [*names, None] * 20, "x": 0.0})
    rows = InputSchema(levels={"kind": names}).with_categories(frame)
    encoder = OneHotEncoder(handle_unknown="ignore")
    model = make_pipeline(ColumnTransformer([("kind", encoder, ["kind"])]), LinearRegression())
    return model.fit(rows, [float(number) for number in range(len(names) + 1)] * 20)


def by_stops() -> Any:
    """Return a model that gives back the number of stops."""
    frame = pd.DataFrame({"stops": [0.0, 1.0, 2.0], "x": [0.0, 1.0, 0.0]})
    return LinearRegression().fit(frame, frame["stops"])


def serve(target: GatewayTarget, order: int, champion: Version, challenger: Version | None = None) -> None:
    """Serve a champion, and a challenger with half of the keys if there is one."""
    for version in (champion, challenger):
        if version is not None:
            target.prepare(version)
    if challenger is None:
        target.apply(Traffic(order, champion.number))
    else:
        target.apply(Traffic(order, champion.number, challenger.number, "canary", 50.0, "salt"))


def refusal(gateway: GatewayProcess, content: Any) -> dict[str, Any]:
    """Return the JSON of a request that is refused with 422."""
    with gateway.client() as client:
        answer = client.post("/predict", content=json.dumps(content), headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    refused: dict[str, Any] = answer.json()
    return refused


BOOSTERS = {
    "lightgbm": LGBMRegressor(n_estimators=20, min_child_samples=1, n_jobs=1, verbose=-1),
    "xgboost": XGBRegressor(n_estimators=20, enable_categorical=True, n_jobs=1),
    "catboost": CatBoostRegressor(
        iterations=20, cat_features=["kind"], thread_count=1, allow_writing_files=False, verbose=False
    ),
}


@pytest.mark.parametrize("model", BOOSTERS.values(), ids=BOOSTERS)
def test_boosted_trees_are_served_with_their_categories_and_without_one(start: Start, model: Any) -> None:
    project, gateway, target = start(CONTRACT)
    random = np.random.default_rng(0)
    kinds = random.choice(np.array([*OLD["kind"], None], object), 300).tolist()
    frame = pd.DataFrame({"kind": pd.Series(kinds, dtype=object), "x": random.normal(size=300)})
    features = InputSchema(levels={"kind": OLD["kind"]}).with_categories(frame)
    label = frame["x"] + 5.0 * (frame["kind"] == "b")
    fitted = model.fit(model_input(model, features), label)
    serve(target, 1, project.version(1, fitted, levels=OLD, hidden=("stops",)))
    rows = [row(id=str(number), **values) for number, values in enumerate(frame.head(40).to_dict("records"))]
    answer = gateway.predict(rows)
    assert answer["predictions"] == pytest.approx(predict(fitted, features.head(40), classifies=False))
    assert answer["predictions"] == pytest.approx(label.head(40), abs=2.5)
    assert gateway.predict(row(kind="c"))["prediction"] == gateway.predict(row(kind=None))["prediction"]


def test_an_unseen_value_is_a_null_for_the_version_that_has_not_seen_it(start: Start) -> None:
    project, gateway, target = start(CONTRACT)
    old = project.version(1, by_kind(OLD), levels=OLD, hidden=("stops",))
    new = project.version(2, by_kind(NEW), levels=NEW, hidden=("stops",))
    serve(target, 1, old)
    rows = [row(id=str(number), kind=kind) for number, kind in enumerate(["a", "b", "c", None, "A", "a "])]
    answer = gateway.predict(rows)
    assert answer["predictions"] == pytest.approx([0.0, 1.0, 2.0, 2.0, 2.0, 2.0])
    assert [gateway.predict(one)["prediction"] for one in rows] == pytest.approx(answer["predictions"])

    serve(target, 2, old, new)
    answer = gateway.predict([row(id=f"key-{number}", kind="c") for number in range(40)])
    assert set(answer["versions"]) == {"1", "2"}
    # A null is 2 for the one, and 3 for the other, who knows c as 2.
    assert answer["predictions"] == pytest.approx([2.0] * 40)
    nulls = gateway.predict([row(id=f"key-{number}", kind=None) for number in range(40)])
    assert nulls["predictions"] == pytest.approx([2.0 if version == "1" else 3.0 for version in nulls["versions"]])

    gateway.stop()
    gateway.start(until="/ready")
    assert gateway.predict(rows)["predictions"][0] == pytest.approx(0.0)
    assert gateway.predict([row(id=f"key-{number}", kind=None) for number in range(40)]) == nulls


def test_gradient_boosting_reads_categories_without_an_encoder(start: Start) -> None:
    project, gateway, target = start(CONTRACT)
    frame = pd.DataFrame({"kind": ["a", "b", None] * 40, "place": ["north", "south"] * 60, "x": 0.0})
    rows = InputSchema(levels=OLD).with_categories(frame)
    model = HistGradientBoostingRegressor(max_iter=60).fit(rows, [0.0, 10.0, 20.0] * 40)
    serve(target, 1, project.version(1, model, levels=OLD, hidden=("stops",)))
    answer = gateway.predict([row(kind=kind) for kind in ("a", "b", None, "z")])
    assert answer["predictions"] == pytest.approx([0.0, 10.0, 20.0, 20.0], abs=1.0)


def test_an_unseen_value_is_refused_by_choice_with_the_words_of_batch_scoring(start: Start) -> None:
    project, gateway, target = start(CONTRACT)
    serve(target, 1, project.version(1, levels=OLD, hidden=("stops",)))
    words = (
        "column 'place' has the value 'west', which is none of the 2 levels of version 1 ('north', 'south'), and the "
        "contract says unseen: error; correct the value, retrain on rows that have it, or declare unseen: null"
    )
    refused = refusal(gateway, row(place="west"))
    assert (refused["field"], refused["reason"]) == ("place", words)
    listed = refusal(gateway, [row(), row(place=None), row(place="west")])
    assert (listed["field"], listed["row"], listed["reason"]) == ("place", 2, words)
    assert gateway.predict(row(place=None)) == {"prediction": 1.0, "version": "1"}

    # The newer champion has seen it.
    serve(target, 2, project.version(2, levels=NEW, hidden=("stops",)))
    assert gateway.predict(row(place="west")) == {"prediction": 2.0, "version": "2"}


def test_a_challenger_that_has_not_seen_a_value_leaves_the_row_to_the_champion(start: Start) -> None:
    project, gateway, target = start(CONTRACT)
    champion = project.version(1, levels=NEW, hidden=("stops",))
    serve(target, 1, champion, project.version(2, levels=OLD, hidden=("stops",)))
    good = gateway.predict([row(id=f"key-{number}") for number in range(20)])
    assert set(good["versions"]) == {"1", "2"}
    place = good["versions"].index("2")
    assert gateway.predict(row(id=f"key-{place}", place="west")) == {"prediction": 1.0, "version": "1"}


def test_a_champion_keeps_a_hidden_column_until_it_is_replaced(start: Start) -> None:
    project, gateway, target = start(CONTRACT)
    champion = project.version(1, by_stops(), hidden=())
    serve(target, 1, champion)
    assert gateway.predict(row(stops=2))["prediction"] == pytest.approx(2.0)
    without = {name: value for name, value in row().items() if name != "stops"}
    assert refusal(gateway, without)["error"] == "stops: is missing"

    # During the rollout of its replacement a row needs what either of them sees.
    successor = project.version(2, line(2), hidden=("stops",))
    serve(target, 2, champion, successor)
    answer = gateway.predict([row(id=f"key-{number}", stops=1, x=4.0) for number in range(40)])
    assert set(answer["versions"]) == {"1", "2"}
    assert answer["predictions"] == pytest.approx([1.0 if version == "1" else 8.0 for version in answer["versions"]])
    assert refusal(gateway, without)["field"] == "stops"
    gateway.stop()
    gateway.start(until="/ready")
    assert refusal(gateway, without)["field"] == "stops"

    serve(target, 3, successor)
    assert gateway.predict({**without, "x": 4.0}) == {"prediction": 8.0, "version": "2"}


def test_a_shadow_sees_its_own_levels(start: Start) -> None:
    project, gateway, target = start(CONTRACT)
    champion = project.version(1, by_kind(OLD), levels=OLD, hidden=("stops",))
    for version in (champion, project.version(2, by_kind(NEW), levels=NEW, hidden=("stops",))):
        target.prepare(version)
    target.apply(Traffic(1, "1", "2", "shadow", 100.0, "salt"))
    for kind in ("c", None):
        assert gateway.predict(row(kind=kind)) == {"prediction": pytest.approx(2.0), "version": "1"}
    wait_for_telemetry(target, lambda seen: seen.challenger.requests == 2)
    gateway.stop()
    assert sorted(line["challenger_prediction"] for line in gateway.lines("shadow")) == pytest.approx([2.0, 3.0])


def test_a_version_without_a_record_of_hidden_columns_is_served_as_the_contract_says_now(start: Start) -> None:
    project, gateway, target = start(CONTRACT)
    serve(target, 1, project.version(1))
    without = {name: value for name, value in row().items() if name != "stops"}
    assert gateway.predict(without) == {"prediction": 1.0, "version": "1"}


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ("a, b", "levels must be a mapping of columns to lists of texts"),
        ({"kind": "ab"}, "levels of 'kind' is 'ab'; it must be a list of texts"),
        ({"kind": [1]}, "levels of 'kind' is '[1]'; it must be a list of texts"),
    ],
)
def test_levels_that_are_none_are_refused(start: Start, levels: Any, words: str) -> None:
    from tests.contracts.gateway.toy_project import describe_version

    project, gateway, _target = start(CONTRACT)
    body = {**describe_version(project.version(1)), "levels": levels}
    with gateway.client(token=TELL_TOKEN) as client:
        answer = client.put("/control/prepare", json=body)
    assert answer.status_code == 422
    assert words in answer.json()["error"]


def with_weight(tmp_path: Path, column: str, contract: str | None) -> tuple[ToyProject, GatewayProcess, GatewayTarget]:
    """Return a project whose declaration makes a column the weight of a row, with a gateway that runs."""
    train = {**toy_loop().to_dict()["train"], "weight": column}
    project = ToyProject(tmp_path, contract=contract, train=train)
    gateway = project.gateway().start()
    return project, gateway, GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)


def test_a_row_needs_no_weight_and_a_version_from_before_it_was_declared_keeps_its_column(tmp_path: Path) -> None:
    project, gateway, target = with_weight(tmp_path, "stops", CONTRACT.replace(", feature: false", ""))
    without = {name: value for name, value in row(x=4.0).items() if name != "stops"}
    try:
        serve(target, 1, project.version(1, by_stops(), hidden=()))
        assert refusal(gateway, without)["error"] == "stops: is missing"
        assert gateway.predict(row(stops=2))["prediction"] == pytest.approx(2.0)
        serve(target, 2, project.version(2, line(2), hidden=("stops",)))
        assert gateway.predict(without) == {"prediction": 8.0, "version": "2"}
        assert gateway.predict(row(x=4.0, stops=2)) == {"prediction": 8.0, "version": "2"}
    finally:
        project.close()


def test_without_a_contract_a_row_has_no_weight(tmp_path: Path) -> None:
    project, gateway, target = with_weight(tmp_path, "kind", None)
    try:
        ingest(project.workspace, week(0))
        serve(target, 1, project.version(1, hidden=("kind",)))
        assert gateway.predict({"id": "a", "x": 2.0}) == {"prediction": 2.0, "version": "1"}
        assert refusal(gateway, {"id": "a", "x": 2.0, "kind": "a"})["field"] == "kind"
    finally:
        project.close()
