"""Compare two shares of traffic by the entities that they were split by.

Where every request of a passenger goes to the same version, requests of one passenger are not independent, and a test
that counts requests believes that it has seen far more than it has. The unit of analysis is the unit of assignment:
each entity contributes its sum and its count, and the variance of their ratio comes from the delta method [1]_.

References
----------
.. [1] A. Deng, U. Knoblich, J. Lu, Applying the delta method in metric analytics, KDD (2018) 233-242.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.errors import GateError
from airflow_mlops.core.training.row_losses import Floats

FEWEST_ENTITIES = 2
"""Fewest entities of a version whose variance can be estimated."""


@dataclass(frozen=True)
class RatioOfSums:
    """A mean over requests, with the variance that its entities give it. In units of the metric."""

    value: float
    variance: float
    entities: int
    requests: float


@dataclass(frozen=True)
class EntityDifference:
    """The challenger's mean less the champion's, in units of the metric.

    ``z`` is the difference less ``margin`` in standard errors: above a boundary, the challenger is worse by more than
    the margin. ``low`` and ``high`` are the two-sided interval of the difference at ``confidence``.
    """

    difference: float
    standard_error: float
    z: float
    low: float
    high: float
    confidence: float
    margin: float
    challenger: RatioOfSums
    champion: RatioOfSums

    def to_dict(self) -> dict[str, object]:
        """Return the difference as JSON values."""
        return asdict(self)


def ratio_of_sums(total: npt.ArrayLike, count: npt.ArrayLike) -> RatioOfSums:
    """Return the mean over all requests of a version, and its variance.

    Parameters
    ----------
    total, count : array_like of float, shape (n_entities,)
        Of each entity: the sum of the metric over its requests, and the number of requests, at least 1.

    Raises
    ------
    GateError
        If the lengths differ, there are too few entities, or a value is NaN, infinite or counts no request.

    >>> ratio = ratio_of_sums([1.0, 0.0, 3.0], [2, 2, 4])
    >>> ratio.value, ratio.entities
    (0.5, 3)
    """
    sums, counts = np.asarray(total, np.float64), np.asarray(count, np.float64)
    if sums.shape != counts.shape or sums.ndim != 1:
        raise GateError(f"{sums.shape} sums for {counts.shape} counts")
    if sums.size < FEWEST_ENTITIES:
        raise GateError(f"{sums.size} entities; {FEWEST_ENTITIES} are needed to know how they differ")
    bad = int(np.count_nonzero(~np.isfinite(sums) | ~np.isfinite(counts) | (counts <= 0)))
    if bad:
        raise GateError(f"{bad:,} of {sums.size:,} entities have no requests, or a sum that is NaN or infinite")
    value = float(sums.sum() / counts.sum())
    residuals: Floats = sums - value * counts
    variance = float(residuals.var(ddof=1) / (sums.size * counts.mean() ** 2))
    return RatioOfSums(value, variance, int(sums.size), float(counts.sum()))


def entity_difference(
    challenger: RatioOfSums, champion: RatioOfSums, *, margin: float = 0.0, confidence: float = 0.95
) -> EntityDifference:
    """Return the difference of the challenger's mean from the champion's.

    Parameters
    ----------
    margin : float
        Difference up to which a challenger counts as no worse, in units of the metric.
    """
    difference = challenger.value - champion.value
    error = sqrt(challenger.variance + champion.variance)
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) * error
    beyond = difference - margin
    z = beyond / error if error > 0 else float(np.sign(beyond)) * float("1e9")
    return EntityDifference(
        difference, error, z, difference - reach, difference + reach, confidence, margin, challenger, champion
    )
