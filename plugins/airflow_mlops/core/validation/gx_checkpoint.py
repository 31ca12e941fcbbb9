"""Run a checkpoint of Great Expectations that somebody already has, and read its outcome as ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import DeclarationError, PartitionRefusedError, SourceUnreadableError
from airflow_mlops.core.validation.gx_validator import Fault, exception_in, library, refuse_on, result_of
from airflow_mlops.core.validation.suite import Expectation, ExpectationResult


def run_checkpoint(
    context_root_dir: str | Path, name: str, *, batch_parameters: Mapping[str, Any] | None = None
) -> list[ExpectationResult]:
    """Run a checkpoint of a file context, with its own actions, and return what each of its expectations said.

    Parameters
    ----------
    context_root_dir : path
        Folder that holds ``great_expectations.yml``.
    name : str
        Name of the checkpoint.
    batch_parameters : mapping, optional
        What its batch definitions ask for, such as ``{"dataframe": frame}`` or ``{"year": "2013"}``.

    Raises
    ------
    DeclarationError
        If there is no such folder or no such checkpoint.
    SourceUnreadableError
        If the checkpoint could not be run: its data cannot be read, or an action failed.
    PartitionRefusedError
        If the engine could not evaluate an expectation: that is not the same as failed data.
    """
    checkpoint = _checkpoint(Path(context_root_dir), name)
    try:
        ran = checkpoint.run(batch_parameters=dict(batch_parameters) if batch_parameters else None)
    except Exception as error:  # a data source, a driver or an action may raise anything
        raise SourceUnreadableError(f"checkpoint {name!r} could not be run: {type(error).__name__}: {error}") from error
    outcomes = [outcome for whole in ran.run_results.values() for outcome in whole.results]
    declared = [expectation_in(outcome.expectation_config) for outcome in outcomes]
    said = [exception_in(outcome.exception_info) for outcome in outcomes]
    refuse_on([Fault(one, words) for one, words in zip(declared, said, strict=True) if words])
    if not outcomes:
        raise PartitionRefusedError(f"checkpoint {name!r} holds no expectation; nothing was validated")
    return [result_of(one, outcome, rows=False) for one, outcome in zip(declared, outcomes, strict=True)]


def _checkpoint(folder: Path, name: str) -> Any:
    # Without this look the library would make a new, empty context in the folder.
    if not (folder / "great_expectations.yml").is_file():
        raise DeclarationError("holds no great_expectations.yml; name the folder of a file context", file=str(folder))
    gx = library()
    try:
        context = gx.get_context(mode="file", context_root_dir=str(folder))
        known = sorted(one.name for one in context.checkpoints.all())
    except Exception as error:  # yaml's, marshmallow's and the library's own
        raise DeclarationError(f"the context cannot be opened: {error}", file=str(folder)) from error
    if name not in known:
        raise DeclarationError(
            f"there is no checkpoint {name!r}; there are {', '.join(known) or 'none'}", file=str(folder)
        )
    # Only for this run: the declared setting of the user's context stays what it is.
    context.variables.config.progress_bars = {"globally": False, "metric_calculations": False}
    return context.checkpoints.get(name)


def expectation_in(config: Any) -> Expectation:
    """Return an expectation of the library's own configuration as one of ours; its name may be a custom one."""
    kwargs = {key: value for key, value in config.kwargs.items() if key != "batch_id"}
    severity: Any = getattr(config.severity, "value", config.severity) or "critical"
    return Expectation.model_construct(type=config.type, kwargs=kwargs, severity=severity)
