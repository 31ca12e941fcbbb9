"""The points of the ML Test Score, and the read-only view of a loop that its checks use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.workspace import Workspace

TESTS = 400_000
"""Size in bytes above which a test file is not read."""


D = TypeVar("D", bound=Details)


@dataclass(frozen=True)
class Point:
    """The points of one item: 0, 0.5 (by hand, or in part) or 1, with the reason and the evidence."""

    points: float
    reason: str
    evidence: tuple[str, ...] = ()


def no_point(reason: str) -> Point:
    """Return a point of 0 with the reason."""
    return Point(0.0, reason)


def half_point(reason: str, *evidence: str) -> Point:
    """Return half a point with its reason and evidence."""
    return Point(0.5, reason, evidence)


def full_point(reason: str, *evidence: str) -> Point:
    """Return a whole point; 0 if there is no evidence."""
    return Point(1.0, reason, evidence) if evidence else Point(0.0, f"{reason}, without evidence to open")


@dataclass(frozen=True)
class View:
    """A read-only view of a loop: state, ledger, evidence and files."""

    workspace: Workspace

    @cached_property
    def state(self) -> LoopState:
        """The state of the loop now."""
        return self.workspace.state()

    @cached_property
    def version(self) -> Version | None:
        """The champion, or before there is one the newest version."""
        newest = max(self.state.versions, key=int, default=None)
        return self.state.champion or (self.state.versions[newest] if newest else None)

    @cached_property
    def evaluation(self) -> Mapping[str, Any]:
        """The evaluation report of that version; empty if there is no version."""
        return self.evaluation_of(self.version) if self.version else {}

    def evaluation_of(self, version: Version) -> Mapping[str, Any]:
        """Return the evaluation report of a version's candidate."""
        report = self.workspace.evidence.get(str(version.details.report))
        name = version.details.candidate
        candidate: Mapping[str, Any] = next(
            candidate_report for candidate_report in report["candidates"] if candidate_report["candidate"] == name
        )
        return candidate

    def of_kind(self, kind: type[D]) -> list[Record[D]]:
        """Return the records of a kind, oldest first."""
        return list(self.workspace.ledger.records(kind))

    def report_of(self, version: Version | None = None) -> str:
        """Return the location of a version's evaluation report."""
        described = version or self.version
        assert described is not None
        return self.document(str(described.details.report))

    def document(self, digest: str) -> str:
        """Return the location of a document of evidence."""
        return self.workspace.evidence.location(digest)

    def record(self, record: Record[Any]) -> str:
        """Return the sequence number of a record and the command that prints it."""
        model = self.workspace.loop.model
        return f"record {record.sequence} of airflow-mlops history {model} --all"

    def file(self, path: str | Path | None) -> tuple[str, ...]:
        """Return the path as a tuple of one if it is a file below the project folder; else an empty tuple."""
        if not path:
            return ()
        root = self.workspace.root.resolve()
        full_path = (root / path).resolve()
        return (str(path),) if full_path.is_file() and full_path.is_relative_to(root) else ()

    def tests_that_name(self, *words: Sequence[str]) -> tuple[str, ...]:
        """Return the test files below ``tests/`` that contain, for each argument, at least one of its words."""
        patterns = [
            re.compile("|".join(rf"(?<![\w.]){re.escape(word)}(?!\w)" for word in alternatives))
            for alternatives in words
        ]
        files = []
        for file in sorted((self.workspace.root / "tests").rglob("test_*.py")):
            if file.stat().st_size <= TESTS:
                text = file.read_text(encoding="utf-8", errors="replace")
                if all(pattern.search(text) for pattern in patterns):
                    files.append(str(file.relative_to(self.workspace.root)))
        return tuple(files)


Items: TypeAlias = dict[str, tuple[str, Callable[[View], Point]]]
"""The items of a section: code, title and judge."""
