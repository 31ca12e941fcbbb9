"""Retrains that did not help: their candidates were refused beside the same champion, one after another.

After :data:`IN_A_ROW` of them a person is told, with the numbers, and no more is paid for until something has changed:
the declaration or the code, the alarms, or the champion's regret since the last of them. Each further one that does not
help doubles the regret that the next one needs, so a loop that nobody watches tries again, and ever more rarely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from airflow_mlops.core.declaration.windowed_candidate import describe_window
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.state import LoopState, entry_key
from airflow_mlops.core.ledger.training_details import CandidateRefused, RetrainDecided

IN_A_ROW = 3
"""Retrains without a better model, one after another, before no more is paid for."""
SHOWN = 5
"""The newest of them whose numbers are told."""


def unhelpful_retrains(state: LoopState, setup: str | None) -> list[Record[CandidateRefused]]:
    """Return the refusals of candidates that were compared with the current champion, the newest first.

    Parameters
    ----------
    setup : str, optional
        Digest of the declaration and the code; a refusal of another one does not count. None where it is not known.
    """
    promotion = state.promotions.newest() or ""
    refusals = []
    for key, record in state.refusals.newest_first():
        made_by = record.details.setup
        if key <= promotion or (setup is not None and made_by is not None and made_by != setup):
            break
        if record.details.loss_change is not None:
            refusals.append(record)
    return refusals


def decision_of(state: LoopState, refusal: Record[CandidateRefused]) -> Record[RetrainDecided] | None:
    """Return the decision to retrain that ended in a refusal."""
    return state.retrains.get(entry_key(refusal.partition, refusal.details.decision))


def describe_refusals(refusals: Sequence[Record[CandidateRefused]]) -> str:
    """Return the numbers of refusals, the newest first, as the start of a sentence about them."""
    newest = refusals[:SHOWN][::-1]
    changes = ", ".join(f"{refusal.details.loss_change:+.1%}" for refusal in newest)
    count = f"the last {len(refusals)} retrains" if len(refusals) <= SHOWN else f"the last {SHOWN} of {len(refusals)}"
    windows = describe_windows(refusals[0].details.by_window)
    return f"{count} since the promotion changed the loss by {changes}{windows}, and none gave a better model"


def describe_windows(by_window: Mapping[str, float] | None) -> str:
    """Return the change of the loss by the best candidate of each window, in words; empty for a single window.

    >>> describe_windows({"4": 0.01, "all": -0.02})
    ' (on the last holdout of 4 partitions +1.0%, of all partitions -2.0%)'
    """
    if not by_window:
        return ""
    order = sorted(by_window, key=lambda name: int(name) if name.isdecimal() else inf)
    listed = ", ".join(f"of {describe_window(name)} {by_window[name]:+.1%}" for name in order)
    return f" (on the last holdout {listed})"


def needed_regret(cost: float, refusals: int) -> float:
    """Return the regret since the last refusal that another retrain needs, in units of a fresh model's loss.

    >>> [needed_regret(0.1, refusals) for refusals in (3, 4, 5)]
    [0.1, 0.2, 0.4]
    """
    return float(cost * 2 ** (refusals - IN_A_ROW))
