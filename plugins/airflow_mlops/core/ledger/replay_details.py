"""Records about replays: what other policies would have made of the history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from airflow_mlops.core.ledger.details import Details


@dataclass(frozen=True, kw_only=True)
class PolicyReplayed(Details):
    """Policies were replayed over the published partitions ``first`` to ``last``, as a person asked.

    ``window``, ``until`` and ``split`` are what the person asked for beside the policies: other windows than the
    declared ones, the last partition, and the last one that the suggestion is chosen on; None where nothing was asked.
    ``suggested`` is the policy that the replay suggests, None where it suggests none, and ``advice`` says why. The
    evidence ``report`` holds the figures, the notes on them and the picture; ``seconds`` is the wall time.
    """

    KIND: ClassVar[str] = "policy_replayed"
    SUMMARY: ClassVar[str] = "Policies were replayed over the history, why, and what is suggested; it changes nothing."

    policies: tuple[str, ...]
    first: str
    last: str
    advice: str
    report: str
    suggested: str | None = None
    reason: str = ""
    window: str | None = None
    until: str | None = None
    split: str | None = None
    seconds: float = 0.0
