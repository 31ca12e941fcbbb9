"""The in-memory twin of a rollout target: it serves nobody, and keeps every promise of the port.

target = InMemoryTarget()
target.prepare(version)
target.apply(Traffic(order=7, champion="1", challenger="2", kind="canary", share=10))
target.sees(champion=VersionTelemetry(900, 9), challenger=VersionTelemetry(100, 30))
target.fails("apply", TargetError("no route"), times=2)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.rollout_target import (
    Floats,
    OlderTrafficError,
    TargetError,
    Telemetry,
    Traffic,
    VersionTelemetry,
)

Method = Literal["prepare", "apply", "observe", "telemetry", "rollback", "finalize"]


@dataclass
class Fault:
    """An error that a method raises some more times, before or after it has done its work."""

    error: BaseException
    times: int
    after: bool


@dataclass
class InMemoryTarget:
    """A target that remembers what it was told. ``observe`` starts with nothing served.

    Attributes
    ----------
    prepared : set of str
        Numbers of the versions that are ready.
    calls : list of (str, object)
        Every call in order: the method and what it was given, also where it then failed.
    history : list of Traffic
        Every traffic that was really served, in order.
    seconds : float
        What the telemetry says has passed since the traffic was applied; a test moves it.
    tripped : str or None
        Why the challenger was taken out; see :meth:`trips`.
    """

    name: str = "gateway"
    prepared: set[str] = field(default_factory=set)
    calls: list[tuple[str, object]] = field(default_factory=list)
    history: list[Traffic] = field(default_factory=list)
    seconds: float = 0.0
    tripped: str | None = None
    _traffic: Traffic = field(default_factory=lambda: Traffic(0, None))
    _seen: Telemetry | None = None
    _faults: dict[str, list[Fault]] = field(default_factory=dict)
    _instead: Traffic | None = None

    def prepare(self, version: Version) -> None:
        """Note that a version is ready."""
        self._called("prepare", version)
        self.prepared.add(version.number)
        self._done("prepare")

    def apply(self, traffic: Traffic) -> None:
        """Serve ``traffic``; see :meth:`airflow_mlops.core.ports.rollout_target.RolloutTarget.apply`.

        A challenger that was not prepared is a :class:`TargetError`, as one that was taken out before is.
        """
        self._called("apply", traffic)
        if traffic.challenger is not None and traffic.challenger not in self.prepared:
            raise TargetError(f"version {traffic.challenger} was not prepared")
        self._serve(traffic)
        self._done("apply")

    def observe(self) -> Traffic:
        """Return what is served; a challenger that was taken out has a share of 0."""
        self._called("observe", None)
        self._done("observe")
        return replace(self._traffic, share=0.0) if self.tripped else self._traffic

    def telemetry(self) -> Telemetry:
        """Return what :meth:`sees` was given since the traffic was applied; nothing where it was not called."""
        self._called("telemetry", None)
        self._done("telemetry")
        seen = self._seen or Telemetry(self._traffic.order, 0.0, VersionTelemetry(), VersionTelemetry())
        return replace(seen, order=self._traffic.order, seconds=self.seconds, tripped=self.tripped)

    def rollback(self, traffic: Traffic) -> None:
        """Serve ``traffic``, which has no challenger; nothing needs to be prepared.

        Raises
        ------
        RolloutError
            If it has one.
        """
        self._called("rollback", traffic)
        if traffic.challenger is not None:
            raise RolloutError(f"a rollback has no challenger; this one has version {traffic.challenger}")
        self._serve(traffic)
        self._done("rollback")

    def finalize(self, traffic: Traffic) -> None:
        """Forget the versions that ``traffic`` does not need."""
        self._called("finalize", traffic)
        self.prepared &= {traffic.champion or "", traffic.challenger or "", traffic.standby or ""}
        self._done("finalize")

    # --- what a test sets ---------------------------------------------------------------------------------------

    def sees(
        self,
        *,
        champion: VersionTelemetry | None = None,
        challenger: VersionTelemetry | None = None,
        paired: Floats | None = None,
    ) -> None:
        """Set what the telemetry says from now on, until other traffic is applied."""
        ours, theirs = champion or VersionTelemetry(), challenger or VersionTelemetry()
        seen = Telemetry(self._traffic.order, self.seconds, ours, theirs)
        self._seen = seen if paired is None else replace(seen, paired=paired)

    def fails(self, method: Method, error: BaseException, *, times: int = 1, after: bool = False) -> None:
        """Let the next ``times`` calls of a method raise ``error``, or lose the answer: ``after`` its work is done."""
        self._faults.setdefault(method, []).append(Fault(error, times, after))

    def trips(self, reason: str) -> None:
        """Take the challenger out as a breaker in the target would; it stays out until it is no longer asked for."""
        self.tripped = reason

    def serves_instead(self, traffic: Traffic | None) -> None:
        """Let it serve ``traffic`` whatever it is told, as a target that rolls back by itself; None ends that."""
        self._instead = traffic

    # --- how it keeps its promises ------------------------------------------------------------------------------

    def _serve(self, traffic: Traffic) -> None:
        if traffic.order < self._traffic.order:
            raise OlderTrafficError(
                f"record {traffic.order} is older than record {self._traffic.order}, which is served"
            )
        if traffic.order == self._traffic.order and traffic != self._traffic:
            raise OlderTrafficError(f"record {traffic.order} has already set other traffic")
        if self._instead is not None:
            self._traffic = self._instead
            raise TargetError(f"was told {traffic}, and serves {self._instead}")
        if traffic != self._traffic:
            self._replace(traffic)
        if self.tripped:
            raise TargetError(f"the challenger was taken out: {self.tripped}")

    def _replace(self, traffic: Traffic) -> None:
        before, self._traffic = self._traffic, traffic
        self.history.append(traffic)
        if (before.kind, before.share, before.challenger) != (traffic.kind, traffic.share, traffic.challenger):
            self._seen, self.seconds = None, 0.0
        if (before.challenger, before.salt) != (traffic.challenger, traffic.salt):
            self.tripped = None

    def _called(self, method: Method, argument: object) -> None:
        self.calls.append((method, argument))
        self._raise(method, after=False)

    def _done(self, method: Method) -> None:
        self._raise(method, after=True)

    def _raise(self, method: Method, *, after: bool) -> None:
        for fault in self._faults.get(method, []):
            if fault.after == after and fault.times > 0:
                fault.times -= 1
                raise fault.error
