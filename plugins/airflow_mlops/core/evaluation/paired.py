"""The paired comparison: two models on the same rows, judged by the differences of their losses."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np

from airflow_mlops.core.evaluation.metrics import Floats


@dataclass(frozen=True)
class PairedDifference:
    """Mean loss of a challenger less that of the champion, with a normal interval. In units of the loss."""

    mean: float
    low: float
    high: float
    rows: int
    champion: float

    def to_dict(self) -> dict[str, float]:
        """Return the difference as JSON values."""
        return asdict(self)


def paired_difference(challenger: Floats, champion: Floats, *, confidence: float = 0.95) -> PairedDifference:
    """Return how much worse the challenger's rows are, with a two-sided interval.

    Parameters
    ----------
    challenger, champion : ndarray of float, shape (n_rows,)
        Losses on the same rows in the same order; at least 2 rows.
    confidence : float
        Level of the interval, which is the normal one for a mean of independent differences.

    >>> found = paired_difference(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0]))
    >>> found.mean, found.rows
    (1.0, 3)
    """
    differences = challenger - champion
    mean = float(np.mean(differences))
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) * float(np.std(differences, ddof=1)) / sqrt(differences.size)
    return PairedDifference(mean, mean - reach, mean + reach, int(differences.size), float(np.mean(champion)))
