"""Three classes are served: the most likely one and a probability of each, the same digits by every protocol."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from airflow_mlops.core.ledger.state_machine import Version
from tests.contracts.gateway.test_protocols import INFER, forms, post
from tests.contracts.gateway.toy_project import CONTRACT, ToyProject, row

CLASSES = ["early", "on time", "late"]
GATES = [{"metric": "log_loss", "at_most": 2}]
X = pd.DataFrame({"x": np.linspace(-3, 3, 90)})


def classifier(step: int) -> Any:
    """Return a classifier of three classes by x, whose codes are moved by a number of places."""
    codes = (np.digitize(X["x"], [-1, 1]) + step) % 3
    return make_pipeline(make_column_transformer(("passthrough", ["x"])), LogisticRegression()).fit(X, codes)


class ClassProject(ToyProject):
    """A project of three classes; version n is moved by n places."""

    def __init__(self, folder: Path, classes: list[Any] | None = None) -> None:
        self.classes = classes or CLASSES
        kind = "int" if isinstance(self.classes[0], int) else "text"
        contract = CONTRACT.replace("y: {type: float}", f"y: {{type: {kind}}}")
        super().__init__(folder, contract=contract, data={"classes": self.classes}, gates=GATES)

    def version(self, number: int, model: Any = None, **recorded: Any) -> Version:
        """Return a signed version with its classes."""
        fitted = classifier(number) if model is None else model
        return super().version(number, fitted, classes=[str(name) for name in self.classes], **recorded)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    project = ClassProject(tmp_path_factory.mktemp("classes"))
    gateway, _target = project.serve(3)
    with gateway.client() as connected:
        yield connected
    project.close()


def fields_of(path: str, answer: Any) -> dict[str, Any]:
    """Return the predictions and probabilities of an answer by any protocol, in the form of ``/predict``."""
    if not path.startswith("/v2"):
        return {name: answer[name] for name in ("predictions", "probabilities")}
    chosen, chances = answer["outputs"]
    rows = len(chosen["data"])
    assert (chosen["name"], chosen["datatype"], chosen["shape"]) == ("prediction", "BYTES", [rows])
    assert (chances["name"], chances["datatype"], chances["shape"]) == ("probabilities", "FP64", [rows, 3])
    names = json.loads(chances["parameters"]["classes"])
    table = [chances["data"][3 * place : 3 * place + 3] for place in range(rows)]
    return {
        "predictions": chosen["data"],
        "probabilities": [dict(zip(names, numbers, strict=True)) for numbers in table],
    }


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(x=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=4))
def test_every_protocol_answers_the_same_class_and_the_same_digits(client: httpx.Client, x: list[float]) -> None:
    rows = [row(f"k{place}", x=value, stops=place) for place, value in enumerate(x)]
    status, expected = post(client, "/predict", rows)
    assert status == 200
    chances = classifier(3).predict_proba(pd.DataFrame({"x": x}))
    assert [list(chance) for chance in expected["probabilities"]] == [CLASSES] * len(x)
    np.testing.assert_allclose([list(chance.values()) for chance in expected["probabilities"]], chances, atol=1e-12)
    assert expected["predictions"] == [max(chance, key=chance.get) for chance in expected["probabilities"]]
    both = {name: expected[name] for name in ("predictions", "probabilities")}
    for name, (path, body) in forms(rows).items():
        there, answer = post(client, path, body)
        assert there == 200, (name, answer)
        assert fields_of(path, answer) == both, name
    written = io.StringIO()
    pd.DataFrame(rows).to_csv(written, index=False)
    there, answer = post(client, "/invocations", written.getvalue().encode(), "text/csv")
    assert fields_of("/invocations", answer) == both


def test_one_row_is_answered_with_its_class_and_a_probability_of_each(client: httpx.Client) -> None:
    status, answer = post(client, "/predict", row(x=3.0))
    assert (status, list(answer)) == (200, ["prediction", "probabilities", "version"])
    assert (answer["prediction"], list(answer["probabilities"]), answer["version"]) == ("late", CLASSES, "3")
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0)


def test_a_client_of_the_open_protocol_gets_the_output_that_it_asks_for(client: httpx.Client) -> None:
    path, body = forms([row(x=-3.0)])["tensors"]
    status, answer = post(client, path, {**body, "outputs": [{"name": "prediction"}]})
    assert (status, answer["outputs"]) == (
        200,
        [{"name": "prediction", "datatype": "BYTES", "shape": [1], "data": ["early"]}],
    )
    status, answer = post(client, path, {**body, "outputs": [{"name": "probability"}]})
    assert (status, answer) == (
        422,
        {"error": "there is no output 'probability'; there is prediction and probabilities"},
    )
    outputs = {output["name"]: output for output in client.get("/v2/models/toy").json()["outputs"]}
    assert outputs["probabilities"]["shape"] == [-1, 3]
    assert json.loads(outputs["probabilities"]["parameters"]["classes"]) == CLASSES


def test_openapi_describes_the_answers_that_are_given(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    rows = [row("a", x=-3.0), row("b", x=3.0)]
    for name, (path, body) in {
        "Prediction": ("/predict", rows[0]),
        "Predictions": ("/predict", rows),
        "Scores": ("/invocations", {"instances": rows}),
        "InferResponse": (INFER, forms(rows)["tensors"][1]),
        "Metadata": ("/v2/models/toy", None),
    }.items():
        answer = client.get(path).json() if body is None else post(client, path, body)[1]
        validator = jsonschema.Draft202012Validator({**document["components"]["schemas"][name], **document})
        validator.validate(answer)
        if name in ("Prediction", "Predictions"):
            assert list(validator.iter_errors({**answer, "prediction": "never", "predictions": ["never"]}))


def test_classes_that_are_integers_are_answered_as_integers(tmp_path: Path) -> None:
    project = ClassProject(tmp_path, [5, 1, 3])
    try:
        gateway, _target = project.serve(3)
        answer = gateway.predict([row(x=-3.0), row(x=0.0), row(x=3.0)])
        assert answer["predictions"] == [5, 1, 3]
        assert list(answer["probabilities"][0]) == ["5", "1", "3"]
        with gateway.client() as client:
            outputs = post(client, INFER, forms([row(x=-3.0)])["tensors"][1])[1]["outputs"]
        assert outputs[0] == {"name": "prediction", "datatype": "INT64", "shape": [1], "data": [5]}
        gateway.stop()
        assert [line["prediction"] for line in gateway.lines()] == ["5", "1", "3", "5"]
    finally:
        project.close()


def test_a_canary_answers_its_share_and_a_line_has_the_probabilities_of_each(tmp_path: Path) -> None:
    project = ClassProject(tmp_path)
    try:
        gateway, target = project.serve(3, 1, kind="canary", share=50.0)
        rows = [row(f"k{number}", x=3.0) for number in range(60)]
        answer = gateway.predict(rows)
        by_challenger = [version == "1" for version in answer["versions"]]
        assert 0 < sum(by_challenger) < 60
        assert answer["predictions"] == ["early" if flag else "late" for flag in by_challenger]
        telemetry = target.telemetry()
        assert telemetry.challenger.predictions.shape == (sum(by_challenger), 3)
        assert telemetry.champion.predictions.shape == (60 - sum(by_challenger), 3)
        assert telemetry.paired.size == 0
        gateway.stop()
        lines = gateway.lines()
        for line, flag, chances in zip(lines, by_challenger, answer["probabilities"], strict=True):
            own, other = ("challenger", "champion") if flag else ("champion", "challenger")
            assert line["prediction"] == line[f"{own}_prediction"] == ("early" if flag else "late")
            assert line[f"{other}_prediction"] is None
            for name in CLASSES:
                assert line[f"probability_{name}"] == line[f"{own}_probability_{name}"] == chances[name]
                assert line[f"{other}_probability_{name}"] is None
    finally:
        project.close()


def test_a_shadow_is_paired_with_the_champion_by_the_probabilities_of_all_classes(tmp_path: Path) -> None:
    project = ClassProject(tmp_path)
    try:
        gateway, target = project.serve(3, 2, kind="shadow", share=100.0)
        rows = [row(f"k{number}", x=number / 5 - 3) for number in range(30)]
        answer = gateway.predict(rows)
        for _ in range(400):
            seen = target.telemetry()
            if seen.challenger.requests == 30:
                break
            threading.Event().wait(0.05)
        assert (set(answer["versions"]), seen.challenger.errors, seen.paired.shape) == ({"3"}, 0, (30, 2, 3))
        frame = pd.DataFrame({"x": [one["x"] for one in rows]})
        expected = [classifier(number).predict_proba(frame) for number in (3, 2)]
        order = np.argsort(seen.paired[:, 0, 2])
        np.testing.assert_allclose(seen.paired[order, 0], expected[0][np.argsort(expected[0][:, 2])], atol=1e-12)
        np.testing.assert_allclose(seen.paired[order, 1], expected[1][np.argsort(expected[0][:, 2])], atol=1e-12)
        gateway.stop()
        shadow = {line["request"]: line for line in gateway.lines("shadow")}
        assert len(shadow) == 30
        for line, chances in zip(gateway.lines(), expected[1], strict=True):
            own = shadow[line["request"]]
            assert own["challenger_prediction"] == CLASSES[chances.argmax()]
            np.testing.assert_allclose([own[f"challenger_probability_{name}"] for name in CLASSES], chances, atol=1e-12)
    finally:
        project.close()


def test_a_row_that_the_challenger_fails_at_is_answered_by_the_champion(tmp_path: Path) -> None:
    project = ClassProject(tmp_path)
    try:
        project.version(1, picky())
        gateway, target = project.serve(3, 1, kind="canary", share=100.0)
        answer = gateway.predict([row("a", x=3.0), row("b", x=3.0, kind="new")])
        assert answer["versions"] == ["1", "3"]
        assert answer["predictions"][1] == "late"
        telemetry = target.telemetry()
        assert (telemetry.challenger.requests, telemetry.challenger.errors) == (2, 1)
        assert telemetry.challenger.predictions.shape == (1, 3)
        gateway.stop()
        line = gateway.lines()[1]
        assert (line["version"], line["prediction"], line["challenger_prediction"]) == ("3", "late", None)
        assert "ValueError" in line["error"]
    finally:
        project.close()


def picky() -> Any:
    """Return a classifier that raises on every kind but a, b and c."""
    from sklearn.preprocessing import OneHotEncoder

    frame = X.assign(kind=["a", "b", "c"] * 30)
    columns = make_column_transformer(("passthrough", ["x"]), (OneHotEncoder(handle_unknown="error"), ["kind"]))
    return make_pipeline(columns, LogisticRegression()).fit(frame, np.digitize(X["x"], [-1, 1]))
