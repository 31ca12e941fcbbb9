"""The state file of a gateway: written before new traffic is served, read after a restart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ports.rollout_target import Kind, Traffic
from airflow_mlops.gateway.durable_file import replace_durably
from airflow_mlops.gateway.version_files import ServedVersion

FILE = "served.json"


@dataclass(frozen=True)
class SavedState:
    """Traffic, the versions in it, and the reason why the challenger was taken out, if it was.

    ``local_share`` is the share on this replica where it differs from the traffic's, as in a rolling stage.
    ``counted_from`` is the record with which the counts began; None where the file does not say.
    """

    traffic: Traffic = field(default_factory=lambda: Traffic(0, None))
    local_share: float | None = None
    versions: Mapping[str, ServedVersion] = field(default_factory=dict)
    tripped: str | None = None
    counted_from: int | None = None


def parse_traffic(values: Any) -> Traffic:
    """Return the traffic in the JSON values of a request or the state file.

    Raises
    ------
    RolloutError
        If they are no object; or naming the key that is unknown or wrong.
    """
    if not isinstance(values, Mapping):
        raise RolloutError(f"traffic is {str(values)[:80]!r}; it must be an object with its order")
    names = {"order", "champion", "challenger", "kind", "share", "salt", "standby"}
    unknown = sorted(set(values) - names)
    if unknown:
        raise RolloutError(f"traffic: {unknown[0]!r} is unknown; there are {', '.join(sorted(names))}")
    order, kind = values.get("order"), values.get("kind", "none")
    if not isinstance(order, int) or isinstance(order, bool) or order < 0:
        raise RolloutError(f"traffic: order is {order!r}; it must be the number of a record")
    if kind not in get_args(Kind):
        raise RolloutError(f"traffic: kind is {kind!r}; it must be one of {', '.join(get_args(Kind))}")
    salt = values.get("salt", "")
    if not isinstance(salt, str) or len(salt) > 250:
        raise RolloutError("traffic: salt must be a text of at most 250 characters")
    share = parse_percent(values.get("share", 0.0), "traffic: share")
    champion, challenger, standby = (_version_number(values, name) for name in ("champion", "challenger", "standby"))
    if (kind == "none") != (challenger is None):
        raise RolloutError(f"traffic: kind is {kind!r}, and the challenger is {challenger!r}")
    return Traffic(order, champion, challenger, kind, share, salt, standby)


def parse_percent(value: Any, name: str) -> float:
    """Return a share in percent, or raise RolloutError if it is not a number from 0 to 100."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 100:
        raise RolloutError(f"{name} is {value!r}; it must be 0 to 100 percent")
    return float(value)


def _version_number(values: Mapping[str, Any], name: str) -> str | None:
    number = values.get(name)
    if number is not None and not isinstance(number, str):
        raise RolloutError(f"traffic: {name} is {number!r}; it must be the number of a version, as text")
    return number


def read_state(folder: Path) -> SavedState:
    """Return the state in a folder; an empty state if there is no file.

    Raises
    ------
    RolloutError
        If the file was not written by a gateway.
    """
    file = folder / FILE
    if not file.exists():
        return SavedState()
    try:
        saved = json.loads(file.read_text())
        versions = {number: ServedVersion.from_dict(version) for number, version in saved["versions"].items()}
        traffic, counted_from = parse_traffic(saved["traffic"]), saved.get("counted_from")
        return SavedState(traffic, saved["local_share"], versions, saved["tripped"], counted_from)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RolloutError(
            f"{file} cannot be read: {type(error).__name__}: {error}; delete it to start with an empty state"
        ) from error


def write_state(folder: Path, state: SavedState) -> None:
    """Write a state atomically; it is on disk when this returns."""
    versions = {number: version.to_dict() for number, version in state.versions.items()}
    content = {
        "traffic": state.traffic.to_dict(),
        "local_share": state.local_share,
        "versions": versions,
        "tripped": state.tripped,
        "counted_from": state.counted_from,
    }
    replace_durably(folder / FILE, "gateway.state", lambda handle: handle.write(json.dumps(content, indent=1).encode()))
