"""Encode and decode the values of the tables of facts as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_mlops.core.ledger.data_details import (
    LabelsArrived,
    PartitionRefused,
    PredictionsPublished,
    SnapshotPublished,
)
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.record import Record, canonical_json
from airflow_mlops.core.ledger.rollout_details import Promoted, RolledBack
from airflow_mlops.core.ledger.state import CHECKED, MACHINE, judged_table
from airflow_mlops.core.ledger.state_machine import StateMachine, Version
from airflow_mlops.core.ledger.watch_details import JUDGED, WindowJudged


@dataclass(frozen=True)
class Codec:
    """A pair of functions that encode values as JSON and decode them."""

    to_json: Callable[[Any], Any]
    from_json: Callable[[Any], Any]


def _of_details(kind: type[Details]) -> Codec:
    return Codec(lambda details: details.to_json(), kind.read)


PLAIN = Codec(lambda value: value, lambda value: value)
RECORD = Codec(lambda record: record.to_json(), Record.from_json)
CODECS: dict[str, Codec] = {
    MACHINE: Codec(lambda machine: machine.to_json(), StateMachine.from_json),
    CHECKED: Codec(list, tuple),
    "published": _of_details(SnapshotPublished),
    "refused": _of_details(PartitionRefused),
    "scored": _of_details(PredictionsPublished),
    "labels": _of_details(LabelsArrived),
    "promoted": _of_details(Promoted),
    "rolled_back": _of_details(RolledBack),
    "versions": Codec(lambda version: version.to_json(), Version.from_json),
    "retrains": RECORD,
    "refusals": RECORD,
    "approved": RECORD,
    "reproduced": RECORD,
    "cards": RECORD,
    "escalations": RECORD,
    **{judged_table(check): _of_details(kind) for check, kind in JUDGED.items()},
}


def codec_of(table: str) -> Codec:
    """Return the codec of the values of a table."""
    if table in CODECS:
        return CODECS[table]
    return _of_details(WindowJudged) if table.startswith(judged_table("")) else PLAIN


def encode(table: str, value: Any | None) -> str | None:
    """Return a value as JSON text; None where the key is removed."""
    return None if value is None else canonical_json(codec_of(table).to_json(value))


def decode(table: str, text: str | None) -> Any | None:
    """Return the value that ``encode`` wrote."""
    return None if text is None else codec_of(table).from_json(json.loads(text))
