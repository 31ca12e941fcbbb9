"""The policy: what a version needs before it may become the champion, by the tier of its model.

It stands in ``include/policy.yaml``, so that it is reviewed and changed like code; without the file the defaults
here hold. It is asked at the promotion itself, by whichever way that comes about.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationError

from airflow_mlops.core.declaration.declared import Declared, Listed
from airflow_mlops.core.declaration.validation_errors import declaration_error
from airflow_mlops.core.errors import PolicyError

if TYPE_CHECKING:
    from airflow_mlops.core.ledger.state import LoopState
    from airflow_mlops.core.ledger.state_machine import Version
    from airflow_mlops.core.workspace import Workspace

FILE = "include/policy.yaml"
Requirement = Literal["purpose", "signature", "card", "reproduced", "approval"]
Required = Annotated[tuple[Requirement, ...], Listed]


class Tiers(Declared):
    """What each tier needs. A tier that is left out keeps its default."""

    low: Required = Field(default=(), description="a wrong prediction costs little")
    medium: Required = Field(default=("signature", "card"), description="a wrong prediction costs money or trust")
    high: Required = Field(
        default=("purpose", "signature", "card", "reproduced", "approval"),
        description="a wrong prediction can harm people",
    )


class Policy(Declared):
    """What a version needs before it may become the champion."""

    tiers: Tiers = Field(default=Tiers(), description="requirements by tier")
    tolerance: float = Field(
        default=0.0, ge=0,
        description="largest difference of a prediction, in its unit, up to which a version counts as `reproduced`",
    )  # fmt: skip

    def of(self, tier: str) -> tuple[Requirement, ...]:
        """Return the requirements of a tier."""
        found: tuple[Requirement, ...] = getattr(self.tiers, tier)
        return found


def read_policy(root: Path) -> Policy:
    """Return the policy of the project folder ``root``, or the defaults where it has none.

    Raises
    ------
    DeclarationError
        Naming the file, the line and the key that is wrong.
    """
    from airflow_mlops.core.declaration.read_loop import line_of, read_strict_yaml
    from airflow_mlops.core.errors import DeclarationError

    if not (root / FILE).exists():
        return Policy()
    data, lines = read_strict_yaml(root / FILE)
    try:
        return Policy.model_validate(data if data is not None else {})
    except ValidationError as error:
        fault = declaration_error(error, Policy)
        raise DeclarationError(
            fault.message, file=FILE, line=line_of(lines, fault.key or ""), key=fault.key or None
        ) from None


def unmet(workspace: Workspace, state: LoopState, version: Version) -> list[str]:
    """Return what a version lacks of what the policy asks, a sentence each; empty where it may serve."""
    required = read_policy(workspace.root).of(workspace.loop.tier)
    said = [(name, _CHECKS[name](workspace, state, version)) for name in required]
    return [f"{name}: {reason}" for name, reason in said if reason is not None]


def require_policy(workspace: Workspace, state: LoopState, version: Version) -> None:
    """Let a version become the champion that has everything its tier asks for.

    Raises
    ------
    PolicyError
        Naming each thing that is missing, and what to do about it.
    """
    missing = unmet(workspace, state, version)
    if missing:
        raise PolicyError(
            f"version {version.number} of {workspace.loop.model} (tier {workspace.loop.tier}) may not be promoted: "
            + "; ".join(missing)
        )


def _purpose(workspace: Workspace, _state: LoopState, _version: Version) -> str | None:
    return None if workspace.loop.purpose else "the declaration does not say `purpose`, what the model is for"


def _signature(workspace: Workspace, _state: LoopState, version: Version) -> str | None:
    from airflow_mlops.core.registry.verify_version import verify_version

    found = verify_version(workspace, version)
    return None if found.verified else found.reason


def _card(workspace: Workspace, state: LoopState, version: Version) -> str | None:
    card = state.cards.get(version.number)
    if card is None:
        return f"no model card was written; airflow-mlops card {workspace.loop.model} {version.number}"
    missing = card.details.missing
    if not missing:
        return None
    again = f"airflow-mlops card {workspace.loop.model} {version.number}"
    return f"the model card lacks {', '.join(missing)}; once nothing is lacking, {again}"


def _reproduced(workspace: Workspace, state: LoopState, version: Version) -> str | None:
    found = state.reproduced.get(version.number)
    if found is None:
        return f"it was not made again yet; airflow-mlops reproduce {workspace.loop.model} {version.number}"
    # Not the tolerance that somebody typed: what was found is held against the one that was reviewed.
    allowed = read_policy(workspace.root).tolerance
    if found.details.verdict == "identical" or float(found.details.largest_difference) <= allowed:
        return None
    return f"{found.details.reason}; {FILE} allows {allowed:g}"


def _approval(_workspace: Workspace, state: LoopState, version: Version) -> str | None:
    if version.number in state.approved:
        return None
    return "nobody approved it; declare rollout.approval: human, and approve it in Airflow under Required Actions"


_CHECKS: dict[Requirement, Callable[[Workspace, LoopState, Version], str | None]] = {
    "purpose": _purpose,
    "signature": _signature,
    "card": _card,
    "reproduced": _reproduced,
    "approval": _approval,
}
