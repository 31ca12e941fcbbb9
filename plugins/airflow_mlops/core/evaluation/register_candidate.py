"""Register a candidate whose gates passed: once, whatever is retried, signed, with its bill of materials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.ledger.training_details import CandidateRegistered, Signature
from airflow_mlops.core.ports.registry import MODEL_FILE, RegisteredVersion, Registration
from airflow_mlops.core.registry.bill_of_materials import bill_of_materials
from airflow_mlops.core.registry.load import keep_for_others
from airflow_mlops.core.registry.model_file import file_digest
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


def register_candidate(workspace: Workspace, request: TrainingRequest, evaluated: dict[str, Any]) -> dict[str, Any]:
    """Make the candidate a version of the model, and return its number and record.

    The request, the digest of the evaluation, the environment and the bill of materials are kept with it, and all
    of its files are signed. The alias ``candidate`` follows the record.

    Raises
    ------
    RegistryError
        If what the registry then has is not what was registered.
    """
    name = str(evaluated["candidate"])
    environment = environment_of(workspace, evaluated)
    best_params: dict[str, Any] = dict(evaluated.get("best_params") or {})
    operation = f"{request.operation}-{name}"
    materials = bill_of_materials(
        environment, model=workspace.loop.model, operation=operation, digest=str(evaluated["digest"])
    )
    details = CandidateRegistered(
        version="",
        decision=request.decision,
        request=request.operation,
        candidate=name,
        artefact=str(evaluated["digest"]),
        report=str(evaluated["report"]),
    )
    number = workspace.registry.register(
        Registration(
            operation=operation,
            model_file=workspace.shared(candidate_file(workspace, request.operation, name)),
            digest=str(evaluated["digest"]),
            metrics={f"holdout_{metric}": value for metric, value in evaluated["metrics"].items()},
            params={
                "candidate": name, "seed": str(request.seed), "function": request.function,
                **{parameter: str(value) for parameter, value in best_params.items()},
            },
            tags=tags_of(details, request.partition),
            requirements=requirements_of(environment, REQUIREMENTS),
            datasets={pin.partition: pin.digest for pin in request.window.fitted},
            files={"environment.json": as_bytes(environment), "sbom.cdx.json": as_bytes(materials)},
            seal=lambda folder: sign_folder(folder, workspace.keys),
        )
    )  # fmt: skip
    registered, signature = adopt_version(workspace, number, details)
    kept = {"environment": workspace.evidence.put(environment), "sbom": workspace.evidence.put(materials)}
    details = replace(
        details,
        version=number,
        metrics=evaluated["metrics"],
        champion=evaluated["champion"],
        profile=request.profile,
        fit_seconds=evaluated["fit_seconds"],
        rows=evaluated["rows"],
        window=request.window,
        best_params=best_params,
        source=registered.source,
        signature=signature,
        sbom=kept["sbom"],
        environment=evaluated.get("environment") or short(environment),
        installed=kept["environment"],
    )
    evidence = (str(evaluated["report"]), request.profile, *kept.values())
    draft = workspace.draft(details, f"candidate:{operation}", request.partition, evidence=evidence)
    record = workspace.record_fact(draft)
    if workspace.state().candidate is not None:
        workspace.registry.set_alias("candidate", number)
    return {"version": number, "record": record.sequence, "partition": request.partition}


def environment_of(workspace: Workspace, evaluated: Mapping[str, Any]) -> Environment:
    """Return where the candidate was fitted: here, or what a fit elsewhere says of itself."""
    said = evaluated.get("environment")
    return parse_environment(said) if said and workspace.loop.train.runs_on.kind != "worker" else recorded_environment()


def tags_of(details: CandidateRegistered, partition: str) -> dict[str, str]:
    """Return the tags of a version, made of what its ledger record says; nobody changes them afterwards."""
    return {
        "partition": partition,
        "request": details.request,
        "decision": str(details.decision),
        "artefact": details.artefact,
        "evaluation": str(details.report),
    }


def adopt_version(
    workspace: Workspace, number: str, details: CandidateRegistered
) -> tuple[RegisteredVersion, Signature]:
    """Return what the registry now says of a version, and the signature of its files as they came back from there.

    They are kept below the scratch folder, so that the version can be loaded when the registry is down.

    Raises
    ------
    RegistryError
        If the files are not signed by this project, are not those of the candidate, or the number is taken.
    """
    name = f"version {number} of {workspace.loop.model}"
    known = workspace.state().versions.get(number)
    if known is not None and known.details.request != details.request:
        raise RegistryError(f"{name} is another model in the ledger ({known.partition}): the registry gave it twice")
    registered = next((each for each in workspace.registry.all_versions() if each.number == number), None)
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
    with replace_folder(copy) as part:
        part.rmdir()
        folder.rename(part)
    keep_for_others(workspace, copy)
    return registered, signature


def as_bytes(document: object) -> bytes:
    """Return a document as JSON that people can read, the same for the same content."""
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def short(environment: Environment) -> dict[str, str]:
    """Return the versions that predictions depend on: of Python and of what a model is made with."""
    pinned = dict(line.split("==", 1) for line in requirements_of(environment, REQUIREMENTS))
    return {"python": environment["python"], **pinned}
