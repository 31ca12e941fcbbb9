"""Alarms of a monitor outside: read with care, and recorded as the check ``outside`` of a scored partition.

What another program says is an alarm becomes one window that alarmed, no more: k of n, the cooldown, the budget and the
policy itself are asked as after any other check. Each alarm has an id and is recorded once, however often it is told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from airflow_mlops.core.declaration.partition_key import partition_key
from airflow_mlops.core.errors import DataError, NotReadyError
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.workspace import Workspace

OUTSIDE = "outside"
MOST = 200
"""Alarms that are read of one answer; a monitor that lists more repeats itself."""
LONGEST_ID, LONGEST = 200, 500
"""Characters of an id, which must not be cut, and of what is said, which may."""
SHOWN = 3


@dataclass(frozen=True)
class OutsideAlarm:
    """An alarm of a monitor outside.

    Parameters
    ----------
    id : str
        What tells it from other alarms of the same monitor.
    said : str
        What was found, in the monitor's words.
    partition : str, optional
        Key of the partition that it is about; the newest scored one if the monitor names none.
    """

    id: str
    said: str
    partition: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the alarm as JSON values."""
        return asdict(self)


def read_alarms(answer: Any) -> tuple[list[OutsideAlarm], list[str]]:
    """Return the alarms of an answer, and of each that cannot be read why.

    Parameters
    ----------
    answer : JSON, or text that holds JSON
        A list of alarms, a mapping with that list as ``alarms``, or one alarm: a mapping with ``id``, and if it likes
        ``said`` and ``partition``. Whatever else it holds is not looked at.

    Raises
    ------
    DataError
        If it is no JSON, or holds no list.

    >>> read_alarms({"alarms": [{"id": 7, "said": "odd"}, {"said": "no id"}]})
    ([OutsideAlarm(id='7', said='odd', partition=None)], ['alarm 2: it has no id'])
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
    for number, one in enumerate(answer[:MOST], 1):
        try:
            alarm = _alarm(one)
        except DataError as error:
            refused.append(f"alarm {number}: {error}")
        else:
            alarms.setdefault(alarm.id, alarm)
    return list(alarms.values()), refused


def _alarm(one: Any) -> OutsideAlarm:
    """Return one alarm; DataError where it cannot be read."""
    if not isinstance(one, Mapping):
        raise DataError(f"it is a {type(one).__name__}; a mapping with an id is asked for")
    said, partition, known = one.get("said"), one.get("partition"), one.get("id")
    if isinstance(known, bool) or not isinstance(known, str | int) or known == "":
        raise DataError("it has no id")
    if len(str(known)) > LONGEST_ID:
        raise DataError(f"its id has {len(str(known)):,} characters; {LONGEST_ID} are the most")
    if partition is not None and not isinstance(partition, str):
        raise DataError(f"its partition is {partition!r:.40}; a key such as 2013-03-10T00:00:00 is asked for")
    words = " ".join(said.split())[:LONGEST] if isinstance(said, str) else ""
    return OutsideAlarm(
        printable(str(known)), printable(words), None if partition is None else partition_key(partition)
    )


def printable(text: str) -> str:
    """Return a text in which a question mark stands for whatever moves a cursor or cannot be stored."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def record_outside_alarms(workspace: Workspace, alarms: Iterable[OutsideAlarm]) -> list[dict[str, Any]]:
    """Record the alarms that were not recorded before; return what is recorded, by partition, the oldest first.

    An alarm counts for the newest scored partition at or before the one it names. Where that is older than the newest
    one decided on, it is ``historical``: recorded, never alarming. An alarm that names none is about now.

    Raises
    ------
    NotReadyError
        If nothing was scored that any of them could be about. They are not lost: told again, they are recorded.
    """
    state, known = workspace.state(), told(workspace.ledger.records())
    new = [alarm for alarm in alarms if alarm.id not in known]
    about: dict[str, list[OutsideAlarm]] = {}
    for alarm in new:
        partition = max(
            (key for key in state.scored if alarm.partition is None or key <= alarm.partition), default=None
        )
        if partition is not None:
            about.setdefault(partition, []).append(alarm)
    if new and not about:
        raise NotReadyError(f"nothing was scored that the alarm {new[0].id!r} could be about")
    return [{"partition": key, **_recorded(workspace, state, key, about[key])} for key in sorted(about)]


def told(records: Iterable[Record]) -> set[str]:
    """Return the ids of all alarms of monitors outside that are recorded."""
    mine = (one.details for one in records if one.kind == "check_judged" and one.details["check"] == OUTSIDE)
    return {alarm["id"] for details in mine for alarm in details["alarms"]}


def how_many_told(state: LoopState) -> int:
    """Return how many alarms of monitors outside are recorded: a number that grows with each of them."""
    return sum(int(checks[OUTSIDE]["numbers"]["alarms"]) for checks in state.checks.values() if OUTSIDE in checks)


def _recorded(
    workspace: Workspace, state: LoopState, partition: str, alarms: Sequence[OutsideAlarm]
) -> dict[str, Any]:  # fmt: skip
    """Return what is recorded of more alarms about a partition."""
    known, scored = state.checks.get(partition, {}).get(OUTSIDE, {}), state.scored[partition]
    # An alarm that stands was raised when the window was none of history.
    of_now = known.get("verdict") == "alarm" or any(one.partition is None for one in alarms)
    historical = not of_now and workspace.state().is_historical(partition)
    many = int(known.get("numbers", {}).get("alarms", 0)) + len(alarms)
    words = [one.said or f"alarm {one.id}" for one in alarms[-SHOWN:]]
    said = "; ".join(words) + (f" and {many - len(words):,} more" if many > len(words) else "")
    ids = json.dumps(sorted(one.id for one in alarms))
    record = workspace.record_fact(
        workspace.draft(
            "check_judged", f"check:{OUTSIDE}:{partition}:{sha256(ids.encode()).hexdigest()[:32]}", partition,
            check=OUTSIDE, verdict="no alarm" if historical else "alarm",
            said=f"historical, so no alarm: {said}" if historical else said,
            alarms=[one.to_dict() for one in alarms], numbers={"alarms": many}, rows=None, report=None,
            historical=historical, snapshot=scored["snapshot"], champion=scored["champion"],
        )
    )  # fmt: skip
    return dict(record.details)
