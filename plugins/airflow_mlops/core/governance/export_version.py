"""Export a version as one signed file, so that another environment can adopt it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import LedgerError, RegistryError
from airflow_mlops.core.governance.reproduce_version import find_version, request_of
from airflow_mlops.core.ledger.record import canonical_json
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.registry.load import verified_folder
from airflow_mlops.core.registry.reader_notes import reader_notes
from airflow_mlops.core.registry.version_archive import EVIDENCE, RECORD, VERSION, write_archive
from airflow_mlops.core.workspace import Workspace

EXAMPLES = ("input_example.json", "serving_input_example.json")
"""Files of MLflow with a few rows of the holdout."""


class ExportError(RegistryError):
    """A version may not leave its environment."""


def export_version(
    workspace: Workspace, number: str, into: Path, *, environment: str, with_example: bool = False
) -> Path:
    """Write the archive of a version, and return its path.

    Parameters
    ----------
    into : Path
        The file, or a folder, in which the file is called ``MODEL-NUMBER.zip``.
    environment : str
        Name of this environment, for the ledger of the other.
    with_example : bool
        Whether the rows that MLflow shows as an example may go with it.

    Raises
    ------
    ReproductionError
        If the ledger knows no such version.
    ExportError
        If it is not signed, is in quarantine, was adopted itself, or holds example rows.
    RegistryError
        If its files do not verify.
    """
    version = find_version(workspace, number)
    require_exportable(workspace, version)
    folder = verified_folder(workspace, version)
    require_no_rows(folder, f"version {number} of {workspace.loop.model}", with_example=with_example)
    notes = reader_notes(folder)
    files: dict[str, bytes | Path] = {
        f"{VERSION}/{path.relative_to(folder).as_posix()}": path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in notes
    }
    documents = {f"{EVIDENCE}/{name}.json": document for name, document in evidence_of(workspace, version).items()}
    documents[RECORD] = record_of(workspace, version)
    contents = {**files, **{name: canonical_json(document).encode() for name, document in documents.items()}}
    file = into / f"{workspace.loop.model}-{number}.zip" if into.is_dir() else into
    write_archive(file, contents, workspace.keys, model=workspace.loop.model, version=number, environment=environment)
    return file


def require_exportable(workspace: Workspace, version: Version) -> None:
    """Raise ExportError unless a version is signed, was made here, and is not in quarantine."""
    name, details = f"version {version.number} of {workspace.loop.model}", version.details
    if details.signature is None:
        raise ExportError(f"{name} is not signed, so nobody could verify it elsewhere; train a new version")
    if details.adopted is not None:
        origin = details.adopted
        raise ExportError(
            f"{name} was adopted; export version {origin.version} in {origin.environment}, where it was made"
        )
    reason = workspace.state().quarantined.get(version.number)
    if reason is not None:
        raise ExportError(
            f"{name} is in quarantine: {reason}; export another one, or run airflow-mlops unquarantine "
            f"{workspace.loop.model} {version.number}"
        )


def require_no_rows(folder: Path, name: str, *, with_example: bool) -> None:
    """Raise ExportError if a folder holds example rows that may not leave; they are under the signature of the version.

    Raises
    ------
    ExportError
        Naming the file, and how to let it go.
    """
    examples = [file for file in EXAMPLES if (folder / file).is_file()]
    if examples and not with_example:
        raise ExportError(
            f"{name} holds a few rows of its holdout in {' and '.join(examples)}, for the tools of MLflow, and its "
            "signature covers them; look at them, and add --with-example if they may leave this environment"
        )


def evidence_of(workspace: Workspace, version: Version) -> dict[str, Any]:
    """Return the documents about a version by name: evaluation report, profile, and model card if one was written.

    Raises
    ------
    ExportError
        If one of them is gone.
    """
    card = workspace.state().cards.get(version.number)
    digests = {"report": version.details.report, "profile": version.details.profile}
    digests |= {} if card is None else {"card": next(iter(card.evidence), None)}
    try:
        return {name: workspace.evidence.get(digest) for name, digest in digests.items() if digest is not None}
    except LedgerError as error:
        raise ExportError(
            f"version {version.number} of {workspace.loop.model} cannot be exported: {error}; restore the evidence"
        ) from error


def record_of(workspace: Workspace, version: Version) -> dict[str, Any]:
    """Return the record of a version, what it needs of a declaration, and the proofs about it, as JSON values."""
    loop, state = workspace.loop, workspace.state()
    request = request_of(workspace, version)
    newest = version.details.window.fitted[-1].partition
    published, reproduced = state.published.get(newest), state.reproduced.get(version.number)
    hidden = set(version.details.hidden or ())
    columns = [] if published is None else sorted(set(published.columns) - hidden - loop.data.key_and_time)
    return {
        "partition": version.partition,
        "details": version.details.stored(),
        "declared": {
            "label": loop.data.label,
            "predicts": "class" if loop.classifies else "number",
            "metric": str(loop.metric),
            "quantiles": list(loop.train.quantiles),
            "columns": [name for name in columns if name != loop.data.label],
            "code": request.source,
        },
        "reproduced": None if reproduced is None else reproduced.details.to_json(),
    }
