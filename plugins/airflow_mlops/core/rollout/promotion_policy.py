"""The promotion policy: the requirements that a version has to meet to become the champion, by the tier of its model.

It stands in ``include/policy.yaml``, so that it is reviewed and changed like code; without the file the defaults here
hold. Every promotion is checked against it, whatever has led to it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationError

from airflow_mlops.core.declaration.declared import Declared, Listed
from airflow_mlops.core.declaration.validation_errors import declaration_error
from airflow_mlops.core.errors import PolicyError
from airflow_mlops.core.ledger.training_details import Adoption, Reproduced

if TYPE_CHECKING:
    from airflow_mlops.core.ledger.state import LoopState
    from airflow_mlops.core.ledger.state_machine import Version
    from airflow_mlops.core.workspace import Workspace

FILE = "include/policy.yaml"
Requirement = Literal["purpose", "signature", "card", "reproduced", "approval"]
Required = Annotated[tuple[Requirement, ...], Listed]


class Tiers(Declared):
    """The requirements of each tier. A tier that is left out keeps its default."""

    low: Required = Field(default=(), description="a wrong prediction costs little")
    medium: Required = Field(default=("signature", "card"), description="a wrong prediction costs money or trust")
    high: Required = Field(
        default=("purpose", "signature", "card", "reproduced", "approval"),
        description="a wrong prediction can harm people",
    )


class Policy(Declared):
    """The requirements that a version has to meet to become the champion."""

    tiers: Tiers = Field(default=Tiers(), description="requirements by tier")
    tolerance: float = Field(
        default=0.0,
        ge=0,
        description="largest difference of a prediction, in its unit, up to which a version counts as `reproduced`",
    )

    def of(self, tier: str) -> tuple[Requirement, ...]:
        """Return the requirements of a tier."""
        requirements: tuple[Requirement, ...] = getattr(self.tiers, tier)
        return requirements


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


def unmet_requirements(workspace: Workspace, state: LoopState, version: Version) -> list[str]:
    """Return the requirements of the policy that a version does not meet, a sentence each; empty if it may serve."""
    required = read_policy(workspace.root).of(workspace.loop.tier)
    checks = [(name, _CHECKS[name](workspace, state, version)) for name in required]
    return [f"{name}: {reason}" for name, reason in checks if reason is not None]


def require_policy(workspace: Workspace, state: LoopState, version: Version) -> None:
    """Raise PolicyError unless a version meets every requirement of its tier.

    Raises
    ------
    PolicyError
        Naming each requirement that is not met, and what to do about it.
    """
    missing = unmet_requirements(workspace, state, version)
    if missing:
        raise PolicyError(
            f"version {version.number} of {workspace.loop.model} (tier {workspace.loop.tier}) may not be promoted: "
            + "; ".join(missing)
        )


def _purpose(workspace: Workspace, _state: LoopState, _version: Version) -> str | None:
    return None if workspace.loop.purpose else "the declaration does not say `purpose`, what the model is for"


def _signature(workspace: Workspace, _state: LoopState, version: Version) -> str | None:
    from airflow_mlops.core.registry.verify_version import verify_version

    report = verify_version(workspace, version)
    return None if report.verified else report.reason


def _card(workspace: Workspace, state: LoopState, version: Version) -> str | None:
    card = state.cards.get(version.number)
    if card is None:
        return f"no model card was written; airflow-mlops card {workspace.loop.model} {version.number}"
    missing = card.details.missing
    if not missing:
        return None
    command = f"airflow-mlops card {workspace.loop.model} {version.number}"
    return f"the model card lacks {', '.join(missing)}; once nothing is lacking, {command}"


def _reproduced(workspace: Workspace, state: LoopState, version: Version) -> str | None:
    origin, record = version.details.adopted, state.reproduced.get(version.number)
    if origin is not None:
        return reproduction_there(workspace, origin)
    if record is None:
        return f"it was not made again yet; airflow-mlops reproduce {workspace.loop.model} {version.number}"
    return _reproduction(workspace, record.details)


def reproduction_there(workspace: Workspace, origin: Adoption) -> str | None:
    """Return why the reproduction of a version in its own environment does not suffice here; None if it does."""
    if origin.reproduced is None:
        return (
            f"it was not made again where it was fitted; in {origin.environment} run airflow-mlops reproduce "
            f"{workspace.loop.model} {origin.version}, and export it again"
        )
    return _reproduction(workspace, Reproduced.read(origin.reproduced))


def _reproduction(workspace: Workspace, details: Reproduced) -> str | None:
    # The difference is compared with the tolerance in the reviewed policy, not with one typed on the command line.
    allowed = read_policy(workspace.root).tolerance
    if details.verdict == "identical" or float(details.largest_difference) <= allowed:
        return None
    return f"{details.reason}; {FILE} allows {allowed:g}"


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
