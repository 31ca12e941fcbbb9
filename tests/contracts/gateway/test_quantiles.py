"""Several quantiles are served: the middle one and each by name, the same digits by every protocol, uncrossed."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
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
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, QuantileRegressor
from sklearn.metrics import mean_pinball_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.declaration.quantiles import join_models
from airflow_mlops.core.errors import MlopsError, NotReadyError, RolledBackError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.rollout.roll_out import enter_stage, run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.rollout.sticky_share import sticky_share
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.weighted_fit import fit_quantiles
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.gateway.inference_backends import MAX_ULPS, InferenceBackend, choose_backend
from airflow_mlops.gateway.row_shape import request_shape
from airflow_mlops.testing.gateway_process import TELL_TOKEN
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.contracts.gateway.test_protocols import INFER, forms, post
from tests.contracts.gateway.toy_project import ToyProject, line, row
from tests.unit.core.toy_loop import go_live, ingest, toy_loop, toy_rows, train, week

QUANTILES = [0.05, 0.5, 0.95]
NAMES = ["0.05", "0.5", "0.95"]
PINBALL = "pinball_loss_p5_p50_p95"
X = pd.DataFrame({"x": np.linspace(-3, 3, 90)})
FIT = {"function": f"{__name__}:lines", "window": 2, "quantiles": QUANTILES}
PENALTY = {"alpha": 0.0}
SMALL_CONTRACT = """
contract: toy
key: id
time: at
columns:
  id: {type: text, nullable: false}
  at: {type: time}
  x: {type: float}
  kind: {type: text, nullable: false}
  y: {type: float}
"""


def lines(seed: int, quantile: float) -> Any:
    """Return a line of a quantile; with a large penalty it is a constant."""
    model = QuantileRegressor(quantile=quantile, alpha=PENALTY["alpha"])
    return {"lines": make_pipeline(make_column_transformer(("passthrough", ["x"])), model)}


def bands(step: float) -> Any:
    """Return a model of three lines through 0 with the slopes 1, 2 and 3, moved up by a step: they cross at x = 0."""
    models = {
        quantile: make_pipeline(make_column_transformer(("passthrough", ["x"])), LinearRegression())
        for quantile in QUANTILES
    }
    joined = join_models(models)
    fit_quantiles(joined, X, np.zeros(len(X)), None)
    for slope, part in enumerate(joined.estimators_, start=1):
        part.fit(X, slope * X["x"] + step)
    return joined


def expected_bands(step: float, x: Any) -> Any:
    """Return the quantiles of :func:`bands`, rising in each row."""
    return np.sort(np.outer(np.asarray(x, float), [1, 2, 3]) + step, axis=1)


class QuantileProject(ToyProject):
    """A project of three quantiles; the bands of version n are moved up by n."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, train=FIT, gates=[{"metric": PINBALL, "at_most": 10}])

    def version(self, number: int, model: Any = None, **recorded: Any) -> Version:
        """Return a signed version of three quantiles."""
        return super().version(number, bands(number) if model is None else model, **recorded)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    project = QuantileProject(tmp_path_factory.mktemp("quantiles"))
    gateway, _target = project.serve(3)
    with gateway.client() as connected:
        yield connected
    project.close()


def fields_of(path: str, answer: Any) -> dict[str, Any]:
    """Return the predictions and quantiles of an answer by any protocol, in the form of ``/predict``."""
    if not path.startswith("/v2"):
        return {name: answer[name] for name in ("predictions", "quantiles")}
    middle, each = answer["outputs"]
    rows = len(middle["data"])
    assert (middle["name"], middle["datatype"], middle["shape"]) == ("prediction", "FP64", [rows])
    assert (each["name"], each["datatype"], each["shape"]) == ("quantiles", "FP64", [rows, 3])
    names = json.loads(each["parameters"]["quantiles"])
    table = [each["data"][3 * place : 3 * place + 3] for place in range(rows)]
    return {"predictions": middle["data"], "quantiles": [dict(zip(names, row, strict=True)) for row in table]}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(x=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=4))
