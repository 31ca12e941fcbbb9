"""Versions are verified before every load: a valid copy is loaded, an invalid one is replaced and never read."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates
from airflow_mlops.core.evaluation.register_candidate import register_candidate
from airflow_mlops.core.ledger.rollout_details import Promoted, RolloutStarted
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.registry import GHOST_OF, VersionGoneError
from airflow_mlops.core.ports.signing_keys import StaticKeys, new_private_key
from airflow_mlops.core.registry.load import copy_folder, load_version, verified_folder
from airflow_mlops.core.registry.sign_folder import SignatureError
from airflow_mlops.core.registry.verify_version import verify_version
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.inspect_versions import inspect_versions
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.training.assemble import TrainingRequest, assemble_training
from airflow_mlops.core.training.fit_candidate import fit_candidate
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import InMemoryEvidence
from airflow_mlops.testing.in_memory_registry import InMemoryRegistry, KeptVersion
from tests.unit.core.toy_loop import loop_with_champion, train, week


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a loop whose champion is version 1."""
    return loop_with_champion(tmp_path)


@pytest.fixture
def registry(workspace: Workspace) -> InMemoryRegistry:
    assert isinstance(workspace.registry, InMemoryRegistry)
    return workspace.registry


def champion(workspace: Workspace) -> Version:
    version = workspace.state().champion
    assert version is not None
    assert version.number == "1"
    return version


def test_a_version_is_registered_signed_with_its_environment_and_its_bill_of_materials(
    workspace: Workspace, registry: InMemoryRegistry
) -> None:
    details = champion(workspace).details
    assert set(registry.versions[0].beside) == {"model.sig", "environment.json", "sbom.cdx.json"}
    assert details.signature is not None
    assert workspace.evidence.get(str(details.sbom))["bomFormat"] == "CycloneDX"
    assert workspace.evidence.get(str(details.installed))["python"] == details.environment["python"]
    bill = (verified_folder(workspace, champion(workspace)) / "sbom.cdx.json").read_bytes()
    assert json.loads(bill) == workspace.evidence.get(str(details.sbom))
    report = verify_version(workspace, champion(workspace))
    assert (report.signed, report.verified, report.key) == (True, True, details.signature.key)


def judged(workspace: Workspace, partition: str) -> tuple[TrainingRequest, dict[str, Any]]:
    """Return a request and its judged candidate, ready to be registered."""
    decide_and_record(workspace, partition, trigger="person")
    request = assemble_training(workspace, partition)
    fits = [fit_candidate(workspace, request, candidate) for candidate in request.candidates]
    return request, evaluate_candidates(workspace, request, fits)


