"""Records of the watch: one kind for every judgement of a window, and the report that a person reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from airflow_mlops.core.ledger.details import Details

DRIFT, PERFORMANCE, REGRET, OUTSIDE = "drift", "performance", "regret", "outside"
"""Checks that have more to state than numbers, each with a dataclass of its own."""
ALARM, NO_ALARM, INSUFFICIENT_DATA, MEASURED = "alarm", "no alarm", "insufficient data", "measured"
ESTIMATED = "estimated"
"""The verdict on a regret whose labels have not come yet."""


@dataclass(frozen=True, kw_only=True)
class WindowJudged(Details):
    """A check of a window, which is a scored partition or, for what is overdue, the tick of a run.

    Parameters
    ----------
    check : str
        Name of the check; ``drift``, ``performance`` and ``regret`` state more than numbers.
    verdict : str
        ``alarm``, ``no alarm`` or ``insufficient data``; of regret ``measured`` or ``insufficient data``.
    message : str
        The finding in a sentence with its numbers.
    rows : int, optional
        Rows that the verdict rests on.
    snapshot : str, optional
        Content digest of the scored rows.
    champion : str, optional
        Version that scored them.
    historical : bool
        Whether a newer partition was decided on before, so that the window alarms nothing.
    numbers : dict of str to JSON
        The figures behind the verdict, by name.
    report : str, optional
        Digest of the evidence.
    alarm_rate : float, optional
        Share of windows without a change that may alarm.
    labels : str
        Digest of the labels that the verdict rests on; empty where it rests on none of their own.
    judgement : int
        Number of the judgement of the same rows, from 1.
    failed : bool
        Whether the check could not be made, so that it is tried again.
    """

    KIND: ClassVar[str] = "window_judged"
    SUMMARY: ClassVar[str] = (
        "A check of a window: drift, performance, regret or another one, its verdict, and the numbers behind it."
    )

    check: str
    verdict: str
    message: str = ""
    rows: int | None = None
    snapshot: str | None = None
    champion: str | None = None
    historical: bool = False
    numbers: dict[str, Any] = field(default_factory=dict)
    report: str | None = None
    alarm_rate: float | None = None
    labels: str = ""
    judgement: int = 1
    failed: bool = False

    @property
    def alarms(self) -> bool:
        """True if the verdict is an alarm."""
        return self.verdict == ALARM


@dataclass(frozen=True, kw_only=True)
class DriftJudged(WindowJudged):
    """The inputs of a window against the training window of the champion that scored it.

    ``drifted`` and ``missing`` are columns that alarm; ``remarks`` are further columns by what was found of them
    (``new``, ``retyped``, ``blind`` …). ``needed`` is how many rows would show the least effect that matters.
    """

    check: str = DRIFT
    needed: int | None = None
    drifted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    restless: bool = False
    remarks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    engine: str | None = None
    method: str | None = None
    threshold: float | None = None


@dataclass(frozen=True, kw_only=True)
class PerformanceJudged(WindowJudged):
    """The metric of the served predictions on the labels, against its value at registration.

    ``value`` in [``low``, ``high``] against ``reference``; ``worse_by`` is a share of the reference, ``limit`` what is
    allowed of it. ``rows`` of ``scored`` rows have a label. ``as_of`` is the newest delivery that counts, ``spent``
    the alarm rate that earlier judgements of the window have used up. ``alarmed`` names the whole or slices.
    """

    check: str = PERFORMANCE
    metric: str = ""
    scored: int | None = None
    needed: int | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    worse_by: float | None = None
    limit: float | None = None
    p_value: float | None = None
    rate: float | None = None
    as_of: str | None = None
    spent: float = 0.0
    alarmed: tuple[str, ...] = ()
    slices: dict[str, Any] | None = None
    holdout_slices: str | None = None
    no_slices: str | None = None


@dataclass(frozen=True, kw_only=True)
class RegretMeasured(WindowJudged):
    """The champion's regret on a partition: its excess loss over a fresh model, as a share of the fresh loss.

    ``regret`` is None where it could not be measured; ``message`` says why. ``fresh_as_of`` is the newest partition
    that the fresh model was made from, ``fresh_candidate`` its name where it is the best of several, and ``recalled``
    the earlier champion that a training as of it would have recalled, whose loss is then the fresh one.
    ``verdict`` is ``estimated`` where labels are late: ``low`` and ``high`` are then the ends of an interval that will
    hold the measured regret nine times of ten, and ``holdout_rows`` how many labelled rows the estimate was made from.
    """

    check: str = REGRET
    metric: str = ""
    regret: float | None = None
    champion_value: float | None = None
    fresh_value: float | None = None
    fresh_as_of: str | None = None
    fresh_candidate: str | None = None
    low: float | None = None
    high: float | None = None
    holdout_rows: int | None = None
    recalled: str | None = None


@dataclass(frozen=True, kw_only=True)
class OutsideAlarm:
    """An alarm of a monitor outside: its ``id`` there, its ``message``, and the ``partition`` it is about, if any."""

    id: str
    message: str = ""
    partition: str | None = None


@dataclass(frozen=True, kw_only=True)
class OutsideAlarmed(WindowJudged):
    """Alarms of a monitor outside about a partition, those that this record adds."""

    check: str = OUTSIDE
    added: tuple[OutsideAlarm, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OverdueJudged(WindowJudged):
    """The overdue findings as of a tick, each as its subject and since when; empty once nothing is overdue."""

    overdue: tuple[tuple[str, str], ...] = ()


JUDGED: dict[str, type[WindowJudged]] = {
    DRIFT: DriftJudged,
    PERFORMANCE: PerformanceJudged,
    REGRET: RegretMeasured,
    OUTSIDE: OutsideAlarmed,
    "staleness": OverdueJudged,
    "absence": OverdueJudged,
}
"""The dataclass of a check, where it is not :class:`WindowJudged` itself."""


@dataclass(frozen=True, kw_only=True)
class ReportRendered(Details):
    """The page about a partition, kept as evidence; ``report`` is its digest, ``why`` the reason for drawing it."""

    KIND: ClassVar[str] = "report_rendered"
    SUMMARY: ClassVar[str] = "The page that a person opens about a partition, kept as evidence."

    engine: str
    report: str
    media_type: str = "text/html"
    why: str = ""
