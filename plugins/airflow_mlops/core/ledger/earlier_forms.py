"""Convert records of earlier releases to the current schema as they are read; the stored records stay as they are.

Form 0 stated no version. Its four kinds of judgement are one kind now, and a sentence was called ``said``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_mlops.core.ledger.details import SCHEMA
from airflow_mlops.core.ledger.watch_details import (
    DRIFT,
    INSUFFICIENT_DATA,
    MEASURED,
    PERFORMANCE,
    REGRET,
    WindowJudged,
)

Values = dict[str, Any]

DRIFT_FIELDS = {
    "verdict",
    "message",
    "rows",
    "snapshot",
    "champion",
    "historical",
    "report",
    "alarm_rate",
    "needed",
    "drifted",
    "missing",
    "restless",
    "engine",
    "method",
    "threshold",
}


def present_form(kind: str, stored: Mapping[str, Any]) -> tuple[str, Values]:
    """Return the kind and the values of a record as the present release writes them."""
    values = {name: value for name, value in stored.items() if name != SCHEMA and value is not None}
    if SCHEMA in stored or kind not in FROM_FORM_0:
        return kind, values
    return FROM_FORM_0[kind](kind, values)


def _renamed(values: Values, names: Mapping[str, str]) -> Values:
    return {names.get(name, name): value for name, value in values.items()}


def _drift(_kind: str, values: Values) -> tuple[str, Values]:
    values = _renamed(values, {"said": "message"})
    columns = {name: value for name, value in values.items() if name not in DRIFT_FIELDS and isinstance(value, list)}
    kept = {name: value for name, value in values.items() if name in DRIFT_FIELDS}
    return WindowJudged.KIND, {**kept, "check": DRIFT, "remarks": columns}


def _performance(_kind: str, values: Values) -> tuple[str, Values]:
    values = _renamed(values, {"said": "message"})
    looks = int(values.pop("look", 0))
    return WindowJudged.KIND, {**values, "check": PERFORMANCE, "judgement": looks + 1}


def _regret(_kind: str, values: Values) -> tuple[str, Values]:
    values = _renamed(values, {"reason": "message"})
    verdict = INSUFFICIENT_DATA if values.get("regret") is None else MEASURED
    return WindowJudged.KIND, {**values, "check": REGRET, "verdict": verdict}


def _check(_kind: str, values: Values) -> tuple[str, Values]:
    values = _renamed(values, {"said": "message", "basis": "labels"})
    alarms = values.pop("alarms", None)
    if alarms is not None:
        values["added"] = [_renamed(alarm, {"said": "message"}) for alarm in alarms]
    return WindowJudged.KIND, values


def _labels(kind: str, values: Values) -> tuple[str, Values]:
    return kind, _renamed(values, {"said": "message"})


FROM_FORM_0: dict[str, Callable[[str, Values], tuple[str, Values]]] = {
    "drift_judged": _drift,
    "performance_judged": _performance,
    "regret_measured": _regret,
    "check_judged": _check,
    "labels_arrived": _labels,
}
"""How a record of form 0 is rewritten, by its kind; the others kept their form."""
EARLIER_KINDS = {WindowJudged.KIND: ("drift_judged", "performance_judged", "regret_measured", "check_judged")}
"""The kinds under which earlier releases stored what one kind holds now."""
