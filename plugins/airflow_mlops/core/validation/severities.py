"""What follows from results: a critical one blocks, a warning is told, an info is recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airflow_mlops.core.validation.suite import ExpectationResult


@dataclass(frozen=True)
class Routed:
    """The results that failed, by what follows from them.

    Parameters
    ----------
    critical_rows : tuple of ExpectationResult
        Critical, and the bad rows are known by position: those rows go to quarantine.
    critical_whole : tuple of ExpectationResult
        Critical, about the whole or without known rows: the data must not be used.
    warnings : tuple of ExpectationResult
        Somebody is told; the data is used.
    infos : tuple of ExpectationResult
        Stands in the report.
    """

    critical_rows: tuple[ExpectationResult, ...]
    critical_whole: tuple[ExpectationResult, ...]
    warnings: tuple[ExpectationResult, ...]
    infos: tuple[ExpectationResult, ...]

    @property
    def critical(self) -> tuple[ExpectationResult, ...]:
        """All failed results that block."""
        return (*self.critical_whole, *self.critical_rows)

    def to_dict(self) -> dict[str, Any]:
        """Return what failed as JSON values, in words, by severity."""
        return {
            "critical": [result.said for result in self.critical],
            "warning": [result.said for result in self.warnings],
            "info": [result.said for result in self.infos],
        }


def route(results: Iterable[ExpectationResult]) -> Routed:
    """Return the failed ones of ``results`` by what follows from them; a success has no consequence."""
    failed = [result for result in results if not result.success]
    critical = [result for result in failed if result.severity == "critical"]
    return Routed(
        critical_rows=tuple(result for result in critical if result.by_row),
        critical_whole=tuple(result for result in critical if not result.by_row),
        warnings=tuple(result for result in failed if result.severity == "warning"),
        infos=tuple(result for result in failed if result.severity == "info"),
    )


def told(results: Iterable[ExpectationResult]) -> str:
    """Return failed results as one line: each with its column, its count of rows and what was observed."""
    return "; ".join(result.said for result in results)
