"""Compare windows and policies over one history: which of the two mattered.

The models of every declared window are in the history, so a loop of one of them is replayed without a fit. All benefits
are on one scale: 0 is the declared list never retrained, 1 the declared list retrained on every partition. Baselines of
the gates are those of the longest window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from airflow_mlops.core.declaration.windowed_candidate import describe_window, estimator_of, windowed_name
from airflow_mlops.core.replay.compare_policies import PolicyComparison
from airflow_mlops.core.replay.fit_history import FittedHistory, FittedModel, window_positions

POLICIES = ("declared", "nightly", "clock:4", "never")
"""The columns of the table."""
RETRAINING = POLICIES[:3]
"""Those between which the policy can matter: never is where the scale begins."""


@dataclass(frozen=True)
class WindowTable:
    """The benefit of each policy with each window: ``rows[window][policy]``, None where nightly has no benefit.

    A window is the name of a declared one, or ``declared`` for all of them. ``by_window`` is the largest difference
    between windows under the declared policy, ``by_policy`` the largest between policies that retrain with the declared
    windows, both in points of nightly's benefit.
    """

    rows: dict[str, dict[str, float | None]]
    by_window: float | None
    by_policy: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the table as JSON values."""
        return {"rows": self.rows, "by_window": self.by_window, "by_policy": self.by_policy}

    @property
    def sentence(self) -> str:
        """Which of the two mattered, in words."""
        if self.by_window is None or self.by_policy is None:
            return "retraining on every partition has no benefit here, so neither window nor policy can be compared"
        return f"the window mattered by {self.by_window:.0f} points, the policy by {self.by_policy:.0f} points"

    def lines(self) -> list[str]:
        """Return the table as lines of text, with the sentence below it."""
        head = f"{'window':<20}" + "".join(f"{policy:>10}" for policy in POLICIES)
        body = [
            f"{_name(window):<20}" + "".join(f"{_percent(row[policy]):>10}" for policy in POLICIES)
            for window, row in self.rows.items()
        ]
        return [head, *body, "", self.sentence]


def compare_windows(
    comparison: PolicyComparison, first: int, last: int, progress: Callable[[str], None] = lambda _: None
) -> WindowTable | None:
    """Return the benefits of each declared window alone and of all of them; None where a single one is declared.

    Parameters
    ----------
    comparison : PolicyComparison
        The policies over the history of all declared windows.
    first, last : int
        Positions of the judged partitions, ``last`` not included.
    progress : callable
        Called with the window and the policy before each replay.
    """
    train = comparison.loop.train
    if not train.has_several_windows:
        return None
    alone = {str(window): PolicyComparison(restrict_history(comparison.history, window)) for window in train.windows}
    rows: dict[str, dict[str, float | None]] = {}
    for name, compared in {**alone, "declared": comparison}.items():
        rows[name] = {}
        for policy in POLICIES:
            progress(f"{policy} with {_name(name)}")
            rows[name][policy] = comparison.benefit(compared.replay(policy), first, last)
    return WindowTable(
        rows,
        _spread([row["declared"] for row in rows.values()]),
        _spread([rows["declared"][policy] for policy in RETRAINING]),
    )


def restrict_history(history: FittedHistory, window: int | str) -> FittedHistory:
    """Return the history of a loop that declares one of several windows alone, and begins to train where this one does.

    Its candidates have the names that the function gives them.
    """
    train = history.loop.train
    alone = train.model_copy(update={"window": window, "at_least": train.partitions_needed - train.holdout})
    loop = history.loop.model_copy(update={"train": alone})
    models: dict[int, dict[str, FittedModel]] = {}
    for as_of, fitted in history.models.items():
        # A window that is longer than the history of then was fitted under the name of the longest.
        length, longest = (len(window_positions(each, as_of)[0]) for each in (loop, history.loop))
        names = {other: name for name, other in train.window_lengths(longest).items()}
        models[as_of] = {
            estimator: fitted[windowed_name(estimator, names[length])]
            for estimator in dict.fromkeys(map(estimator_of, fitted))
        }
    return replace(history, loop=loop, models=models)


def _name(window: str) -> str:
    return "the declared list" if window == "declared" else describe_window(window)


def _spread(benefits: list[float | None]) -> float | None:
    """Return the largest difference in points; None if one is not known."""
    known = [benefit for benefit in benefits if benefit is not None]
    return 100 * (max(known) - min(known)) if len(known) == len(benefits) else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
