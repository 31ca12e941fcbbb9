"""Adopt a version that another environment exported: by digest and signature, never fitted again.

The files are registered as they were signed. What follows is the rollout of any candidate, with its approvals.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow_mlops.core.declaration.own_types import type_name
from airflow_mlops.core.errors import GateError, NotReadyError, PolicyError, RegistryError
from airflow_mlops.core.evaluation.judge_adopted import judge_adopted, labelled_window
from airflow_mlops.core.evaluation.register_candidate import (
    adopt_version,
    tags_of,
    tags_of_earlier_attempt,
    taken_numbers,
)
from airflow_mlops.core.governance.fit_of_declaration import require_predictions, require_same_declaration
from airflow_mlops.core.governance.model_card import write_model_card
from airflow_mlops.core.ledger.record import Draft
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.training_details import Adoption, CandidateRefused, CandidateRegistered, TrainingWindow
from airflow_mlops.core.ports.registry import MODEL_FILE, Registration
from airflow_mlops.core.registry.model_file import check_model_file
from airflow_mlops.core.registry.own_code import held_own_types, verified_own_types
from airflow_mlops.core.registry.sign_folder import SignatureError, read_signature
from airflow_mlops.core.registry.version_archive import (
    EVIDENCE,
    EXPORT_AGAIN,
    RECORD,
    VERSION,
    ArchiveError,
    Manifest,
    read_archive,
)
from airflow_mlops.core.rollout.promotion_policy import read_policy, reproduction_there
from airflow_mlops.core.training.assemble import TrainingRequest
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.core.workspace.append_decision import append_decision

NOT_JUDGED = "not judged here: fewer than two of the newest partitions have a label"


@dataclass(frozen=True)
class AdoptedVersion:
    """The number of a version here, where it comes from, and whether it was here before."""

    number: str
    origin: str
    reason: str
    existed: bool = False


@dataclass(frozen=True)
class ArchivedVersion:
    """A verified archive: its manifest, the record of the version, and the documents beside it, by name."""

    folder: Path
    manifest: Manifest
    record: Mapping[str, Any]
    details: CandidateRegistered
    evidence: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The version, in words."""
        return f"version {self.manifest.version} of {self.manifest.environment}"

    @property
    def model_file(self) -> Path:
        """The path of its model file."""
        return self.folder / VERSION / MODEL_FILE

    @property
    def request(self) -> TrainingRequest:
        """The request that it was made from."""
        request = TrainingRequest.from_dict(self.evidence["report"]["request"])
        return request.of_candidate(self.details.candidate)


def adopt_archive(workspace: Workspace, source: Path, *, unjudged: bool = False) -> AdoptedVersion:
    """Register the version in an archive as a candidate of this environment; idempotent.

    Parameters
    ----------
    source : Path
        The file, or a folder with one such file of the model.
    unjudged : bool
        Whether it may become a candidate although no rows of here have labels to judge it on.

    Raises
    ------
    RegistryError
        If the archive does not verify, is of another model, or its files differ from a version of the same request.
    DeclarationError, DataError, TrainingError
        If the declaration, the code or the rows of here are not those that it needs.
    GateError
        If it does not pass its gates here, or cannot be judged and ``unjudged`` is False.
    NotReadyError
        If no partition is published here, or another version or training is under way.
    PolicyError
        If the policy of here requires a reproduction that it does not bring.
    """
    file = archive_of(workspace.loop.model, source)
    with tempfile.TemporaryDirectory() as scratch:
        archived = open_archive(workspace, file, Path(scratch))
        existing = existing_version(workspace, archived)
        if existing is not None:
            return existing
        partition = require_ready(workspace, archived)
        own_types = verify_version_files(workspace, archived)
        require_same_declaration(
            workspace, archived.record["declared"], archived.details, archived.request, archived.name
        )
        columns = list(archived.record["declared"]["columns"])
        require_predictions(workspace, archived.details, archived.model_file, (partition, columns), name=archived.name)
        details = judge_here(workspace, archived, partition, unjudged=unjudged)
        number = register_adopted(workspace, archived, details, partition, own_types)
    write_model_card(workspace, number)
    assert details.adopted is not None
    return AdoptedVersion(number, archived.name, details.adopted.reason)


