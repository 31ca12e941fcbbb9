"""The manifests agree with the schemas of Kubernetes, with the images and with the gateway's command line."""

from __future__ import annotations

import argparse
import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_mlops.core.declaration.resources import Resources
from airflow_mlops.gateway.metrics_page import PREFIX
from airflow_mlops.gateway.settings import CONTROL_TOKEN, TOKEN, add_arguments, read_peers
from tests.unit.docker.kubernetes_objects import SCHEMAS, problems

HOUSE = Path(__file__).parents[3]
MANIFESTS = HOUSE / "docker" / "kubernetes" / "gateway.yaml"
PODS = sorted((HOUSE / "docker" / "kubernetes" / "pods").glob("*.yaml"))
VALUES = HOUSE / "docker" / "kubernetes" / "values.yaml"
GATEWAY_DOCKERFILE = (HOUSE / "docker" / "gateway.Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def manifests() -> dict[str, dict[str, Any]]:
    """Return the objects by their kind and name."""
    objects = yaml.safe_load_all(MANIFESTS.read_text(encoding="utf-8"))
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in objects if each}


@pytest.fixture(scope="module")
def pod(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the template of the pods."""
    template: dict[str, Any] = manifests["StatefulSet/bakery-gateway"]["spec"]["template"]
    return template


def test_each_object_is_as_kubernetes_reads_it(manifests: dict[str, dict[str, Any]]) -> None:
    assert {name.partition("/")[0] for name in manifests} == set(SCHEMAS["kinds"])
    assert [f"{name}: {text}" for name, manifest in manifests.items() for text in problems(manifest)] == []


def test_the_schemas_refuse_a_field_that_kubernetes_does_not_know(manifests: dict[str, dict[str, Any]]) -> None:
    wrong = copy.deepcopy(manifests["StatefulSet/bakery-gateway"])
    wrong["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
    wrong["spec"]["podManagementPolicy"] = 1
    message = "; ".join(problems(wrong))
    assert "readinessProb" in message
    assert "podManagementPolicy" in message


def test_the_container_starts_with_arguments_that_the_gateway_has(pod: dict[str, Any]) -> None:
    (container,) = pod["spec"]["containers"]
    entry_point = re.search(r"^ENTRYPOINT (\[.*\])$", GATEWAY_DOCKERFILE, re.MULTILINE)
    assert entry_point is not None
    command = [*yaml.safe_load(entry_point.group(1)), *container["args"]]
    assert command[:3] == ["python", "-m", "airflow_mlops.gateway"]
    parser = argparse.ArgumentParser()
    parser.add_argument("loop", type=Path)
    add_arguments(parser)
    args = parser.parse_args(command[3:])
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert (mounted["state"], mounted["log"]) == (str(args.state_dir), str(args.log_dir))
    assert [str(key.parent) for key in args.public_key] == [mounted["keys"]]
    assert [port["containerPort"] for port in container["ports"]] == [args.port]
    assert {variable["name"] for variable in container["env"]} == {TOKEN, CONTROL_TOKEN}
    assert args.drain_seconds < pod["spec"]["terminationGracePeriodSeconds"]
    readiness = container["readinessProbe"]
    assert args.drain_seconds > readiness["periodSeconds"] * readiness["failureThreshold"], "noticed before it closes"


def test_the_container_runs_as_the_user_of_the_image(pod: dict[str, Any]) -> None:
    user = re.search(r"^USER (\d+)$", GATEWAY_DOCKERFILE, re.MULTILINE)
    assert user is not None
    assert pod["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": int(user.group(1)),
        "fsGroup": int(user.group(1)),
    }


def test_the_loop_and_the_replicas_reach_replicas_that_are_not_ready_and_users_do_not(
    manifests: dict[str, dict[str, Any]], pod: dict[str, Any]
) -> None:
    control, users = manifests["Service/bakery-control"]["spec"], manifests["Service/bakery"]["spec"]
    stateful_set = manifests["StatefulSet/bakery-gateway"]["spec"]
    assert stateful_set["serviceName"] == "bakery-control"
    assert (control["clusterIP"], control["publishNotReadyAddresses"]) == ("None", True)
    assert "publishNotReadyAddresses" not in users
    labels = pod["metadata"]["labels"]
    assert control["selector"] == users["selector"] == labels == stateful_set["selector"]["matchLabels"]
    (peer,) = [word.partition("=")[2] for word in pod["spec"]["containers"][0]["args"] if word.startswith("--peer")]
    assert read_peers([peer]) == (f"http://bakery-control:{control['ports'][0]['port']}",)
    assert f'"replicas": "{peer}"' in MANIFESTS.read_text(encoding="utf-8"), "the loop is told the same name"


def test_budget_and_autoscaler_are_of_these_pods_and_of_a_metric_that_the_gateway_has(
    manifests: dict[str, dict[str, Any]], pod: dict[str, Any]
) -> None:
    budget = manifests["PodDisruptionBudget/bakery-gateway"]["spec"]
    assert budget["selector"]["matchLabels"] == pod["metadata"]["labels"]
    scaler = manifests["HorizontalPodAutoscaler/bakery-gateway"]["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "bakery-gateway"}
    assert "replicas" not in manifests["StatefulSet/bakery-gateway"]["spec"], "each apply would undo the autoscaler"
    assert scaler["minReplicas"] > budget["maxUnavailable"]
    assert "cpu" in pod["spec"]["containers"][0]["resources"]["requests"], "a share is of what was asked for"
    (latency,) = [metric["pods"]["metric"]["name"] for metric in scaler["metrics"] if metric["type"] == "Pods"]
    assert latency == f"{PREFIX}_seconds_p95"
    page = (HOUSE / "docs" / "how-to" / "run-on-kubernetes.md").read_text(encoding="utf-8")
    (rules,) = [yaml.safe_load(code) for code in re.findall(r"```yaml\n(rules:.*?)```", page, re.DOTALL)]
    (rule,) = rules["rules"]["custom"]
    assert rule["name"]["as"] == latency
    assert f"{PREFIX}_seconds_bucket" in rule["seriesQuery"]


def test_there_is_a_template_for_fits_and_one_for_rows() -> None:
    assert [path.stem for path in PODS] == ["fit", "rows"]


@pytest.mark.parametrize("path", PODS, ids=lambda path: path.stem)
def test_a_template_is_a_pod_of_the_image_that_the_chart_is_told(path: Path) -> None:
    template, values = (yaml.safe_load(each.read_text(encoding="utf-8")) for each in (path, VALUES))
    assert problems(template) == []
    (container,) = template["spec"]["containers"]
    assert container["name"] == "base", "Airflow puts the task into the container of this name"
    assert container["image"] == "{repository}:{tag}".format(**values["images"]["airflow"])
    assert container["envFrom"] == yaml.safe_load(values["extraEnvFrom"])
    assert {each["name"]: each["value"] for each in container["env"]} == {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        **{each["name"]: each["value"] for each in values["env"]},
    }
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted.keys() == {volume["name"] for volume in template["spec"]["volumes"]}
    dockerfile = (HOUSE / "docker" / "Dockerfile").read_text(encoding="utf-8")
    home = re.search(r"AIRFLOW_HOME=(\S+)", dockerfile)
    user = re.search(r"^USER (\d+)$", dockerfile, re.MULTILINE)
    assert home is not None
    assert user is not None
    assert mounted == {"config": f"{home.group(1)}/airflow.cfg", "logs": f"{home.group(1)}/logs"}
    assert template["spec"]["securityContext"]["runAsUser"] == int(user.group(1))


@pytest.mark.parametrize("path", PODS, ids=lambda path: path.stem)
def test_the_declaration_above_a_template_is_one_that_the_loop_takes(path: Path) -> None:
    comment = "\n".join(
        line.removeprefix("#").removeprefix(" ")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    )
    declared = yaml.safe_load(comment[comment.index("resources:") : comment.index("The names")])
    (stage,) = declared["resources"]
    config = Resources(**declared["resources"]).task_args(stage)["executor_config"]
    assert config == {"pod_template_file": f"/opt/airflow/pods/{path.name}"}


def test_small_tasks_get_less_than_the_templates_ask_for() -> None:
    def memory(resources: dict[str, Any]) -> int:
        return int(resources["requests"]["memory"].removesuffix("Gi"))

    values = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    small = memory(values["workers"]["kubernetes"]["resources"])
    for path in PODS:
        (container,) = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]["containers"]
        assert memory(container["resources"]) > small
