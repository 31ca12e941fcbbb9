"""A network of PyTorch is trained by another interpreter, and judged, made again and served where PyTorch is not."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.registry.load import copy_folder, load_version
from airflow_mlops.core.registry.model_file import load_model
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.testing.gateway_process import TELL_TOKEN, GatewayProcess
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import go_live, ingest, train

HOUSE = Path(__file__).parents[2]
PYTHON = HOUSE / ".venv-torch" / "bin" / "python"
KEYS = ["2013-01-06", "2013-01-13", "2013-01-20", "2013-01-27"]


def declared() -> dict[str, Any]:
    """Return the declaration of the air times, trained on two weeks by the interpreter that has PyTorch."""
    fields = yaml.safe_load((HOUSE / "include" / "loops" / "flight_air_time.yaml").read_text())
    runs_on = {"kind": "interpreter", "python": str(PYTHON)}
    fields["train"] = {"function": "include.flights.network:candidates", "window": 2, "runs_on": runs_on}
    del fields["data"]["expectations"]
    fields["rollout"] = {"stages": [{"shadow": 100}, {"live": 100}]}
    return {name: fields[name] for name in ("model", "owner", "data", "train", "gates", "rollout")}


def as_json(row: pd.Series[Any]) -> dict[str, Any]:
    """Return a row of the data as a client sends it."""
    return dict(json.loads(row.drop("air_time").to_json(date_format="iso")))


def test_a_network_of_pytorch_goes_through_the_loop_without_pytorch_in_the_workers(tmp_path: Path) -> None:
    assert find_spec("torch") is None
    folder = HOUSE / "include" / "data" / "flights_air_time"
    weeks = {f"{key}T00:00:00": pd.read_parquet(folder / f"{key}.parquet") for key in KEYS}
    loop = Loop(**declared())
    workspace = in_memory_workspace(loop, weeks, scratch=tmp_path / "lake" / loop.model, root=HOUSE)
    keys = list(weeks)
    for key in keys:
        ingest(workspace, key)
    # Trained twice, a week apart, and through the gates of the declaration.
    numbers = [go_live(workspace, keys[2]), train(workspace, keys[3])]
    versions = [workspace.state().versions[number] for number in numbers]
    report = workspace.evidence.get(str(versions[0].details.report))["candidates"][0]
    error = report["metrics"]["mae"]
    assert error < 12
    # Made again, bit for bit.
    again = reproduce_version(workspace, numbers[0])
    assert (again.verdict, again.same_file, again.rows > 1000) == ("identical", True, True)
    # Loaded where no class of the network is known.
    rows = weeks[keys[3]].dropna(subset="air_time").head(20)
    models = [load_version(workspace, version) for version in versions]
    expected = [model.predict(rows).tolist() for model in models]
    assert expected[0] != expected[1]
    assert "include.flights.network" not in {type(step).__module__ for _, step in models[0].steps}
    # Served, and rolled back.
    keys_file, declaration = tmp_path / "trusted.pem", tmp_path / "loop.yaml"
    keys_file.write_text("".join(workspace.keys.trusted().values()))
    declaration.write_text(json.dumps(loop.to_dict()))
    gateway = GatewayProcess(declaration, HOUSE, tmp_path / "lake", tmp_path / "gateway", [keys_file]).start()
    try:
        target = GatewayTarget(workspace, [gateway.url], TELL_TOKEN)
        sent = [as_json(row) for _, row in rows.iterrows()]
        for order, (number, values) in enumerate(
            [(numbers[0], expected[0]), (numbers[1], expected[1]), (numbers[0], expected[0])], start=1
        ):
            target.apply(Traffic(order, number))
            answer = gateway.predict(sent)
            assert set(answer["versions"]) == {number}
            np.testing.assert_array_equal(answer["predictions"], values)
    finally:
        gateway.stop()
    # A graph that was changed is refused, and the copy of the registry is taken in its place.
    file = copy_folder(workspace, versions[0]) / "model.skops"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(RegistryError, match="was changed"):
        load_model(file, versions[0].details.artefact)
    assert load_version(workspace, versions[0]).predict(rows).tolist() == expected[0]


def test_two_processes_export_the_same_bytes_and_no_path(tmp_path: Path) -> None:
    code = """
import sys, hashlib
import numpy as np
from include.flights.network import AirTimeNetwork
random = np.random.default_rng(0)
rows = random.normal(size=(500, 5))
content = AirTimeNetwork(epochs=2).fit(rows, rows[:, 0] * 9 + 100).to_onnx().SerializeToString()
assert b".py" not in content
print(hashlib.sha256(content).hexdigest())
"""
    digests = {
        subprocess.run([str(PYTHON), "-c", code], check=True, capture_output=True, text=True, cwd=HOUSE).stdout
        for _ in range(2)
    }
    assert len(digests) == 1
    assert str(PYTHON) != sys.executable
