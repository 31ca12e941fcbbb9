"""Run an existing checkpoint of Great Expectations, and convert its outcome."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import DeclarationError, PartitionRefusedError, SourceUnreadableError
from airflow_mlops.core.validation.gx_validator import (
    Fault,
    find_exception,
    load_great_expectations,
    refuse_faults,
    to_result,
)
from airflow_mlops.core.validation.suite import Expectation, ExpectationResult


def run_checkpoint(
    context_root_dir: str | Path, name: str, *, batch_parameters: Mapping[str, Any] | None = None
) -> list[ExpectationResult]:
    """Run a checkpoint of a file context with its own actions, and return the result of each expectation.

    Parameters
    ----------
    context_root_dir : path
        Folder that holds ``great_expectations.yml``.
    name : str
        Name of the checkpoint.
    batch_parameters : mapping, optional
        Parameters of its batch definitions, such as ``{"dataframe": frame}`` or ``{"year": "2013"}``.

    Raises
    ------
    DeclarationError
        If there is no such folder or no such checkpoint.
    SourceUnreadableError
        If the checkpoint cannot be run: its data cannot be read, or an action failed.
    PartitionRefusedError
        If the engine cannot evaluate an expectation, or the checkpoint holds none.
    """
    checkpoint = _open_checkpoint(Path(context_root_dir), name)
    try:
        run = checkpoint.run(batch_parameters=dict(batch_parameters) if batch_parameters else None)
    except Exception as error:  # a data source, a driver or an action may raise anything
        raise SourceUnreadableError(f"checkpoint {name!r} could not be run: {type(error).__name__}: {error}") from error
    outcomes = [outcome for suite_result in run.run_results.values() for outcome in suite_result.results]
    expectations = [parse_expectation(outcome.expectation_config) for outcome in outcomes]
    messages = [find_exception(outcome.exception_info) for outcome in outcomes]
    refuse_faults([Fault(*pair) for pair in zip(expectations, messages, strict=True) if pair[1]])
    if not outcomes:
        raise PartitionRefusedError(f"checkpoint {name!r} holds no expectation; nothing was validated")
    return [to_result(*pair, rows=False) for pair in zip(expectations, outcomes, strict=True)]


def _open_checkpoint(folder: Path, name: str) -> Any:
    # The library would create a new, empty context in a folder without one.
    if not (folder / "great_expectations.yml").is_file():
        raise DeclarationError("holds no great_expectations.yml; name the folder of a file context", file=str(folder))
    gx = load_great_expectations()
    try:
        context = gx.get_context(mode="file", context_root_dir=str(folder))
        names = sorted(checkpoint.name for checkpoint in context.checkpoints.all())
    except Exception as error:  # errors of yaml, marshmallow and the library
        raise DeclarationError(f"the context cannot be opened: {error}", file=str(folder)) from error
    if name not in names:
        raise DeclarationError(
            f"there is no checkpoint {name!r}; there are {', '.join(names) or 'none'}", file=str(folder)
        )
    # Only for this run: the file of the user's context keeps its setting.
    context.variables.config.progress_bars = {"globally": False, "metric_calculations": False}
    return context.checkpoints.get(name)


def parse_expectation(config: Any) -> Expectation:
    """Return an :class:`Expectation` of the library's configuration, whose type may be a custom one."""
    kwargs = {key: value for key, value in config.kwargs.items() if key != "batch_id"}
    severity: Any = getattr(config.severity, "value", config.severity) or "critical"
    return Expectation.model_construct(type=config.type, kwargs=kwargs, severity=severity)
