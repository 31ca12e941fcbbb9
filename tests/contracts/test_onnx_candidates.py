"""A candidate that leaves as an ONNX graph goes through the whole loop, and a graph that may not be kept is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from airflow_mlops.core.errors import RegistryError, TrainingError
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.registry.load import copy_folder, load_version
from airflow_mlops.core.registry.model_file import load_model, save_model
from airflow_mlops.core.registry.onnx_graph import OnnxClassifier, OnnxRegressor, check_graph
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.core.training.export_graph import as_kept
from airflow_mlops.core.training.inspect_candidates import refusal_of
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.gateway_process import TELL_TOKEN
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.contracts.gateway.test_input_schema import serve
from tests.contracts.gateway.toy_project import ToyProject
from tests.contracts.onnx_network import ClassifierNetwork, RegressorNetwork, graph_of
from tests.unit.core.toy_loop import go_live, ingest, toy_loop, toy_rows, week

PREDICT = """
import sys
from pathlib import Path
import numpy as np, pandas as pd
from airflow_mlops.core.registry.model_file import load_model
model = load_model(Path(sys.argv[1]) / "model.skops", sys.argv[2])
assert not any("onnx_network" in name for name in sys.modules)
np.save(Path(sys.argv[1]) / "predictions.npy", model.predict(pd.read_parquet(Path(sys.argv[1]) / "rows")))
"""


def candidates(seed: int) -> dict[str, Any]:
    """Return a network behind an encoder and a scaler."""
    columns = ColumnTransformer(
        [("x", StandardScaler(), ["x"]), ("kind", OneHotEncoder(sparse_output=False), ["kind"])]
    )
    return {"network": make_pipeline(columns, RegressorNetwork(seed))}


class Dropped(RegressorNetwork):
    """A network that is exported otherwise than it predicts."""

    def to_onnx(self) -> Any:
        """Return the graph of half the weights."""
        graph = super().to_onnx()
        graph.graph.initializer[1].CopyFrom(numpy_helper.from_array(self.output_ / 2, "output"))
        return graph


class Silent(RegressorNetwork):
    """A network that exports nothing."""

    def to_onnx(self) -> Any:
        """Return None."""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a loop whose champion, version 1, is a graph."""
    loop = toy_loop(
        train={"function": f"{__name__}:candidates", "window": 2}, rollout={"stages": [{"shadow": 100}, {"live": 100}]}
    )
    opened = in_memory_workspace(loop, {week(number): toy_rows(number) for number in range(4)}, scratch=tmp_path)
    for number in range(4):
        ingest(opened, week(number))
    go_live(opened, week(2))
    return opened


def rows_and_label() -> tuple[pd.DataFrame, Any]:
    """Return rows of three numbers and a label that depends on one."""
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 3)), columns=["a", "b", "c"])
    return rows, 2 * rows["a"].to_numpy()


def test_a_network_goes_live_scores_and_is_made_again_bit_for_bit(workspace: Workspace) -> None:
    version = workspace.state().champion
    assert version is not None
    score_partition(workspace, week(3))
    rows = workspace.snapshots.read(week(3), version=workspace.state().published[week(3)].version).to_pandas()
    scored = workspace.predictions.read(week(3)).to_pandas().set_index("key")["served_prediction"]
    expected = predict(load_version(workspace, version), rows[["kind", "x"]], classifies=False)
    assert scored.loc[rows["id"]].to_list() == expected.tolist()
    assert np.mean(np.abs(expected - rows["y"])) < 2
    assert reproduce_version(workspace, version.number).verdict == "identical"


