"""Each image of ``docker/`` as its steps make it: what is locked for it installs, and its commands start."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.images.image_steps import HOUSE, Image, build_image
from tests.unit.docker.kubernetes_objects import problems

pytestmark = pytest.mark.timeout(1800)  # three environments, one after another
DOCKER = HOUSE / "docker"


@pytest.fixture(scope="module")
def airflow_image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image of the stack of ``docker/compose.yaml``."""
    return build_image(DOCKER / "Dockerfile", tmp_path_factory.mktemp("airflow"))


@pytest.fixture(scope="module")
def workers_image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image of the same Dockerfile for workers of Celery and pods of Kubernetes."""
    root = tmp_path_factory.mktemp("workers")
    return build_image(DOCKER / "Dockerfile", root, REQUIREMENTS="requirements-workers.lock")


@pytest.fixture(scope="module")
def gateway_image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image of a gateway."""
    return build_image(DOCKER / "gateway.Dockerfile", tmp_path_factory.mktemp("gateway"))


def test_the_image_of_the_stack_starts_what_compose_starts_from_it(airflow_image: Image) -> None:
    assert airflow_image.run(airflow_image.commands["CMD"]).stdout.split()[-1] == "3.3.2"
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    built = {name: service for name, service in services.items() if "build" in service and name != "migrate"}
    assert {"scheduler", "dag-processor", "api-server", "mlflow", "exporter"} <= built.keys()
    for service in built.values():
        command = shlex.split(service["command"])
        module = command[0] == "python" and len(command) > 3
        program = command[: 4 if module else 3 if command[0] == "python" else 2]
        assert "usage" in airflow_image.run([*program, "--help"]).stdout.lower(), program


def test_airflow_finds_plugin_and_dags_in_the_image(airflow_image: Image) -> None:
    airflow_image.run(["airflow", "db", "migrate"])
    assert "airflow_mlops" in airflow_image.run(["airflow", "plugins"]).stdout
    printed = airflow_image.run(["airflow", "dags", "list", "--local", "--output", "json"]).stdout
    listed = json.loads(printed[printed.index("[{") :])  # lines of the log come before
    assert {"flight_air_time_train", "flight_delay_train"} <= {dag["dag_id"] for dag in listed}


def test_tasks_of_a_stage_get_the_pod_that_is_declared_for_it(workers_image: Image) -> None:
    inside = workers_image.root / "opt" / "airflow"
    declaration = inside / "include" / "loops" / "flight_air_time.yaml"
    templates = {name: str(inside / "pods" / f"{name}.yaml") for name in ("fit", "rows")}
    stages = {"fit": "fit", "ingest": "rows", "score": "rows"}
    declared = {stage: {"executor_config": {"pod_template_file": templates[name]}} for stage, name in stages.items()}
    loop = yaml.safe_load(declaration.read_text(encoding="utf-8"))
    declaration.write_text(yaml.safe_dump({**loop, "resources": declared}), encoding="utf-8")
    script = shutil.copy(Path(__file__).with_name("pods_of_stages.py"), workers_image.root)
    command = ["python", str(script), str(inside / "dags"), "flight_air_time_train", "fit"]
    printed = workers_image.run(command, AIRFLOW__CORE__EXECUTOR="KubernetesExecutor,CeleryExecutor").stdout
    pod: dict[str, Any] = json.loads(printed.splitlines()[-1])["fit"]
    template = yaml.safe_load((DOCKER / "kubernetes" / "pods" / "fit.yaml").read_text(encoding="utf-8"))
    assert problems(pod) == []
    (container,), (expected,) = pod["spec"]["containers"], template["spec"]["containers"]
    assert container["args"][0] == "python"
    assert (container["name"], container["image"]) == ("base", expected["image"])
    assert container["resources"] == expected["resources"]
    assert pod["spec"]["nodeSelector"] == template["spec"]["nodeSelector"]
    assert pod["metadata"]["labels"].items() >= template["metadata"]["labels"].items()
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert variables["AIRFLOW_IS_K8S_EXECUTOR_POD"] == "True"


def test_workers_of_celery_start_and_the_lake_may_be_in_s3(workers_image: Image) -> None:
    executor = {"AIRFLOW__CORE__EXECUTOR": "CeleryExecutor"}
    assert "--queues" in workers_image.run(["airflow", "celery", "worker", "--help"], **executor).stdout
    workers_image.run(["python", "-c", "import airflow.providers.amazon.aws.hooks.s3, s3fs"])


def test_the_image_of_a_gateway_has_its_command_and_no_airflow(gateway_image: Image) -> None:
    assert "--public-key" in gateway_image.run([*gateway_image.commands["ENTRYPOINT"], "--help"]).stdout
    installed = gateway_image.run(["pip", "list", "--format", "freeze"]).stdout
    assert "uvicorn==" in installed
    assert "airflow" not in installed
    assert "mlflow" not in installed
