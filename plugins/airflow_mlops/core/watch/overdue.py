"""What is overdue: a champion that has grown old, and partitions, predictions or labels that have not come.

Nothing arrives to wake the watch when nothing arrives, so the nightly run asks. Its own tick is what counts as now: no
clock is read, a run that is made again says the same, and one of an old tick says nothing of today. All keys are plain
times in UTC, so that no daylight saving moves a tick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import takewhile
from typing import Any

from airflow_mlops.core.data.labels.labels_of import relevant_deliveries
from airflow_mlops.core.data.labels.open_labels import ticks_before
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.partition_key import partition_key, previous_tick
from airflow_mlops.core.ledger.facts import Facts
from airflow_mlops.core.ledger.record import canonical_json
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.watch_details import ALARM, NO_ALARM, OverdueJudged
from airflow_mlops.core.workspace import Workspace

STALENESS, ABSENCE = "staleness", "absence"
COUNTED = 1_000
"""Missing ticks that are counted: an hourly loop that was left alone for years has too many to walk through."""


@dataclass(frozen=True)
class Overdue:
    """Something that is overdue.

    Parameters
    ----------
    check : str
        ``staleness`` or ``absence``.
    about : str
        What it is: ``champion``, ``partition``, ``predictions`` or ``labels``.
    since : str
        What tells it from another one of its kind: the version, or the first tick that is missing.
    said : str
        What was found, in a sentence.
    numbers : dict
        The numbers behind it.
    """

    check: str
    about: str
    since: str
    said: str
    numbers: dict[str, Any] = field(default_factory=dict)


def overdue(state: LoopState, loop: Loop, now: str) -> list[Overdue]:
    """Return what is overdue as of a tick of the nightly run.

    Parameters
    ----------
    state : LoopState
        The loop as of ``now``.
    now : str
        Key of the nightly run.
    """
    found = [] if loop.watch.max_age is None else _stale(state, loop.watch.max_age)
    if loop.watch.overdue is not None:
        try:
            due = (datetime.fromisoformat(now) - timedelta(hours=loop.watch.overdue)).isoformat()
        except OverflowError:
            return found  # a clock that says the year 1
        found += [*_partitions(state, loop, due), *_predictions(state, due), *_labels(state, loop, due)]
    return found


def _stale(state: LoopState, limit: int) -> list[Overdue]:
    """Return that the champion's training window ended too many published partitions ago."""
    champion = state.champion
    if champion is None:
        return []
    end = max(pin.partition for pin in champion.details.window.pins)
    age = state.published.count(after=end)
    if age <= limit:
        return []
    said = (
        f"version {champion.number} is stale: {age:,} partitions were published since its training window ended with "
        f"{end}; watch.max_age is {limit}"
    )
    return [Overdue(STALENESS, "champion", champion.number, said, {"age": age, "limit": limit, "window_end": end})]


def _partitions(state: LoopState, loop: Loop, due: str) -> list[Overdue]:
    """Return that the newest partitions that should be there are not."""
    wanted = _newest_due(loop, due)
    newest = state.published.newest(until=due)
    began_later = newest is None and bool(state.published)
    if wanted is None or began_later or (newest is not None and newest >= wanted):
        return []
    missing = _missing(loop, wanted, newest)
    first, count = missing[-1], len(missing)
    refused = ((key, state.refused.get(key)) for key in missing)
    reasons = [f"{key} was refused: {refusal.reason}" for key, refusal in refused if refusal is not None]
    many = f"{count:,}{' or more' if count == COUNTED else ''}"
    words = "partition is" if count == 1 else f"partitions, {many} of them, are"
    span = first if count == 1 else f"{first} to {wanted}"
    said = f"the {words} overdue: {span}; the newest published one is {newest or 'none'}"
    numbers = {"missing": count, "first": first, "newest": newest}
    return [Overdue(ABSENCE, "partition", first, "; ".join([said, *reasons[:1]]), numbers)]


def _newest_due(loop: Loop, due: str) -> str | None:
    """Return the newest tick of the loop's partitions by which something is due; None where there is none."""
    last, first = loop.data.until, loop.data.from_
    limit = due if last is None else min(due, f"{last}T00:00:00")
    moment = datetime.fromisoformat(limit) + timedelta(seconds=1)
    tick = previous_tick(loop.data.every, moment.isoformat())
    return tick if first is None or tick >= first else None


def _missing(loop: Loop, wanted: str, newest: str | None) -> list[str]:
    """Return the ticks after ``newest`` up to ``wanted``, the newest first; ``COUNTED`` at most."""
    after = newest or loop.data.from_
    if after is None:
        return [wanted]
    missing = [wanted]
    while len(missing) < COUNTED:
        tick = previous_tick(loop.data.every, missing[-1])
        if tick <= after if newest is not None else tick < after:
            break
        missing.append(tick)
    return missing


