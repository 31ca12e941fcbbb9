"""The report of a gate, and the table of all gates for a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["pass", "fail", "too little data"]

NO_CHAMPION = "there is no champion yet; absolute gates decide"


@dataclass(frozen=True)
class GateReport:
    """The outcome of one gate: value, limit, rows, verdict and the reason in words.

    ``low`` and ``high`` are the interval of the value; in a comparison with another model, the interval of the
    candidate's metric minus the other's. ``limit`` is None if the reference value is unknown.
    """

    gate: str
    verdict: Verdict
    value: float | None
    limit: float | None
    rows: int
    reason: str
    low: float | None = None
    high: float | None = None
    metric: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


def to_verdict(holds: bool) -> Verdict:
    """Return the verdict of a gate with a value."""
    return "pass" if holds else "fail"


def gates_pass(reports: Sequence[GateReport]) -> bool:
    """Return whether no gate failed and at least one passed."""
    return any(report.verdict == "pass" for report in reports) and all(report.verdict != "fail" for report in reports)


def gate_table(gates: Sequence[Mapping[str, Any]]) -> str:
    """Return gate reports (as JSON values) as a table: first failures, then gates with too little data, then passes.

    >>> report = GateReport("mae at most 5", "pass", 4.25, 5.0, 1200, "mae at most 5: 4.25 on 1,200 rows", 4.1, 4.4)
    >>> print(gate_table([report.to_dict()]))
    verdict  gate           value  limit  interval    rows
    pass     mae at most 5  4.25   5      4.1 to 4.4  1,200
    """
    order = {"fail": 0, "too little data": 1, "pass": 2}
    lines = [("verdict", "gate", "value", "limit", "interval", "rows")]
    lines += [
        (
            str(gate["verdict"]),
            str(gate["gate"]),
            _format_number(gate["value"]),
            _format_number(gate["limit"]),
            "-" if gate["low"] is None else f"{_format_number(gate['low'])} to {_format_number(gate['high'])}",
            f"{gate['rows']:,}",
        )
        for gate in sorted(gates, key=lambda gate: order[gate["verdict"]])
    ]
    return align_columns(lines)


def align_columns(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as a text whose columns are aligned.

    >>> print(align_columns([("model", "champion"), ("delay", "3")]))
    model  champion
    delay  3
    """
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
