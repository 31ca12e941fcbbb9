"""Run the declared checks of a scored partition, each by itself, and record their results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from threadpoolctl import threadpool_limits

from airflow_mlops.core.errors import MlopsError, NotReadyError
from airflow_mlops.core.ledger.watch_details import ALARM, NO_ALARM, WindowJudged
from airflow_mlops.core.ports.spans import note_version
from airflow_mlops.core.watch.checks.check_result import CheckResult, cannot_tell, finite
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.concept import check_concept
from airflow_mlops.core.watch.checks.estimated_performance import check_estimated_performance
from airflow_mlops.core.watch.checks.importance import check_importance
from airflow_mlops.core.watch.checks.label_rate import check_label_rate
from airflow_mlops.core.watch.checks.multivariate import check_multivariate
from airflow_mlops.core.watch.checks.predictions import check_predictions
from airflow_mlops.core.watch.checks.reconstruction import check_reconstruction
from airflow_mlops.core.watch.checks.service import check_service
from airflow_mlops.core.watch.checks.watched_window import WatchedWindow
from airflow_mlops.core.workspace import Workspace

CHECKS: Mapping[str, Callable[[WatchedWindow, CheckTerms], CheckResult]] = {
    "predictions": check_predictions,
    "label_rate": check_label_rate,
    "estimated_performance": check_estimated_performance,
    "multivariate": check_multivariate,
    "reconstruction": check_reconstruction,
    "importance": check_importance,
    "concept": check_concept,
    "service": check_service,
}
"""Every check by its name in ``watch.checks``."""
LABEL_BASIS: Mapping[str, Callable[[WatchedWindow], str]] = {
    "label_rate": lambda window: (
        f"{window.basis([window.partition])} {'closed' if window.labels_are_final else 'open'}"
    ),
    "importance": lambda window: window.basis([window.partition]),
    "concept": lambda window: window.basis(window.scored_by_champion),
}
"""Checks that use labels, and the digest of these labels: they are made again when it has changed."""
REJUDGED = ("label_rate", "importance")
"""Checks of a window that later deliveries may change; ``concept`` finds them in the next window's stream."""

log = logging.getLogger(__name__)


def run_checks(workspace: Workspace, partition: str, *, as_of: str | None = None) -> dict[str, WindowJudged]:
    """Run each declared check on a scored partition, record the results and return them by check.

    A check that cannot be made returns ``insufficient data`` with the reason, and the others go on. One that was made
    before for the same content, and the same labels if it needs any, is not made again unless it had failed. A
    partition older than the newest one decided on is ``historical``: recorded, never alarming.

    Parameters
    ----------
    as_of : str, optional
        Up to which delivery labels count, where they come from a source of their own; the partition by default.

    Raises
    ------
    NotReadyError
        If nothing was scored, or no check is declared.
    MlopsError
        If a check met a transient error, such as a store that does not answer; the other checks are recorded before.
    """
    declared = [name for name in workspace.loop.watch.checks if name in CHECKS]
    if not declared:
        raise NotReadyError("no check is declared to be watched")
    window = WatchedWindow(workspace, partition, as_of)
    window.require_scored()
    note_version(window.champion.number)
    return _run_named(window, declared)


def rejudge_checks(workspace: Workspace, as_of: str) -> list[tuple[str, WindowJudged]]:
    """Run the checks of earlier partitions again whose labels have changed by ``as_of``.

    Returns
    -------
    list of (str, WindowJudged)
        Each partition and its new record, the oldest first.
    """
    declared = [name for name in workspace.loop.watch.checks if name in REJUDGED]
    if workspace.loop.data.labels is None or not declared:
        return []
    state = workspace.state(as_of=as_of)
    verdicts: list[tuple[str, WindowJudged]] = []
    for partition in state.checked.keys(before=as_of):
        window, recorded = WatchedWindow(workspace, partition, as_of), state.checks_of(partition)
        changed = [name for name in declared if name in recorded and recorded[name].labels != LABEL_BASIS[name](window)]
        verdicts += [(partition, check) for check in _run_named(window, changed).values()]
    return verdicts


def _run_named(window: WatchedWindow, names: Sequence[str]) -> dict[str, WindowJudged]:
    """Run checks and return their records by name; see :func:`run_checks` for the errors."""
    recorded, terms = window.state.checks_of(window.partition), CheckTerms.of(window.workspace.loop)
    verdicts: dict[str, WindowJudged] = {}
    retryable: MlopsError | None = None
    with threadpool_limits(1):
        for name in names:
            try:
                verdicts[name] = judge_once(window, name, terms, recorded.get(name))
            except MlopsError as error:
                if not error.retryable:
                    raise
                retryable = error
    if retryable is not None:
        raise retryable
    return verdicts


def judge_once(window: WatchedWindow, name: str, terms: CheckTerms, recorded: WindowJudged | None) -> WindowJudged:
    """Return the record of a check; the check is run unless its recorded result still holds."""
    basis, result = make_check(window, name, terms, recorded)
    if result is None:
        assert recorded is not None
        return recorded
    scored = window.scored
    judgement = recorded.judgement + 1 if recorded is not None and recorded.snapshot == scored.snapshot else 1
    operation = f"check:{name}:{window.partition}:{scored.publication}" + ("" if judgement == 1 else f":{judgement}")
    evidence = () if result.report is None else (window.workspace.evidence.put(finite(result.report)),)
    quiet = window.historical and result.verdict == ALARM
    details = WindowJudged(
        check=name,
        verdict=NO_ALARM if quiet else result.verdict,
        message=f"historical, so no alarm: {result.message}" if quiet else result.message,
        snapshot=scored.snapshot,
        champion=window.champion.number,
        historical=window.historical,
        rows=result.numbers.get("rows"),
        alarm_rate=terms.alarm_rate,
        labels=basis,
        judgement=judgement,
        failed=bool(result.numbers.get("failed")),
        numbers=finite(result.numbers),
        report=evidence[0] if evidence else None,
    )
    draft = window.workspace.draft(details, operation, window.partition, evidence=evidence)
    return window.workspace.record_fact(draft).details


def make_check(
    window: WatchedWindow, name: str, terms: CheckTerms, recorded: WindowJudged | None
) -> tuple[str, CheckResult | None]:
    """Return the digest of a check's labels, and its result; None if it is recorded already or failed as before."""
    basis = ""
    try:
        basis = LABEL_BASIS[name](window) if name in LABEL_BASIS else ""
        is_current = recorded is not None and (recorded.snapshot, recorded.labels) == (window.scored.snapshot, basis)
        if is_current and recorded is not None and not recorded.failed and window.workspace.keeps(recorded):
            return basis, None
        return basis, CHECKS[name](window, terms)
    except NotReadyError as error:
        result = cannot_tell(str(error))
    except Exception as error:  # libraries, models and functions of a user may raise anything
        if isinstance(error, MlopsError) and error.retryable:
            raise
        log.warning("the check %s of %s could not be made", name, window.partition, exc_info=True)
        result = cannot_tell(f"the check could not be made: {type(error).__name__}: {str(error)[:500]}", failed=True)
    as_before = recorded is not None and (recorded.snapshot, recorded.message) == (
        window.scored.snapshot,
        result.message,
    )
    return basis, None if as_before else result
