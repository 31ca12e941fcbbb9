"""Compare the registry with the ledger: a released version is immutable, and one unknown to the ledger never serves.

Nothing is repaired here but the tags of ghosts. A version that is gone or was changed needs a person: the copies in the
lake go on serving meanwhile.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_mlops.core.evaluation.register_candidate import tags_of
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.registry import GHOST_OF, OPERATION, RegisteredVersion
from airflow_mlops.core.registry.verify_version import verify_version
from airflow_mlops.core.rollout.reconcile_aliases import wanted_aliases
from airflow_mlops.core.workspace import Workspace


@dataclass(frozen=True)
class Inspection:
    """The findings of an inspection, a sentence each: ``problems`` need a person, ``notices`` do no harm."""

    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def inspect_versions(workspace: Workspace) -> Inspection:
    """Return how the registry differs from the ledger: in champion, challenger and candidate, and in unknown versions.

    The files of the three are fetched from the registry and verified, whatever copies are in the lake.
    """
    state, tagged = workspace.state(), workspace.registry.mark_ghosts()
    registered = {version.number: version for version in workspace.registry.all_versions()}
    inspection = Inspection(
        notices=[f"version {ghost} is a ghost of {first}; it was tagged" for ghost, first in tagged.items()]
    )
    for role, number in wanted_aliases(state).items():
        if number is None:
            continue
        if number not in registered:
            inspection.problems.append(describe_missing(workspace, role, state.versions[number]))
        else:
            inspection.problems.extend(describe_changes(workspace, role, state.versions[number], registered[number]))
    for number, version in registered.items():
        if number not in state.versions and GHOST_OF not in version.tags and number not in tagged:
            operation = version.tags.get(OPERATION)
            origin = f"made by {operation}" if operation else "made by somebody else than the loop"
            inspection.notices.append(
                f"version {number} is in the registry and not in the ledger ({origin}); it is never served"
            )
    return inspection


def describe_missing(workspace: Workspace, role: str, version: Version) -> str:
    """Return a message about a version that is in the ledger and not in the registry."""
    copy = verify_version(workspace, version)
    serves = "its verified copy in the lake goes on serving" if copy.verified else f"no copy can serve: {copy.reason}"
    return (
        f"version {version.number}, the {role}, was deleted in the registry, and its alias with it; {serves}, and the "
        "ledger is unchanged. Restore it in MLflow from a backup, or take another version: airflow-mlops rollback, "
        "or a retrain"
    )


def describe_changes(workspace: Workspace, role: str, version: Version, registered: RegisteredVersion) -> list[str]:
    """Return a message for each difference of a version in the registry from its record in the ledger."""
    prefix, details = f"version {version.number}, the {role}, was changed in the registry:", version.details
    differences = []
    expected = {OPERATION: f"{details.request}-{details.candidate}", **tags_of(details, version.partition)}
    expected |= details.earlier_tags or {}
    for tag, value in expected.items():
        actual = registered.tags.get(tag)
        if actual != value:
            differences.append(f"{prefix} its tag {tag} is {actual or 'absent'}, and was {value}")
    if GHOST_OF in registered.tags:
        differences.append(f"{prefix} somebody tagged it {GHOST_OF}={registered.tags[GHOST_OF]}")
    if details.source not in (None, registered.source):
        differences.append(f"{prefix} its files are at {registered.source}, and were at {details.source}")
    report = verify_version(workspace, version, in_registry=True)
    if report.signed and not report.verified:
        differences.append(f"{prefix} {report.reason}")
    return differences
