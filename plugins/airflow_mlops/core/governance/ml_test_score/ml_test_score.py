"""The ML Test Score of a loop after Breck et al. [1]_: 28 checks of production readiness, with evidence.

28 items, seven each for data, model, infrastructure and monitoring: a whole point for what happens by itself, half
a point for what a person does or what holds in part. The score is the smallest of the four sums, so that a strong
section does not hide a weak one. Every point names evidence that a reader can open.

What only a person can know stands in ``include/attestations.yaml`` and gives half a point:

    flight_air_time:
      D6: {says: "Adding humid took an hour", evidence: docs/notes/humid.md, by: ann, at: "2013-02-01"}

References
----------
.. [1] E. Breck et al., The ML Test Score, IEEE Big Data (2017) 1123-1132.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from airflow_mlops.core.declaration.declared import Day, Declared
from airflow_mlops.core.declaration.read_loop import Lines, line_of, read_strict_yaml
from airflow_mlops.core.declaration.validation_errors import suggest_name
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.governance.ml_test_score import score_data, score_infrastructure, score_model, score_monitoring
from airflow_mlops.core.governance.ml_test_score.points import Items, Point, View, half_point
from airflow_mlops.core.workspace import Workspace

FILE = "include/attestations.yaml"
SECTIONS: dict[str, Items] = {
    "Data": score_data.ITEMS,
    "Model": score_model.ITEMS,
    "Infrastructure": score_infrastructure.ITEMS,
    "Monitoring": score_monitoring.ITEMS,
}
NAMES = {code: title for items in SECTIONS.values() for code, (title, _) in items.items()}


class Attestation(Declared):
    """A person's statement about an item, with its evidence."""

    says: str = Field(min_length=1, description="what was done")
    evidence: str = Field(min_length=1, description="a file below the project folder")
    by: str = Field(min_length=1, description="who says so")
    at: Day = Field(description="when it was done")


@dataclass(frozen=True)
class Item:
    """An item of the score and its point."""

    code: str
    title: str
    point: Point


@dataclass(frozen=True)
class Score:
    """The items by section. ``total`` is the smallest of the four sums, from 0 to 7."""

    model: str
    sections: dict[str, tuple[Item, ...]]

    def sum_of(self, section: str) -> float:
        """Return the points of a section, of 7."""
        return sum(item.point.points for item in self.sections[section])

    @property
    def total(self) -> float:
        """The score."""
        return min(self.sum_of(section) for section in self.sections)


def ml_test_score(workspace: Workspace) -> Score:
    """Return the score of a loop as of now.

    Raises
    ------
    DeclarationError
        If ``include/attestations.yaml`` is wrong.
    """
    view = View(workspace)
    attestations = read_attestations(workspace.root).get(workspace.loop.model, {})
    return Score(
        workspace.loop.model,
        {
            section: tuple(
                Item(code, title, with_attestation(view, judge(view), attestations.get(code)))
                for code, (title, judge) in items.items()
            )
            for section, items in SECTIONS.items()
        },
    )


def with_attestation(view: View, point: Point, attestation: Attestation | None) -> Point:
    """Return the point, or half a point if it was 0 and an attestation names evidence that exists."""
    if attestation is None or point.points > 0:
        return point
    if not view.file(attestation.evidence):
        return Point(0.0, f"{point.reason}; attested by {attestation.by}, and {attestation.evidence} is not there")
    return half_point(f"by hand: {attestation.says} ({attestation.by}, {attestation.at})", attestation.evidence)


def read_attestations(root: Path) -> dict[str, dict[str, Attestation]]:
    """Return the attestations by model and item; empty if there is no file.

    Raises
    ------
    DeclarationError
        If the file is wrong; names the line and the key.
    """
    if not (root / FILE).exists():
        return {}
    data, lines = read_strict_yaml(root / FILE)
    attestations: dict[str, dict[str, Attestation]] = {}
    for model, items in require_mapping(data or {}, lines, "").items():
        for code, fields in require_mapping(items, lines, model).items():
            key = f"{model}.{code}"
            if code not in NAMES:
                message = f"no such item; {suggest_name(code, list(NAMES), kind='items')}"
                raise DeclarationError(message, file=FILE, line=line_of(lines, key), key=key)
            try:
                attestations.setdefault(model, {})[code] = Attestation.model_validate(fields)
            except ValidationError as error:
                fault = error.errors()[0]
                where = ".".join([key, *map(str, fault["loc"])])
                raise DeclarationError(fault["msg"], file=FILE, line=line_of(lines, where), key=where) from None
    return attestations


def require_mapping(value: Any, lines: Lines, key: str) -> dict[str, Any]:
    """Return a value that must be a mapping.

    Raises
    ------
    DeclarationError
        If it is not one; names the line of the key.
    """
    if isinstance(value, dict):
        return value
    raise DeclarationError("must be a mapping", file=FILE, line=line_of(lines, key), key=key or None)


def score_lines(score: Score) -> Iterator[str]:
    """Yield the score as lines of text."""
    yield f"ML Test Score of {score.model}: {score.total:g} of 7, the smallest of its four sections"
    for section, items in score.sections.items():
        yield ""
        yield f"{section}: {score.sum_of(section):g} of 7"
        for item in items:
            yield f"  {item.code:<4} {item.point.points:>3g}  {item.title}: {item.point.reason}"
            yield from (f"             see {where}" for where in item.point.evidence)
        missing = [f"{item.code} {item.title}" for item in items if item.point.points < 1]
        yield f"  not full: {', '.join(missing)}" if missing else "  nothing is missing"
