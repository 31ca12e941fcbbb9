"""The policies of a replay, and the windows and partitions that a person restricts it to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.declaration.partition_key import partition_key
from airflow_mlops.core.errors import DeclarationError, NotReadyError
from airflow_mlops.core.replay.policy_names import POLICIES, policy_names

if TYPE_CHECKING:
    from airflow_mlops.core.declaration.loop import Loop

WINDOW = re.compile(r"all|[1-9][0-9]{0,5}")


@dataclass(frozen=True, kw_only=True)
class ReplayRequest:
    """The policies of a replay, and what it is restricted to.

    Parameters
    ----------
    policies : tuple of str
        The policies, as :func:`~airflow_mlops.core.replay.compare_policies.policy_of` reads them.
    window : str, optional
        Partitions that a model is fitted on, ``all``, or several with commas between; the declared ones by default.
    until : str, optional
        Key of the last partition; the newest published one by default.
    split : str, optional
        Key up to which a suggestion is chosen; later partitions judge it. The middle of the history by default.
    """

    policies: tuple[str, ...]
    window: str | None = None
    until: str | None = None
    split: str | None = None

    def loop(self, declared: Loop) -> Loop:
        """Return the declaration with the windows that were asked for."""
        if self.window is None:
            return declared
        # The first training happens when it would have: the window changes how much is remembered, not the start.
        first = declared.train.partitions_needed - declared.train.holdout
        changes = {"window": read_windows(self.window), "at_least": first}
        return declared.model_copy(update={"train": declared.train.model_copy(update=changes)})


def replay_request(policies: str = "", *, window: str = "", until: str = "", split: str = "") -> ReplayRequest:
    """Return a request from what a person wrote; what is empty is as by default.

    Raises
    ------
    DeclarationError
        If a policy or a window is none.
    DataError
        If a key is no ISO date or time.

    >>> replay_request("never, nightly", window="4, all", split="2013-06-30")
    ReplayRequest(policies=('never', 'nightly'), window='4,all', until=None, split='2013-06-30T00:00:00')
    """
    windows = read_windows(window) if window.strip() else None
    return ReplayRequest(
        policies=policy_names(policies if policies.strip() else POLICIES),
        window=None if windows is None else ",".join(map(str, windows if isinstance(windows, tuple) else [windows])),
        until=partition_key(until.strip()) if until.strip() else None,
        split=partition_key(split.strip()) if split.strip() else None,
    )


def read_windows(text: str) -> Any:
    """Return the window of a text such as ``8`` or ``all``, or the tuple of several with commas between.

    Raises
    ------
    DeclarationError
        If a window is neither a number of partitions nor ``all``, or they do not rise.
    """
    from airflow_mlops.core.declaration.train import rising_windows

    names = [name.strip() for name in text.split(",")]
    if not all(WINDOW.fullmatch(name) for name in names):
        raise DeclarationError(f"window {text!r} is neither a number of partitions nor all; write 8, all or 4,13,all")
    try:
        return rising_windows([name if name == "all" else int(name) for name in names])
    except ValueError as error:
        raise DeclarationError(f"window {text!r}: {error}") from error


def split_position(keys: Sequence[str], first: int, split: str | None) -> int:
    """Return the position of the first partition that judges a suggestion.

    Parameters
    ----------
    keys : sequence of str
        Keys of the partitions of the history, in order.
    first : int
        Position of the first of them that a model served.
    split : str or None
        Key of the last one that a suggestion is chosen on; the middle of those that a model served if None.

    Raises
    ------
    NotReadyError
        If no partition is left to choose on, or none to judge on.
    """
    last = len(keys)
    middle = (first + last) // 2 if split is None else sum(key <= split for key in keys)
    if not first < middle < last:
        place = "is left after" if middle >= last else "lies before"
        raise NotReadyError(
            f"models served {max(0, last - first)} of the {last} partitions; none of them {place} {split or keys[-1]}"
        )
    return middle