def _predictions(state: LoopState, due: str) -> list[Overdue]:
    """Return that partitions are published, and could have been scored, and were not."""
    # A champion promoted as of a partition scores those after it.
    first_promotion = state.promotions.oldest()
    if first_promotion is None:
        return []
    first_champion, scored = first_promotion.partition("|")[0], state.scored.newest(until=due)
    waiting = state.published.keys(after=max(scored or first_champion, first_champion), until=due)
    if not waiting:
        return []
    said = (
        f"predictions are overdue: {_counted(waiting)} published and not scored; the newest scored one is "
        f"{scored or 'none'}"
    )
    return [Overdue(ABSENCE, "predictions", waiting[0], said, {"waiting": len(waiting), "first": waiting[0]})]


def _labels(state: LoopState, loop: Loop, due: str) -> list[Overdue]:
    """Return that the newest partitions whose labels should have come have none."""
    labels = loop.data.labels
    if labels is None and loop.watch.performance is None:
        return []  # nobody looks at labels, and no record says whether there are any
    delay = 0 if labels is None else labels.delay
    # A partition is due where the tick of the last delivery that may touch it is.
    newest = _newest_due(loop, due)
    limit = newest and [newest, *ticks_before(loop.data.every, newest, delay)][-1]
    if not limit:
        return []
    ripe = (state.published if labels is not None else state.scored).newest_first(until=limit)
    waiting = [key for key, _ in takewhile(lambda entry: not _has_labels(state, loop, entry[0]), ripe)][::-1]
    if not waiting:
        return []
    unknown = sum(known.unknown for known in relevant_deliveries(state.labels, waiting[-1]).values())
    said = f"labels are overdue: {_counted(waiting)} without any"
    said += f", {delay} ticks after their own" if delay else ""
    said += f"; {unknown:,} labels came of keys that no partition has" if unknown else ""
    return [
        Overdue(ABSENCE, "labels", waiting[0], said, {"waiting": len(waiting), "first": waiting[0], "unknown": unknown})
    ]


def _has_labels(state: LoopState, loop: Loop, partition: str) -> bool:
    """Whether labels of a partition have come, as far as anybody knows."""
    deliveries = relevant_deliveries(state.labels, partition).values()
    if any(partition in known.touches for known in deliveries):
        return True
    performance = state.performance.get(partition)
    if performance is not None:
        return bool(performance.rows)
    # Keys that were unknown when they came may have been its own: it was published after them.
    return loop.data.labels is None or any(known.unknown for known in deliveries)


def _counted(keys: list[str]) -> str:
    """Return partitions in words, up to the verb."""
    if len(keys) == 1:
        return f"partition {keys[0]} is"
    return f"{len(keys):,} partitions, {keys[0]} to {keys[-1]}, are"


def watch_overdue(workspace: Workspace, now: str) -> list[Overdue]:
    """Record what is overdue as of a tick of the nightly run, and return what was not said before.

    A finding is told once, however many nights it lasts, and one more record says that it is over. A run of a tick
    that is older than the newest partition decided on says nothing: it is about a past that is over.
    """
    loop, now = workspace.loop, partition_key(now)
    if loop.watch.max_age is None and loop.watch.overdue is None:
        return []
    newest = workspace.state().high_water
    if newest is not None and now < newest:
        return []
    state = workspace.state(as_of=now)
    found, new = overdue(state, loop, now), []
    for check, declared in ((STALENESS, loop.watch.max_age), (ABSENCE, loop.watch.overdue)):
        mine = [one for one in found if one.check == check]
        # Read before it is recorded: facts are those of the moment at which they are asked for.
        known = _known(state, check)
        if declared is not None and _recorded(workspace, state, check, mine, now):
            new += [one for one in mine if (one.about, one.since) not in known]
    return new


def _known(state: LoopState, check: str) -> list[tuple[str, str]]:
    """Return what the newest record of a check says to be overdue, each by what it is and since when."""
    judged: Facts[OverdueJudged] = state.judged(check)
    newest = next(judged.newest_first(), None)
    return [] if newest is None else list(newest[1].overdue)


def _recorded(workspace: Workspace, state: LoopState, check: str, found: list[Overdue], now: str) -> bool:
    """Record what is overdue, where that is not what was said before; return whether it was."""
    named, known = [(one.about, one.since) for one in found], _known(state, check)
    if named == known:
        return False
    content = sha256(canonical_json([check, named, known]).encode()).hexdigest()[:16]
    details = OverdueJudged(
        check=check,
        verdict=ALARM if found else NO_ALARM,
        message="; ".join(one.said for one in found) or _over(check),
        overdue=tuple(named),
        numbers={one.about: one.numbers for one in found},
        rows=0,
        champion=state.champion.number if state.champion else None,
    )
    record = workspace.record_fact(workspace.draft(details, f"check:{check}:{now}:{content}", now))
    return record.sequence > state.sequence


def _over(check: str) -> str:
    """Return that nothing is overdue any more, in words."""
    return "the champion is no older than it may be" if check == STALENESS else "nothing is overdue any more"
