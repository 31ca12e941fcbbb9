"""The check ``service``: latency, error share, traffic and availability of the served champion.

The rollout target reports its telemetry. Errors and slow requests since the last look are compared with the limits
declared under ``rollout.metrics``, and without these with the first look at this champion that saw enough requests: so
the first look is the baseline of later ones and has no verdict itself. A target that does not answer is an alarm.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from airflow_mlops.core.declaration.rollout import OnlineMetric
from airflow_mlops.core.ports.rollout_target import TargetError, Telemetry
from airflow_mlops.core.rollout.analysis.evidence import counts_above, z_of
from airflow_mlops.core.rollout.analysis.judge_latency import quantile_bound, slower_than, value_slower
from airflow_mlops.core.watch.checks.check_result import CheckResult, cannot_tell
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.watched_window import WatchedWindow

MORE_ERRORS = 0.01
"""By how much the share of errors may exceed that of the first look, where nothing is declared: one point."""
SLOWER = 0.5
"""By how much the quantile of the latency may exceed that of the first look: half as long again."""
SURE = 0.95
"""Confidence of the upper bounds on the champion's error share and latency quantile at the first look."""
QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True)
class Served:
    """Traffic of the champion in a span of time.

    ``requests`` and ``errors`` count rows, ``latency`` counts requests by bins of their latency, shape (n_bins,), and
    ``seconds`` is the length of the span.
    """

    requests: int
    errors: int
    latency: npt.NDArray[np.int64]
    seconds: float

    @classmethod
    def of(cls, telemetry: Telemetry) -> Served:
        """Return a target's telemetry of the champion since its traffic was applied."""
        return cls(
            telemetry.champion.requests, telemetry.champion.errors, telemetry.champion.latency, telemetry.seconds
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Served:
        """Return the instance that ``to_dict`` wrote."""
        return cls(values["requests"], values["errors"], np.array(values["latency"], np.int64), values["seconds"])

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "requests": self.requests,
            "errors": self.errors,
            "latency": self.latency.tolist(),
            "seconds": self.seconds,
        }

    def since(self, before: Served) -> Served:
        """Return the counts since ``before``; all of them where the target has restarted its counters."""
        difference = Served(
            self.requests - before.requests,
            self.errors - before.errors,
            self.latency - before.latency,
            self.seconds - before.seconds,
        )
        least = min(difference.requests, difference.errors, difference.seconds, int(difference.latency.min()))
        return self if least < 0 else difference

    def numbers(self) -> dict[str, Any]:
        """Return requests, error share, rows a second and quantiles of the latency in seconds."""
        timed = int(self.latency.sum())
        return {
            "requests": self.requests,
            "error_share": self.errors / max(self.requests, 1),
            "per_second": self.requests / self.seconds if self.seconds > 0 else None,
            **{
                f"latency_p{round(100 * q)}": value_slower(self.latency, (1 - q) * timed) if timed else None
                for q in QUANTILES
            },
        }


def check_service(window: WatchedWindow, terms: CheckTerms) -> CheckResult:
    """Judge whether the champion is served within the declared limits, or as at the first look."""
    workspace = window.workspace
    if workspace.loop.rollout.target == "batch":
        return cannot_tell("the target batch answers no requests: there is no latency, error share or availability")
    if workspace.state().is_historical(window.until):
        return cannot_tell("the target says what it sees now, and this partition is historical")
    try:
        telemetry = workspace.target.telemetry()
        champion = workspace.target.observe().champion
    except TargetError as error:
        return CheckResult("alarm", f"not available: {error}", {"available": False})
    total, looks = Served.of(telemetry), earlier_looks(window, str(champion))
    last = looks[-1] if looks else None
    now = total if last is None or last["order"] != telemetry.order else total.since(Served.from_dict(last["whole"]))
    sufficient = [look for look in looks if look["now"]["requests"] >= terms.min_rows]
    first = Served.from_dict(sufficient[0]["now"]) if sufficient else None
    result = judge_service(now, first, workspace.loop.rollout.metrics, terms)
    report = {"order": telemetry.order, "champion": str(champion), "whole": total.to_dict(), "now": now.to_dict()}
    return CheckResult(result.verdict, result.message, {"available": True, **result.numbers}, report)


