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