def test_every_protocol_answers_the_same_digits_and_none_crosses(client: httpx.Client, x: list[float]) -> None:
    rows = [row(f"k{place}", x=value, stops=place) for place, value in enumerate(x)]
    status, expected = post(client, "/predict", rows)
    assert status == 200
    assert [list(each) for each in expected["quantiles"]] == [NAMES] * len(x)
    quantiles = np.array([list(each.values()) for each in expected["quantiles"]])
    np.testing.assert_allclose(quantiles, expected_bands(3, x), rtol=1e-9, atol=1e-9)
    assert (np.diff(quantiles, axis=1) >= 0).all()
    assert expected["predictions"] == [each["0.5"] for each in expected["quantiles"]]
    both = {name: expected[name] for name in ("predictions", "quantiles")}
    for name, (path, body) in forms(rows).items():
        there, answer = post(client, path, body)
        assert there == 200, (name, answer)
        assert fields_of(path, answer) == both, name
    written = io.StringIO()
    pd.DataFrame(rows).to_csv(written, index=False)
    there, answer = post(client, "/invocations", written.getvalue().encode(), "text/csv")
    assert fields_of("/invocations", answer) == both


def test_one_row_is_answered_with_the_middle_quantile_and_each_by_name(client: httpx.Client) -> None:
    status, answer = post(client, "/predict", row(x=-1.0))
    assert (status, list(answer)) == (200, ["prediction", "quantiles", "version"])
    assert (answer["prediction"], answer["version"]) == (pytest.approx(1.0), "3")
    assert answer["quantiles"] == pytest.approx({"0.05": 0.0, "0.5": 1.0, "0.95": 2.0})


def test_a_client_of_the_open_protocol_gets_the_output_that_it_asks_for(client: httpx.Client) -> None:
    path, body = forms([row(x=1.0)])["tensors"]
    status, answer = post(client, path, {**body, "outputs": [{"name": "prediction"}]})
    assert (status, [output["name"] for output in answer["outputs"]]) == (200, ["prediction"])
    assert answer["outputs"][0]["data"] == [pytest.approx(5.0)]
    status, answer = post(client, path, {**body, "outputs": [{"name": "quantile"}]})
    assert (status, answer) == (422, {"error": "there is no output 'quantile'; there is prediction and quantiles"})
    outputs = {output["name"]: output for output in client.get("/v2/models/toy").json()["outputs"]}
    assert (outputs["prediction"]["datatype"], outputs["quantiles"]["shape"]) == ("FP64", [-1, 3])
    assert json.loads(outputs["quantiles"]["parameters"]["quantiles"]) == NAMES


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
        if "quantiles" in answer:
            assert list(validator.iter_errors({key: value for key, value in answer.items() if key != "quantiles"}))
            assert list(validator.iter_errors({**answer, "quantiles": [{"0.05": 1.0}] * 2}))


def test_a_canary_answers_its_share_and_a_line_has_each_quantile(tmp_path: Path) -> None:
    project = QuantileProject(tmp_path)
    try:
        gateway, target = project.serve(3, 1, kind="canary", share=50.0)
        answer = gateway.predict([row(f"k{number}", x=-2.0) for number in range(60)])
        by_challenger = [version == "1" for version in answer["versions"]]
        assert 0 < sum(by_challenger) < 60
        assert answer["predictions"] == pytest.approx([-3.0 if flag else -1.0 for flag in by_challenger])
        telemetry = target.telemetry()
        assert telemetry.challenger.predictions.shape == (sum(by_challenger), 3)
        assert telemetry.champion.predictions.shape == (60 - sum(by_challenger), 3)
        gateway.stop()
        for logged, flag, quantiles in zip(gateway.lines(), by_challenger, answer["quantiles"], strict=True):
            own, other = ("challenger", "champion") if flag else ("champion", "challenger")
            assert logged["prediction"] == logged[f"{own}_prediction"] == quantiles["0.5"]
            assert logged[f"{other}_prediction"] is None
            for name in NAMES:
                assert logged[f"quantile_{name}"] == logged[f"{own}_quantile_{name}"] == quantiles[name]
                assert logged[f"{other}_quantile_{name}"] is None
    finally:
        project.close()


