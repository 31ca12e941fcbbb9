"""The sections of a model card that come from the evaluation report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_mlops.core.charts.bar_chart import Bar, bar_chart
from airflow_mlops.core.charts.gate_chart import gate_chart
from airflow_mlops.core.report.page_parts import Section, Table

FEATURES = 15
"""Number of features that the card shows, by falling importance."""


def evaluation_sections(report: Mapping[str, Any], candidate: Mapping[str, Any]) -> list[Section]:
    """Return the sections about one candidate of an :class:`EvaluationReport`."""
    return [
        _metrics(report, candidate),
        _gates(report, candidate),
        _slices(candidate),
        _fairness(candidate),
        _robustness(candidate),
        _features(candidate),
        _cost(candidate),
    ]


def gaps_in_evaluation(candidate: Mapping[str, Any]) -> list[str]:
    """Return the gaps of the evaluation that keep a card from being complete, as texts."""
    gaps = [
        f"{name}: {metric['reason']}" for name, metric in candidate["metric_reports"].items() if metric["value"] is None
    ]
    if not candidate["slices"]:
        gaps.append("slices: declare `evaluate.slices`")
    return gaps


def number(value: float | None, digits: int = 4) -> str:
    """Format a number with ``digits`` significant digits; a dash if it is None.

    >>> number(8.02041), number(None), number(0.000012)
    ('8.02', '-', '1.2e-05')
    """
    return "-" if value is None else f"{value:.{digits}g}"


def _format_interval(interval: Mapping[str, Any] | None) -> str:
    has_bounds = interval is not None and interval.get("low") is not None
    return f"{number(interval['low'])} to {number(interval['high'])}" if interval is not None and has_bounds else "-"


def _metrics(report: Mapping[str, Any], candidate: Mapping[str, Any]) -> Section:
    rows = []
    for name, metric in candidate["metric_reports"].items():
        champion, baselines = metric["champion"], metric["baselines"]
        rows.append(
            (
                f"{name} ({metric['better']} is better)",
                f"{number(metric['value'])} {metric['unit']}".strip(),
                _format_interval(metric),
                str(metric["method"] or "-"),
                number(champion["value"]) if champion else "-",
                _format_interval(champion.get("interval")) if champion else "-",
                *(number((baselines.get(name) or {}).get("value")) for name in ("dummy", "linear")),
            )
        )
    head = ("metric", "value", "interval of 95 %", "by", "champion then", "difference, 95 %", "dummy", "linear")
    texts = [
        f"On {report['rows']:,} rows of the holdout that have a label. Baselines were fitted on "
        f"{report['baselines'].get('fitted_on', 'unknown rows')}.",
        "There was no champion to compare with." if report["first_run"] else f"Champion then: {report['champion']}.",
        f"Looks at this holdout: {report['looks']['words']}.",
    ]
    tables = [Table(head, tuple(rows)), *_confusion_tables(candidate)]
    at = "its threshold" if "threshold" in (candidate.get("confusion") or {}) else "a probability of 0.5"
    for words, key in ((f"At {at}", "confusion"), ("Prediction less label", "residuals")):
        if candidate.get(key) and "classes" not in candidate[key]:
            texts.append(f"{words}: {', '.join(f'{name} {number(value)}' for name, value in candidate[key].items())}.")
    return Section("How good it is", tuple(texts), tuple(tables))


def _confusion_tables(candidate: Mapping[str, Any]) -> list[Table]:
    """Return the confusion matrix of three classes or more as a table; none of other candidates."""
    confusion = candidate.get("confusion") or {}
    if "classes" not in confusion:
        return []
    names = tuple(confusion["classes"])
    rows = [(name, *map(str, counts)) for name, counts in zip(names, confusion["rows"], strict=True)]
    return [Table(("rows of the class", *(f"predicted {name}" for name in names)), tuple(rows))]


def _gates(report: Mapping[str, Any], candidate: Mapping[str, Any]) -> Section:
    first = ("This was the first run: gates against a champion had none.",) if report["first_run"] else ()
    rows = tuple((gate["gate"], gate["verdict"], gate["reason"]) for gate in candidate["gates"])
    left_out = tuple(
        f"Left out of this training: candidate {entry['candidate']}: {entry['error']}."
        for entry in report["candidates"]
        if "error" in entry
    )
    picture = gate_chart(candidate["gates"])
    return Section(
        "Gates", (*first, *left_out), (Table(("gate", "verdict", "reason"), rows),), (picture,) * bool(picture)
    )


def _slices(candidate: Mapping[str, Any]) -> Section:
    texts, tables = [], []
    for column, by_column in candidate["slices"].items():
        names = sorted({name for piece in by_column["slices"] for name in piece["metrics"]})
        rows = [
            (piece["value"], f"{piece['rows']:,}", *(number(piece["metrics"].get(name)) for name in names))
            if piece["verdict"] == "measured"
            else (piece["value"], f"{piece['rows']:,}", *("too little data" for _ in names))
            for piece in by_column["slices"]
        ]
        tables.append(Table((column, "rows", *names), tuple(rows)))
        if by_column["left_out"]:
            texts.append(f"{by_column['left_out']} smaller slices of {column} are not shown.")
    return Section("By slice", tuple(texts) or (() if tables else ("No slice is declared.",)), tuple(tables))


def _fairness(candidate: Mapping[str, Any]) -> Section:
    rows = [
        (
            column,
            f"{measure} for the class {estimate['of_class']}" if estimate.get("of_class") else measure,
            number(estimate["value"]),
            _format_interval(estimate),
            f"{estimate['rows']:,}",
            ", ".join(f"{group} ({count})" for group, count in estimate["too_small"].items()) or "-",
            str(estimate["reason"] or "-"),
        )
        for column, measures in candidate["fairness"].items()
        for measure, estimate in measures.items()
    ]
    if not rows:
        return Section("Fairness", ("No groups are declared: whether it treats any alike is not known.",))
    head = ("groups", "measure", "value", "interval of 95 %", "rows", "too little data about", "reason")
    return Section("Fairness", (), (Table(head, tuple(rows)),))


def _robustness(candidate: Mapping[str, Any]) -> Section:
    rows = [
        (name, result["verdict"], "-" if result["worse_by"] is None else f"{result['worse_by']:+.1%}", result["reason"])
        for name, result in candidate["robustness"].items()
    ]
    if not rows:
        return Section("On disturbed rows", ("It was not tried on disturbed rows.",))
    return Section("On disturbed rows", (), (Table(("disturbance", "verdict", "worse by", "reason"), tuple(rows)),))


def _features(candidate: Mapping[str, Any]) -> Section:
    importance = candidate["importance"]
    permutation = importance["permutation"]
    if not permutation:
        return Section("What it leans on", ("It cannot predict shuffled rows, so this is not known.",))
    of_champion, shap = importance["champion"] or {}, (candidate.get("shap") or {}).get("values") or {}
    largest = sorted(permutation, key=lambda name: -permutation[name])[:FEATURES]
    rows = tuple(
        (name, number(permutation[name]), number(of_champion.get(name)), number(shap.get(name))) for name in largest
    )
    stability = importance["stability"]
    texts = [
        f"{importance['unit']} where the feature is shuffled, over {importance['rows']:,} rows and "
        f"{importance['shuffles']} shuffles; the {len(largest)} of {len(permutation)} features with the largest."
    ]
    if stability:
        texts.append(f"Ranking beside the champion's: {stability['reason']}.")
    head = ("feature", "candidate", "champion then", "mean absolute SHAP value")
    bars = [Bar(name, max(permutation[name], 0.0)) for name in largest]
    picture = bar_chart(bars, label="how much worse it is where a feature is shuffled")
    return Section("What it leans on", tuple(texts), (Table(head, rows),), (picture,) * bool(picture))


def _cost(candidate: Mapping[str, Any]) -> Section:
    cost = candidate["cost"]
    units = {
        "batch_latency": "CPU s a row, in a batch",
        "row_latency": "CPU s of one row alone",
        "model_bytes": "bytes of the file",
        "model_memory": "bytes in memory",
    }
    of_champion = cost.get("champion") or {}
    rows = tuple(
        (words, number(cost["candidate"][name]), number(of_champion.get(name))) for name, words in units.items()
    )
    return Section("What it costs", (str(cost["how"]),), (Table(("what", "candidate", "champion then"), rows),))
