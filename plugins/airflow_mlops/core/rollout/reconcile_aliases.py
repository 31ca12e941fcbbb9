"""Reconcile the target and the registry's aliases with the ledger, after a crash or a change from outside.

The record stands before the effect, so what is missing is always the effect. The target comes first: it serves the
users, and can be reconciled without the registry.
"""

from __future__ import annotations

import logging

from airflow_mlops.core.errors import MlopsError, RegistryError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ports.registry import RegistryUnavailableError, VersionGoneError
from airflow_mlops.core.rollout.reconcile_target import reconcile_target
from airflow_mlops.core.workspace import Workspace

LOG = logging.getLogger(__name__)
MOST_ROUNDS = 10
"""Times that aliases are set and read again; a concurrent repair costs one or two."""


def wanted_aliases(state: LoopState) -> dict[str, str | None]:
    """Return the version that each alias must point to; None if the alias must not exist."""
    return {
        "champion": state.champion.number if state.champion else None,
        "challenger": state.rollout.version.number if state.rollout else None,
        "candidate": state.candidate.number if state.candidate else None,
    }


def reconcile(workspace: Workspace) -> list[str]:
    """Make target and aliases follow the ledger; return the repairs, a sentence each.

    Raises
    ------
    RegistryError, TargetError
        If one of them cannot be reached; the other was repaired nevertheless. Where neither can, it is the target's:
        the target matters more than an alias.
    """
    try:
        served = reconcile_target(workspace)
    except MlopsError:
        try:
            reconcile_aliases(workspace)
        except RegistryError as error:
            LOG.warning("the aliases follow with the next reconcile: %s", error)
        raise
    return [*served, *reconcile_aliases(workspace)]


def reconcile_aliases(workspace: Workspace) -> list[str]:
    """Set every alias that differs from the ledger; return the repairs, a sentence each.

    The ledger is read again after each write until nothing differs, so that of two concurrent repairs the later state
    wins. The alias of a version that was deleted is removed, since no other version may have it;
    :func:`~airflow_mlops.core.rollout.inspect_versions.inspect_versions` reports the missing version.

    Raises
    ------
    RegistryUnavailableError
        If the registry cannot be reached, or says of an alias what it said before it was set, however often it is.
    """
    repairs: list[str] = []
    missing: set[str] = set()
    for _ in range(MOST_ROUNDS):
        actual = workspace.registry.aliases()
        wanted = {
            alias: None if version in missing else version
            for alias, version in wanted_aliases(workspace.state()).items()
        }
        differing = {alias: version for alias, version in wanted.items() if actual.get(alias) != version}
        if not differing:
            return repairs
        for alias, version in differing.items():
            try:
                workspace.registry.set_alias(alias, version)
            except VersionGoneError:
                missing.add(str(version))
                continue
            repairs.append(f"alias {alias} was {actual.get(alias) or 'absent'}, is now {version or 'absent'}")
    alias, version = next(iter(differing.items()))
    raise RegistryUnavailableError(
        f"alias {alias} of {workspace.loop.model} was set to {version or 'absent'} {MOST_ROUNDS} times, and the "
        f"registry still says {actual.get(alias) or 'absent'}: its answers are old, as those of a cache in front of "
        "it; the next try reads them again"
    )