def test_a_shadow_is_paired_with_the_champion_by_all_quantiles(tmp_path: Path) -> None:
    project = QuantileProject(tmp_path)
    try:
        gateway, target = project.serve(3, 2, kind="shadow", share=100.0)
        x = [number / 5 - 3 for number in range(30)]
        gateway.predict([row(f"k{place}", x=value) for place, value in enumerate(x)])
        for _ in range(400):
            seen = target.telemetry()
            if seen.challenger.requests == 30:
                break
            threading.Event().wait(0.05)
        assert (seen.challenger.errors, seen.paired.shape) == (0, (30, 2, 3))
        np.testing.assert_allclose(seen.paired[:, 0] - seen.paired[:, 1], 1.0)
        gateway.stop()
        shadow = {logged["request"]: logged for logged in gateway.lines("shadow")}
        for logged, quantiles in zip(gateway.lines(), expected_bands(2, x), strict=True):
            own = shadow[logged["request"]]
            assert own["challenger_prediction"] == own["challenger_quantile_0.5"]
            assert [own[f"challenger_quantile_{name}"] for name in NAMES] == pytest.approx(quantiles.tolist())
    finally:
        project.close()


def test_a_version_of_other_quantiles_is_refused(tmp_path: Path) -> None:
    project = QuantileProject(tmp_path)
    try:
        _gateway, target = project.serve(3)
        with pytest.raises(MlopsError, match=r"version 4 of toy predicts the quantiles none, and train.quantiles"):
            target.prepare(project.version(4, line(4)))
    finally:
        project.close()


class RolledOutProject(ToyProject):
    """A loop whose champion, version 1, was trained on the weeks 0 and 1, and is served by a gateway."""

    def __init__(self, folder: Path, metric: str) -> None:
        super().__init__(
            folder,
            contract=SMALL_CONTRACT,
            train=FIT,
            gates=[{"metric": PINBALL, "at_most": 10}],
            watch={"performance": {"metric": PINBALL, "worse_by": 0.5}},
            retrain={"confidence": "none"},
            rollout={
                "target": "gateway",
                "stages": [{"canary": 60}, {"live": 100}],
                "metrics": [{"metric": metric, **({"worse_by": 0.1} if metric == "label" else {"at_most": 0.5})}],
                "min_rows": 50,
                "looks": 1,
            },
        )

    def start(self) -> None:
        """Start the gateway, and serve version 1."""
        self.served = self.gateway().start()
        self.target = GatewayTarget(self.workspace, [self.served.url], TELL_TOKEN)
        self.loop: Workspace = replace(
            self.workspace, ports=replace(self.workspace.ports, target=lambda _workspace: self.target)
        )
        for number in range(5):
            rows = toy_rows(number)
            self.loop.source.frames[week(number)] = rows.assign(at=rows["at"].dt.tz_localize("UTC"))  # type: ignore[attr-defined]
            ingest(self.loop, week(number))
        go_live(self.loop, week(2))

    def challenge(self, monkeypatch: pytest.MonkeyPatch, alpha: float) -> pd.DataFrame:
        """Train a challenger with a penalty, open its canary, and send it the rows of week 4; return them."""
        monkeypatch.setitem(PENALTY, "alpha", alpha)
        train(self.loop, week(3))
        enter_stage(self.loop, start_rollout(self.loop, week(3)), 0, week(3))
        rows = toy_rows(4)
        records = [{"id": each["id"], "x": each["x"], "kind": each["kind"]} for each in rows.to_dict("records")]
        for _ in range(20):
            self.served.predict(records)
        score_partition(self.loop, week(4))
        return rows

    def own_rows(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of the challenger's share."""
        rollout = self.loop.state().rollout
        assert rollout is not None
        return rows[sticky_share(rows["id"], salt=rollout.salt, percent=60.0)]

    def analyse(self) -> str:
        """Analyse the canary and return its outcome."""
        try:
            run_rollout_step(self.loop, "2", 0, week(4))
        except (NotReadyError, RolledBackError) as error:
            return f"{type(error).__name__}: {error}"
        return "passed"

    def analysis(self) -> Any:
        """Return the details of the last analysis of version 2."""
        return [each.details for each in self.loop.ledger.records() if each.kind == "stage_analysed"][-1]


@pytest.mark.parametrize(("alpha", "outcome"), [(0.0, "passed"), (10.0, "RolledBackError")])
def test_a_canary_is_judged_by_the_pinball_loss_of_labelled_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alpha: float, outcome: str
) -> None:
    project = RolledOutProject(tmp_path, "label")
    try:
        project.start()
        rows = project.challenge(monkeypatch, alpha)
        own = project.own_rows(rows)
        losses = []
        for number in ("2", "1"):
            model = load_version(project.loop, project.loop.state().versions[number])
            quantiles = predict(model, own[["kind", "x"]], classifies=False)
            columns = zip(quantiles.T, QUANTILES, strict=True)
            losses.append(np.mean([mean_pinball_loss(own["y"], column, alpha=at) for column, at in columns]))
        assert project.analyse().startswith(outcome)
        analysis = project.analysis()
        assert f"{losses[0]:.4g} against the champion's {losses[1]:.4g}" in analysis.reason
        assert analysis.offline["metric"] == PINBALL
        assert analysis.offline["observed"] == pytest.approx(losses[0] - losses[1])
    finally:
        project.close()


