"""Names, numbers and addresses: only those of the form that this package writes are allowed."""

from __future__ import annotations

import pytest

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.registry.registry_names import (
    lies_below,
    require_allowed,
    require_model_name,
    require_version_number,
)

FILE = "file:" + "/" * 2


@pytest.mark.parametrize(
    "name", ["", "-a", "_a", "A", "a b", "a/b", "../a", "a" * 64, "<img src=x>", "a'", "é", "a\n", "a%2e"]
)
def test_a_name_outside_the_pattern_is_refused(name: str) -> None:
    with pytest.raises(RegistryError, match="no model may be called"):
        require_model_name(name)


@pytest.mark.parametrize("name", ["a", "7", "flight_air_time", "a-b", "a" * 63])
def test_a_name_inside_the_pattern_is_taken(name: str) -> None:
    assert require_model_name(name) == name


@pytest.mark.parametrize(
    "number", ["", "0", "01", "-1", "1.0", "1e3", "\u00b2", "\u0661", " 1", "1\n", "../1", "latest", "1" * 19]
)
def test_a_version_is_a_decimal_number_from_1(number: str) -> None:
    with pytest.raises(RegistryError, match="versions are the decimal numbers from 1"):
        require_version_number(number)
    assert require_version_number("12") == "12"


@pytest.mark.parametrize(
    ("source", "prefix"),
    [
        ("s3://company/mlflow/7/models/m-1/artifacts", "s3://company/mlflow"),
        ("s3://company/mlflow/7", "s3://company/mlflow/"),
        (f"{FILE}/data/mlartifacts/1/models/m-1", f"{FILE}/data/mlartifacts"),
        (f"{FILE}/data/with%20space/1", f"{FILE}/data/with space"),
        ("/data/mlartifacts/1", f"{FILE}/data/mlartifacts"),
        ("mlflow-artifacts:/7/models/m-1/artifacts", "mlflow-artifacts:/7"),
        ("s3://company/anything", "s3://company"),
    ],
)
def test_what_lies_below_a_place_is_allowed(source: str, prefix: str) -> None:
    assert lies_below(source, prefix)
    require_allowed(source, ["gs://other", prefix])


@pytest.mark.parametrize(
    ("source", "prefix"),
    [
        ("s3://somebody-else/mlflow/7", "s3://company/mlflow"),
        ("s3://company/mlflow-of-others/7", "s3://company/mlflow"),
        ("s3://company/mlflow", "s3://company/mlflow"),
        ("s3://company/mlflow/../secrets/7", "s3://company/mlflow"),
        ("s3://company/mlflow/%2e%2e/secrets/7", "s3://company/mlflow"),
        ("s3://company/mlflow/%252e%252e/secrets", "s3://company/mlflow"),
        ("gs://company/mlflow/7", "s3://company/mlflow"),
        ("https://company/mlflow/7", "s3://company/mlflow"),
        (f"{FILE}host/data/mlartifacts/1", f"{FILE}/data/mlartifacts"),
        (f"{FILE}/data/mlartifacts/1?x=/etc", f"{FILE}/data/mlartifacts"),
        (f"{FILE}/data/mlartifacts/1#x", f"{FILE}/data/mlartifacts"),
        (f"{FILE}/data/mlartifacts\\..\\etc", f"{FILE}/data/mlartifacts"),
        ("/etc", f"{FILE}/data/mlartifacts"),
        ("models:/other/3", "mlflow-artifacts:/7"),
        ("runs:/abc/model", "mlflow-artifacts:/7"),
        ("http://[bad", "s3://company"),
        ("", "s3://company"),
    ],
)
def test_what_lies_elsewhere_or_could_is_refused(source: str, prefix: str) -> None:
    assert not lies_below(source, prefix)
    with pytest.raises(RegistryError, match=r"are not read: they must lie below .*artefact_prefixes"):
        require_allowed(source, [prefix])
