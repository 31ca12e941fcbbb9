"""Evidence as a z value: the standard deviations of a normal variable that are as improbable as the observation.

Exact tests of small counts, and tests with few units, are put on this scale by their probability, so that one boundary
of an analysis serves all of them.
"""

from __future__ import annotations

from math import lgamma

from scipy.special import betainc, ndtri, ndtri_exp, stdtr

IMPROBABLE = 1e-300
"""Smallest probability that is distinguished: 37 standard deviations."""


def z_of(probability: float) -> float:
    """Return the z value that is exceeded with a probability."""
    return -float(ndtri(min(max(probability, IMPROBABLE), 1 - 1e-16)))


def z_of_t(t: float, degrees: float) -> float:
    """Return the z value as improbable as a value of Student's t; 0 without a degree of freedom."""
    if not degrees > 0:
        return 0.0
    size = z_of(float(stdtr(degrees, -abs(t))))
    return size if t > 0 else -size


def z_without_spread(sign: float, arrangements: float) -> float:
    """Return the evidence of values without any variance, by a permutation test.

    ``arrangements`` is the natural logarithm of the number of equally likely arrangements, of which this is one.
    """
    size = max(-float(ndtri_exp(-max(arrangements, 1e-9))), 0.0)
    return (sign > 0) * size - (sign < 0) * size


def log_choose(among: float, chosen: float) -> float:
    """Return the natural logarithm of the binomial coefficient, ``among`` choose ``chosen``."""
    return lgamma(among + 1) - lgamma(chosen + 1) - lgamma(among - chosen + 1)


def counts_above(hits: float, total: float, share: float) -> float:
    """Return the evidence that a share is above ``share``: the exact binomial test. Counts need not be whole.

    >>> round(counts_above(3, 3, 0.5), 3)  # one of eight
    1.15
    """
    if total <= 0 or hits <= 0:
        return z_of(1.0)
    return z_of(float(betainc(hits, total - hits + 1, share)))


def counts_below(hits: float, total: float, share: float) -> float:
    """Return the evidence that a share is below ``share``: the exact binomial test. Counts need not be whole.

    No hit shows that a share is below 1 % once there are about 300, by which time 0.99 ** 300 is 5 %.

    >>> counts_below(0, 298, 0.01) < 1.645 < counts_below(0, 299, 0.01)
    True
    """
    if total <= 0 or hits >= total:
        return z_of(1.0)
    return z_of(float(betainc(total - hits, hits + 1, 1 - share)))
