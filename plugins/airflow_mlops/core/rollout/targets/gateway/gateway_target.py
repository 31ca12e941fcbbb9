"""The gateway as a rollout target: one or several replicas, driven over their control API.

All replicas get the same traffic: those of a list, or those that a name has now, as a headless service of Kubernetes
does. In a rolling stage the first replicas of a list answer with the challenger alone; their number is the share of all
replicas, rounded up. Telemetry is added up over the replicas, unit by unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from math import ceil
from typing import Any, TypeVar

import httpx

from airflow_mlops.core.errors import MlopsError, RegistryError, RolloutError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.rollout_target import TargetError, Telemetry, Traffic
from airflow_mlops.core.registry.load import keep_for_others, verified_folder
from airflow_mlops.core.rollout.targets.gateway.gateway_replica import PREPARE_SECONDS, NotLoadedError, Replica
from airflow_mlops.core.rollout.targets.gateway.gateway_telemetry import add_telemetry, distinct_replicas
from airflow_mlops.core.workspace import Workspace

T = TypeVar("T")


class GatewayTarget:
    """The replicas of a gateway that serve one model.

    Parameters
    ----------
    workspace : Workspace
        The loop, from whose lake the gateway copies versions.
    urls : sequence of str
        Address of each replica; with ``resolve``, names of several replicas.
    token : str, optional
        Control token; None if the gateway was started with ``--insecure``.
    client : httpx.Client, optional
        Client of all replicas; by default without proxies and without open connections between calls.
    resolve : callable, optional
        Returns the addresses of the replicas behind a name, such as
        :func:`airflow_mlops.core.rollout.targets.gateway.replica_addresses.resolve_replicas`; asked before each call.
    """

    name = "gateway"

    def __init__(
        self,
        workspace: Workspace,
        urls: Sequence[str],
        token: str | None,
        *,
        client: httpx.Client | None = None,
        resolve: Callable[[str], Sequence[str]] | None = None,
    ) -> None:
        if not urls:
            raise RolloutError("the gateway has no address: declare the url of at least one replica")
        limits = httpx.Limits(max_keepalive_connections=0)
        self._workspace, self._client = workspace, client or httpx.Client(trust_env=False, limits=limits)
        self._urls, self._token, self._resolve = tuple(urls), token, resolve

    def prepare(self, version: Version) -> None:
        """Make each replica load a version; see :mod:`airflow_mlops.core.ports.rollout_target`."""
        values = self._describe_version(version)
        call_all(self._replicas(), lambda replica: replica.put("/control/prepare", values, seconds=PREPARE_SECONDS))

    def apply(self, traffic: Traffic) -> None:
        """Send traffic to each replica, and prepare the versions that a replica has not loaded.

        See :meth:`airflow_mlops.core.ports.rollout_target.RolloutTarget.apply` for the errors.
        """
        self._send_traffic(traffic, self._prepare_versions)
        self._require_serving(traffic)

    def observe(self) -> Traffic:
        """Return the traffic that all replicas serve.

        If a replica has taken the challenger out, its share is 0.

        Raises
        ------
        TargetError
            If a replica does not answer, serves nothing, or serves other traffic than the newest; the error names it.
        """
        replicas = self._replicas()
        answers = call_all(replicas, lambda replica: replica.get("/control/traffic"))
        newest = max(answers, key=lambda answer: int(answer["traffic"]["order"]))["traffic"]
        traffic = Traffic(**newest)
        for index, (replica, answer) in enumerate(zip(replicas, answers, strict=True)):
            if not answer["serving"] and traffic.champion is not None:
                raise TargetError(f"the gateway at {replica.url} serves nothing: {answer['problem']}")
            if answer["traffic"] != newest or answer["local_share"] != local_share(traffic, index, len(replicas)):
                raise TargetError(
                    f"the gateway at {replica.url} serves {format_traffic(answer['traffic'], answer['local_share'])}, "
                    f"another replica {format_traffic(newest, None)}"
                )
        return replace(traffic, share=0.0) if any(answer["tripped"] for answer in answers) else traffic

    def telemetry(self) -> Telemetry:
        """Return the telemetry of all replicas together.

        Raises
        ------
        TargetError
            If a replica does not answer, or the replicas serve different traffic.
        RolloutError
            If two replicas have one state folder, or copies of one, so that their counts cannot be told apart.
        """
        replicas = self._replicas()
        answers = call_all(replicas, lambda replica: replica.get("/control/telemetry"))
        orders = {int(answer["order"]) for answer in answers}
        if len(orders) > 1:
            listed = ", ".join(
                f"{replica.url} of record {answer['order']}" for replica, answer in zip(replicas, answers, strict=True)
            )
            raise TargetError(f"the replicas report different traffic: {listed}")
        return add_telemetry(distinct_replicas([replica.url for replica in replicas], answers))

    def rollback(self, traffic: Traffic) -> None:
        """Send traffic without a challenger to each replica, even if another replica fails.

        A replica that serves the champion has it loaded already. Only a replica without it, such as a new replica,
        prepares it, from the copy in the lake. A version on standby that cannot be prepared is left out.

        Raises
        ------
        RolloutError
            If the traffic has a challenger.
        TargetError
            Naming the replicas that do not serve it now; all others do.
        """
        if traffic.challenger is not None:
            raise RolloutError(f"a rollback has no challenger; this one has version {traffic.challenger}")
        self._send_traffic(traffic, self._prepare_all_but_standby)
        self._require_serving(traffic)

    def finalize(self, traffic: Traffic) -> None:
        """Drop the versions that the replicas do not need, in memory and on their disks."""
        values = {"traffic": traffic.to_dict()}
        call_all(self._replicas(), lambda replica: replica.put("/control/finalize", values))

    def _replicas(self) -> list[Replica]:
        """Return the replicas that there are now."""
        resolve = self._resolve
        urls = self._urls if resolve is None else [address for url in self._urls for address in resolve(url)]
        return [Replica(url, self._token, self._client) for url in urls]

    def _send_traffic(self, traffic: Traffic, prepare_missing: Callable[[Replica, Traffic], Traffic]) -> None:
        """Send traffic to every replica.

        Where a replica lacks a version, ``prepare_missing`` loads it and returns the traffic to send instead.
        """
        if traffic.kind == "rolling" and self._resolve is not None:
            raise RolloutError(
                "a rolling stage gives the challenger one replica after another, and those behind a name come and go; "
                "list the replicas one by one, or declare strategy: canary"
            )
        replicas = self._replicas()

        def send(replica: Replica) -> None:
            local = local_share(traffic, replicas.index(replica), len(replicas))
            seconds = PREPARE_SECONDS if traffic.kind == "shadow" else 15.0
            try:
                replica.put("/control/traffic", {"traffic": traffic.to_dict(), "local_share": local}, seconds=seconds)
            except NotLoadedError:
                prepared = prepare_missing(replica, traffic).to_dict()
                replica.put("/control/traffic", {"traffic": prepared, "local_share": local}, seconds=seconds)

        call_all(replicas, send)

    def _prepare_versions(self, replica: Replica, traffic: Traffic) -> Traffic:
        """Load every version of traffic on a replica; return the traffic."""
        for number in (traffic.champion, traffic.challenger, traffic.standby):
            if number is not None:
                values = self._describe_version(self._version(number))
                replica.put("/control/prepare", values, seconds=PREPARE_SECONDS)
        return traffic

    def _prepare_all_but_standby(self, replica: Replica, traffic: Traffic) -> Traffic:
        self._prepare_versions(replica, replace(traffic, standby=None))
        try:
            return self._prepare_versions(replica, traffic)
        except (RolloutError, RegistryError):
            return replace(traffic, standby=None)

    def _require_serving(self, traffic: Traffic) -> None:
        """Raise TargetError unless the gateway serves the traffic."""
        served = self.observe()
        if served.order == traffic.order and served.serves_like(traffic):
            return
        tripped = self.telemetry().tripped
        if tripped is not None:
            raise TargetError(f"the gateway has taken the challenger out by itself: {tripped}")
        raise TargetError(
            f"the gateway was sent {format_traffic(traffic.to_dict(), None)}, "
            f"and serves {format_traffic(served.to_dict(), None)}"
        )

    def _version(self, number: str) -> Version:
        version = self._workspace.state().versions.get(number)
        if version is None:
            raise RolloutError(f"the ledger has no version {number} of {self._workspace.loop.model}")
        return version

    def _describe_version(self, version: Version) -> Mapping[str, Any]:
        """Return a version as the control API needs it, after putting a verified copy into the lake."""
        signature = version.details.signature
        if not signature:
            raise RolloutError(
                f"version {version.number} was registered before versions were signed; the gateway serves signed ones "
                "only: register a new one"
            )
        keep_for_others(self._workspace, verified_folder(self._workspace, version))
        values: dict[str, Any] = {
            "number": version.number,
            "artefact": version.details.artefact,
            "signature": asdict(signature),
        }
        if version.details.hidden is not None:
            values["hidden"] = list(version.details.hidden)
        if version.details.levels is not None:
            values["levels"] = {name: list(levels) for name, levels in version.details.levels.items()}
        if self._workspace.contract is None:
            # An adopted version was fitted elsewhere; here it was tried on the partition that its record is about.
            newest = max((pin.partition for pin in version.details.window.fitted), default=version.partition)
            values["columns"] = self._workspace.state().published[newest].columns
        return values


def local_share(traffic: Traffic, index: int, replicas: int) -> float | None:
    """Return the share of one replica of several in a rolling stage, None in any other."""
    if traffic.kind != "rolling":
        return None
    return 100.0 if index < ceil(traffic.share * replicas / 100) else 0.0


def call_all(replicas: Sequence[Replica], request: Callable[[Replica], T]) -> list[T]:
    """Call all replicas in parallel and return their answers; raise one error for all that fail."""
    with ThreadPoolExecutor(len(replicas)) as threads:
        calls = [threads.submit(request, replica) for replica in replicas]
    errors = [error for call in calls if (error := call.exception()) is not None]
    if not errors:
        return [call.result() for call in calls]
    raise combine_errors(errors)


def combine_errors(errors: Iterable[BaseException]) -> BaseException:
    """Return one error for the errors of several replicas.

    An unexpected error is returned as it is. Otherwise the type is that of an error that is not retryable, if there is
    one, and the message has all messages.
    """
    listed = list(errors)
    unexpected = next((error for error in listed if not isinstance(error, MlopsError)), None)
    if unexpected is not None or len(listed) == 1:
        return unexpected or listed[0]
    expected = [error for error in listed if isinstance(error, MlopsError)]
    final = next((error for error in expected if not error.retryable), expected[0])
    return type(final)("; ".join(str(error) for error in expected))


def format_traffic(traffic: Mapping[str, Any], local_share: float | None) -> str:
    """Return traffic as text for a message."""
    share = f"{traffic['share'] if local_share is None else local_share:g} %"
    challenger = f", version {traffic['challenger']} as {traffic['kind']} at {share}" if traffic["challenger"] else ""
    return f"version {traffic['champion']}{challenger} (record {traffic['order']})"
