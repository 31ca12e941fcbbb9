"""What a check of a partition says: of which column, how grave, and in words that a person can act on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from airflow_mlops.core.declaration.data import Severity

Verdict = Literal["pass", "fail", "too little history"]


@dataclass(frozen=True)
class Finding:
    """What one check said of a partition, or of one of its columns.

    ``value`` and ``limit`` are None where the check compares no two numbers.
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
