"""The port to a rollout target, which serves a model: it applies traffic, and reports its traffic and telemetry.

    prepare(version) -> apply(traffic) -> observe() == traffic? -> telemetry() … -> finalize | rollback

Traffic is declarative: it is complete, not a difference, and has the number of its ledger record. A target refuses
traffic that is older than its own, so that a worker that was thought dead cannot undo a rollback.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ledger.state_machine import Version

Floats = npt.NDArray[np.float64]
Kind = Literal["none", "shadow", "standby", "canary", "ab", "rolling"]
SERVING = frozenset({"canary", "ab", "rolling"})
"""Kinds of traffic in which the challenger answers requests."""
LATENCY_EDGES: tuple[float, ...] = tuple(round(float(edge), 8) for edge in np.geomspace(1e-4, 10.0, 51))
"""Upper edges of the latency bins, in seconds: ten for each factor of ten; what is slower goes into one more bin."""


class TargetError(RolloutError):
    """The target cannot apply, or has not applied, a change; trying again may help."""

    retryable = True


class OlderTrafficError(RolloutError):
    """The target has newer traffic."""


@dataclass(frozen=True)
class Traffic:
    """The traffic that a target shall serve, or serves.

    Parameters
    ----------
    order : int
        Number of the ledger record of this traffic; higher is newer.
    champion : str, optional
        Number of the version that answers the rest of the requests; None before the first champion.
    challenger : str, optional
        Number of the version that is being rolled out.
    kind : str
        ``shadow``: the challenger predicts a share of the requests beside the champion, and answers none.
        ``standby``: it is loaded and warm, and sees nothing. ``canary`` and ``ab``: it answers the keys of its
        share. ``rolling``: it answers everything on its share of the replicas. ``none``: there is no challenger.
    share : float
        Percent of the keys, or of the replicas, that the kind concerns; 0 to 100.
    salt : str
        Names the rollout in the sticky split; see :func:`airflow_mlops.core.rollout.sticky_share.sticky_share`.
    standby : str, optional
        Number of the previous champion, kept warm for a rollback.
    """

    order: int
    champion: str | None
    challenger: str | None = None
    kind: Kind = "none"
    share: float = 0.0
    salt: str = ""
    standby: str | None = None

    @property
    def exposed(self) -> float:
        """Percent of the keys or replicas that the challenger answers."""
        return self.share if self.kind in SERVING else 0.0

    def serves_like(self, other: Traffic) -> bool:
        """Return whether two are equal but for their order and standby."""
        own, others = asdict(self), asdict(other)
        return all(own[name] == others[name] for name in ("champion", "challenger", "kind", "share", "salt"))

    def to_dict(self) -> dict[str, Any]:
        """Return the traffic as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class UnitSums:
    """Sums by unit of assignment, shape (n_units,): the requests of a version, and a value summed over them.

    A unit is what the sticky split assigns: a key, or one of its buckets. Units without a request are left out.
    """

    total: Floats
    count: Floats


@dataclass(frozen=True)
class VersionTelemetry:
    """Telemetry of one version since the traffic was applied.

    Parameters
    ----------
    requests, errors : int
        Rows to predict, and those of them on which the version raised or returned no finite number.
    errors_by_unit : UnitSums, optional
        The same by unit of assignment; None where the target does not know units.
    latency : array of int, shape (len(LATENCY_EDGES) + 1,)
        Requests by the seconds that they took, in the bins of ``LATENCY_EDGES``; all zero where unknown.
    predictions : array of float, shape (n,) or (n, n_classes)
        A sample of its predictions, at most a few thousand; empty where unknown.
    """

    requests: int = 0
    errors: int = 0
    errors_by_unit: UnitSums | None = None
    latency: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(LATENCY_EDGES) + 1, np.int64))
    predictions: Floats = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Telemetry:
    """Telemetry of both versions since the traffic of ``order`` was applied, ``seconds`` ago by the target's clock.

    ``paired`` holds predictions of champion and challenger for the same rows of a shadow, shape (n, 2) or, of three
    classes or more, (n, 2, n_classes); ``tripped`` is the reason why the target took the challenger out by itself.
    """

    order: int
    seconds: float
    champion: VersionTelemetry
    challenger: VersionTelemetry
    paired: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    tripped: str | None = None


class RolloutTarget(Protocol):
    """A system that serves a model. Every method is idempotent."""

    name: str
    """``batch``, ``gateway`` or ``sagemaker``."""

    def prepare(self, version: Version) -> None:
        """Make a version ready to serve, loaded and warm, without any traffic.

        Raises
        ------
        TargetError
            If the target cannot be reached, or has not got ready in time.
        RolloutError
            If the version cannot be served there, whatever is tried.
        """

    def apply(self, traffic: Traffic) -> None:
        """Apply ``traffic``, and return once the target serves it.

        Raises
        ------
        OlderTrafficError
            If it has newer traffic.
        TargetError
            If it does not serve it, or serves something else, such as a target that rolls back by itself.
        """

    def observe(self) -> Traffic:
        """Return the traffic that the target reports to serve now."""

    def telemetry(self) -> Telemetry:
        """Return the telemetry since the current traffic was applied."""

    def rollback(self, traffic: Traffic) -> None:
        """Apply ``traffic``, which has no challenger, in the quickest way.

        Neither the challenger nor the registry is needed.
        """

    def finalize(self, traffic: Traffic) -> None:
        """Release the resources that ``traffic`` does not need, once it is served."""
