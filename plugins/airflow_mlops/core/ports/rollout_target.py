"""What a rollout needs from outside: something that serves, can be told who serves what, and says what it sees.

    prepare(version) -> apply(traffic) -> observe() == traffic? -> telemetry() … -> finalize | rollback

A target is told what to serve, never how to get there: each change is the whole of what it shall serve, with the
number of the ledger record that says so. One that is older than what a target has been told is refused, so that a
worker that was thought dead cannot bring traffic back that a rollback has taken away.
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
"""Kinds of stage in which the challenger answers requests."""
LATENCY_EDGES: tuple[float, ...] = tuple(round(float(edge), 8) for edge in np.geomspace(1e-4, 10.0, 51))
"""Upper edges of the latency bins, in seconds: ten for each factor of ten; what is slower goes into one more bin."""


class TargetError(RolloutError):
    """The target cannot do, or has not done, what it was told; trying again may help."""

    retryable = True


class OlderTrafficError(RolloutError):
    """The target has been told something newer than this."""


@dataclass(frozen=True)
class Traffic:
    """What a target shall serve, or says that it serves.

    Parameters
    ----------
    order : int
        Number of the ledger record that says so; higher is newer.
    champion : str, optional
        Number of the version that answers what the challenger does not; None before the first.
    challenger : str, optional
        Number of the version that is being rolled out.
    kind : str
        ``shadow``: the challenger predicts a share of the requests beside the champion, and answers none.
        ``standby``: it is loaded and warm, and sees nothing. ``canary`` and ``ab``: it answers the keys of its
        share. ``rolling``: it answers everything on its share of the replicas. ``none``: there is no challenger.
    share : float
        Percent of the keys, or of the replicas, that the kind concerns.
    salt : str
        Names the rollout in the sticky split; see :func:`airflow_mlops.core.rollout.sticky_share.sticky_share`.
    standby : str, optional
        Number of the champion before, kept warm to switch back to at once.
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
        """Whether two say the same but for the record they come from and what is kept warm."""
        mine, theirs = asdict(self), asdict(other)
        return all(mine[name] == theirs[name] for name in ("champion", "challenger", "kind", "share", "salt"))

    def to_dict(self) -> dict[str, Any]:
        """Return the traffic as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class UnitSums:
    """Of each unit of assignment: the requests of a version, and the sum of a value over them. Shape (n_units,).

    A unit is what the sticky split assigns: a key, or one of its buckets. Units without a request are left out.
    """

    total: Floats
    count: Floats


@dataclass(frozen=True)
class VersionTelemetry:
    """What a target saw of one version since the traffic was applied.

    Parameters
    ----------
    requests, errors : int
        Rows that the version was asked to predict, and those of them that it raised on or gave no finite number for.
    errors_by_unit : UnitSums, optional
        The same by unit of assignment; None where the target does not know units.
    latency : array of int, shape (len(LATENCY_EDGES) + 1,)
        Requests by the seconds that they took, in the bins of ``LATENCY_EDGES``; all zero where unknown.
    predictions : array of float, shape (n,)
        A sample of what it predicted, at most a few thousand; empty where unknown.
    """

    requests: int = 0
    errors: int = 0
    errors_by_unit: UnitSums | None = None
    latency: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(LATENCY_EDGES) + 1, np.int64))
    predictions: Floats = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Telemetry:
    """What a target saw since the traffic of ``order`` was applied, ``seconds`` ago by its own clock.

    ``paired`` holds predictions of champion and challenger for the same rows, shape (n, 2), where a shadow made
    them; ``tripped`` says in words why the target took the challenger out by itself, if it did.
    """

    order: int
    seconds: float
    champion: VersionTelemetry
    challenger: VersionTelemetry
    paired: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    tripped: str | None = None


class RolloutTarget(Protocol):
    """Who serves a model. Every method may be called again, and is then as if it had been called once."""

    name: str
    """``batch``, ``gateway`` or ``sagemaker``."""

    def prepare(self, version: Version) -> None:
        """Make a version ready to serve: its files are where the target finds them, loaded and warm; no traffic.

        Raises
        ------
        TargetError
            If the target cannot be reached, or has not got ready in time.
        RolloutError
            If the version cannot be served there, whatever is tried.
        """

    def apply(self, traffic: Traffic) -> None:
        """Let the target serve ``traffic``, and return once it does.

        Raises
        ------
        OlderTrafficError
            If it has been told something newer.
        TargetError
            If it does not do it, or does something else instead, as one that rolls back by itself.
        """

    def observe(self) -> Traffic:
        """Return what the target serves now, by its own word."""

    def telemetry(self) -> Telemetry:
        """Return what it saw since the traffic that it serves was applied."""

    def rollback(self, traffic: Traffic) -> None:
        """Serve ``traffic``, which has no challenger, by the quickest way there is.

        Neither the challenger nor the registry is needed.
        """

    def finalize(self, traffic: Traffic) -> None:
        """Let go of what ``traffic`` does not need any more, once it is served."""
