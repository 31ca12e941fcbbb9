"""Alarms of outside monitors: parsed strictly, and recorded as the check ``outside`` of a scored partition.

An outside alarm makes a window one that alarmed, and no more: k of n, the cooldown, the budget and the policy itself
apply as after any other check. Each alarm has an id and is recorded once, however often it is reported.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from airflow_mlops.core.declaration.partition_key import partition_key
from airflow_mlops.core.errors import DataError, NotReadyError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.watch_details import ALARM, NO_ALARM, OUTSIDE, OutsideAlarm, OutsideAlarmed
from airflow_mlops.core.workspace import Workspace

MOST = 200
"""Most alarms that are read of one answer; a monitor that lists more repeats itself."""
LONGEST_ID, LONGEST = 200, 500
"""Most characters of an id, which must not be cut, and of a message, which may."""
SHOWN = 3


def read_alarms(answer: Any) -> tuple[list[OutsideAlarm], list[str]]:
    """Return the alarms of an answer, and a reason for each that cannot be read.

    Parameters
    ----------
    answer : JSON, or text that holds JSON
        A list of alarms, a mapping with that list as ``alarms``, or one alarm: a mapping with ``id``, and optionally
        ``message`` and ``partition``. Other keys are ignored.

    Raises
    ------
    DataError
        If it is no JSON, or holds no list.

    >>> read_alarms({"alarms": [{"id": 7, "message": "odd"}, {"message": "no id"}]})
    ([OutsideAlarm(id='7', message='odd', partition=None)], ['alarm 2: it has no id'])
    """
    if isinstance(answer, str | bytes):
        try:
            answer = json.loads(answer)
        except (ValueError, RecursionError):
            raise DataError("the answer is not JSON") from None
    if isinstance(answer, Mapping):
        answer = answer.get("alarms", [answer])
    if not isinstance(answer, list):
        raise DataError(f"the answer holds a {type(answer).__name__}; a list of alarms is asked for")
    alarms: dict[str, OutsideAlarm] = {}
    refused = [] if len(answer) <= MOST else [f"{len(answer):,} alarms were told; the first {MOST:,} are read"]
    for number, entry in enumerate(answer[:MOST], 1):
        try:
            alarm = _alarm(entry)
        except DataError as error:
            refused.append(f"alarm {number}: {error}")
        else:
            alarms.setdefault(alarm.id, alarm)
    return list(alarms.values()), refused


def _alarm(entry: Any) -> OutsideAlarm:
    """Return one alarm; raise DataError if it cannot be read."""
    if not isinstance(entry, Mapping):
        raise DataError(f"it is a {type(entry).__name__}; a mapping with an id is asked for")
    message, partition, alarm_id = entry.get("message"), entry.get("partition"), entry.get("id")
    if isinstance(alarm_id, bool) or not isinstance(alarm_id, str | int) or alarm_id == "":
        raise DataError("it has no id")
    if len(str(alarm_id)) > LONGEST_ID:
        raise DataError(f"its id has {len(str(alarm_id)):,} characters; {LONGEST_ID} are the most")
    if partition is not None and not isinstance(partition, str):
        raise DataError(f"its partition is {partition!r:.40}; a key such as 2013-03-10T00:00:00 is asked for")
    text = " ".join(message.split())[:LONGEST] if isinstance(message, str) else ""
    key = None if partition is None else partition_key(partition)
    return OutsideAlarm(id=printable(str(alarm_id)), message=printable(text), partition=key)


def printable(text: str) -> str:
    """Return a text with a question mark for each character that is not printable."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def record_outside_alarms(workspace: Workspace, alarms: Iterable[OutsideAlarm]) -> dict[str, OutsideAlarmed]:
    """Record the alarms that were not recorded before; return the records by partition, the oldest first.

    An alarm counts for the newest scored partition at or before the one it names. Where that is older than the newest
    one decided on, it is ``historical``: recorded, never alarming. An alarm that names none is about now.

    Raises
    ------
    NotReadyError
        If no scored partition is at or before any of them. They are not lost: reported again, they are recorded.
    """
    state = workspace.state()
    new = [alarm for alarm in alarms if alarm.id not in state.outside_alarms]
    by_partition: dict[str, list[OutsideAlarm]] = {}
    for alarm in new:
        partition = state.scored.newest(until=alarm.partition)
        if partition is not None:
            by_partition.setdefault(partition, []).append(alarm)
    if new and not by_partition:
        raise NotReadyError(f"nothing was scored that the alarm {new[0].id!r} could be about")
    return {key: _record(workspace, state, key, by_partition[key]) for key in sorted(by_partition)}


def newest_outside_alarm(state: LoopState) -> int:
    """Return the number of recorded alarms of outside monitors, which grows with each of them."""
    return len(state.outside_alarms)


def _record(workspace: Workspace, state: LoopState, partition: str, alarms: Sequence[OutsideAlarm]) -> OutsideAlarmed:
    """Record more alarms about a partition."""
    recorded, scored = state.outside.get(partition), state.scored[partition]
    # An alarm that stands was raised when the window was not historical yet.
    current = (recorded is not None and recorded.alarms) or any(alarm.partition is None for alarm in alarms)
    historical = not current and workspace.state().is_historical(partition)
    count = (0 if recorded is None else int(recorded.numbers["alarms"])) + len(alarms)
    messages = [alarm.message or f"alarm {alarm.id}" for alarm in alarms[-SHOWN:]]
    message = "; ".join(messages) + (f" and {count - len(messages):,} more" if count > len(messages) else "")
    ids = json.dumps(sorted(alarm.id for alarm in alarms))
    details = OutsideAlarmed(
        verdict=NO_ALARM if historical else ALARM,
        message=f"historical, so no alarm: {message}" if historical else message,
        added=tuple(alarms),
        numbers={"alarms": count},
        historical=historical,
        snapshot=scored.snapshot,
        champion=scored.champion,
    )
    operation = f"check:{OUTSIDE}:{partition}:{sha256(ids.encode()).hexdigest()[:32]}"
    return workspace.record_fact(workspace.draft(details, operation, partition)).details
