"""Offline against online: the difference that the gate expected of a version, and the one that its rollout observes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.rollout.analysis.judge_metric import MetricLook
from airflow_mlops.core.training.row_losses import more_is_better
from airflow_mlops.core.workspace import Workspace


def offline_and_online(workspace: Workspace, version: Version, looks: Sequence[MetricLook]) -> dict[str, Any] | None:
    """Return the difference to the champion that the gate measured on the holdout, and the one on labels since.

    Returns
    -------
    dict or None
        ``metric``; ``expected`` with its interval ``expected_low``, ``expected_high``; ``observed``; and ``agree``,
        whether the observed one lies within the interval. None where one of them is not known.
    """
    labels = {metric.display_name for metric in workspace.loop.rollout.effective_metrics if metric.metric == "label"}
    numbers = next((look.numbers for look in looks if look.metric in labels and "difference" in look.numbers), None)
    expected = expected_difference(workspace, version)
    if numbers is None or expected is None:
        return None
    sign = -1 if more_is_better(workspace.loop.metric) else 1  # losses were observed
    observed, interval = sign * numbers["difference"], expected["interval"]
    agree = None if interval is None else bool(interval["low"] <= observed <= interval["high"])
    return {
        "metric": workspace.loop.metric,
        "expected": expected["difference"],
        "expected_low": None if interval is None else interval["low"],
        "expected_high": None if interval is None else interval["high"],
        "observed": observed,
        "agree": agree,
    }


def expected_difference(workspace: Workspace, version: Version) -> dict[str, Any] | None:
    """Return the difference between a version and the champion at its evaluation, by the loop's metric."""
    report, candidate = version.judged_in
    adopted = version.details.adopted if version.recall is None else None
    if report is None or (adopted is not None and not adopted.judged):  # that champion is another environment's
        return None
    try:
        candidates = workspace.evidence.get(str(report))["candidates"]
    except LedgerError:
        return None  # the report was taken from the store; audit verify says so
    entry: dict[str, Any] = next((entry for entry in candidates if entry["candidate"] == candidate), {})
    champion = (entry.get("metric_reports", {}).get(workspace.loop.metric) or {}).get("champion")
    if not champion or champion.get("difference") is None:
        return None
    return {
        "difference": float(champion["difference"]),
        "interval": champion.get("interval"),
        "champion": champion.get("value"),
        "rows": entry["metric_reports"][workspace.loop.metric].get("rows"),
    }


def offline_in_words(comparison: dict[str, Any] | None) -> str | None:
    """Return the comparison of :func:`offline_and_online` in words; None if there is none.

    >>> offline_in_words({"metric": "mae", "expected": -0.5, "observed": -0.25, "agree": None})
    'mae against the champion: the gate expected -0.5, seen is -0.25'
    """
    if comparison is None:
        return None
    words = f"{comparison['metric']} against the champion: the gate expected {comparison['expected']:+.4g}"
    agreement = {True: ", within its interval", False: ", outside its interval", None: ""}[comparison.get("agree")]
    return f"{words}, seen is {comparison['observed']:+.4g}{agreement}"
