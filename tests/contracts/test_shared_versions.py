"""Several workers share a verified version in a lake in S3, and the keys of a connection."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from pyarrow.fs import FileSelector, S3FileSystem

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.lake import Lake, LakeFiles
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.registry import VersionGoneError
from airflow_mlops.core.ports.signing_keys import derive_public_key, new_private_key
from airflow_mlops.core.registry.load import copy_folder, load_version
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.hooks.workspace import WorkspaceHook
from airflow_mlops.testing.in_memory import in_memory_workspace
from airflow_mlops.testing.in_memory_registry import InMemoryRegistry
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, train, week


def worker(workspace: Workspace, lake: Lake, scratch: Path) -> Workspace:
    """Return the workspace of another machine with the same stores."""
    ports = dataclasses.replace(workspace.ports, shared=lambda: LakeFiles(lake / "shared"))
    return dataclasses.replace(workspace, scratch=scratch, ports=ports)


def test_another_worker_loads_a_version_that_was_deleted_from_the_lake_and_verifies_it(
    object_store: S3FileSystem, object_store_url: str, fresh_name: str, tmp_path: Path
) -> None:
    object_store.create_dir("versions")
    access = {"key": "key", "secret": "hunter2", "region": "us-east-1", "endpoint": object_store_url}
    lake = Lake(f"s3://versions/{fresh_name}", access)
    frames = {week(number): toy_rows(number) for number in range(3)}
    first = worker(in_memory_workspace(toy_loop(), frames, scratch=tmp_path), lake, tmp_path / "first")
    for key in frames:
        ingest(first, key)
    train(first, week(2))
    version: Version = first.state().versions["1"]
    assert isinstance(first.registry, InMemoryRegistry)
    first.registry.deleted.add("1")

    second = worker(first, lake, tmp_path / "second")
    assert hasattr(load_version(second, version), "predict")
    assert {path.name for path in copy_folder(second, version).iterdir()} == {
        "model.skops",
        "model.sig",
        "environment.json",
        "sbom.cdx.json",
    }

    shutil.rmtree(tmp_path / "second")
    selector = FileSelector(f"versions/{fresh_name}/shared/models", recursive=True)
    (kept,) = [info.path for info in object_store.get_file_info(selector) if info.path.endswith("environment.json")]
    with object_store.open_output_stream(kept) as stream:
        stream.write(b"tampered")
    with pytest.raises(VersionGoneError, match=r"has no version 1.*environment\.json was changed after it was signed"):
        load_version(second, version)


def test_the_keys_of_a_connection_sign_and_are_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    private, older = new_private_key(), derive_public_key(new_private_key())
    connection = {"conn_type": "generic", "password": private, "extra": {"public_key": [older]}}
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_SIGNING", json.dumps(connection))
    stores = WorkspaceHook().stores()
    assert stores.keys is not None
    assert stores.keys.private() == private
    assert list(stores.keys.trusted().values()) == [derive_public_key(private), older]
    assert private.splitlines()[1] not in repr(stores)


def test_a_key_whose_lines_a_field_has_joined_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    private = new_private_key()
    connection = {"conn_type": "generic", "password": private.strip().replace("\n", "\\n")}
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_SIGNING", json.dumps(connection))
    keys = WorkspaceHook().stores().keys
    assert keys is not None
    assert keys.private() == private


def test_a_worker_that_only_loads_needs_the_public_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    public = derive_public_key(new_private_key())
    connection = {"conn_type": "generic", "extra": {"public_key": public}}
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_SIGNING", json.dumps(connection))
    keys = WorkspaceHook().stores().keys
    assert keys is not None
    assert list(keys.trusted().values()) == [public]
    with pytest.raises(DeclarationError, match="its password must be the private key"):
        keys.private()


@pytest.mark.parametrize("extra", [{}, {"public_key": 7}, {"public_key": [None]}])
def test_a_connection_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch, extra: dict[str, object]) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_SIGNING", json.dumps({"conn_type": "generic", "extra": extra}))
    with pytest.raises(DeclarationError, match=r"connection 'mlops_signing'"):
        WorkspaceHook().stores()


def test_the_allowed_places_of_artefacts_come_from_the_connection_of_the_registry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = {"conn_type": "http", "host": "mlflow.example", "extra": {"artefact_prefixes": ["s3://company/m"]}}
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_REGISTRY", json.dumps(connection))
    assert WorkspaceHook().stores().artefact_prefixes == ("s3://company/m",)
    connection["extra"] = {"artefact_prefixes": "s3://company/m"}
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_REGISTRY", json.dumps(connection))
    with pytest.raises(DeclarationError, match="it must be a list of addresses"):
        WorkspaceHook().stores()
