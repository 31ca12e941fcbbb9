"""The environment and the bill of materials: complete, the same every time, and valid by CycloneDX's own schema."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from airflow_mlops.core.registry.bill_of_materials import bill_of_materials
from airflow_mlops.core.registry.recorded_environment import (
    parse_environment,
    recorded_environment,
    requirements_of,
)

DIGEST = "0" * 63 + "1"


def materials() -> dict[str, object]:
    return bill_of_materials(recorded_environment(), model="m", operation="op-line", digest=DIGEST)


def test_the_environment_names_every_distribution_with_its_version() -> None:
    packages = {package["name"]: package for package in recorded_environment()["packages"]}
    for name in ("numpy", "scikit-learn", "skops", "apache-airflow"):
        assert packages[name]["version"] == version(name)
        assert packages[name]["purl"] == f"pkg:pypi/{name}@{version(name)}"
    assert len(packages) > 100
    licensed = [package for package in packages.values() if "license" in package or "license_expression" in package]
    assert len(licensed) > 0.9 * len(packages)


def test_the_bill_of_materials_is_valid_cyclonedx() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(materials())) is None


def test_the_bill_of_materials_is_about_the_model_and_lists_python_and_every_distribution() -> None:
    document = materials()
    component = document["metadata"]["component"]  # type: ignore[index]
    assert component["type"] == "machine-learning-model"
    assert component["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]
    names = {component["name"] for component in document["components"]}  # type: ignore[attr-defined]
    assert {"CPython", "numpy"} <= names
    assert len(names) >= len(recorded_environment()["packages"])
    assert "timestamp" not in document["metadata"]  # type: ignore[operator]


def test_another_process_writes_the_same_bytes() -> None:
    code = (
        "import json; from tests.unit.core.registry.test_environment_and_materials import materials as m;"
        "print(json.dumps(m(), sort_keys=True))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"},
    ).stdout
    assert elsewhere.strip() == json.dumps(materials(), sort_keys=True)


def test_another_model_is_another_bill_of_materials() -> None:
    other = bill_of_materials(recorded_environment(), model="m", operation="op-line", digest="f" * 64)
    assert other["serialNumber"] != materials()["serialNumber"]


def test_a_fit_elsewhere_is_recorded_as_it_says_and_no_more_is_claimed() -> None:
    environment = parse_environment(
        {"python": "3.9.1", "numpy": "1.26.0", "scikit_learn": "1.4.0", "platform": "Linux-6"}
    )
    assert environment["python"] == "3.9.1"
    assert [(package["name"], package["version"]) for package in environment["packages"]] == [
        ("numpy", "1.26.0"),
        ("scikit-learn", "1.4.0"),
    ]
    assert requirements_of(environment, ("scikit-learn", "pandas")) == ("scikit-learn==1.4.0",)
    full = recorded_environment()
    assert parse_environment(full) == full
    document = bill_of_materials(environment, model="m", operation="op", digest=DIGEST)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is None
