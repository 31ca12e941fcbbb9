"""What a gate said: value, limit, interval, rows, verdict and the reason in words; and all gates as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["pass", "fail", "too little data"]

NO_CHAMPION = "there is no champion yet; absolute gates decide"


@dataclass(frozen=True)
class GateReport:
    """One gate's outcome: what was seen, what was allowed, on how many rows, and the verdict in words.

    ``low`` and ``high`` are the interval of the value; of a comparison with another model, that of the difference of
    the metric, the candidate's less the other's. ``limit`` is None where what the gate compares with is not known.
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


def verdict_of(holds: bool) -> Verdict:
    """Return the verdict of a gate whose value is known."""
    return "pass" if holds else "fail"


def passed(reports: Sequence[GateReport]) -> bool:
    """Whether no gate failed and at least one passed."""
    return any(report.verdict == "pass" for report in reports) and all(report.verdict != "fail" for report in reports)


def gate_table(gates: Sequence[Mapping[str, Any]]) -> str:
    """Return reports of gates, as JSON values, as a table for a log: failed gates first, then those that say nothing.

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
            _number(gate["value"]),
            _number(gate["limit"]),
            "-" if gate["low"] is None else f"{_number(gate['low'])} to {_number(gate['high'])}",
            f"{gate['rows']:,}",
        )
        for gate in sorted(gates, key=lambda gate: order[gate["verdict"]])
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
