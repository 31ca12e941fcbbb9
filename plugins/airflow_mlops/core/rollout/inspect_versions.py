"""Hold the registry against the ledger: what was released is immutable, and what the ledger does not know never serves.

Nothing is repaired here but the tags of ghosts. A version that is gone or was changed needs a person: the files
that the loop itself kept go on serving meanwhile.
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
    """What was found, a sentence each: ``problems`` are for a person to mend, ``notices`` harm nobody."""

    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def inspect_versions(workspace: Workspace) -> Inspection:
    """Return how the registry differs from the ledger: champion, challenger and candidate, and strangers among them.

    The files of the three are fetched from the registry and verified, whatever copies are kept.
    """
    state, tagged = workspace.state(), workspace.registry.mark_ghosts()
    found = {version.number: version for version in workspace.registry.all_versions()}
    said = Inspection(
        notices=[f"version {ghost} is a ghost of {first}; it was tagged" for ghost, first in tagged.items()]
    )
    for role, number in wanted_aliases(state).items():
        if number is None:
            continue
        if number not in found:
            said.problems.append(gone(workspace, role, state.versions[number]))
        else:
            said.problems.extend(changes(workspace, role, state.versions[number], found[number]))
    for number, version in found.items():
        if number not in state.versions and GHOST_OF not in version.tags and number not in tagged:
            operation = version.tags.get(OPERATION)
            made = f"made by {operation}" if operation else "made by somebody else than the loop"
            said.notices.append(
                f"version {number} is in the registry and not in the ledger ({made}); it is never served"
            )
    return said


def gone(workspace: Workspace, role: str, version: Version) -> str:
    """Return what to say of a version that the ledger knows and the registry does not."""
    copy = verify_version(workspace, version)
    serves = "its verified copy in the lake goes on serving" if copy.verified else f"no copy can serve: {copy.reason}"
    return (
        f"version {version.number}, the {role}, was deleted in the registry, and its alias with it; {serves}, and the "
        "ledger is unchanged. Restore it in MLflow from a backup, or take another version: airflow-mlops rollback, "
        "or a retrain"
    )


def changes(workspace: Workspace, role: str, version: Version, found: RegisteredVersion) -> list[str]:
    """Return what differs between a version as it was registered and as it is now."""
    name, details = f"version {version.number}, the {role}, was changed in the registry:", version.details
    said = []
    expected = {OPERATION: f"{details.request}-{details.candidate}", **tags_of(details, version.partition)}
    for tag, value in expected.items():
        now = found.tags.get(tag)
        if now != value:
            said.append(f"{name} its tag {tag} is {now or 'absent'}, and was {value}")
    if GHOST_OF in found.tags:
        said.append(f"{name} somebody tagged it {GHOST_OF}={found.tags[GHOST_OF]}")
    if details.source not in (None, found.source):
        said.append(f"{name} its files are at {found.source}, and were at {details.source}")
    report = verify_version(workspace, version, in_registry=True)
    if report.signed and not report.verified:
        said.append(f"{name} {report.reason}")
    return said
