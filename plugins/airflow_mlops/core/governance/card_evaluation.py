"""The part of a model card that comes from the evaluation report: how good, for whom, how sturdy, at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_mlops.core.report.page_parts import Section, Table

FEATURES = 15
"""Features that the card shows, those that a model leans on most."""


def evaluation_sections(report: Mapping[str, Any], judged: Mapping[str, Any]) -> list[Section]:
    """Return the sections about one candidate of an :class:`EvaluationReport`."""
    return [
        _metrics(report, judged), _gates(report, judged), _slices(judged), _fairness(judged), _robustness(judged),
        _features(judged), _cost(judged),
    ]  # fmt: skip


def gaps_in_evaluation(judged: Mapping[str, Any]) -> list[str]:
    """Return what a complete card would say of the evaluation besides."""
    gaps = [f"{name}: {one['reason']}" for name, one in judged["metric_reports"].items() if one["value"] is None]
    if not judged["slices"]:
        gaps.append("slices: declare `evaluate.slices`")
    return gaps


def number(value: float | None, digits: int = 4) -> str:
    """Return a number as people read it; a dash where it is not known.

    >>> number(8.02041), number(None), number(0.000012)
    ('8.02', '-', '1.2e-05')
    """
    return "-" if value is None else f"{value:.{digits}g}"


def _between(found: Mapping[str, Any] | None) -> str:
    known = found is not None and found.get("low") is not None
    return f"{number(found['low'])} to {number(found['high'])}" if found is not None and known else "-"


def _metrics(report: Mapping[str, Any], judged: Mapping[str, Any]) -> Section:
    rows = []
    for name, one in judged["metric_reports"].items():
        theirs, baselines = one["champion"], one["baselines"]
        rows.append((
            f"{name} ({one['better']} is better)", f"{number(one['value'])} {one['unit']}".strip(), _between(one),
            str(one["method"] or "-"), number(theirs["value"]) if theirs else "-",
            _between(theirs.get("interval")) if theirs else "-",
            *(number((baselines.get(name) or {}).get("value")) for name in ("dummy", "linear")),
        ))  # fmt: skip
    head = ("metric", "value", "interval of 95 %", "by", "champion then", "difference, 95 %", "dummy", "linear")
    texts = [
        f"On {report['rows']:,} rows of the holdout that have a label. Baselines were fitted on "
        f"{report['baselines'].get('fitted_on', 'unknown rows')}.",
        "There was no champion to compare with." if report["first_run"] else f"Champion then: {report['champion']}.",
        f"Looks at this holdout: {report['looks']['words']}.",
    ]
    tables = [Table(head, tuple(rows))]
    for words, key in (("At a probability of 0.5", "confusion"), ("Prediction less label", "residuals")):
        if judged.get(key):
            texts.append(f"{words}: {', '.join(f'{name} {number(value)}' for name, value in judged[key].items())}.")
    return Section("How good it is", tuple(texts), tuple(tables))


def _gates(report: Mapping[str, Any], judged: Mapping[str, Any]) -> Section:
    first = ("This was the first run: gates against a champion had none.",) if report["first_run"] else ()
    rows = tuple((gate["gate"], gate["verdict"], gate["reason"]) for gate in judged["gates"])
    return Section("Gates", first, (Table(("gate", "verdict", "reason"), rows),))


def _slices(judged: Mapping[str, Any]) -> Section:
    texts, tables = [], []
    for column, found in judged["slices"].items():
        names = sorted({name for one in found["slices"] for name in one["metrics"]})
        rows = [
            (one["value"], f"{one['rows']:,}", *(number(one["metrics"].get(name)) for name in names))
            if one["verdict"] == "measured"
            else (one["value"], f"{one['rows']:,}", *("too little data" for _ in names))
            for one in found["slices"]
        ]
        tables.append(Table((column, "rows", *names), tuple(rows)))
        if found["left_out"]:
            texts.append(f"{found['left_out']} smaller slices of {column} are not shown.")
    return Section("By slice", tuple(texts) or (() if tables else ("No slice is declared.",)), tuple(tables))


def _fairness(judged: Mapping[str, Any]) -> Section:
    rows = [
        (
            column, measure, number(one["value"]), _between(one), f"{one['rows']:,}",
            ", ".join(f"{group} ({count})" for group, count in one["too_small"].items()) or "-",
            str(one["reason"] or "-"),
        )
        for column, measures in judged["fairness"].items()
        for measure, one in measures.items()
    ]  # fmt: skip
    if not rows:
        return Section("Fairness", ("No groups are declared: whether it treats any alike is not known.",))
    head = ("groups", "measure", "value", "interval of 95 %", "rows", "too little data about", "reason")
    return Section("Fairness", (), (Table(head, tuple(rows)),))


def _robustness(judged: Mapping[str, Any]) -> Section:
    rows = [
        (name, one["verdict"], "-" if one["worse_by"] is None else f"{one['worse_by']:+.1%}", one["reason"])
        for name, one in judged["robustness"].items()
    ]
    if not rows:
        return Section("On disturbed rows", ("It was not tried on disturbed rows.",))
    return Section("On disturbed rows", (), (Table(("disturbance", "verdict", "worse by", "reason"), tuple(rows)),))


def _features(judged: Mapping[str, Any]) -> Section:
    found = judged["importance"]
    leans = found["permutation"]
    if not leans:
        return Section("What it leans on", ("It cannot predict shuffled rows, so this is not known.",))
    theirs, shap = found["champion"] or {}, (judged.get("shap") or {}).get("values") or {}
    most = sorted(leans, key=lambda name: -leans[name])[:FEATURES]
    rows = tuple((name, number(leans[name]), number(theirs.get(name)), number(shap.get(name))) for name in most)
    stability = found["stability"]
    texts = [
        f"{found['unit']} where the feature is shuffled, over {found['rows']:,} rows and {found['shuffles']} shuffles; "
        f"the {len(most)} of {len(leans)} features with the largest."
    ]
    if stability:
        texts.append(f"Ranking beside the champion's: {stability['reason']}.")
    head = ("feature", "candidate", "champion then", "mean absolute SHAP value")
    return Section("What it leans on", tuple(texts), (Table(head, rows),))


def _cost(judged: Mapping[str, Any]) -> Section:
    cost = judged["cost"]
    units = {
        "batch_latency": "CPU s a row, in a batch", "row_latency": "CPU s of one row alone",
        "model_bytes": "bytes of the file", "model_memory": "bytes in memory",
    }  # fmt: skip
    theirs = cost.get("champion") or {}
    rows = tuple((words, number(cost["candidate"][name]), number(theirs.get(name))) for name, words in units.items())
    return Section("What it costs", (str(cost["how"]),), (Table(("what", "candidate", "champion then"), rows),))
