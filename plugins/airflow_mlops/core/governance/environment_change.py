"""Compare the environment of a version with that of the version before it."""

from __future__ import annotations

from typing import Any

from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.workspace import Workspace


def environment_changes(then: dict[str, Any], now: dict[str, Any]) -> tuple[str, ...]:
    """Return the differences of two environments as texts; none if the earlier environment is not known.

    >>> environment_changes({"numpy": "2.3.0"}, {"numpy": "2.4.6", "scipy": "1.16"})
    ('numpy 2.3.0, now 2.4.6', 'scipy absent, now 1.16')
    """
    names = sorted(name for name in {*then, *now} if then.get(name) != now.get(name)) if then else []
    return tuple(f"{name} {then.get(name, 'absent')}, now {now.get(name, 'absent')}" for name in names)


def version_before(state: LoopState, version: Version) -> Version | None:
    """Return the version that was registered before another one."""
    older = [number for number in state.versions if int(number) < int(version.number)]
    return state.versions[max(older, key=int)] if older else None


def environment_of(workspace: Workspace, version: Version) -> dict[str, str]:
    """Return the installed versions by package name for a version of the model; empty if they are not known."""
    digest = version.details.installed
    if digest is None:
        return {}
    try:
        document = workspace.evidence.get(str(digest))
    except LedgerError:
        return {}
    packages = {package["name"]: package["version"] for package in document["packages"]}
    return {**packages, **{name: document[name] for name in ("python", "system", "machine")}}


def compare_environments(workspace: Workspace, version: Version) -> tuple[str, tuple[str, ...]] | None:
    """Return the previous version and the environment changes since it; None if they cannot be compared."""
    before = version_before(workspace.state(), version)
    then, now = ({} if compared is None else environment_of(workspace, compared) for compared in (before, version))
    if before is None or not then or not now:
        return None
    return before.number, environment_changes(then, now)
