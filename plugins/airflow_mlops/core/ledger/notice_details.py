"""Records about what people were sent, and asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from airflow_mlops.core.ledger.details import Details


@dataclass(frozen=True, kw_only=True)
class Notified(Details):
    """A notifier was sent what it is for of the records ``first`` to ``last``: so many ``messages``.

    ``kinds`` are the kinds of decision that it was looked through for. Without messages nothing was to be sent: the
    notifier is new, or many records were looked through.
    """

    KIND: ClassVar[str] = "notified"
    SUMMARY: ClassVar[str] = "A notifier was sent what it is for, up to which record."

    notifier: str
    kinds: tuple[str, ...] = ()
    first: int = 0
    last: int = 0
    messages: int = 0


@dataclass(frozen=True, kw_only=True)
class ApprovalWanted(Details):
    """A person was asked to approve a version, or with ``name`` a step of its rollout; ``question`` is the text."""

    KIND: ClassVar[str] = "approval_wanted"
    SUMMARY: ClassVar[str] = "A person was asked to approve a version, or a step of its rollout."

    version: str
    name: str = ""
    question: str = ""