def test_a_changed_graph_is_refused(workspace: Workspace) -> None:
    version = workspace.state().champion
    assert version is not None
    file = copy_folder(workspace, version) / "model.skops"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(RegistryError, match="was changed"):
        load_model(file, version.details.artefact)


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_a_graph_predicts_in_a_process_that_has_not_the_class_of_the_network(tmp_path: Path, classes: int) -> None:
    rows, label = rows_and_label()
    network: Any = RegressorNetwork()
    if classes:
        label, network = np.digitize(label, [0] if classes == 2 else [-1, 1]), ClassifierNetwork()
    fitted = network.fit(rows, label)
    assert refusal_of(network, classifies=bool(classes), probability_metrics=["log_loss"] if classes else []) is None
    kept = as_kept(fitted, rows, classifies=bool(classes))
    assert isinstance(kept, OnnxClassifier if classes else OnnxRegressor)
    digests = {save_model(as_kept(fitted, rows, classifies=bool(classes)), tmp_path / "model.skops") for _ in range(2)}
    (digest,) = digests
    rows.to_parquet(tmp_path / "rows")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", PREDICT, str(tmp_path), digest], check=True, env=environment)
    assert np.load(tmp_path / "predictions.npy").tolist() == kept.predict(rows).tolist()
    np.testing.assert_allclose(
        predict(kept, rows, classifies=bool(classes)), predict(fitted, rows, classifies=bool(classes)), atol=1e-5
    )
    loaded = load_model(tmp_path / "model.skops", digest)
    for start in range(0, 200, 50):  # the prediction of a row does not depend on the other rows
        assert loaded.predict(rows[start : start + 1]).tolist() == kept.predict(rows)[start : start + 1].tolist()


def test_the_gateway_serves_a_graph_and_goes_back_to_the_version_before(tmp_path: Path) -> None:
    project = ToyProject(tmp_path)
    gateway = project.gateway().start()
    try:
        rows = toy_rows(0)
        fitted = RegressorNetwork().fit(rows[["x"]], rows["y"])
        kept = as_kept(fitted, rows[["x"]], classifies=False)
        first, second = project.version(1), project.version(2, kept)
        target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
        values = {"id": "a", "at": "2013-01-01T00:00:00Z", "kind": "a", "stops": 0, "staff": "", "x": 1.5}
        serve(target, 1, second)
        (expected,) = kept.predict(pd.DataFrame({"x": [1.5]}))
        assert gateway.predict(values)["prediction"] == pytest.approx(expected)
        serve(target, 2, first)
        assert gateway.predict(values)["prediction"] == 1.5
    finally:
        project.close()


def graph(*operators: str, domain: str = "") -> onnx.ModelProto:
    """Return a graph of a chain of operators."""
    names = ["rows", *map(str, range(len(operators) - 1)), "probabilities"]
    return graph_of(
        [helper.make_node(kind, [names[i]], [names[i + 1]], domain=domain) for i, kind in enumerate(operators)], 1
    )


def external() -> onnx.ModelProto:
    """Return a graph with weights in a file beside it."""
    model = graph_of([helper.make_node("MatMul", ["rows", "w"], ["probabilities"])], 1, w=np.ones((1, 1), np.float32))
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")
    return model


def foreign() -> onnx.ModelProto:
    """Return a graph with an operator of another library."""
    model = graph("Erase", domain="com.example")
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return model


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no graph", "is not valid"),
        (graph("RandomNormalLike"), "RandomNormalLike, which give other predictions the next time"),
        (graph("Relu", "Bernoulli"), "Bernoulli"),
        (foreign(), "Erase, which are no operators of ONNX"),
        (external(), "weights in other files"),
        (graph("Nothing"), "is not valid"),
    ],
    ids=["bytes", "random", "last", "foreign", "external", "unknown"],
)
def test_a_graph_that_may_not_be_kept_is_refused_by_its_operator(content: Any, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        check_graph(content if isinstance(content, bytes) else content.SerializeToString())


def test_a_graph_is_bounded_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    content = graph("Relu").SerializeToString()
    check_graph(content)
    monkeypatch.setattr("airflow_mlops.core.registry.onnx_graph.LARGEST_GRAPH", len(content) - 1)
    with pytest.raises(TrainingError, match=f"has {len(content)} bytes, and at most {len(content) - 1} are kept"):
        check_graph(content)


@pytest.mark.parametrize(
    ("network", "words"),
    [(Dropped(), "away from the estimator that exported it"), (Silent(), "to_onnx returned NoneType")],
    ids=["otherwise", "nothing"],
)
def test_a_graph_that_is_not_the_estimator_is_refused(network: Any, words: str) -> None:
    rows, label = rows_and_label()
    with pytest.raises(TrainingError, match=words):
        as_kept(network.fit(rows, label), rows, classifies=False)


def test_a_network_is_refused_before_its_fit_where_the_packages_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_mlops.core.training.export_graph.find_spec", lambda _name: None)
    assert refusal_of(RegressorNetwork(), classifies=False, probability_metrics=[]) == (
        "it exports an ONNX graph, and onnx and onnxruntime is not installed here; install airflow-mlops[onnx]"
    )
