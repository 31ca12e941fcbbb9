"""Reproduce a version from its stored request, and compare the predictions.

The stored request pins the partitions by content, the function and its code, the seed and the candidate. It is
fitted where the declaration says, into a scratch file, in as many threads as then, and both models predict the
original holdout. The second model never becomes a version; the verdict is recorded.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from airflow_mlops.core.data.input_schema import InputSchema
from airflow_mlops.core.data.user_features import features_digest
from airflow_mlops.core.errors import DataError, ReproductionError, TrainingError
from airflow_mlops.core.governance.environment_change import environment_changes
from airflow_mlops.core.ledger.record import canonical_json
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import Reproduced
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.registry.own_code import load_own_model
from airflow_mlops.core.training.arithmetic import ARITHMETIC, recorded_threads
from airflow_mlops.core.training.assemble import TrainingRequest
from airflow_mlops.core.training.fit_candidate import fit_request_of, run_fit
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.window import read_rows
from airflow_mlops.core.workspace import Workspace


@dataclass(frozen=True)
class Reproduction:
    """The comparison of a version with its reproduction.

    ``verdict`` is ``identical`` (every prediction bit for bit), ``within tolerance`` or ``different``;
    ``largest_difference`` is in units of the prediction, over ``rows`` rows of the holdout; ``same_file`` says
    whether the model files are equal byte for byte; ``changed`` names what is installed in another version now.
    """

    version: str
    verdict: str
    reason: str
    rows: int
    largest_difference: float
    same_file: bool
    changed: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return {**asdict(self), "changed": list(self.changed)}


def reproduce_version(workspace: Workspace, number: str, *, tolerance: float = 0.0) -> Reproduction:
    """Fit the stored request of a version again, compare predictions on its holdout, and record the verdict.

    Parameters
    ----------
    tolerance : float
        Largest absolute difference of a prediction that still counts; 0 asks for the same bits.

    Raises
    ------
    ReproductionError
        If it cannot be tried: the code has changed, or the original rows are gone or were never here.
    """
    version = find_version(workspace, number)
    require_rows_of_here(workspace, version)
    request = request_of(workspace, version)
    require_same_code(workspace, request, number)
    schema = schema_at_fit(workspace, version, request)
    then = dict(version.details.environment or {})
    try:
        holdout = read_rows(workspace, request.window.holdout, schema=schema)
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "model.skops"
            fit = fit_request_of(workspace, request, str(version.details.candidate), path)
            fit = replace(fit, threads=recorded_threads(then))
            fitted = run_fit(workspace, fit, schema=schema)
            refitted = load_own_model(workspace, path, fitted.digest, request.own_code, f"version {number}")
    except (DataError, TrainingError) as error:
        raise ReproductionError(f"version {number} cannot be made again: {error}") from error
    kind = workspace.loop.classifies
    first = predict(load_version(workspace, version), holdout.features, classifies=kind)
    second = predict(refitted, holdout.features, classifies=kind)
    largest = float(np.abs(first - second).max(initial=0.0))
    identical = bool(np.array_equal(first, second))
    verdict = "identical" if identical else "within tolerance" if largest <= tolerance else "different"
    changed = environment_changes(then, comparable(then, fitted.environment))
    reproduction = Reproduction(
        number,
        verdict,
        describe_verdict(verdict, len(first), largest, tolerance, changed),
        len(first),
        largest,
        fitted.digest == version.details.artefact,
        changed,
    )
    record_reproduction(workspace, version, reproduction)
    return reproduction


def require_rows_of_here(workspace: Workspace, version: Version) -> None:
    """Raise ReproductionError if a version was fitted in another environment, whose rows are not here."""
    origin = version.details.adopted
    if origin is not None:
        raise ReproductionError(
            f"version {version.number} of {workspace.loop.model} was fitted in {origin.environment} as version "
            f"{origin.version}, and its rows are not here; run airflow-mlops reproduce {workspace.loop.model} "
            f"{origin.version} there"
        )


def comparable(then: dict[str, Any], now: dict[str, str]) -> dict[str, str]:
    """Return an environment without what the earlier one, of a time that did not note it, says nothing of."""
    return {name: now[name] for name in now if name in then or name not in ARITHMETIC}


def find_version(workspace: Workspace, number: str) -> Version:
    """Return a version by its number.

    Raises
    ------
    ReproductionError
        If the ledger knows no such version.
    """
    versions = workspace.state().versions
    if number not in versions:
        numbers = ", ".join(sorted(versions, key=int)) or "none"
        raise ReproductionError(f"{workspace.loop.model} has no version {number}; versions: {numbers}")
    return versions[number]


def request_of(workspace: Workspace, version: Version) -> TrainingRequest:
    """Return the request that a version was made from, with the window of its candidate."""
    request = TrainingRequest.from_dict(workspace.evidence.get(str(version.details.report))["request"])
    return request.of_candidate(version.details.candidate)


def schema_at_fit(workspace: Workspace, version: Version, request: TrainingRequest) -> InputSchema:
    """Return the input schema in which a version was fitted, whatever the contract hides or shows by now."""
    schema, hidden = request.schema(workspace), version.details.hidden
    return schema if hidden is None else InputSchema(frozenset(hidden), schema.levels)


def require_same_code(workspace: Workspace, request: TrainingRequest, number: str) -> None:
    """Raise ReproductionError unless the user's code has the digest that the request recorded.

    Raises
    ------
    ReproductionError
        If it has another one; names the function, both digests and the recorded commit.
    """
    now = features_digest(workspace, request.function)
    if now == request.source:
        return
    commit = request.code.get("commit") if request.code else None
    where = f"check out {commit}" if commit else "it was in no git repository then"
    raise ReproductionError(
        f"version {number} was made by {request.function} with the digest {request.source[:12]}…, and it has "
        f"{now[:12]}… now; {where}"
    )


def describe_verdict(verdict: str, rows: int, largest: float, tolerance: float, changed: tuple[str, ...]) -> str:
    """Return the verdict as a sentence."""
    words = {
        "identical": f"identical: all {rows:,} predictions of its holdout are the same, bit for bit",
        "within tolerance": f"within tolerance: {rows:,} predictions differ by at most {largest:g} of {tolerance:g}",
        "different": f"different: predictions differ by up to {largest:g} on {rows:,} rows (allowed {tolerance:g})",
    }
    return words[verdict] + (f"; not as it was: {'; '.join(changed)}" if changed else "")


def record_reproduction(workspace: Workspace, version: Version, reproduction: Reproduction) -> None:
    """Append the comparison to the ledger."""
    state = workspace.state()
    # Two reproductions at the same time may differ, and both are recorded.
    content = hashlib.sha256(canonical_json(reproduction.to_dict()).encode()).hexdigest()[:12]
    operation = f"reproduced:{version.number}:{state.sequence}:{content}"
    newest = state.published.newest() or version.partition
    workspace.record_fact(
        workspace.draft(Reproduced(**asdict(reproduction)), operation, max(newest, version.partition))
    )
