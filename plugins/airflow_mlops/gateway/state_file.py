"""What the gateway was told last, on its own disk: written whole before it is served, read after a restart."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ports.rollout_target import Kind, Traffic
from airflow_mlops.gateway.version_files import ServedVersion

FILE = "served.json"


@dataclass(frozen=True)
class KeptState:
    """Traffic, what each version in it is, and whether the challenger was taken out.

    ``local_share`` is the share on this replica where it differs from the traffic's, as in a rolling stage.
    """

    traffic: Traffic = field(default_factory=lambda: Traffic(0, None))
    local_share: float | None = None
    versions: Mapping[str, ServedVersion] = field(default_factory=dict)
    tripped: str | None = None


def traffic_of(given: Mapping[str, Any]) -> Traffic:
    """Return the traffic that JSON values say.

    Raises
    ------
    RolloutError
        Naming what is missing or wrong.
    """
    known = {"order", "champion", "challenger", "kind", "share", "salt", "standby"}
    strange = sorted(set(given) - known)
    order, share = given.get("order"), given.get("share", 0.0)
    kind, salt = given.get("kind", "none"), given.get("salt", "")
    if strange:
        raise RolloutError(f"traffic: {strange[0]!r} is unknown; there are {', '.join(sorted(known))}")
    if not isinstance(order, int) or isinstance(order, bool) or order < 0:
        raise RolloutError(f"traffic: order is {order!r}; it must be the number of a record")
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share <= 100:
        raise RolloutError(f"traffic: share is {share!r}; it must be 0 to 100 percent")
    if kind not in get_args(Kind):
        raise RolloutError(f"traffic: kind is {kind!r}; it must be one of {', '.join(get_args(Kind))}")
    if not isinstance(salt, str) or len(salt) > 250:
        raise RolloutError("traffic: salt must be a text of at most 250 characters")
    numbers = {name: given.get(name) for name in ("champion", "challenger", "standby")}
    for name, number in numbers.items():
        if number is not None and not isinstance(number, str):
            raise RolloutError(f"traffic: {name} is {number!r}; it must be the number of a version, as text")
    if (kind == "none") != (numbers["challenger"] is None):
        raise RolloutError(f"traffic: kind is {kind!r}, and the challenger is {numbers['challenger']!r}")
    return Traffic(order, numbers["champion"], numbers["challenger"], kind, float(share), salt, numbers["standby"])


def read_state(folder: Path) -> KeptState:
    """Return what was kept in a folder; nothing served where nothing was kept.

    Raises
    ------
    RolloutError
        If the file is not one that the gateway wrote.
    """
    file = folder / FILE
    if not file.exists():
        return KeptState()
    try:
        kept = json.loads(file.read_text())
        versions = {number: ServedVersion.of(one) for number, one in kept["versions"].items()}
        return KeptState(traffic_of(kept["traffic"]), kept["local_share"], versions, kept["tripped"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RolloutError(
            f"{file} cannot be read: {type(error).__name__}: {error}; delete it to start anew"
        ) from error


def write_state(folder: Path, state: KeptState) -> None:
    """Keep ``state``, whole or not at all; it is on disk when this returns."""
    versions = {number: one.to_dict() for number, one in state.versions.items()}
    content = {
        "traffic": state.traffic.to_dict(), "local_share": state.local_share, "versions": versions,
        "tripped": state.tripped,
    }  # fmt: skip
    part = folder / f".{FILE}.part"
    with part.open("w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / FILE)
    place = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
