"""A gateway serves a model of the user's own classes only with the code that it was fitted with."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from airflow_mlops.core.declaration.own_types import own_code
from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.testing.gateway_process import TELL_TOKEN
from tests.contracts.gateway.toy_project import ToyProject, row
from tests.unit.core.toy_loop import FIELDS

CODE = """
class Tripled:
    def __init__(self):
        self.factor = 3.0

    def predict(self, features):
        return self.factor * features["x"]
"""


def test_a_gateway_loads_own_code_that_is_unchanged_and_refuses_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"served_{tmp_path.name}"
    file = tmp_path / f"{name}.py"
    file.write_text(CODE)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    model = importlib.import_module(name).Tripled()
    types = [f"{name}:Tripled"]
    project = ToyProject(tmp_path, train={**FIELDS["train"], "own_types": types})
    try:
        version = project.version(1, model, own_code=own_code(types, tmp_path))
        gateway = project.gateway().start()
        target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
        target.prepare(version)
        target.apply(Traffic(1, "1"))
        assert gateway.predict(row(x=2.0))["prediction"] == 6.0
        gateway.stop()

        file.write_text(CODE.replace("3.0", "4.0"))
        other = project.gateway("other").start()
        target = GatewayTarget(project.workspace, [other.url], TELL_TOKEN)
        with pytest.raises(RolloutError, match=f"version 1 was fitted with the module '{name}' of the digest"):
            target.prepare(version)
    finally:
        project.close()
