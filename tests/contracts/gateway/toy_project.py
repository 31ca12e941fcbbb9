"""A project with a lake of signed versions: version 3 predicts three times x, so an answer shows its version."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from airflow_mlops.core.declaration.own_types import type_name
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import CandidateRegistered, PinnedPartition, TrainingWindow
from airflow_mlops.core.ports.registry import MODEL_FILE
from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.registry.model_file import save_model
from airflow_mlops.core.registry.own_code import OWN_CODE_FILE
from airflow_mlops.core.registry.recorded_classes import CLASSES_FILE
from airflow_mlops.core.registry.replace_folder import replace_folder
from airflow_mlops.core.registry.sign_folder import sign_folder
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.gateway_process import TELL_TOKEN, GatewayProcess
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import toy_loop, toy_rows, week

CONTRACT = """
contract: toy
key: id
time: at
deny: ["*passenger*"]
columns:
  id: {type: text, nullable: false}
  at: {type: time}
  x: {type: float}
  kind: {type: text, nullable: false}
  stops: {type: int, nullable: false}
  paid: {type: bool, optional: true}
  on_day: {type: date, optional: true}
  price: {type: "decimal(6, 2)", optional: true}
  staff: {type: text, feature: false}
  y: {type: float}
"""


class ToyProject:
    """A loop in a folder, its workspace on a lake there, and gateways that serve it."""

    def __init__(
        self, folder: Path, *, contract: str | None = CONTRACT, data: dict[str, Any] | None = None, **changes: Any
    ) -> None:
        self.folder, self.lake = folder, folder / "lake"
        fields = {
            "source": {"kind": "parquet", "uri": "toy/{partition}.parquet"},
            "key": "id",
            "time": "at",
            "label": "y",
            **({"contract": "contract.yaml"} if contract else {}),
            **(data or {}),
        }
        loop = toy_loop(data=fields, **changes)
        if contract:
            (folder / "contract.yaml").write_text(contract)
        (folder / "toy.yaml").write_text(json.dumps(loop.to_dict()))
        self.workspace: Workspace = in_memory_workspace(
            loop, {week(number): toy_rows(number) for number in range(5)}, scratch=self.lake / "toy", root=folder
        )
        self._keys = folder / "trusted.pem"
        self._keys.write_text("".join(self.workspace.keys.trusted().values()))
        self._gateways: list[GatewayProcess] = []

    def version(self, number: int, model: Any = None, **recorded: Any) -> Version:
        """Return a version that is signed, in the lake and in the ledger; it predicts ``number`` times x by default.

        ``recorded`` are further fields of its record.
        """
        version = self.workspace.state().versions.get(str(number))
        if version is not None:
            return version
        folder = self.lake / "toy" / "models" / f"new-{number}"
        own_types = tuple(map(type_name, self.workspace.loop.train.own_types))
        artefact = save_model(line(number) if model is None else model, folder / MODEL_FILE, own_types)
        if "classes" in recorded:
            (folder / CLASSES_FILE).write_text(json.dumps(recorded["classes"]))
        if "own_code" in recorded:
            (folder / OWN_CODE_FILE).write_text(json.dumps(recorded["own_code"]))
        signature = sign_folder(folder, self.workspace.keys)
        with replace_folder(folder.with_name(signature.digest)) as part:
            part.rmdir()
            folder.rename(part)
        details = CandidateRegistered(
            version=str(number),
            artefact=artefact,
            signature=signature,
            request="r",
            window=TrainingWindow(fitted=(PinnedPartition(week(0), 0, ""),)),
            **recorded,
        )
        self.workspace.record_fact(self.workspace.draft(details, f"candidate:{number}", week(0)))
        return self.workspace.state().versions[str(number)]

    def gateway(self, name: str = "gateway", *more: str) -> GatewayProcess:
        """Return a gateway that is not started yet."""
        gateway = GatewayProcess(
            self.folder / "toy.yaml", self.folder, self.lake, self.folder / name, [self._keys], more
        )
        self._gateways.append(gateway)
        return gateway

    def serve(self, *numbers: int, kind: str = "none", share: float = 0.0) -> tuple[GatewayProcess, GatewayTarget]:
        """Return a gateway that serves versions, the champion first."""
        gateway = self.gateway().start()
        target = GatewayTarget(self.workspace, [gateway.url], TELL_TOKEN)
        for number in numbers:
            target.prepare(self.version(number))
        challenger = str(numbers[1]) if len(numbers) > 1 else None
        target.apply(Traffic(1, str(numbers[0]), challenger, kind, share, "s"))  # type: ignore[arg-type]
        return gateway, target

    def close(self) -> None:
        """Stop all running gateways."""
        for gateway in self._gateways:
            gateway.stop()


def line(slope: float) -> LinearRegression:
    """Return a model of ``slope`` times x."""
    rows = pd.DataFrame({"x": [0.0, 1.0]})
    model = LinearRegression(fit_intercept=False).fit(rows, [0.0, 1.0])
    model.coef_ = np.array([float(slope)])
    return model


def picky(slope: float) -> Any:
    """Return a model of ``slope`` times x that raises on every kind but a, b and c."""
    rows = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "kind": ["a", "b", "c", "a"]})
    columns = [("x", "passthrough", ["x"]), ("kind", OneHotEncoder(handle_unknown="error"), ["kind"])]
    return make_pipeline(ColumnTransformer(columns), LinearRegression()).fit(rows, slope * rows["x"])


def describe_version(version: Version) -> dict[str, Any]:
    """Return a version as the control API names it."""
    signature = version.details.signature
    assert signature is not None
    return {
        "number": version.number,
        "artefact": version.details.artefact,
        "signature": asdict(signature),
    }


def row(key: object = "a", *, x: float | None = 1.0, kind: str = "a", **changed: Any) -> dict[str, Any]:
    """Return a good row."""
    return {"id": str(key), "x": x, "kind": kind, "stops": 0, **changed}
