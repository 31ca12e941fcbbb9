"""Find what is overdue: a stale champion, and partitions, predictions or labels that have not arrived.

A partition that does not arrive starts no Dag run, so the nightly run looks for it. The tick of that run counts as now:
no clock is read, a rerun gives the same result, and a run of an old tick does not report on today. All keys are plain
times in UTC, so that no daylight saving moves a tick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import takewhile
from typing import Any

from airflow_mlops.core.data.labels.labels_of import relevant_deliveries
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.partition_key import partition_key
from airflow_mlops.core.ledger.facts import Facts
from airflow_mlops.core.ledger.record import canonical_json
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.watch_details import ALARM, NO_ALARM, OverdueJudged
from airflow_mlops.core.workspace import Workspace

STALENESS, ABSENCE = "staleness", "absence"
MOST_MISSING = 1_000
"""Most missing ticks that are counted: an hourly loop that was left alone for years has too many to walk through."""


@dataclass(frozen=True)
class Overdue:
    """A finding that something is overdue.

    Parameters
    ----------
    check : str
        ``staleness`` or ``absence``.
    about : str
        Its subject: ``champion``, ``partition``, ``predictions`` or ``labels``.
    since : str
        Identifies it among findings with the same subject: the version, or the first tick that is missing.
    message : str
        The finding in a sentence.
    numbers : dict
        The numbers of the finding.
    """

    check: str
    about: str
    since: str
    message: str
    numbers: dict[str, Any] = field(default_factory=dict)


def find_overdue(state: LoopState, loop: Loop, now: str) -> list[Overdue]:
    """Return the overdue findings as of a tick of the nightly run.

    Parameters
    ----------
    state : LoopState
        The loop as of ``now``.
    now : str
        Key of the nightly run.
    """
    findings = [] if loop.watch.max_age is None else _stale_champion(state, loop.watch.max_age)
    if loop.watch.overdue is not None:
        try:
            due = (datetime.fromisoformat(now) - timedelta(hours=loop.watch.overdue)).isoformat()
        except OverflowError:
            return findings  # a clock that says the year 1
        findings += _overdue_partitions(state, loop, due)
        findings += [*_overdue_predictions(state, due), *_overdue_labels(state, loop, due)]
    return findings


def _stale_champion(state: LoopState, limit: int) -> list[Overdue]:
    """Return a finding if the champion's training window ended more than ``limit`` published partitions ago."""
    champion = state.champion
    if champion is None:
        return []
    end = max(pin.partition for pin in champion.details.trained_on.pins)
    age = state.published.count(after=end)
    if age <= limit:
        return []
    message = (
        f"version {champion.number} is stale: {age:,} partitions were published since its training window ended with "
        f"{end}; watch.max_age is {limit}"
    )
    return [Overdue(STALENESS, "champion", champion.number, message, {"age": age, "limit": limit, "window_end": end})]


def _overdue_partitions(state: LoopState, loop: Loop, due: str) -> list[Overdue]:
    """Return a finding if the newest partitions that are due are not published."""
    newest_due = _newest_due(loop, due)
    newest = state.published.newest(until=due)
    began_later = newest is None and bool(state.published)
    if newest_due is None or began_later or (newest is not None and newest >= newest_due):
        return []
    missing = _missing_ticks(loop, newest_due, newest)
    first, count = missing[-1], len(missing)
    refused = ((key, state.refused.get(key)) for key in missing)
    reasons = [f"{key} was refused: {refusal.reason}" for key, refusal in refused if refusal is not None]
    count_text = f"{count:,}{' or more' if count == MOST_MISSING else ''}"
    subject = "partition is" if count == 1 else f"partitions, {count_text} of them, are"
    span = first if count == 1 else f"{first} to {newest_due}"
    message = f"the {subject} overdue: {span}; the newest published one is {newest or 'none'}"
    numbers = {"missing": count, "first": first, "newest": newest}
    return [Overdue(ABSENCE, "partition", first, "; ".join([message, *reasons[:1]]), numbers)]


def _newest_due(loop: Loop, due: str) -> str | None:
    """Return the newest tick of the loop's partitions at or before ``due``; None where there is none."""
    last, first = loop.data.last_moment, loop.data.first_moment
    limit = due if last is None else min(due, last)
    moment = datetime.fromisoformat(limit) + timedelta(seconds=1)
    tick = loop.data.schedule.previous(moment.isoformat())
    return tick if first is None or tick >= first else None


def _missing_ticks(loop: Loop, newest_due: str, newest: str | None) -> list[str]:
    """Return the ticks after ``newest`` up to ``newest_due``, the newest first; ``MOST_MISSING`` at most."""
    after = newest or loop.data.first_moment
    if after is None:
        return [newest_due]
    missing = [newest_due]
    while len(missing) < MOST_MISSING:
        tick = loop.data.schedule.previous(missing[-1])
        if tick <= after if newest is not None else tick < after:
            break
        missing.append(tick)
    return missing


