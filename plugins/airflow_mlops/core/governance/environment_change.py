"""What is installed in another version than for the version before: a change that nobody may have meant."""

from __future__ import annotations

from typing import Any

from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.workspace import Workspace


def changed_since(then: dict[str, Any], now: dict[str, Any]) -> tuple[str, ...]:
    """Return what differs between two environments; nothing where that of then is not known.

    >>> changed_since({"numpy": "2.3.0"}, {"numpy": "2.4.6", "scipy": "1.16"})
    ('numpy 2.3.0, now 2.4.6', 'scipy absent, now 1.16')
    """
    names = sorted(name for name in {*then, *now} if then.get(name) != now.get(name)) if then else []
    return tuple(f"{name} {then.get(name, 'absent')}, now {now.get(name, 'absent')}" for name in names)


def version_before(state: LoopState, version: Version) -> Version | None:
    """Return the version that was registered before another one."""
    older = [number for number in state.versions if int(number) < int(version.number)]
    return state.versions[max(older, key=int)] if older else None


def installed_for(workspace: Workspace, version: Version) -> dict[str, str]:
    """Return what was installed where a version was made, by name; empty where that is not known."""
    digest = version.details.installed
    if digest is None:
        return {}
    try:
        found = workspace.evidence.get(str(digest))
    except LedgerError:
        return {}
    named = {package["name"]: package["version"] for package in found["packages"]}
    return {**named, **{name: found[name] for name in ("python", "system", "machine")}}


def installed_otherwise(workspace: Workspace, version: Version) -> tuple[str, tuple[str, ...]] | None:
    """Return the version before and what was installed otherwise for it; None if the two cannot be compared."""
    before = version_before(workspace.state(), version)
    then, now = ({} if one is None else installed_for(workspace, one) for one in (before, version))
    if before is None or not then or not now:
        return None
    return before.number, changed_since(then, now)
