"""Register a candidate whose gates passed: once, whatever is retried."""

from __future__ import annotations

from importlib.metadata import version as installed
from typing import Any

from airflow_mlops.core.registry.port import Registration
from airflow_mlops.core.training.assemble import TrainingRequest
from airflow_mlops.core.training.fit_candidate import candidate_file
from airflow_mlops.core.workspace import Workspace

REQUIREMENTS = ("scikit-learn", "skops", "pandas", "numpy")


def register_candidate(workspace: Workspace, request: TrainingRequest, evaluated: dict[str, Any]) -> dict[str, Any]:
    """Make the candidate a version of the model, and return its number and record.

    The request and the digest of the evaluation are kept with it. The alias ``candidate`` follows the record.
    """
    name = str(evaluated["candidate"])
    operation = f"{request.operation}-{name}"
    number = workspace.registry.register(
        Registration(
            operation=operation,
            model_file=workspace.shared(candidate_file(workspace, request.operation, name)),
            digest=str(evaluated["digest"]),
            metrics={f"holdout_{metric}": value for metric, value in evaluated["metrics"].items()},
            params={"candidate": name, "seed": str(request.seed), "function": request.function},
            tags={
                "partition": request.partition, "request": request.operation, "decision": str(request.decision),
                "artefact": str(evaluated["digest"]), "evaluation": str(evaluated["report"]),
            },
            requirements=tuple(f"{package}=={installed(package)}" for package in REQUIREMENTS),
            datasets={pin.partition: pin.digest for pin in request.window.fitted},
        )
    )  # fmt: skip
    record = workspace.record_fact(
        workspace.draft(
            "candidate_registered", f"candidate:{operation}", request.partition,
            evidence=(str(evaluated["report"]), request.profile), version=number, decision=request.decision,
            request=request.operation, candidate=name, artefact=evaluated["digest"], metrics=evaluated["metrics"],
            champion=evaluated["champion"], profile=request.profile, report=evaluated["report"],
            fit_seconds=evaluated["fit_seconds"], rows=evaluated["rows"], window=request.window.to_dict(),
        )
    )  # fmt: skip
    if workspace.state().candidate is not None:
        workspace.registry.set_alias("candidate", number)
    return {"version": number, "record": record.sequence, "partition": request.partition}
