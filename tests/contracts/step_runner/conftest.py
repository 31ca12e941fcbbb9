"""A project, a request, rows, another interpreter, and a SageMaker with its S3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyarrow.fs import S3FileSystem

from airflow_mlops.core.ports.fit_request import FitRequest
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.testing.sagemaker_double import SageMakerDouble
from tests.contracts.step_runner.fits import STEPS, TRAINING


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project folder with a training function, in a package that no other test has."""
    root = tmp_path_factory.mktemp("project")
    package = root / f"train_{root.name.replace('-', '_')}_{os.getpid()}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "training.py").write_text(TRAINING)
    (root / f"steps_of_{package.name}.py").write_text(STEPS)
    return root


@pytest.fixture
def ask(project: Path, tmp_path: Path) -> Callable[..., FitRequest]:
    """Return a function that builds the request of a candidate."""
    (package,) = [path.name for path in project.iterdir() if path.name.startswith("train_")]

    def request(candidate: str, **changes: Any) -> FitRequest:
        fields: dict[str, Any] = {
            "model": "toy",
            "operation": "0123456789abcdef",
            "candidate": candidate,
            "attempt": tmp_path.name,
            "function": f"{package}.training:candidates",
            "seed": 3,
            "classifies": False,
            "label": "y",
            "window": ({"partition": "p", "version": 0, "digest": "d"},),
            "search": {"candidates": 9, "factor": 3, "validation": 20, "metric": "mae"},
            "file": str(tmp_path / "out" / "model.skops"),
            "root": str(project),
        }
        return FitRequest(**{**fields, **changes})

    return request


@pytest.fixture(scope="module")
def rows() -> FitRows:
    source = np.random.default_rng(1)
    x = source.normal(size=600)
    place = source.choice(["a", "b", "c"], 600)
    return FitRows(pd.DataFrame({"x": x, "place": place}), 2 * x + source.normal(size=600), np.arange(600) // 10)


@pytest.fixture(scope="session")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment of its own, which finds the packages of this one, and no Airflow."""
    folder = tmp_path_factory.mktemp("model-env")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    site_packages = sysconfig.get_paths()["purelib"]
    (site / "borrowed.pth").write_text(f"{site_packages}\n")
    # A module that is not found in the first folder is found in none.
    for name in ("airflow", "mlflow"):
        (site / f"{name}.py").write_text(f"raise ImportError('{name} is not for a fit')\n")
    return folder / "bin" / "python"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, object_store_url: str) -> Callable[[str], None]:
    """Return a function that adds a connection to a SageMaker at an address, with the S3 of this session."""

    def set_connection(sagemaker: str) -> None:
        services = {"s3": {"endpoint_url": object_store_url}, "sagemaker": {"endpoint_url": sagemaker}}
        connection = {
            "conn_type": "aws",
            "login": "key",
            "password": "hunter2",
            "extra": {"region_name": "us-east-1", "service_config": services},
        }
        monkeypatch.setenv("AIRFLOW_CONN_AWS_HERE", json.dumps(connection))

    return set_connection


@pytest.fixture
def sagemaker(
    object_store: S3FileSystem, object_store_url: str, connect: Callable[[str], None]
) -> Iterator[SageMakerDouble]:
    object_store.create_dir("company")
    with SageMakerDouble(s3_endpoint=object_store_url, secret="hunter2") as double:
        connect(double.url)
        yield double


@pytest.fixture
def started(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that the candidate ``hanging`` writes when its fit has begun."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (package,) = [path.name for path in project.iterdir() if path.name.startswith("train_")]
    return tmp_path / f"started-{package}"
