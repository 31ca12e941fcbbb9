"""Offline meets online: what the gate expected of a version, beside what its rollout shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.rollout.analysis.judge_metric import MetricLook
from airflow_mlops.core.workspace import Workspace


def offline_and_online(workspace: Workspace, version: Version, looks: Sequence[MetricLook]) -> dict[str, Any] | None:
    """Return the difference to the champion that the gate saw on the holdout, and the one seen on labels since.

    Returns
    -------
    dict or None
        ``metric``; ``expected`` with its interval ``expected_low``, ``expected_high``; ``observed``; and ``agree``,
        whether the observed one lies within the interval. None where one of them is not known.
    """
    labels = {metric.display_name for metric in workspace.loop.rollout.effective_metrics if metric.metric == "label"}
    seen = next((look.numbers for look in looks if look.metric in labels and "difference" in look.numbers), None)
    expected = expected_difference(workspace, version)
    if seen is None or expected is None:
        return None
    observed, interval = seen["difference"], expected["interval"]
    agree = None if interval is None else bool(interval["low"] <= observed <= interval["high"])
    return {
        "metric": workspace.loop.metric, "expected": expected["difference"],
        "expected_low": None if interval is None else interval["low"],
        "expected_high": None if interval is None else interval["high"],
        "observed": observed, "agree": agree,
    }  # fmt: skip


def expected_difference(workspace: Workspace, version: Version) -> dict[str, Any] | None:
    """Return the gate's difference between a version and the champion of then, by the loop's metric."""
    report, candidate = version.details.report, version.details.candidate
    if report is None:
        return None
    try:
        judged = workspace.evidence.get(str(report))["candidates"]
    except LedgerError:
        return None  # the report was taken from the store; audit verify says so
    entry: dict[str, Any] = next((one for one in judged if one["candidate"] == candidate), {})
    champion = (entry.get("metric_reports", {}).get(workspace.loop.metric) or {}).get("champion")
    if not champion or champion.get("difference") is None:
        return None
    return {
        "difference": float(champion["difference"]), "interval": champion.get("interval"),
        "champion": champion.get("value"), "rows": entry["metric_reports"][workspace.loop.metric].get("rows"),
    }  # fmt: skip


def offline_in_words(both: dict[str, Any] | None) -> str | None:
    """Return what :func:`offline_and_online` found, in words.

    >>> offline_in_words({"metric": "mae", "expected": -0.5, "observed": -0.25, "agree": None})
    'mae against the champion: the gate expected -0.5, seen is -0.25'
    """
    if both is None:
        return None
    words = f"{both['metric']} against the champion: the gate expected {both['expected']:+.4g}"
    beside = {True: ", within its interval", False: ", outside its interval", None: ""}[both.get("agree")]
    return f"{words}, seen is {both['observed']:+.4g}{beside}"