def _overdue_predictions(state: LoopState, due: str) -> list[Overdue]:
    """Return a finding if published partitions could have been scored and were not."""
    # A champion promoted as of a partition scores those after it.
    first_promotion = state.promotions.oldest()
    if first_promotion is None:
        return []
    first_champion, scored = first_promotion.partition("|")[0], state.scored.newest(until=due)
    waiting = state.published.keys(after=max(scored or first_champion, first_champion), until=due)
    if not waiting:
        return []
    message = (
        f"predictions are overdue: {_describe_partitions(waiting)} published and not scored; the newest scored one is "
        f"{scored or 'none'}"
    )
    return [Overdue(ABSENCE, "predictions", waiting[0], message, {"waiting": len(waiting), "first": waiting[0]})]


def _overdue_labels(state: LoopState, loop: Loop, due: str) -> list[Overdue]:
    """Return a finding if the newest partitions whose labels are due have none."""
    labels = loop.data.labels
    if labels is None and loop.watch.performance is None:
        return []  # no check uses labels, and no record shows whether there are any
    delay = 0 if labels is None else labels.delay
    # A partition is due where the tick of the last delivery that may touch it is.
    newest = _newest_due(loop, due)
    limit = newest and [newest, *loop.data.schedule.before(newest, delay)][-1]
    if not limit:
        return []
    ripe = (state.published if labels is not None else state.scored).newest_first(until=limit)
    waiting = [key for key, _ in takewhile(lambda entry: not _has_labels(state, loop, entry[0]), ripe)][::-1]
    if not waiting:
        return []
    unknown = sum(delivery.unknown for delivery in relevant_deliveries(state.labels, waiting[-1]).values())
    message = f"labels are overdue: {_describe_partitions(waiting)} without any"
    message += f", {delay} ticks after their own" if delay else ""
    message += f"; {unknown:,} labels came of keys that no partition has" if unknown else ""
    return [
        Overdue(
            check=ABSENCE,
            about="labels",
            since=waiting[0],
            message=message,
            numbers={"waiting": len(waiting), "first": waiting[0], "unknown": unknown},
        )
    ]


def _has_labels(state: LoopState, loop: Loop, partition: str) -> bool:
    """Return whether any record shows labels of a partition."""
    deliveries = relevant_deliveries(state.labels, partition).values()
    if any(partition in delivery.touches for delivery in deliveries):
        return True
    performance = state.performance.get(partition)
    if performance is not None:
        return bool(performance.rows)
    # Keys that were unknown when they came may have been its own: it was published after them.
    return loop.data.labels is None or any(delivery.unknown for delivery in deliveries)


def _describe_partitions(keys: list[str]) -> str:
    """Return the beginning of a sentence about partitions, up to its verb."""
    if len(keys) == 1:
        return f"partition {keys[0]} is"
    return f"{len(keys):,} partitions, {keys[0]} to {keys[-1]}, are"


def watch_overdue(workspace: Workspace, now: str) -> list[Overdue]:
    """Record the overdue findings as of a tick of the nightly run, and return the new ones.

    A finding is returned once, however many nights it lasts; a further record closes it. A run of a tick that is older
    than the newest partition decided on records nothing.
    """
    loop, now = workspace.loop, partition_key(now)
    if loop.watch.max_age is None and loop.watch.overdue is None:
        return []
    newest = workspace.state().high_water
    if newest is not None and now < newest:
        return []
    state = workspace.state(as_of=now)
    findings, new = find_overdue(state, loop, now), []
    for check, declared in ((STALENESS, loop.watch.max_age), (ABSENCE, loop.watch.overdue)):
        of_check = [finding for finding in findings if finding.check == check]
        # Read before the new findings are recorded: a state reads its facts when they are asked for.
        recorded = _recorded_findings(state, check)
        if declared is not None and _record_if_changed(workspace, state, check, of_check, now):
            new += [finding for finding in of_check if (finding.about, finding.since) not in recorded]
    return new


def _recorded_findings(state: LoopState, check: str) -> list[tuple[str, str]]:
    """Return subject and ``since`` of each finding in the newest record of a check."""
    judged: Facts[OverdueJudged] = state.judged(check)
    latest = next(judged.newest_first(), None)
    return [] if latest is None else list(latest[1].overdue)


def _record_if_changed(workspace: Workspace, state: LoopState, check: str, findings: list[Overdue], now: str) -> bool:
    """Record the findings of a check if they differ from its newest record; return whether a record was added."""
    current, recorded = [(finding.about, finding.since) for finding in findings], _recorded_findings(state, check)
    if current == recorded:
        return False
    content = sha256(canonical_json([check, current, recorded]).encode()).hexdigest()[:16]
    details = OverdueJudged(
        check=check,
        verdict=ALARM if findings else NO_ALARM,
        message="; ".join(finding.message for finding in findings) or _recovery_message(check),
        overdue=tuple(current),
        numbers={finding.about: finding.numbers for finding in findings},
        rows=0,
        champion=state.champion.number if state.champion else None,
    )
    record = workspace.record_fact(workspace.draft(details, f"check:{check}:{now}:{content}", now))
    return record.sequence > state.sequence


def _recovery_message(check: str) -> str:
    """Return the message of a record without findings."""
    return "the champion is no older than it may be" if check == STALENESS else "nothing is overdue any more"
