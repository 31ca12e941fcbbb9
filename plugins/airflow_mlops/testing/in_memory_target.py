"""An in-memory implementation of a rollout target, which fulfils the contract of the port.

target = InMemoryTarget()
target.prepare(version)
target.apply(Traffic(order=7, champion="1", challenger="2", kind="canary", share=10))
target.set_telemetry(champion=VersionTelemetry(900, 9), challenger=VersionTelemetry(100, 30))
target.fail_next("apply", TargetError("no route"), times=2)
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
    """An error that a method raises for a number of calls, before or after its work."""

    error: BaseException
    times: int
    after: bool


@dataclass
class InMemoryTarget:
    """A target that records its calls; it starts without traffic.

    Attributes
    ----------
    prepared : set of str
        Numbers of the versions that are ready.
    calls : list of (str, object)
        Every call in order: the method and its argument, also of calls that failed.
    history : list of Traffic
        Every traffic that was served, in order.
    seconds : float
        Seconds since the traffic was applied, as the telemetry reports; set by the test.
    tripped : str or None
        Reason why the challenger was taken out; see :meth:`trip`.
    """

    name: str = "gateway"
    prepared: set[str] = field(default_factory=set)
    calls: list[tuple[str, object]] = field(default_factory=list)
    history: list[Traffic] = field(default_factory=list)
    seconds: float = 0.0
    tripped: str | None = None
    _traffic: Traffic = field(default_factory=lambda: Traffic(0, None))
    _telemetry: Telemetry | None = None
    _faults: dict[str, list[Fault]] = field(default_factory=dict)
    _override: Traffic | None = None

    def prepare(self, version: Version) -> None:
        """Mark a version as ready."""
        self._record_call("prepare", version)
        self.prepared.add(version.number)
        self._raise_after("prepare")

    def apply(self, traffic: Traffic) -> None:
        """Serve ``traffic``; see :meth:`airflow_mlops.core.ports.rollout_target.RolloutTarget.apply`.

        Raises :class:`TargetError` for a challenger that was not prepared, or was taken out before.
        """
        self._record_call("apply", traffic)
        if traffic.challenger is not None and traffic.challenger not in self.prepared:
            raise TargetError(f"version {traffic.challenger} was not prepared")
        self._serve(traffic)
        self._raise_after("apply")

    def observe(self) -> Traffic:
        """Return the served traffic; a challenger that was taken out has a share of 0."""
        self._record_call("observe", None)
        self._raise_after("observe")
        return replace(self._traffic, share=0.0) if self.tripped else self._traffic

    def telemetry(self) -> Telemetry:
        """Return the telemetry set by :meth:`set_telemetry` since the traffic was applied; empty by default."""
        self._record_call("telemetry", None)
        self._raise_after("telemetry")
        telemetry = self._telemetry or Telemetry(self._traffic.order, 0.0, VersionTelemetry(), VersionTelemetry())
        return replace(telemetry, order=self._traffic.order, seconds=self.seconds, tripped=self.tripped)

    def rollback(self, traffic: Traffic) -> None:
        """Serve ``traffic``, which has no challenger; nothing needs to be prepared.

        Raises
        ------
        RolloutError
            If the traffic has a challenger.
        """
        self._record_call("rollback", traffic)
        if traffic.challenger is not None:
            raise RolloutError(f"a rollback has no challenger; this one has version {traffic.challenger}")
        self._serve(traffic)
        self._raise_after("rollback")

    def finalize(self, traffic: Traffic) -> None:
        """Forget the versions that ``traffic`` does not need."""
        self._record_call("finalize", traffic)
        self.prepared &= {traffic.champion or "", traffic.challenger or "", traffic.standby or ""}
        self._raise_after("finalize")

    # --- set by tests -------------------------------------------------------------------------------------------

    def set_telemetry(
        self,
        *,
        champion: VersionTelemetry | None = None,
        challenger: VersionTelemetry | None = None,
        paired: Floats | None = None,
    ) -> None:
        """Set the telemetry until other traffic is applied."""
        champion_telemetry, challenger_telemetry = champion or VersionTelemetry(), challenger or VersionTelemetry()
        telemetry = Telemetry(self._traffic.order, self.seconds, champion_telemetry, challenger_telemetry)
        self._telemetry = telemetry if paired is None else replace(telemetry, paired=paired)

    def fail_next(self, method: Method, error: BaseException, *, times: int = 1, after: bool = False) -> None:
        """Make the next ``times`` calls of a method raise ``error``, before or ``after`` its work."""
        self._faults.setdefault(method, []).append(Fault(error, times, after))

    def trip(self, reason: str) -> None:
        """Take the challenger out as a circuit breaker would, until other traffic without it is applied."""
        self.tripped = reason

    def override_traffic(self, traffic: Traffic | None) -> None:
        """Serve ``traffic`` regardless of :meth:`apply`, like a target that rolls back by itself; None ends that."""
        self._override = traffic

    # --- the contract of the port -------------------------------------------------------------------------------

    def _serve(self, traffic: Traffic) -> None:
        if traffic.order < self._traffic.order:
            raise OlderTrafficError(
                f"record {traffic.order} is older than record {self._traffic.order}, which is served"
            )
        if traffic.order == self._traffic.order and traffic != self._traffic:
            raise OlderTrafficError(f"record {traffic.order} has already set other traffic")
        if self._override is not None:
            self._traffic = self._override
            raise TargetError(f"was told {traffic}, and serves {self._override}")
        if traffic != self._traffic:
            self._replace(traffic)
        if self.tripped:
            raise TargetError(f"the challenger was taken out: {self.tripped}")

    def _replace(self, traffic: Traffic) -> None:
        before, self._traffic = self._traffic, traffic
        self.history.append(traffic)
        if (before.kind, before.share, before.challenger) != (traffic.kind, traffic.share, traffic.challenger):
            self._telemetry, self.seconds = None, 0.0
        if (before.challenger, before.salt) != (traffic.challenger, traffic.salt):
            self.tripped = None

    def _record_call(self, method: Method, argument: object) -> None:
        self.calls.append((method, argument))
        self._raise(method, after=False)

    def _raise_after(self, method: Method) -> None:
        self._raise(method, after=True)

    def _raise(self, method: Method, *, after: bool) -> None:
        for fault in self._faults.get(method, []):
            if fault.after == after and fault.times > 0:
                fault.times -= 1
                raise fault.error
