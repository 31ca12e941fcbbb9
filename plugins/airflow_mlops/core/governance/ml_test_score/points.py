"""A point of the score, and what it is judged on: the loop, its ledger, and the report of its newest version."""

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
"""Bytes of a test file beyond which it is not read."""


D = TypeVar("D", bound=Details)


@dataclass(frozen=True)
class Point:
    """What one item of the score got: 0, 0.5 (by hand, or in part) or 1, why, and where that can be looked at."""

    points: float
    said: str
    evidence: tuple[str, ...] = ()


def none(said: str) -> Point:
    """Return no point, and what is missing."""
    return Point(0.0, said)


def half(said: str, *evidence: str) -> Point:
    """Return half a point."""
    return Point(0.5, said, evidence)


def full(said: str, *evidence: str) -> Point:
    """Return a whole point, which nothing but evidence gives."""
    return Point(1.0, said, evidence) if evidence else Point(0.0, f"{said}, without evidence to open")


@dataclass(frozen=True)
class View:
    """What the score looks at. Nothing of it is changed, and no model is fitted."""

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
    def judged(self) -> Mapping[str, Any]:
        """What the evaluation found out about that version; empty where there is none."""
        return self.judged_of(self.version) if self.version else {}

    def judged_of(self, version: Version) -> Mapping[str, Any]:
        """Return what the evaluation found out about a version."""
        report = self.workspace.evidence.get(str(version.details.report))
        name = version.details.candidate
        found: Mapping[str, Any] = next(one for one in report["candidates"] if one["candidate"] == name)
        return found

    def of_kind(self, kind: type[D]) -> list[Record[D]]:
        """Return the records of a kind, oldest first."""
        return list(self.workspace.ledger.records(kind))

    def report_of(self, version: Version | None = None) -> str:
        """Return where the evaluation report of a version lies, as a reader opens it."""
        shown = version or self.version
        assert shown is not None
        return self.document(str(shown.details.report))

    def document(self, digest: str) -> str:
        """Return where a document of evidence lies."""
        return self.workspace.evidence.location(digest)

    def record(self, record: Record[Any]) -> str:
        """Return how a reader finds a record."""
        model = self.workspace.loop.model
        return f"record {record.sequence} of airflow-mlops history {model} --all"

    def file(self, path: str | Path | None) -> tuple[str, ...]:
        """Return a file below the project folder, if it is there."""
        if not path:
            return ()
        root = self.workspace.root.resolve()
        found = (root / path).resolve()
        return (str(path),) if found.is_file() and found.is_relative_to(root) else ()

    def tests_that_name(self, *words: Sequence[str]) -> tuple[str, ...]:
        """Return the test files of the project, below ``tests/``, that hold one of each of the words as a whole."""
        wanted = [re.compile("|".join(rf"(?<![\w.]){re.escape(word)}(?!\w)" for word in some)) for some in words]
        found = []
        for file in sorted((self.workspace.root / "tests").rglob("test_*.py")):
            if file.stat().st_size <= TESTS:
                text = file.read_text(encoding="utf-8", errors="replace")
                if all(pattern.search(text) for pattern in wanted):
                    found.append(str(file.relative_to(self.workspace.root)))
        return tuple(found)


Items: TypeAlias = dict[str, tuple[str, Callable[[View], Point]]]
"""The items of a section: code, title and judge."""
