"""The pages about hosting: manifests agree with the image and the command line, and commands make what they say."""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

from airflow_mlops.gateway.settings import CONTROL_TOKEN, TOKEN, add_arguments

HOUSE = Path(__file__).parents[3]
HOW_TO = HOUSE / "docs" / "how-to"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page in a language."""
    return [code for kind, code in BLOCK.findall((HOW_TO / page).read_text(encoding="utf-8")) if kind == language]


def manifests() -> dict[str, list[dict[str, Any]]]:
    """Return the Kubernetes objects of the page by their kind."""
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for code in blocks("run-on-kubernetes.md", "yaml"):
        for manifest in yaml.safe_load_all(code):
            by_kind.setdefault(manifest.get("kind", "values"), []).append(manifest)
    return by_kind


def test_the_container_of_the_gateway_starts_with_arguments_that_the_gateway_has() -> None:
    (stateful_set,) = manifests()["StatefulSet"]
    (container,) = stateful_set["spec"]["template"]["spec"]["containers"]
    dockerfile = (HOUSE / "docker" / "gateway.Dockerfile").read_text(encoding="utf-8")
    entry_point = re.search(r"^ENTRYPOINT (\[.*\])$", dockerfile, re.MULTILINE)
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
    user = re.search(r"^USER (\d+)$", dockerfile, re.MULTILINE)
    assert user is not None
    assert stateful_set["spec"]["template"]["spec"]["securityContext"]["fsGroup"] == int(user.group(1))


def test_the_loop_reaches_replicas_that_are_not_ready_and_users_do_not() -> None:
    services = {service["metadata"]["name"]: service["spec"] for service in manifests()["Service"]}
    (stateful_set,) = manifests()["StatefulSet"]
    control = services.pop(stateful_set["spec"]["serviceName"])
    assert control["clusterIP"] == "None"
    assert control["publishNotReadyAddresses"] is True
    (users,) = services.values()
    assert "publishNotReadyAddresses" not in users
    labels = stateful_set["spec"]["template"]["metadata"]["labels"]
    assert control["selector"] == users["selector"] == labels == stateful_set["spec"]["selector"]["matchLabels"]


def test_the_constraints_of_mwaa_are_the_packages_of_the_lock_without_their_hashes(tmp_path: Path) -> None:
    (command,) = [code for code in blocks("run-on-mwaa.md", "bash") if code.startswith("sed ")]
    (tmp_path / "dags").mkdir()
    lock = (HOUSE / "requirements-dev.lock").read_text(encoding="utf-8")
    (tmp_path / "requirements-dev.lock").write_text(lock, encoding="utf-8")
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    lines = (tmp_path / "dags" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(re.findall(r"^[A-Za-z0-9]", lock, re.MULTILINE))
    requirements = [Requirement(line) for line in lines]
    assert all(len(requirement.specifier) == 1 for requirement in requirements)
    assert {"apache-airflow", "apache-airflow-providers-amazon", "psycopg"} <= {each.name for each in requirements}
