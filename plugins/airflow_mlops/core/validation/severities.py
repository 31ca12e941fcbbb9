"""The consequences of failed expectations by severity: critical blocks, warning notifies, info is recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airflow_mlops.core.validation.suite import ExpectationResult


@dataclass(frozen=True)
class RoutedFailures:
    """The failed results by consequence.

    Parameters
    ----------
    critical_rows : tuple of ExpectationResult
        Critical, with the positions of the bad rows: those rows go to quarantine.
    critical_whole : tuple of ExpectationResult
        Critical, about the whole data or without positions: the data must not be used.
    warnings : tuple of ExpectationResult
        A person is notified; the data is used.
    infos : tuple of ExpectationResult
        Recorded in the report.
    """

    critical_rows: tuple[ExpectationResult, ...]
    critical_whole: tuple[ExpectationResult, ...]
    warnings: tuple[ExpectationResult, ...]
    infos: tuple[ExpectationResult, ...]

    @property
    def critical(self) -> tuple[ExpectationResult, ...]:
        """The failed results that block the data."""
        return (*self.critical_whole, *self.critical_rows)

    def to_dict(self) -> dict[str, Any]:
        """Return summaries of the failed results as JSON values, by severity."""
        return {
            "critical": [result.summary for result in self.critical],
            "warning": [result.summary for result in self.warnings],
            "info": [result.summary for result in self.infos],
        }


def route_failures(results: Iterable[ExpectationResult]) -> RoutedFailures:
    """Return the failed results by consequence; a success has none."""
    failed = [result for result in results if not result.success]
    critical = [result for result in failed if result.severity == "critical"]
    return RoutedFailures(
        critical_rows=tuple(result for result in critical if result.by_row),
        critical_whole=tuple(result for result in critical if not result.by_row),
        warnings=tuple(result for result in failed if result.severity == "warning"),
        infos=tuple(result for result in failed if result.severity == "info"),
    )


def summarise_results(results: Iterable[ExpectationResult]) -> str:
    """Return results as one line: each with its column, its limits, its number of bad rows and the observed value."""
    return "; ".join(result.summary for result in results)


def describe_whole_failure(result: ExpectationResult) -> str:
    """Return why a failed expectation about the whole data refuses it: the observed value, and the declared limits."""
    declared = f"; declared: {result.declared}" if result.declared else ""
    return f"{result.reason} failed for the whole partition; observed {result.observed}{declared}"