def archive_of(model: str, source: Path) -> Path:
    """Return the file to adopt from: ``source``, or the one archive of the model in that folder.

    Raises
    ------
    ArchiveError
        If the folder holds none, or several.
    """
    if not source.is_dir():
        return source
    files = sorted(source.glob(f"{model}-*.zip"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise ArchiveError(f"{source} must hold one file {model}-NUMBER.zip, and holds {names}; name the file")
    return files[0]


def open_archive(workspace: Workspace, file: Path, into: Path) -> ArchivedVersion:
    """Return a verified archive of this model, extracted below ``into``.

    Raises
    ------
    RegistryError
        See :func:`~airflow_mlops.core.registry.version_archive.read_archive`; or it is of another model.
    """
    manifest = read_archive(file, into, workspace.keys)
    if manifest.model != workspace.loop.model:
        raise ArchiveError(
            f"{file.name} holds a version of {manifest.model!r}, and this is {workspace.loop.model!r}; "
            f"airflow-mlops adopt {manifest.model} --from {file.name}"
        )
    needed = [RECORD, f"{EVIDENCE}/report.json", f"{EVIDENCE}/profile.json", f"{VERSION}/{MODEL_FILE}"]
    missing = [name for name in needed if name not in manifest.files]
    if missing:
        raise ArchiveError(f"{file.name} has no {missing[0]}; {EXPORT_AGAIN}")
    record = json.loads((into / RECORD).read_bytes())
    evidence = {path.stem: json.loads(path.read_bytes()) for path in sorted((into / EVIDENCE).glob("*.json"))}
    details = CandidateRegistered.read({name: value for name, value in record["details"].items() if name != "schema"})
    return ArchivedVersion(into, manifest, record, details, evidence)


def existing_version(workspace: Workspace, archived: ArchivedVersion) -> AdoptedVersion | None:
    """Return the version of the same request that is here already, None without one.

    Raises
    ------
    RegistryError
        If that has another model file.
    """
    number = workspace.state().requests.get(archived.details.request)
    if number is None:
        return None
    details = workspace.state().versions[number].details
    if details.artefact != archived.details.artefact:
        raise RegistryError(
            f"{archived.name} and version {number} here were made from the same request, and are different model files "
            f"({archived.details.artefact[:12]}… and {details.artefact[:12]}…); find out why the fit is not repeatable"
        )
    return AdoptedVersion(number, archived.name, "it is here already", existed=True)


def require_ready(workspace: Workspace, archived: ArchivedVersion) -> str:
    """Return the newest published partition, as of which a version is adopted.

    Raises
    ------
    NotReadyError
        If there is none, or another version or training is under way.
    PolicyError
        If the policy requires a reproduction that the version does not bring.
    """
    state = workspace.state()
    require_nothing_in_flight(state, archived.name)
    policy = read_policy(workspace.root)
    if "reproduced" in policy.of(workspace.loop.tier):
        reason = reproduction_there(workspace, origin_of(archived, judged=False, reason=""))
        if reason is not None:
            raise PolicyError(f"{archived.name} is not adopted (tier {workspace.loop.tier}): reproduced: {reason}")
    newest = state.published.newest()
    if newest is None:
        raise NotReadyError(
            f"{archived.name} cannot be tried: no partition of {workspace.loop.model} is published; ingest one first"
        )
    return newest


def require_nothing_in_flight(state: LoopState, name: str) -> None:
    """Raise NotReadyError while another version or training is under way."""
    if state.in_flight is not None:
        raise NotReadyError(f"{name} is not adopted now: {state.in_flight}; adopt it once that has ended")


def verify_version_files(workspace: Workspace, archived: ArchivedVersion) -> tuple[str, ...]:
    """Return the names of the own types that a version holds, after verifying its signature and its model file.

    Raises
    ------
    SignatureError
        If the folder is not the one that was signed when the version was registered there.
    RegistryError
        If the model file is another one, or holds types that are not trusted here.
    OwnCodeError
        If it was fitted with other code of the user's than the project has.
    """
    details = archived.details
    try:
        signature = read_signature(archived.folder / VERSION, workspace.keys)
    except SignatureError as error:
        raise type(error)(f"{archived.name} is refused: {error}") from error
    if details.signature is None or signature.digest != details.signature.digest:
        raise SignatureError(f"{archived.name} is refused: its signature is not the one of its record; {EXPORT_AGAIN}")
    references = workspace.loop.train.own_types
    trusted = verified_own_types(references, details.own_code, workspace.root, archived.name)
    check_model_file(archived.model_file, details.artefact, trusted)
    return tuple(map(type_name, held_own_types(references, archived.model_file)))


def origin_of(archived: ArchivedVersion, *, judged: bool, reason: str) -> Adoption:
    """Return where a version comes from, for the ledger."""
    manifest, details = archived.manifest, archived.details
    return Adoption(
        environment=manifest.environment,
        version=manifest.version,
        archive=manifest.digest,
        key=manifest.key,
        judged=judged,
        reason=reason,
        report=details.report,
        window=details.window,
        reproduced=archived.record["reproduced"],
    )


def judge_here(
    workspace: Workspace, archived: ArchivedVersion, partition: str, *, unjudged: bool
) -> CandidateRegistered:
    """Return the details of a version after judging it on rows of here, if any have labels.

    Raises
    ------
    GateError
        If it does not pass, which is recorded, or cannot be judged and ``unjudged`` is False.
    """
    details = replace(archived.details, decision=0, window=TrainingWindow(), left_out=None)
    window = labelled_window(workspace, partition)
    if window is None:
        if not unjudged:
            raise GateError(
                f"{archived.name} is {NOT_JUDGED}; wait for labels, or add --unjudged to rely on the evaluation there"
            )
        champion = workspace.state().champion
        return replace(
            details,
            champion=None if champion is None else champion.number,
            adopted=origin_of(archived, judged=False, reason=NOT_JUDGED),
        )
    entry = judge_adopted(workspace, archived.request, details, archived.model_file, window, as_of=partition)
    holdout = window.holdout[0].partition
    if not entry["passed"]:
        failed = "; ".join(gate["reason"] for gate in entry["gates"] if gate["verdict"] == "fail")
        reason = f"{archived.name} does not pass on {holdout} here: {failed or 'no gate had enough data to pass'}"
        refused = CandidateRefused(decision=0, reason=reason, report=str(entry["report"]))
        operation = f"adoption_refused:{archived.manifest.digest}:{entry['report']}"
        workspace.record_fact(workspace.draft(refused, operation, partition, evidence=(str(entry["report"]),)))
        raise GateError(reason)
    return replace(
        details,
        champion=entry["champion"],
        metrics=entry["metrics"],
        report=str(entry["report"]),
        window=TrainingWindow((), window.holdout),
        adopted=origin_of(archived, judged=True, reason=f"it passed its gates on {holdout} here"),
    )


def register_adopted(
    workspace: Workspace,
    archived: ArchivedVersion,
    details: CandidateRegistered,
    partition: str,
    own_types: tuple[str, ...],
) -> str:
    """Register the files of a version as they were signed, record it as the candidate, and return its number here."""
    operation = f"{details.request}-{details.candidate}"
    folder = archived.folder / VERSION
    origin = {"adopted_from": archived.manifest.environment, "adopted_version": archived.manifest.version}
    number = workspace.registry.register(
        Registration(
            operation=operation,
            model_file=archived.model_file,
            digest=details.artefact,
            metrics={f"holdout_{metric}": value for metric, value in details.metrics.items()},
            params={name: str(value) for name, value in details.best_params.items()},
            tags={**tags_of(details, partition), **origin},
            requirements=(),
            seal=lambda copied: read_signature(copied, workspace.keys),
            own_types=own_types,
            folder=folder,
            taken=taken_numbers(workspace, details.request),
        )
    )
    registered, signature = adopt_version(workspace, number, details)
    evidence = {name: workspace.evidence.put(document) for name, document in archived.evidence.items()}
    documents = {
        name: workspace.evidence.put(json.loads((folder / file).read_bytes()))
        for name, file in (("installed", "environment.json"), ("sbom", "sbom.cdx.json"))
        if (folder / file).is_file()
    }
    kept = replace(details, version=number, source=registered.source, signature=signature)
    kept = replace(kept, earlier_tags=tags_of_earlier_attempt(registered, tags_of(details, partition)))
    kept = replace(kept, installed=documents.get("installed"), sbom=documents.get("sbom"))
    digests = tuple(sorted({*evidence.values(), *documents.values(), str(kept.report)}))

    def draft(state: LoopState) -> Draft[CandidateRegistered]:
        if number not in state.versions:
            require_nothing_in_flight(state, archived.name)
        return workspace.draft(kept, f"candidate:{operation}", partition, evidence=digests)

    append_decision(workspace, draft, name=f"the adoption of {archived.name}")
    if workspace.state().candidate is not None:
        workspace.registry.set_alias("candidate", number)
    return number
