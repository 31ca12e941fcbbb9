"""The replays of a loop as its pages show them: who asked, the figures of each policy, the notes, and the picture."""

from __future__ import annotations

import base64
import binascii
from itertools import islice
from typing import Any

from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.ledger.protocols import EvidenceStore, Ledger
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.replay_details import PolicyReplayed

SHOWN = 5
"""Replays on the page of a model."""
PNG = "image/png"


def newest_replays(ledger: Ledger) -> list[Record[PolicyReplayed]]:
    """Return the newest replays of a loop, newest first."""
    return list(islice(ledger.records(PolicyReplayed, newest_first=True), SHOWN))


def replay_view(ledger: Ledger, evidence: EvidenceStore, number: int | None) -> dict[str, Any] | None:
    """Return the values of the page of a replay; None where there is no such replay.

    Parameters
    ----------
    number : int or None
        Number of its record; the newest replay if None.

    Raises
    ------
    LedgerError
        If its evidence is gone or was changed.
    """
    record = next(ledger.records(PolicyReplayed, newest_first=True), None) if number is None else ledger.record(number)
    if record is None or not isinstance(record.details, PolicyReplayed):
        return None
    document = evidence.get(record.details.report)
    figures = document["figures"]
    windows = figures.get("windows")
    return {
        "record": record,
        "restrictions": restrictions(record.details),
        "metric": figures["metric"],
        "tables": [
            (f"From {figures['judged_from']} on", figures["whole"]),
            (f"After {figures['suggested_until']}: a suggestion was chosen before", figures["later"]),
        ],
        "windows": None if windows is None else windows["rows"],
        "notes": document["notes"],
        "picture": picture_address(document["picture"]),
    }


def restrictions(details: PolicyReplayed) -> list[str]:
    """Return the windows and partitions that a person restricted a replay to, in words."""
    words = {
        "trained on {} partitions in place of the declared window": details.window,
        "partitions up to {}": details.until,
        "a policy chosen up to {}, and judged after": details.split,
    }
    return [text.format(value.replace(",", ", ")) for text, value in words.items() if value is not None]


def picture_address(picture: dict[str, str]) -> str:
    """Return a kept picture as an address that holds the picture itself.

    Raises
    ------
    LedgerError
        If it is no PNG.
    """
    try:
        content = base64.b64decode(picture["base64"], validate=True)
    except (KeyError, binascii.Error):
        content = b""
    if picture.get("media_type") != PNG or not content.startswith(b"\x89PNG"):
        raise LedgerError("the picture of the replay is no PNG")
    return f"data:{PNG};base64,{picture['base64']}"
