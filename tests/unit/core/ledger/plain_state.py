"""The state of a loop as plain JSON, whole, without a word about the dataclasses that hold it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.record import Record, canonical_json
from airflow_mlops.core.ledger.state import LoopState
from tests.unit.core.ledger.histories import contents


def plain_state(state: LoopState) -> dict[str, Any]:
    """Return everything that a state holds: a record as its number, a set as a sorted list, no empty field.

    Fields that hold nothing are left out, so a field that a later release adds to old details changes nothing.
    """
    values = {**contents(state), "sequence": state.sequence, "champions before": state.champions_before}
    plain: dict[str, Any] = json.loads(canonical_json(_plain(values)))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return {"record": value.sequence}
    if isinstance(value, Details):
        return {"kind": value.KIND, **_filled(value.to_json())}
    if is_dataclass(value) and not isinstance(value, type):
        return _filled({field.name: _plain(getattr(value, field.name)) for field in fields(value)})
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(_plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}