@pytest.mark.parametrize(("alpha", "outcome", "word"), [(0.0, "passed", "alike"), (10.0, "RolledBackError", "unlike")])
def test_without_labels_the_distribution_of_every_quantile_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alpha: float, outcome: str, word: str
) -> None:
    project = RolledOutProject(tmp_path, "predictions")
    try:
        project.start()
        rows = project.challenge(monkeypatch, alpha)
        own = 20 * len(project.own_rows(rows))
        assert project.analyse().startswith(outcome)
        metric = project.analysis().metrics[0]
        assert [metric["numbers"][f"distance.quantile_{name}.predictions"] for name in NAMES] == [own] * 3
        assert all(f"quantile_{name}: {word}: distance" in metric["reason"] for name in NAMES)
    finally:
        project.close()


COLUMNS = ["x1", "x2"]
ROWS = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 2)), columns=COLUMNS)
LABEL = ROWS["x1"] + np.random.default_rng(1).normal(size=300)


def backend_of(folder: Path, model: Any, *, onnx: bool) -> tuple[InferenceBackend, Any, Any]:
    """Return the backend of a fitted copy of a model for each quantile, rows for it, and what a frame gives."""
    models = {0.1: model(0.1), 0.5: model(0.5), 0.9: model(0.9)}
    fitted = fit_quantiles(join_models(models), ROWS[["x2", "x1"]], LABEL, None)
    fit = {**FIT, "quantiles": [*models]}
    workspace = in_memory_workspace(
        toy_loop(train=fit, gates=[{"metric": "mae", "at_most": 9}], watch={}), {}, scratch=folder
    )
    recorded = {"id": "string", "at": "timestamp[us]", "y": "double", **dict.fromkeys(COLUMNS, "double")}
    shape = request_shape(workspace.loop.data, None, recorded)
    backend = choose_backend(fitted, shape, FeatureMaker(workspace), classifies=False, onnx=onnx)
    records = [{"id": "a", **{name: float(value) for name, value in each.items()}} for each in ROWS.to_dict("records")]
    return backend, shape.decode_rows(json.dumps(records).encode())[0], predict(fitted, ROWS, classifies=False)


def boosted(quantile: float) -> Any:
    return HistGradientBoostingRegressor(loss="quantile", quantile=quantile, max_iter=5)


def scaled(quantile: float) -> Any:
    return make_pipeline(StandardScaler(), QuantileRegressor(quantile=quantile, alpha=0))


# Trees add nothing up over columns. What lines add up, kernels of some processors add in another order for the columns
# of a frame than for the rows of an array.
@pytest.mark.filterwarnings("error:X does not have valid feature names")
@pytest.mark.parametrize(("model", "ulps"), [(boosted, 0), (scaled, MAX_ULPS)])
def test_arrays_give_the_quantiles_of_a_frame(tmp_path: Path, model: Any, ulps: int) -> None:
    backend, rows, expected = backend_of(tmp_path, model, onnx=False)
    assert backend.name == "array"
    allowed = ulps * np.finfo(np.float64).eps * np.abs(expected).max()
    assert np.abs(backend.predict(rows) - expected).max() <= allowed


def test_onnx_gives_the_quantiles_of_a_frame(tmp_path: Path) -> None:
    pytest.importorskip("skl2onnx")
    pytest.importorskip("onnxruntime")
    backend, rows, expected = backend_of(tmp_path, scaled, onnx=True)
    assert backend.name == "onnx"
    np.testing.assert_allclose(backend.predict(rows), expected, rtol=1e-5, atol=1e-5)


def test_a_model_without_a_counterpart_in_onnx_is_served_as_it_is(tmp_path: Path) -> None:
    backend, rows, expected = backend_of(
        tmp_path, lambda quantile: DummyRegressor(strategy="quantile", quantile=quantile), onnx=True
    )
    assert backend.name == "array"
    assert backend.predict(rows).tolist() == expected.tolist()
