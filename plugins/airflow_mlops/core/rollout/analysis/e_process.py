"""An e-process: evidence against an error rate that may be checked at any time, between the planned analyses.

Each error multiplies a stake by p / b and each request without one by (1 - p) / (1 - b), for the bound b and a rate p
above it that is bet on. As long as the true rate is at most b, no such bet is expected to gain, and the chance that the
stake ever grows by 1 / alpha is at most alpha, however often it is checked [1]_ [2]_. Here all rates above the bound
are bet on at once, weighted by Jeffreys' distribution beyond it, as it is not known how bad a bad version is.

It holds where errors come independently. Where they come by unit, give it units; see
:mod:`airflow_mlops.core.rollout.analysis.gross_breakage`.

References
----------
.. [1] H. Robbins, Ann. Math. Statist. 41 (1970) 1397-1409.
.. [2] A. Ramdas, P. Grünwald, V. Vovk, G. Shafer, Statistical Science 38 (2023) 576-601.
"""

from __future__ import annotations

from math import exp, inf, log, log1p
from sys import float_info

from scipy.special import betaincc, betaln

JEFFREYS = 0.5
LARGEST_LOG = 700.0
"""Largest absolute logarithm of an e-value, so that the e-value is a finite float."""


def log_e_value(errors: float, requests: float, bound: float) -> float:
    """Return the natural logarithm of the e-value against a rate of errors of at most ``bound``.

    Parameters
    ----------
    errors, requests : float
        Errors so far, and the requests that they are among. They need not be whole.
    bound : float
        Allowed rate of errors, within (0, 1).

    Raises
    ------
    ValueError
        If the bound is not within (0, 1), or the errors are not within 0 and the requests.

    >>> log_e_value(0, 0, 0.05)
    0.0
    >>> log_e_value(10, 20, 0.05) > 10 > 0 > log_e_value(1, 40, 0.05)
    True
    """
    if not 0 < bound < 1:
        raise ValueError(f"the bound is {bound}; it must be within (0, 1)")
    if not 0 <= errors <= requests < inf:
        raise ValueError(f"{errors} errors in {requests} requests cannot be")
    if requests == 0:
        return 0.0
    log_gain = _log_mass(JEFFREYS + errors, JEFFREYS + requests - errors, bound) - _log_mass(JEFFREYS, JEFFREYS, bound)
    log_stake = errors * log(bound) + (requests - errors) * log1p(-bound)
    return max(log_gain - log_stake, -LARGEST_LOG)


def e_value(errors: float, requests: float, bound: float) -> float:
    """Return the e-value against a rate of at most ``bound``; see :func:`log_e_value`."""
    return exp(min(log_e_value(errors, requests, bound), LARGEST_LOG))


def exceeds_bound(errors: float, requests: float, bound: float, alpha: float) -> bool:
    """Return whether the rate is shown to be above ``bound``; the chance of ever being wrong is at most ``alpha``.

    >>> exceeds_bound(4, 4, 0.05, alpha=0.001), exceeds_bound(5, 100, 0.05, alpha=0.001)
    (True, False)
    """
    return log_e_value(errors, requests, bound) >= -log(alpha)


def _log_mass(errors: float, others: float, bound: float) -> float:
    """Return the logarithm of the integral of p^(errors - 1) (1 - p)^(others - 1) over the rates above the bound."""
    beyond = float(betaincc(errors, others, bound))
    # A subnormal number has lost digits, so its logarithm can fall where the share rises. It counts as zero, which
    # understates the evidence where there is hardly any.
    return float(betaln(errors, others)) + (log(beyond) if beyond >= float_info.min else -inf)
