"""The gateway as a rollout target: one process or several replicas, told over their control API.

All replicas are told the same traffic; in a rolling stage the first of them answer with the challenger alone, as many
as the share says, rounded up. What was seen is added up over them, unit by unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import ceil
from typing import Any, TypeVar

import httpx

from airflow_mlops.core.errors import MlopsError, RegistryError, RolloutError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.rollout_target import TargetError, Telemetry, Traffic
from airflow_mlops.core.registry.load import keep_for_others, verified_folder
from airflow_mlops.core.rollout.targets.gateway.gateway_replica import PREPARE_SECONDS, NotLoadedError, Replica
from airflow_mlops.core.rollout.targets.gateway.gateway_telemetry import telemetry_of
from airflow_mlops.core.workspace import Workspace

T = TypeVar("T")


class GatewayTarget:
    """Replicas of a gateway that serve one model.

    Parameters
    ----------
    workspace : Workspace
        The loop; its lake is where the gateway finds versions.
    urls : sequence of str
        Address of each replica.
    token : str, optional
        The token for control; None where the gateway was started with ``--insecure``.
    client : httpx.Client, optional
        What speaks to them; one that heeds no proxy by default, and keeps no connection open.
    """

    name = "gateway"

    def __init__(
        self, workspace: Workspace, urls: Sequence[str], token: str | None, *, client: httpx.Client | None = None
    ) -> None:
        if not urls:
            raise RolloutError("the gateway has no address: declare the url of at least one replica")
        limits = httpx.Limits(max_keepalive_connections=0)
        self._workspace, self._client = workspace, client or httpx.Client(trust_env=False, limits=limits)
        self._replicas = [Replica(url, token, self._client) for url in urls]

    def prepare(self, version: Version) -> None:
        """Make each replica load a version; see :mod:`airflow_mlops.core.ports.rollout_target`."""
        said = self._named(version)
        self._on_all(lambda replica: replica.put("/control/prepare", said, seconds=PREPARE_SECONDS))

    def apply(self, traffic: Traffic) -> None:
        """Let each replica serve ``traffic``; versions that one has not loaded, as a new one, are prepared there.

        See :meth:`airflow_mlops.core.ports.rollout_target.RolloutTarget.apply` for the errors.
        """
        self._tell(traffic, self._prepared)
        self._require_served(traffic)

    def observe(self) -> Traffic:
        """Return what all replicas say that they serve.

        A challenger that a replica has taken out has a share of 0.

        Raises
        ------
        TargetError
            If a replica does not answer, serves nothing, or serves something else than the others; names it.
        """
        said = self._on_all(lambda replica: replica.get("/control/traffic"))
        newest = max(said, key=lambda one: int(one["traffic"]["order"]))["traffic"]
        traffic = Traffic(**newest)
        for place, (replica, one) in enumerate(zip(self._replicas, said, strict=True)):
            if not one["serving"] and traffic.champion is not None:
                raise TargetError(f"the gateway at {replica.url} serves nothing: {one['problem']}")
            if one["traffic"] != newest or one["local_share"] != self._local_share(traffic, place):
                raise TargetError(
                    f"the gateway at {replica.url} serves {in_words(one['traffic'], one['local_share'])}, "
                    f"another replica {in_words(newest, None)}"
                )
        return replace(traffic, share=0.0) if any(one["tripped"] for one in said) else traffic

    def telemetry(self) -> Telemetry:
        """Return what all replicas saw together.

        Raises
        ------
        TargetError
            If a replica does not answer, or serves other traffic than the others.
        """
        said = self._on_all(lambda replica: replica.get("/control/telemetry"))
        orders = {int(one["order"]) for one in said}
        if len(orders) > 1:
            seen = ", ".join(f"{one.url} of {each['order']}" for one, each in zip(self._replicas, said, strict=True))
            raise TargetError(f"replicas speak of different traffic: {seen}")
        return telemetry_of(said)

    def rollback(self, traffic: Traffic) -> None:
        """Let each replica serve ``traffic``, which has no challenger, whatever the others do.

        The champion is loaded where it serves. Only a replica that lost it, as a new one, has it prepared, from the
        copy in the lake. A version on standby that cannot be prepared is left out.

        Raises
        ------
        RolloutError
            If there is a challenger in it.
        TargetError
            Naming the replicas that do not serve it now; the others do.
        """
        if traffic.challenger is not None:
            raise RolloutError(f"a rollback has no challenger; this one has version {traffic.challenger}")
        self._tell(traffic, self._prepared_but_for_standby)
        self._require_served(traffic)

    def finalize(self, traffic: Traffic) -> None:
        """Let each replica forget versions that it does not need, in memory and on its disk."""
        said = {"traffic": traffic.to_dict()}
        self._on_all(lambda replica: replica.put("/control/finalize", said))

    def _tell(self, traffic: Traffic, prepared: Callable[[Replica, Traffic], Traffic]) -> None:
        """Tell every replica; one that lacks a version gets it by ``prepared``, which may leave something out."""

        def tell(replica: Replica) -> None:
            local = self._local_share(traffic, self._replicas.index(replica))
            seconds = PREPARE_SECONDS if traffic.kind == "shadow" else 15.0
            try:
                replica.put("/control/traffic", {"traffic": traffic.to_dict(), "local_share": local}, seconds=seconds)
            except NotLoadedError:
                less = prepared(replica, traffic).to_dict()
                replica.put("/control/traffic", {"traffic": less, "local_share": local}, seconds=seconds)

        self._on_all(tell)

    def _prepared(self, replica: Replica, traffic: Traffic) -> Traffic:
        """Let a replica load every version of ``traffic``."""
        for number in (traffic.champion, traffic.challenger, traffic.standby):
            if number is not None:
                said = self._named(self._version(number))
                replica.put("/control/prepare", said, seconds=PREPARE_SECONDS)
        return traffic

    def _prepared_but_for_standby(self, replica: Replica, traffic: Traffic) -> Traffic:
        self._prepared(replica, replace(traffic, standby=None))
        try:
            return self._prepared(replica, traffic)
        except (RolloutError, RegistryError):
            return replace(traffic, standby=None)

    def _require_served(self, traffic: Traffic) -> None:
        """Let a target through that serves what it was told."""
        served = self.observe()
        if served.order == traffic.order and served.serves_like(traffic):
            return
        tripped = self.telemetry().tripped
        if tripped is not None:
            raise TargetError(f"the gateway has taken the challenger out by itself: {tripped}")
        raise TargetError(
            f"the gateway was told {in_words(traffic.to_dict(), None)}, and serves {in_words(served.to_dict(), None)}"
        )

    def _local_share(self, traffic: Traffic, place: int) -> float | None:
        """Return the share on one replica; None where it is the traffic's own."""
        if traffic.kind != "rolling":
            return None
        return 100.0 if place < ceil(traffic.share * len(self._replicas) / 100) else 0.0

    def _version(self, number: str) -> Version:
        version = self._workspace.state().versions.get(number)
        if version is None:
            raise RolloutError(f"the ledger knows no version {number} of {self._workspace.loop.model}")
        return version

    def _named(self, version: Version) -> Mapping[str, Any]:
        """Return what a replica has to know of a version, whose verified copy is in the lake then."""
        signature = version.details.signature
        if not signature:
            raise RolloutError(
                f"version {version.number} was registered before versions were signed; the gateway serves signed ones "
                "only: register a new one"
            )
        keep_for_others(self._workspace, verified_folder(self._workspace, version))
        said: dict[str, Any] = {
            "number": version.number,
            "artefact": version.details.artefact,
            "signature": signature,
        }
        if self._workspace.contract is None:
            newest = max(pin.partition for pin in version.details.window.fitted)
            said["columns"] = self._workspace.state().published[newest].columns
        return said

    def _on_all(self, ask: Callable[[Replica], T]) -> list[T]:
        """Return what each replica answers; all are asked at once, and those that fail are named together."""
        with ThreadPoolExecutor(len(self._replicas)) as threads:
            asked = [threads.submit(ask, replica) for replica in self._replicas]
        errors = [error for one in asked if (error := one.exception()) is not None]
        if not errors:
            return [one.result() for one in asked]
        raise together(errors)


def together(errors: Iterable[BaseException]) -> BaseException:
    """Return one error for those of several replicas: the only one, or the one that says most, with all words."""
    found = list(errors)
    strange = next((one for one in found if not isinstance(one, MlopsError)), None)
    if strange is not None or len(found) == 1:
        return strange or found[0]
    known = [one for one in found if isinstance(one, MlopsError)]
    final = next((one for one in known if not one.retryable), known[0])
    return type(final)("; ".join(str(one) for one in known))


def in_words(traffic: Mapping[str, Any], local_share: float | None) -> str:
    """Return traffic as a message shows it."""
    share = f"{traffic['share'] if local_share is None else local_share:g} %"
    rest = f", version {traffic['challenger']} as {traffic['kind']} at {share}" if traffic["challenger"] else ""
    return f"version {traffic['champion']}{rest} (record {traffic['order']})"