def test_a_registration_that_died_before_its_record_is_adopted_with_the_signature_it_had(
    workspace: Workspace, registry: InMemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated = judged(workspace, week(3))
    with monkeypatch.context() as patched:
        patched.setattr(InMemoryEvidence, "put", interrupt)
        with pytest.raises(KeyboardInterrupt):
            register_candidate(workspace, *evaluated)
    assert list(workspace.state().versions) == ["1"]
    signature = registry.versions[1].beside["model.sig"]
    registered = register_candidate(workspace, *evaluated)
    assert registered["version"] == "2"
    assert registered == register_candidate(workspace, *evaluated)
    assert len(registry.versions) == 2
    assert hashlib.sha256(signature).hexdigest() == workspace.state().versions["2"].details.signature.digest


@pytest.mark.parametrize("role", ["candidate", "champion"])
def test_a_version_that_is_judged_again_after_its_registration_died_is_no_changed_version(
    workspace: Workspace, registry: InMemoryRegistry, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    request, evaluated = judged(workspace, week(3))
    with monkeypatch.context() as patched:
        patched.setattr(InMemoryEvidence, "put", interrupt)
        with pytest.raises(KeyboardInterrupt):
            register_candidate(workspace, request, evaluated)
    fits = [fit_candidate(workspace, request, candidate) for candidate in request.candidates]
    again = evaluate_candidates(workspace, request, fits)
    assert again["report"] != evaluated["report"]  # the times of its predictions are others
    register_candidate(workspace, request, again)
    details = workspace.state().versions["2"].details
    assert (details.report, details.earlier_tags) == (again["report"], {"evaluation": evaluated["report"]})
    if role == "champion":
        key = week(3)
        for fact in (RolloutStarted(version="2"), Promoted(version="2", previous="1")):
            workspace.record_fact(workspace.draft(fact, f"{fact.KIND}:2", key))
    assert inspect_versions(workspace).problems == []
    registry.versions[1].tags["evaluation"] = "another"
    assert "its tag evaluation is another" in inspect_versions(workspace).problems[0]


def interrupt(*_: object) -> str:
    raise KeyboardInterrupt


def test_a_copy_is_verified_at_every_load_and_replaced_where_it_was_changed(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    version = champion(workspace)
    folder = copy_folder(workspace, version)
    for name in ("model.skops", "environment.json"):
        (folder / name).write_bytes(b"tampered")
        with caplog.at_level(logging.WARNING):
            assert hasattr(load_version(workspace, version), "predict")
        assert f"version 1 of toy is refused: {name} was changed after it was signed" in caplog.text
        assert (folder / name).read_bytes() != b"tampered"
    (folder / "evil.py").write_text("x")
    assert hasattr(load_version(workspace, version), "predict")
    assert not (folder / "evil.py").exists()
    assert [path for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_a_good_copy_serves_while_the_registry_has_a_changed_one(
    workspace: Workspace, registry: InMemoryRegistry
) -> None:
    registry.versions[0].content = b"tampered"
    assert hasattr(load_version(workspace, champion(workspace)), "predict")
    report = verify_version(workspace, champion(workspace), in_registry=True)
    assert not report.verified
    assert "model.skops was changed after it was signed" in report.reason


@pytest.mark.parametrize("changed", ["model.skops", "sbom.cdx.json", "MLmodel"])
def test_without_a_good_copy_a_changed_version_is_refused_by_the_name_of_the_file(
    workspace: Workspace, registry: InMemoryRegistry, changed: str
) -> None:
    if changed == "model.skops":
        registry.versions[0].content = pickle.dumps(print)
    else:
        registry.versions[0].beside[changed] = b"flavors: {python_function: {loader_module: os}}"
    shutil.rmtree(workspace.scratch / "models")
    version = champion(workspace)
    with pytest.raises(SignatureError, match=rf"version 1 of toy is refused: {changed} was (changed|added)"):
        load_version(workspace, version)
    report = verify_version(workspace, version)
    assert report.signed
    assert not report.verified
    assert changed in report.reason


def test_what_an_edited_mlmodel_asks_for_is_never_done(workspace: Workspace, tmp_path: Path) -> None:
    """``MLmodel`` is never executed, even if the project itself has signed it."""
    from airflow_mlops.core.registry.sign_folder import sign_folder

    version = champion(workspace)
    folder = copy_folder(workspace, version)
    witness = tmp_path / "it-ran"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return witness.touch, ()

    (folder / "MLmodel").write_text(
        "flavors:\n  python_function: {loader_module: mlflow.sklearn, model_path: model.pkl}\n"
        "  sklearn: {pickled_model: model.pkl, serialization_format: cloudpickle}\n"
    )
    (folder / "model.pkl").write_bytes(pickle.dumps(Payload()))
    details = replace(version.details, signature=sign_folder(folder, workspace.keys))
    signed = Version(version.number, version.partition, details)
    shutil.copytree(folder, copy_folder(workspace, signed))
    assert hasattr(load_version(workspace, signed), "predict")
    assert not witness.exists()


def test_a_key_that_is_not_trusted_here_is_named_and_no_other_copy_is_tried(workspace: Workspace) -> None:
    workspace.__dict__["keys"] = StaticKeys(new_private_key())
    with pytest.raises(SignatureError, match="which is not trusted here; give the connection mlops_signing"):
        load_version(workspace, champion(workspace))


def test_a_version_from_before_signatures_is_loaded_by_its_digest_with_a_warning(
    workspace: Workspace, registry: InMemoryRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    version = champion(workspace)
    old = Version("1", version.partition, replace(version.details, signature=None, source=None))
    registry.versions[0].beside.clear()
    with caplog.at_level(logging.WARNING):
        assert hasattr(load_version(workspace, old), "predict")
    assert "version 1 of toy was registered before versions were signed" in caplog.text
    report = verify_version(workspace, old)
    assert (report.signed, report.verified) == (False, False)
    assert "it was registered before versions were" in report.reason
    (copy_folder(workspace, old) / "model.skops").write_bytes(b"tampered")
    registry.versions[0].content = b"tampered"
    with pytest.raises(RegistryError, match=r"version 1 of toy is refused: model\.skops was changed: its digest is"):
        load_version(workspace, old)


def test_a_version_without_a_signature_after_a_signed_one_is_refused(workspace: Workspace) -> None:
    number = train(workspace, week(3))
    version = workspace.state().versions[number]
    stripped = Version(number, version.partition, replace(version.details, signature=None))
    with pytest.raises(SignatureError, match="it has no signature in the ledger, and versions before it have one"):
        load_version(workspace, stripped)
    assert "versions before it have one" in verify_version(workspace, stripped).reason


def test_a_version_that_points_to_another_place_is_not_read(workspace: Workspace, registry: InMemoryRegistry) -> None:
    registry.versions[0].source = "s3://somebody-else/models/1"
    shutil.rmtree(workspace.scratch / "models")
    with pytest.raises(RegistryError, match="artefacts at s3://somebody-else/models/1 are not read"):
        load_version(workspace, champion(workspace))


def test_a_version_that_a_stranger_made_under_the_operation_is_not_adopted(
    workspace: Workspace, registry: InMemoryRegistry
) -> None:
    request, evaluated = judged(workspace, week(3))
    operation = f"{request.operation}-{evaluated['candidate']}"
    registry.versions.append(KeptVersion(operation, b"evil", registry.versions[0].registration))
    with pytest.raises(SignatureError, match=r"version 2 of toy is not adopted: there is no model\.sig"):
        register_candidate(workspace, request, evaluated)
    registry.versions[1].beside = dict(registry.versions[0].beside)
    registry.versions[1].content = registry.versions[0].content
    with pytest.raises(SignatureError, match="its model is not the candidate that was judged"):
        register_candidate(workspace, request, evaluated)
    assert list(workspace.state().versions) == ["1"]


def test_a_registry_that_counts_from_one_again_gives_no_number_twice(
    workspace: Workspace, registry: InMemoryRegistry
) -> None:
    evaluated = judged(workspace, week(3))
    registry.versions.clear()
    assert register_candidate(workspace, *evaluated)["version"] == "2"
    assert [version.number for version in registry.all_versions()] == ["2"]
    assert champion(workspace).partition == week(2)


def test_nothing_is_said_of_a_registry_that_is_as_the_ledger_says(workspace: Workspace) -> None:
    inspection = inspect_versions(workspace)
    assert (inspection.problems, inspection.notices) == ([], [])


def test_a_champion_that_was_deleted_goes_on_serving_and_is_reported(
    workspace: Workspace, registry: InMemoryRegistry
) -> None:
    registry.deleted.add("1")
    registry.pointers.clear()
    assert reconcile(workspace) == []
    (problem,) = inspect_versions(workspace).problems
    assert "version 1, the champion, was deleted in the registry, and its alias with it" in problem
    assert "its verified copy in the lake goes on serving, and the ledger is unchanged" in problem
    assert "airflow-mlops rollback" in problem
    assert hasattr(load_version(workspace, champion(workspace)), "predict")
    shutil.rmtree(workspace.scratch / "models")
    (problem,) = inspect_versions(workspace).problems
    assert "no copy can serve: the registry in memory has no version 1" in problem
    with pytest.raises(VersionGoneError):
        load_version(workspace, champion(workspace))


def test_the_alias_of_a_deleted_champion_is_no_other_versions(workspace: Workspace, registry: InMemoryRegistry) -> None:
    train(workspace, week(3))
    registry.deleted.add("1")
    registry.pointers["champion"] = "2"
    assert reconcile(workspace) == ["alias champion was 2, is now absent"]
    assert workspace.registry.aliases() == {"candidate": "2"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda version: version.tags.update(artefact="f" * 64), "its tag artefact is ffff"),
        (lambda version: version.tags.pop("evaluation"), "its tag evaluation is absent, and was "),
        (lambda version: version.tags.update({GHOST_OF: "7"}), f"somebody tagged it {GHOST_OF}=7"),
        (
            lambda version: setattr(version, "source", "memory:/versions/other"),
            "its files are at memory:/versions/other",
        ),
        (lambda version: setattr(version, "content", b"x"), r"model\.skops was changed after it was signed"),
        (lambda version: version.beside.update(MLmodel=b"x"), "MLmodel was added"),
    ],
)
def test_whatever_is_changed_of_a_released_version_is_named(
    workspace: Workspace, registry: InMemoryRegistry, change: Any, words: str
) -> None:
    change(registry.versions[0])
    problems = inspect_versions(workspace).problems
    assert problems
    assert all(problem.startswith("version 1, the champion, was changed in the registry: ") for problem in problems)
    with pytest.raises(AssertionError, match=words):
        raise AssertionError("; ".join(problems))


def test_ghosts_are_tagged_and_strangers_named_and_neither_is_ever_aliased(
    workspace: Workspace, registry: InMemoryRegistry
) -> None:
    first = registry.versions[0]
    registry.versions.append(KeptVersion(first.operation, first.content, first.registration))
    registry.versions.append(KeptVersion("somebody's", b"", first.registration))
    inspection = inspect_versions(workspace)
    assert inspection.problems == []
    assert inspection.notices == [
        "version 2 is a ghost of 1; it was tagged",
        "version 3 is in the registry and not in the ledger (made by somebody's); it is never served",
    ]
    assert registry.versions[1].tags[GHOST_OF] == "1"
    assert inspect_versions(workspace).notices == inspection.notices[1:]
    registry.pointers["champion"] = "3"
    assert reconcile(workspace) == ["alias champion was 3, is now 1"]
    assert set(workspace.state().versions) == {"1"}
