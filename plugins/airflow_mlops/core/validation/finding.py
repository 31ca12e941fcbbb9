"""The finding of a check of a partition: the column, the severity, the verdict and an explanation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from airflow_mlops.core.declaration.data import Severity

Verdict = Literal["pass", "fail", "too little history"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check of a partition, or of one of its columns.

    ``words`` explain it to a person. ``value`` and ``limit`` are None if the check does not compare two numbers.
    """

    check: str
    column: str | None
    severity: Severity
    verdict: Verdict
    words: str
    value: float | None = None
    limit: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self)


def describe_findings(findings: list[Finding]) -> str:
    """Return all findings in one line, those of a check together.

    >>> leaks = [Finding("leakage", name, "critical", "fail", f"{name} lies after the row's time") for name in "ab"]
    >>> describe_findings([Finding("empty", "c", "critical", "fail", "c is null throughout"), *leaks])
    "empty: c is null throughout; leakage: a lies after the row's time; b lies after the row's time"
    """
    by_check: dict[str, list[str]] = {}
    for finding in findings:
        by_check.setdefault(finding.check, []).append(finding.words)
    return "; ".join(f"{check}: {'; '.join(words)}" for check, words in by_check.items())