def earlier_looks(window: WatchedWindow, champion: str) -> list[dict[str, Any]]:
    """Return the evidence of earlier looks at a champion, oldest first."""
    judged = window.workspace.state().judged("service")
    digests = [judged[key].report for key in judged.keys(before=window.partition) if judged[key].champion == champion]
    looks = [window.workspace.evidence.get(digest) for digest in digests if digest is not None]
    return [look for look in looks if look["champion"] == champion]


def judge_service(
    now: Served, first: Served | None, declared: tuple[OnlineMetric, ...], terms: CheckTerms
) -> CheckResult:
    """Judge whether errors or slow requests exceed a declared limit, or the bounds from the first look.

    Each of the two has half of the alarm rate, by exact binomial tests that take requests as independent.

    Parameters
    ----------
    first : Served, optional
        The first look that saw enough; None where this is the first.
    declared : tuple of OnlineMetric
        The declared ``rollout.metrics``; those of ``errors`` and ``latency`` count.
    """
    numbers = now.numbers()
    if now.requests < terms.min_rows:
        message = f"{now.requests:,} rows were predicted since the last look; {terms.min_rows} are needed"
        return cannot_tell(message, **numbers, needed=terms.min_rows)
    z = z_of(terms.alarm_rate / 2)
    error_limit = errors_limit(first, metric_of(declared, "errors"))
    quantile, seconds_limit = latency_limit(first, metric_of(declared, "latency"))
    numbers |= {"errors_limit": error_limit, "latency_limit": seconds_limit, "quantile": quantile}
    message = (
        f"{numbers['error_share']:.2%} of {now.requests:,} rows erred, {_latency_sentence(numbers['latency_p99'])}"
    )
    if error_limit is None and seconds_limit is None:
        message = f"{message}; it is the first look at this champion, and later ones are held against it"
        return cannot_tell(message, **numbers)
    violations = []
    if error_limit is not None and error_limit < 1 and counts_above(now.errors, now.requests, error_limit) > z:
        violations.append(f"{error_limit:.2%} may")
    if seconds_limit is not None and seconds_limit < inf:
        slow, timed = slower_than(now.latency, seconds_limit)[0], float(now.latency.sum())
        if counts_above(slow, timed, 1 - quantile) > z:
            violations.append(f"{slow / timed:.2%} took longer than {seconds_limit:.3g} s, {1 - quantile:.2%} may")
    return CheckResult("alarm" if violations else "no alarm", "; ".join([message, *violations]), numbers)


def metric_of(declared: tuple[OnlineMetric, ...], kind: str) -> OnlineMetric | None:
    """Return the first declared metric of a kind."""
    return next((metric for metric in declared if metric.metric == kind), None)


def errors_limit(first: Served | None, declared: OnlineMetric | None) -> float | None:
    """Return the share of rows that may err; None without a declared limit and a first look."""
    if declared is not None and declared.at_most is not None:
        return declared.at_most
    if first is None:
        return None
    margin = MORE_ERRORS if declared is None or declared.worse_by is None else declared.worse_by
    return margin + float(betaincinv(first.errors + 1, max(first.requests - first.errors, 1), SURE))


def latency_limit(first: Served | None, declared: OnlineMetric | None) -> tuple[float, float | None]:
    """Return a quantile of the latency and its limit in seconds; None without a declared limit and a first look."""
    quantile = 0.99 if declared is None else declared.quantile
    if declared is not None and declared.at_most is not None:
        return quantile, declared.at_most
    if first is None or not first.latency.sum():
        return quantile, None
    margin = SLOWER if declared is None or declared.worse_by is None else declared.worse_by
    return quantile, quantile_bound(first.latency, quantile, z=z_of(1 - SURE), upper=True) * (1 + margin)


def _latency_sentence(slowest: float | None) -> str:
    return "no request was timed" if slowest is None else f"99 % of the requests took at most {slowest:.3g} s"
