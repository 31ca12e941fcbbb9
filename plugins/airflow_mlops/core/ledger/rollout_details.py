"""Records about a rollout: from challenger to champion, step by step, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from airflow_mlops.core.ledger.details import Details


@dataclass(frozen=True, kw_only=True)
class RolloutStarted(Details):
    """A version became the challenger; ``plan`` has a sentence for each step."""

    KIND: ClassVar[str] = "rollout_started"
    SUMMARY: ClassVar[str] = "A version became the challenger."

    version: str
    plan: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StageEntered(Details):
    """The challenger entered step ``stage``, from 0, with ``share`` percent of the keys."""

    KIND: ClassVar[str] = "stage_entered"
    SUMMARY: ClassVar[str] = "The challenger entered a step of its rollout, with its share of the keys."

    version: str
    stage: int
    kind: str
    share: int


@dataclass(frozen=True, kw_only=True)
class StageApproved(Details):
    """A person approved the start of a step of a rollout."""

    KIND: ClassVar[str] = "stage_approved"
    SUMMARY: ClassVar[str] = "A person approved the start of a step of a rollout."

    version: str
    stage: int
    name: str = ""
    by: str = ""


@dataclass(frozen=True, kw_only=True)
class StageAnalysed(Details):
    """An analysis of a step.

    ``rollout`` is the record that started the rollout. ``look`` numbers the interim analysis from 1, 0 where none
    was taken; ``information`` is the share of the planned sample, ``rows`` of the challenger, ``since`` the first
    partition that counts.
    """

    KIND: ClassVar[str] = "stage_analysed"
    SUMMARY: ClassVar[str] = "An analysis of a step: pass, fail or inconclusive, with the numbers it rests on."

    version: str
    rollout: int
    stage: int
    name: str = ""
    verdict: Literal["pass", "fail", "inconclusive"]
    reason: str = ""
    rows: int = 0
    look: int = 0
    information: float = 0.0
    since: str | None = None
    metrics: tuple[dict[str, Any], ...] = ()
    offline: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class StageSkipped(Details):
    """A person skipped a step of a rollout, which counts as passed."""

    KIND: ClassVar[str] = "stage_skipped"
    SUMMARY: ClassVar[str] = "A person let a step count as passed that had not, and why."

    version: str
    stage: int
    name: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class RolloutPaused(Details):
    """A person paused a rollout."""

    KIND: ClassVar[str] = "rollout_paused"
    SUMMARY: ClassVar[str] = "A person stopped a rollout where it is: traffic stays, and nothing goes on; and why."

    version: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class RolloutResumed(Details):
    """A person resumed a paused rollout."""

    KIND: ClassVar[str] = "rollout_resumed"
    SUMMARY: ClassVar[str] = "A person let a paused rollout go on, and why."

    version: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Promoted(Details):
    """A version became the champion; ``previous`` is the champion before it.

    ``reason`` says why it went live without its stages; None of a version that passed them.
    """

    KIND: ClassVar[str] = "promoted"
    SUMMARY: ClassVar[str] = (
        "A version became the champion, which one was before it, and why, if it did not go through its stages."
    )

    version: str
    previous: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class RolledBack(Details):
    """A challenger or champion was taken back and quarantined.

    ``champion`` is the version that serves instead, where a champion was taken back; ``once`` names the attempt.
    """

    KIND: ClassVar[str] = "rolled_back"
    SUMMARY: ClassVar[str] = (
        "A challenger or champion was taken back and its version quarantined, why, and who serves instead."
    )

    version: str
    reason: str = ""
    champion: str | None = None
    once: str | None = None


@dataclass(frozen=True, kw_only=True)
class QuarantineLifted(Details):
    """A person lifted the quarantine of a version."""

    KIND: ClassVar[str] = "quarantine_lifted"
    SUMMARY: ClassVar[str] = "A person let a rolled-back version serve again, and why."

    version: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Approved(Details):
    """A person approved a version for its rollout; ``made_by`` are the people involved in making it."""

    KIND: ClassVar[str] = "approved"
    SUMMARY: ClassVar[str] = "A person let a version be rolled out: who, and in which run they were asked."

    version: str
    by: str = ""
    made_by: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Rejected(Details):
    """A person refused a version; it is quarantined."""

    KIND: ClassVar[str] = "rejected"
    SUMMARY: ClassVar[str] = "A person refused a version; it is quarantined."

    version: str
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ApprovalVoid(Details):
    """An approval that does not count."""

    KIND: ClassVar[str] = "approval_void"
    SUMMARY: ClassVar[str] = "An approval that does not count, and why."

    version: str
    by: str = ""
    reason: str = ""
