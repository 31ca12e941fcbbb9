"""No row changes the features or the prediction of another: in a batch, and through the gateway's own frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

from airflow_mlops.core.data.frame_types import frame_of, never_null
from airflow_mlops.core.data.input_schema import InputSchema, levels_of
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.declaration.contract import Contract, read_contract
from airflow_mlops.core.training.model_input import model_input
from airflow_mlops.core.training.predict import predict
from airflow_mlops.gateway.inference_backends import choose_backend, frame_backend
from airflow_mlops.gateway.row_shape import RowShape, request_shape
from airflow_mlops.testing.in_memory import in_memory_workspace
from include.flights.training import CATEGORIES, air_time_candidates, delay_candidates
from tests.unit.core.toy_loop import FIELDS, toy_loop

ROOT = Path(__file__).parents[2]
BIG = 2**60
MIXED = """
contract: mixed
key: id
time: at
columns:
  id: {type: int}
  at: {type: time}
  account: {type: int}
  count: {type: int, nullable: false}
  member: {type: bool}
  known: {type: bool, nullable: false}
  size: {type: float}
  shop: {type: text}
  y: {type: float}
"""


CATEGORY = MIXED.replace("shop: {type: text}", "shop: {type: category}").replace(
    "size: {type: float}", "size: {type: float}\n  grade: {type: category, levels: [low, mid, high, top]}"
)
FITTED = 140
"""Rows that a model is fitted on; the others have values that it has not seen, too."""


def encoded(encoder: Any, model: Any) -> Any:
    columns = [("encoded", encoder, ["account", "member"]), ("numbers", SimpleImputer(), ["count", "known", "size"])]
    return make_pipeline(ColumnTransformer(columns), model)


def passed_on(model: Any, *steps: Any) -> Any:
    columns = [("numbers", "passthrough", ["account", "count", "member", "known", "size"])]
    return make_pipeline(ColumnTransformer(columns), *steps, model)


def of_categories(encoder: Any, model: Any) -> Any:
    columns = [("encoded", encoder, ["shop", "grade", "account"]), ("numbers", SimpleImputer(), ["count", "size"])]
    return make_pipeline(ColumnTransformer(columns), model)


MODELS: dict[str, Any] = {
    "one-hot": encoded(OneHotEncoder(handle_unknown="ignore"), Ridge()),
    "ordinal": encoded(
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), HistGradientBoostingRegressor(max_iter=5)
    ),
    "target": encoded(TargetEncoder(cv=KFold(5, shuffle=True, random_state=0)), Ridge()),
    "frequent": encoded(
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")), Ridge()
    ),
    "boosted": passed_on(HistGradientBoostingRegressor(max_iter=5)),
    "linear": passed_on(Ridge(), SimpleImputer(), StandardScaler()),
    "bare": HistGradientBoostingRegressor(max_iter=5),
    "classes": passed_on(HistGradientBoostingClassifier(max_iter=5)),
    "logistic": passed_on(LogisticRegression(), SimpleImputer(), StandardScaler()),
    "category-boosted": HistGradientBoostingRegressor(max_iter=20, min_samples_leaf=5),
    "category-classes": HistGradientBoostingClassifier(max_iter=20, min_samples_leaf=5),
    "category-one-hot": of_categories(OneHotEncoder(handle_unknown="ignore"), Ridge()),
    "category-ordinal": of_categories(
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), HistGradientBoostingRegressor(max_iter=5)
    ),
    "category-target": of_categories(TargetEncoder(cv=KFold(5, shuffle=True, random_state=0)), Ridge()),
    "category-function": HistGradientBoostingRegressor(max_iter=20, min_samples_leaf=5),
    "air_time boosting": air_time_candidates(0)["boosting"],
    "air_time linear": air_time_candidates(0)["linear"],
    "delay boosting": delay_candidates(0)["boosting"],
}


FUNCTION = """
def features(frame):
    codes = frame["shop"].cat.codes
    grades = frame["grade"].cat.as_ordered() >= "mid"
    return frame[["shop", "grade", "size", "account"]].assign(code=codes, good=grades)
