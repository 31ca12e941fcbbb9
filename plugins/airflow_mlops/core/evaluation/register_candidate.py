"""Register a candidate whose gates passed, signed and with its bill of materials; idempotent under retries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_mlops.core.declaration.own_types import type_name
from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.evaluation.evaluate_candidates import require_gates
from airflow_mlops.core.evaluation.model_interface import interface_of_candidate
from airflow_mlops.core.evaluation.record_recall import record_recall
from airflow_mlops.core.evaluation.track_training import run_parameters
from airflow_mlops.core.fault_point import external_write
from airflow_mlops.core.ledger.training_details import CandidateRegistered, Signature
from airflow_mlops.core.ports.registry import MODEL_FILE, RegisteredVersion, Registration
from airflow_mlops.core.ports.spans import note_version
from airflow_mlops.core.registry.bill_of_materials import bill_of_materials
from airflow_mlops.core.registry.load import keep_for_others
from airflow_mlops.core.registry.model_file import file_digest
from airflow_mlops.core.registry.own_code import OWN_CODE_FILE, held_own_code, held_own_types
from airflow_mlops.core.registry.recorded_classes import CLASSES_FILE
from airflow_mlops.core.registry.recorded_environment import (
    Environment,
    parse_environment,
    recorded_environment,
    requirements_of,
)
from airflow_mlops.core.registry.replace_folder import replace_folder
from airflow_mlops.core.registry.sign_folder import SignatureError, read_signature, sign_folder
from airflow_mlops.core.training.assemble import TrainingRequest
from airflow_mlops.core.training.fit_candidate import candidate_file
from airflow_mlops.core.workspace import Workspace

REQUIREMENTS = ("scikit-learn", "skops", "pandas", "numpy")
JUDGED_TAGS = ("decision", "evaluation")
"""Tags of a version that differ between two attempts to register it."""


def register_candidate(workspace: Workspace, request: TrainingRequest, evaluated: dict[str, Any]) -> dict[str, Any]:
    """Register the candidate as a version of the model, and return its number and record.

    The gates are asked once more, since in Airflow somebody can mark the task that asks them as a success.

    An earlier champion that was chosen is no new version: its recall is recorded.

    The request, the digest of the evaluation, the environment, the bill of materials and the columns that the model
    takes are stored with it, and all of its files are signed. The alias ``candidate`` follows the record.

    Raises
    ------
    GateError
        If a gate failed, or the report is about another request, holdout or file; that is recorded.
    RegistryError
        If the registry returns something else than was registered.
    NotReadyError
        If an earlier champion was taken back since the evaluation, or serves by now.
    """
    require_gates(workspace, request, evaluated)
    if evaluated.get("recalled"):
        return record_recall(workspace, request, evaluated)
    name = str(evaluated["candidate"])
    request = request.of_candidate(name)
    environment = environment_of(workspace, evaluated)
    best_params: dict[str, Any] = dict(evaluated.get("best_params") or {})
    operation = f"{request.operation}-{name}"
    materials = bill_of_materials(
        environment, model=workspace.loop.model, operation=operation, digest=str(evaluated["digest"])
    )
    model_file = workspace.shared(candidate_file(workspace, request.operation, name))
    held = held_own_types(workspace.loop.train.own_types, model_file)
    code = held_own_code(held, request.own_code, workspace.root)
    details = CandidateRegistered(
        version="",
        decision=request.decision,
        request=request.operation,
        candidate=name,
        artefact=str(evaluated["digest"]),
        report=str(evaluated["report"]),
        hidden=tuple(sorted(workspace.hidden)),
        left_out=evaluated.get("left_out"),
        levels=None if request.levels is None else {name: tuple(levels) for name, levels in request.levels.items()},
        classes=None if request.classes is None else tuple(request.classes),
        own_code=code,
        metric_code=request.metric_code,
    )
    number = workspace.registry.register(
        Registration(
            operation=operation,
            model_file=model_file,
            digest=str(evaluated["digest"]),
            metrics={f"holdout_{metric}": value for metric, value in evaluated["metrics"].items()},
            params=run_parameters(request, name, best_params),
            tags=tags_of(details, request.partition),
            requirements=requirements_of(environment, REQUIREMENTS),
            datasets={pin.partition: pin.digest for pin in request.window.fitted},
            files={
                "environment.json": to_json_bytes(environment),
                "sbom.cdx.json": to_json_bytes(materials),
                **({} if request.classes is None else {CLASSES_FILE: to_json_bytes(request.classes)}),
                **({} if code is None else {OWN_CODE_FILE: to_json_bytes(code)}),
            },
            own_types=tuple(map(type_name, held)),
            seal=lambda folder: sign_folder(folder, workspace.keys),
            interface=interface_of_candidate(workspace, request, name, str(evaluated["digest"])),
            taken=taken_numbers(workspace, request.operation),
        )
    )
    note_version(number)
    registered, signature = adopt_version(workspace, number, details)
    details = replace(details, earlier_tags=tags_of_earlier_attempt(registered, tags_of(details, request.partition)))
    documents = {"environment": workspace.evidence.put(environment), "sbom": workspace.evidence.put(materials)}
    details = replace(
        details,
        version=number,
        metrics=evaluated["metrics"],
        champion=evaluated["champion"],
        profile=request.profile,
        fit_seconds=evaluated["fit_seconds"],
        training_seconds=evaluated.get("training_seconds"),
        rows=evaluated["rows"],
        window=request.window,
        best_params=best_params,
        source=registered.source,
        signature=signature,
        sbom=documents["sbom"],
        environment=evaluated.get("environment") or model_requirements(environment),
        installed=documents["environment"],
    )
    evidence = (str(evaluated["report"]), request.profile, *documents.values())
    draft = workspace.draft(details, f"candidate:{operation}", request.partition, evidence=evidence)
    record = workspace.record_fact(draft)
    if workspace.state().candidate is not None:
        workspace.registry.set_alias("candidate", number)
    return {"version": number, "record": record.sequence, "partition": request.partition}


def environment_of(workspace: Workspace, evaluated: Mapping[str, Any]) -> Environment:
    """Return the environment of the fit: the one a remote fit reported, or that of this process."""
    fit_environment = evaluated.get("environment")
    return (
        parse_environment(fit_environment)
        if fit_environment and workspace.loop.train.runs_on.kind != "worker"
        else recorded_environment()
    )


def tags_of(details: CandidateRegistered, partition: str) -> dict[str, str]:
    """Return the tags of a version from its ledger record; they never change afterwards."""
    return {
        "partition": partition,
        "request": details.request,
        "decision": str(details.decision),
        "artefact": details.artefact,
        "evaluation": str(details.report),
    }


def tags_of_earlier_attempt(registered: RegisteredVersion, tags: Mapping[str, str]) -> dict[str, str] | None:
    """Return the tags that an attempt without a record gave a version, where this one would give others; else None.

    An attempt that ends between the registry and the ledger is judged again, which makes another report. The files of
    the version are compared by :func:`adopt_version`; its tags are kept as they are, and the ledger says so.
    """
    earlier = {
        name: registered.tags[name] for name in JUDGED_TAGS if registered.tags.get(name) not in (None, tags[name])
    }
    return earlier or None


def taken_numbers(workspace: Workspace, request: str) -> frozenset[str]:
    """Return the numbers of the versions in the ledger that were made from another request."""
    versions = workspace.state().versions.items()
    return frozenset(number for number, version in versions if version.details.request != request)


def adopt_version(
    workspace: Workspace, number: str, details: CandidateRegistered
) -> tuple[RegisteredVersion, Signature]:
    """Return a version as the registry has it, and the signature of its files after a round trip.

    The files are cached below the scratch folder, so that the version can be loaded while the registry is down.

    Raises
    ------
    RegistryError
        If the files are not signed by this project, are not those of the candidate, or the number is taken.
    """
    name = f"version {number} of {workspace.loop.model}"
    existing = workspace.state().versions.get(number)
    if existing is not None and existing.details.request != details.request:
        raise RegistryError(f"{name} is another model in the ledger ({existing.partition}): the registry gave it twice")
    registered = next((version for version in workspace.registry.all_versions() if version.number == number), None)
    if registered is None:
        raise RegistryError(f"{name} was registered, and the registry does not list it")
    folder = workspace.scratch / "models" / f"registered-{number}"
    workspace.registry.fetch(number, folder)
    try:
        signature = read_signature(folder, workspace.keys)
    except SignatureError as error:
        raise SignatureError(f"{name} is not adopted: {error}; delete that version and register again") from error
    if file_digest(folder / MODEL_FILE) != details.artefact:
        raise SignatureError(f"{name} is not adopted: its model is not the candidate that was judged; delete it")
    copy = folder.with_name(signature.digest)
    with replace_folder(copy) as part, external_write("scratch.keep_copy"):
        part.rmdir()
        folder.rename(part)
    keep_for_others(workspace, copy)
    return registered, signature


def to_json_bytes(document: object) -> bytes:
    """Return a document as indented JSON with sorted keys."""
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def model_requirements(environment: Environment) -> dict[str, str]:
    """Return the versions of Python and of the packages that predictions depend on."""
    pinned = dict(line.split("==", 1) for line in requirements_of(environment, REQUIREMENTS))
    return {"python": environment["python"], **pinned}
