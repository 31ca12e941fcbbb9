"""The result of a check: one of three verdicts, a sentence with its numbers, and the numbers by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Verdict = Literal["alarm", "no alarm", "insufficient data"]


@dataclass(frozen=True)
class CheckResult:
    """The result of a check.

    Parameters
    ----------
    verdict : str
        ``alarm``, ``no alarm`` or ``insufficient data``.
    message : str
        The finding in one sentence.
    numbers : mapping of str to JSON
        The numbers behind the verdict, small enough for a record of the ledger; all finite or None.
    report : mapping of str to JSON, optional
        Larger results, which go into the evidence: rows, curves, columns.
    """

    verdict: Verdict
    message: str
    numbers: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] | None = None


def cannot_tell(message: str, **numbers: Any) -> CheckResult:
    """Return the result ``insufficient data`` with its reason."""
    return CheckResult("insufficient data", message, numbers)


def finite(value: Any) -> Any:
    """Return ``value`` as JSON in which no number is NaN or infinite: such a number is None.

    >>> finite({"auc": np.float64(0.5), "needed": math.inf, "rows": np.int64(3), "edges": (1.0, math.nan)})
    {'auc': 0.5, 'needed': None, 'rows': 3, 'edges': [1.0, None]}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