"""


@dataclass(frozen=True)
class World:
    """A fitted model with its rows, and the two ways to its predictions."""

    table: pa.Table
    contract: Contract | None
    maker: FeatureMaker
    shape: RowShape
    model: Any
    classifies: bool

    def features(self, rows: pa.Table) -> pd.DataFrame:
        """Return the features of rows of a partition, as scoring makes them."""
        key = self.maker.workspace.loop.data.key
        return self.maker.make(frame_of(rows, never_null(self.contract, key)), "2013-01-06T00:00:00")

    def batch(self, rows: pa.Table) -> npt.NDArray[np.float64]:
        """Return the predictions of batch scoring."""
        return predict(self.model, self.features(rows), classifies=self.classifies)

    def requests(self, rows: pa.Table) -> list[Any]:
        """Return rows as the gateway decodes them."""
        body = json.dumps(rows.to_pylist(), default=lambda time: time.isoformat()).encode()
        return self.shape.decode_rows(body)[0]


def mixed_rows(count: int = 160) -> pa.Table:
    random = np.random.default_rng(0)
    account = BIG + random.integers(0, 5, count)
    schema = pa.schema(
        [
            *[("id", pa.int64()), ("at", pa.timestamp("us", tz="UTC")), ("account", pa.int64()), ("count", pa.int64())],
            *[("member", pa.bool_()), ("known", pa.bool_()), ("size", pa.float64()), ("shop", pa.string())],
            ("y", pa.float64()),
        ]
    )
    account[FITTED:] += random.integers(0, 2, count - FITTED) * 40
    rows = [
        {
            "id": BIG + number,
            "at": pd.Timestamp("2013-01-01", tz="UTC"),
            "account": None if number % 7 == 0 else int(account[number]),
            "count": number % 11,
            "member": None if number % 5 == 0 else number % 2 == 0,
            "known": number % 3 == 0,
            "size": None if number % 4 == 0 else float(random.normal()),
            "shop": None if number % 6 == 0 else "ab"[number % 2],
            "y": float(10 * (account[number] - BIG) + random.normal()),
        }
        for number in range(count)
    ]
    return pa.Table.from_pylist(rows, schema)


def category_rows(count: int = 160) -> pa.Table:
    """Return rows whose last ones have a shop and a grade that the fitted ones lack, and whose label needs both."""
    random = np.random.default_rng(1)
    table = mixed_rows(count)
    shops = [["a", "b", "B", "a ", None][at] for at in random.integers(0, 5, count)]
    grades = [["low", "mid", "high", None][at] for at in random.integers(0, 4, count)]
    for place in range(FITTED, count):
        shops[place] = ["new", "A", "a", None][place % 4]
        grades[place] = ["top", "no grade", "mid"][place % 3]
    effect = [
        30.0 * (shop == "b") + 15.0 * (shop == "B") + 7.0 * (grade == "mid")
        for shop, grade in zip(shops, grades, strict=True)
    ]
    label = pa.array(effect + random.normal(size=count))
    table = table.set_column(table.column_names.index("shop"), "shop", pa.array(shops, pa.string()))
    table = table.set_column(table.column_names.index("y"), "y", label)
    return table.append_column("grade", pa.array(grades, pa.string()))


def flight_rows(contract: Contract, label: str, count: int = 160) -> pa.Table:
    random = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {}
    for name, column in contract.columns.items():
        numbers = random.integers(0, 5, count)
        values: dict[str, Callable[[int], Any]] = {
            "text": lambda number: "ABCDE"[number],
            "int": int,
            "float": lambda number: float(number) + float(random.normal()),
            "time": lambda _: pd.Timestamp("2013-01-01", tz="UTC"),
        }
        columns[name] = [values[column.type](number) for number in numbers]
        if column.nullable:
            columns[name] = [
                None if number == 0 else value for number, value in zip(numbers, columns[name], strict=True)
            ]
        if column.type == "text":
            columns[name][FITTED:] = ["NEW", *columns[name][FITTED + 1 :]]
    columns["flight_id"] = [f"flight-{number}" for number in range(count)]
    columns[label] = [number % 2 for number in range(count)] if label == "arrived_late" else columns["distance"]
    return pa.table(columns, contract.schema)


@cache
def world(name: str, with_contract: bool = True) -> World:
    flights = name.split(maxsplit=1)[0] if " " in name else None
    folder = Path(mkdtemp())
    data: dict[str, Any] = {**FIELDS["data"], "contract": "mixed.yaml"}
    if flights:
        contract = read_contract(ROOT / f"include/contracts/flights_{flights}.yaml")
        label = "air_time" if flights == "air_time" else "arrived_late"
        data |= {"key": contract.key, "time": contract.time, "label": label}
        (folder / "mixed.yaml").write_text((ROOT / f"include/contracts/flights_{flights}.yaml").read_text())
        table = flight_rows(contract, label)
    elif name.startswith("category"):
        (folder / "mixed.yaml").write_text(CATEGORY)
        table = category_rows()
    else:
        (folder / "mixed.yaml").write_text(MIXED)
        table = mixed_rows()
    if name == "category-function":
        (folder / "apart.py").write_text(FUNCTION)
        data["features"] = "apart:features"
    if not with_contract:
        del data["contract"]
    loop = toy_loop(data=data)
    workspace = in_memory_workspace(loop, {}, scratch=folder, root=folder)
    contract_used = workspace.contract
    recorded = {field.name: str(field.type) for field in table.schema}
    shape = request_shape(loop.data, contract_used, recorded)
    classifies = name in ("classes", "logistic", "category-classes", "delay boosting")
    label_values = table[loop.data.label].to_pandas().to_numpy(np.float64)
    if classifies:
        label_values = (label_values > np.median(label_values)).astype(np.int64)
    fitted = table.slice(0, FITTED)
    levels = {}
    if name.startswith("category"):
        levels = {"shop": levels_of([fitted.to_pandas()], "shop"), "grade": ("low", "mid", "high", "top")}
    maker = FeatureMaker(workspace, InputSchema(levels=levels))
    made = World(table.drop_columns([loop.data.label]), contract_used, maker, shape, clone(MODELS[name]), classifies)
    features = made.features(made.table.slice(0, FITTED))
    if name == "bare":
        features = features.drop(columns="shop")
    made.model.fit(model_input(made.model, features), label_values[:FITTED])
    return made


WORLDS = [
    (name, with_contract)
    for name in MODELS
    for with_contract in (True, False)
    if with_contract or not name.startswith("category")  # only a contract declares categories
]


@pytest.mark.parametrize(("name", "with_contract"), WORLDS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_dropping_adding_and_permuting_rows_changes_no_other_row(
    name: str, with_contract: bool, data: st.DataObject
) -> None:
    made = world(name, with_contract)
    chosen = data.draw(st.lists(st.integers(0, len(made.table) - 1), min_size=1, max_size=8, unique=True))
    rows = made.table.take(chosen)
    together, features = made.batch(made.table)[chosen], made.features(made.table).iloc[chosen].reset_index(drop=True)
    pd.testing.assert_frame_equal(made.features(rows), features, check_exact=True)
    np.testing.assert_allclose(made.batch(rows), together, rtol=1e-12)
    by_gateway = frame_backend(made.model, made.shape, made.maker, classifies=made.classifies)
    np.testing.assert_allclose(by_gateway(made.requests(rows)), together, rtol=1e-12)
    alone = [by_gateway([request])[0] for request in made.requests(rows)]
    np.testing.assert_allclose(alone, together, rtol=1e-12)


@pytest.mark.parametrize(("name", "with_contract"), WORLDS)
def test_the_backend_that_a_gateway_chooses_predicts_as_the_batch_does(name: str, with_contract: bool) -> None:
    made = world(name, with_contract)
    backend = choose_backend(made.model, made.shape, made.maker, classifies=made.classifies, onnx=False)
    together = made.batch(made.table)
    np.testing.assert_allclose(backend.predict(made.requests(made.table)), together, rtol=1e-9)
    alone = [backend.predict([request])[0] for request in made.requests(made.table)[:20]]
    np.testing.assert_allclose(alone, together[:20], rtol=1e-9)


@pytest.mark.parametrize("name", ["one-hot", "target"])
@pytest.mark.parametrize("with_contract", [True, False])
def test_an_encoder_tells_integers_of_64_bits_apart_although_some_are_null(name: str, with_contract: bool) -> None:
    made = world(name, with_contract)
    predicted = made.batch(made.table)
    accounts = np.array([-1 if value is None else value - BIG for value in made.table["account"].to_pylist()])
    means = [predicted[accounts == number].mean() for number in range(5)]
    assert np.all(np.diff(means) > 5)


@pytest.mark.parametrize("name", [name for name in MODELS if " " in name])
def test_a_flight_loop_is_predicted_to_the_last_digit_as_on_plain_frames(name: str) -> None:
    made = world(name)
    names = [*CATEGORIES, *(column for column in made.features(made.table) if column not in CATEGORIES)]
    plain = made.table.to_pandas()[names]
    pd.testing.assert_frame_equal(made.features(made.table)[names], plain, check_exact=True)
    expected = predict(made.model, plain, classifies=made.classifies)
    assert made.batch(made.table).tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("category")])
def test_a_category_tells_its_levels_apart_and_takes_what_is_none_for_null(name: str) -> None:
    made = world(name)
    shops, together = made.table["shop"].to_pylist(), made.batch(made.table)
    means = {shop: together[[shop == other for other in shops]].mean() for shop in ("a", "b")}
    assert means["b"] > means["a"] + (0.3 if made.classifies else 10)
    for unseen in ("new", "A", "b ", ""):
        same = [made.batch(with_shop(made.table, value)) for value in (unseen, None)]
        np.testing.assert_array_equal(*same)
        requests = [made.requests(with_shop(made.table.slice(0, 9), value)) for value in (unseen, None)]
        by_gateway = frame_backend(made.model, made.shape, made.maker, classifies=made.classifies)
        np.testing.assert_array_equal(by_gateway(requests[0]), by_gateway(requests[1]))


def with_shop(rows: pa.Table, value: str | None) -> pa.Table:
    """Return rows that all have one shop."""
    return rows.set_column(rows.column_names.index("shop"), "shop", pa.array([value] * len(rows), pa.string()))


texts = st.lists(st.none() | st.text(max_size=3) | st.sampled_from(["a", "A", "a ", "é", "e\u0301"]), max_size=12)


@settings(deadline=None)
@given(values=texts, others=texts, order=st.randoms(use_true_random=False))
def test_levels_are_those_of_the_values_in_whichever_order_they_come(
    values: list[str | None], others: list[str | None], order: Any
) -> None:
    shuffled = [*values]
    order.shuffle(shuffled)
    levels = levels_of([shop_column(values)], "shop")
    assert levels == levels_of([shop_column(shuffled[:4]), shop_column(shuffled[4:])], "shop")
    assert set(levels) == {value for value in values if value is not None}
    assert list(levels) == sorted(levels)

    schema = InputSchema(levels={"shop": levels})
    rows = shop_column([*values, *others])
    made = schema.with_categories(rows)["shop"]
    assert list(made.cat.categories) == list(levels)
    assert [None if pd.isna(value) else value for value in made] == [
        value if value in levels else None for value in [*values, *others]
    ]
    alone = [schema.with_categories(shop_column([value]))["shop"] for value in [*values, *others]]
    assert all(column.dtype == made.dtype for column in alone)
    assert schema.unseen(rows).get("shop", 0) == sum(value is not None and value not in levels for value in others)


def shop_column(values: list[str | None]) -> pd.DataFrame:
    """Return a column of text as rows of a snapshot have it."""
    return frame_of(pa.table({"shop": pa.array(values, pa.string())}))
