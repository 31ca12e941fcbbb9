"""A loop with weeks enough to replay policies on."""

from __future__ import annotations

from pathlib import Path

from tests.loop.project import KEYS, Project, make_project

WEEKS = 9


def project_of_weeks(folder: Path) -> Project:
    """Return a loop with nine published weeks, whose relation changes in the fifth."""
    project = make_project(folder, gates=[{"metric": "mae", "at_most": 100.0}])
    for number, key in enumerate(KEYS[:WEEKS]):
        project.put(key, level=0.0 if number < 5 else 6.0)
        project.publish(key)
    return project
