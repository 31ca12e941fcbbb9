"""The containers keep the rules that a schema cannot say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

DOCKER = Path(__file__).parents[3] / "docker"
SECRET = re.compile(r"PASSWORD|SECRET|_KEY$|TOKEN|SQL_ALCHEMY_CONN|STORE_URI|CONN_MLOPS_LEDGER")


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """The services of the compose file, with its YAML anchors resolved."""
    services: dict[str, dict[str, Any]] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    return services


def test_the_stack_is_the_topology_of_the_demo(services: dict[str, dict[str, Any]]) -> None:
    always = {name for name, service in services.items() if "profiles" not in service}
    assert always == {"postgres", "mlflow", "migrate", "api-server", "scheduler", "dag-processor"}


def test_the_profile_observe_adds_exporter_prometheus_and_grafana(services: dict[str, dict[str, Any]]) -> None:
    observing = {name for name, service in services.items() if service.get("profiles") == ["observe"]}
    assert observing == {"exporter", "prometheus", "grafana"}


def test_each_file_that_is_mounted_exists(services: dict[str, dict[str, Any]]) -> None:
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    files = [DOCKER / path for path in mounted if path.startswith(".") and path != "../include/data"]
    assert len(files) >= 6
    assert [file for file in files if not file.is_file()] == []


def test_the_exporter_reads_the_ledger_of_the_loops_and_holds_no_other_secret(
    services: dict[str, dict[str, Any]],
) -> None:
    environment = services["exporter"]["environment"]
    assert environment == {
        "AIRFLOW_CONN_MLOPS_LEDGER": services["scheduler"]["environment"]["AIRFLOW_CONN_MLOPS_LEDGER"]
    }
    assert "prometheus-client==" in (DOCKER.parent / "requirements.lock").read_text(), "the image must bring it"


def test_the_dashboard_finds_its_source_and_its_folder(services: dict[str, dict[str, Any]]) -> None:
    volumes = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    (provider,) = yaml.safe_load((DOCKER / "observe" / "grafana-dashboards.yaml").read_text())["providers"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in volumes
    assert home.rpartition("/")[0] == provider["options"]["path"]
    (source,) = yaml.safe_load((DOCKER / "observe" / "grafana-datasource.yaml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")


def test_every_image_is_pinned(services: dict[str, dict[str, Any]]) -> None:
    images = {service["image"] for service in services.values()}
    images |= set(re.findall(r"^FROM (\S+)", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE))
    for image in images:
        _, _, tag = image.partition(":")
        assert re.match(r"v?\d+\.\d+", tag), f"{image} does not name a version"


def test_every_lasting_service_says_whether_it_is_healthy(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        check = service["healthcheck"]
        assert check == {"disable": True} if name == "migrate" else {"test", "interval"} <= check.keys(), name


def test_nothing_is_reachable_from_another_machine(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_secrets_come_from_the_environment_only(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for key, value in service.get("environment", {}).items():
            if SECRET.search(key) and not key.endswith("_FILE"):
                assert "${" in value, f"{name}: {key} holds a plain value"


def test_the_example_names_every_secret_and_fills_none_in() -> None:
    variables = set(re.findall(r"\$\{(\w+)", (DOCKER / "compose.yaml").read_text()))
    offered = dict(re.findall(r"^(\w+)=(.*)$", (DOCKER / ".env.example").read_text(), flags=re.MULTILINE))
    assert offered == dict.fromkeys(variables, "")


def test_mlflow_answers_to_the_name_that_airflow_calls_it_by(services: dict[str, dict[str, Any]]) -> None:
    called = services["scheduler"]["environment"]["MLFLOW_TRACKING_URI"].removeprefix("http://")
    allowed = re.search(r"--allowed-hosts (\S+)", services["mlflow"]["command"])
    assert allowed is not None
    assert called in allowed.group(1).split(",")


def test_the_image_is_built_from_the_hashed_requirements() -> None:
    assert "--require-hashes" in (DOCKER / "Dockerfile").read_text()


def test_the_loops_find_their_stores_in_the_services(services: dict[str, dict[str, Any]]) -> None:
    from airflow.sdk import Connection

    from airflow_mlops.hooks.workspace import ledger_url, tracking_uri

    environment = services["scheduler"]["environment"]
    ledger, registry, lake = (
        Connection.from_json(environment[f"AIRFLOW_CONN_MLOPS_{name}"], conn_id=name.lower())
        for name in ("LEDGER", "REGISTRY", "LAKE")
    )
    assert re.fullmatch(r"postgresql\+psycopg://airflow:.+@postgres:5432/ledger", ledger_url(ledger))
    assert "CREATE DATABASE ledger" in (DOCKER / "create-databases.sql").read_text()
    assert tracking_uri(registry) == environment["MLFLOW_TRACKING_URI"]
    mounted = [volume.partition(":")[2] for volume in services["scheduler"]["volumes"]]
    assert lake.extra_dejson["path"] in mounted


def test_the_stack_runs_at_the_pace_of_the_demo(services: dict[str, dict[str, Any]]) -> None:
    from airflow_mlops.testing.stack_settings import _airflow_pace, new_settings

    settings = new_settings(DOCKER, dags_folder=DOCKER, project_root=DOCKER, plugins_folder=DOCKER, parallelism=4)
    paced = services["scheduler"]["environment"]
    for name in ("CORE__PARALLELISM", "CORE__DEFAULT_POOL_TASK_SLOT_COUNT", "WORKERS__MIN_HEARTBEAT_INTERVAL"):
        assert paced[f"AIRFLOW__{name}"] == _airflow_pace(settings)[f"AIRFLOW__{name}"]
