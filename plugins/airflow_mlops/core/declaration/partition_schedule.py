"""The schedule of the partitions: the ticks of ``data.every`` on the clock of ``data.timezone``.

A tick is an instant, and a key is that instant in UTC, so keys sort like time and differ in a repeated hour. What a
tick is follows cron:

* An expression that runs in every hour ticks at every instant whose local time matches: an hour that the clock skips
  has no tick, and an hour that it repeats has two.
* Any other expression ticks once for each local time that matches. A local time that the clock skips is moved forward
  by the gap, and of one that it repeats the first is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from airflow_mlops.core.declaration.partition_key import partition_key, partition_slug
from airflow_mlops.core.errors import DataError, DeclarationError

_PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
}
"""Airflow's meaning of the presets; croniter does not know ``@quarterly``."""
_EVERY_HOUR = ("*", "*/1", "0-23")
_FAR = timedelta(hours=27)
"""Longer than any change of a clock: Samoa left out a whole day in 2011."""
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class PartitionSchedule:
    """The ticks that close the partitions.

    Parameters
    ----------
    every : str
        Cron expression of the ticks.
    timezone : str
        IANA name of the time zone that the expression is read in.
    """

    every: str = "@weekly"
    timezone: str = "UTC"

    def previous(self, key: str) -> str:
        """Return the tick before ``key``, where its partition begins.

        Raises
        ------
        DeclarationError
            If ``every`` is no cron expression or never ticks.
        """
        return self._neighbour(key, forward=False)

    def next(self, key: str) -> str:
        """Return the tick after ``key``; see :meth:`previous`."""
        return self._neighbour(key, forward=True)

    def before(self, key: str, count: int) -> list[str]:
        """Return ``count`` ticks before ``key``, the newest first.

        >>> PartitionSchedule("@weekly").before("2013-01-20T00:00:00", 2)
        ['2013-01-13T00:00:00', '2013-01-06T00:00:00']
        """
        ticks: list[str] = []
        while len(ticks) < count:
            tick = self.previous(ticks[-1] if ticks else key)
            if datetime.fromisoformat(tick).year < 1900:
                break  # a key of year 1 is a broken clock, and there is nothing before it
            ticks.append(tick)
        return ticks

    def closing(self, key: str) -> str:
        """Return the tick whose partition closes at ``key`` or holds that time."""
        return self.next((datetime.fromisoformat(key) - _SECOND).isoformat())

    def tick_by(self, key: str) -> str:
        """Return the newest tick at or before a time."""
        return key if self.closing(key) == key else self.previous(key)

    def local(self, key: str) -> datetime:
        """Return a key as a time of the zone."""
        return datetime.fromisoformat(key).replace(tzinfo=UTC).astimezone(self.zone)

    def start_of(self, day: str) -> str:
        """Return the key of the first instant of a local day, an ISO date."""
        midnight = datetime.fromisoformat(day).replace(tzinfo=self.zone)
        return partition_key(_to_utc(midnight).isoformat())

    def slug(self, key: str) -> str:
        """Return the form of a key in file names: a date if every tick is a midnight in UTC, else date and time.

        >>> PartitionSchedule("@daily").slug("2013-03-10T00:00:00")
        '2013-03-10'
        >>> PartitionSchedule("@hourly").slug("2013-03-10T00:00:00")
        '2013-03-10T0000'
        """
        return partition_slug(key, date_only=self.timezone == "UTC" and self._is_at_midnight)

    @property
    def local_format(self) -> str:
        """Format of a tick on the clock of the loop, in which no two ticks are alike."""
        if self._is_at_midnight:
            return "%Y-%m-%d"
        return "%Y-%m-%dT%H%M" if self.timezone == "UTC" else "%Y-%m-%dT%H%M%z"

    @property
    def _is_at_midnight(self) -> bool:
        minute, hour = self._cron().split()[:2]
        return minute in ("0", "00") and hour in ("0", "00")

    def require_tick(self, text: str) -> str:
        """Return the canonical key of a partition.

        Raises
        ------
        DataError
            If the text is no partition key, or its time is no tick; the message names the keys that may be meant.
        """
        key = partition_key(text)
        try:
            tick = self.closing(key)
        except (OverflowError, ValueError):
            raise DataError(
                f"partition {key} has no ticks around it: the calendar ends; give the key of a tick"
            ) from None
        if tick == key:
            return key
        raise DataError(
            f"partition {key} is no tick of data.every {self.every!r} in {self.timezone}: that time lies in partition "
            f"{self.describe(tick)}, and the partition before it is {self.describe(self.previous(tick))}; "
            "run it again with one of these as the partition key"
        )

    def describe(self, key: str) -> str:
        """Return a key for a message, with its local time where the zone is not UTC."""
        return key if self.timezone == "UTC" else f"{key} ({self.local(key):%Y-%m-%d %H:%M %Z})"

    @property
    def zone(self) -> tzinfo:
        """The time zone."""
        if self.timezone == "UTC":
            return UTC
        from zoneinfo import ZoneInfo  # here, as most loops tick in UTC

        return ZoneInfo(self.timezone)

    def _cron(self) -> str:
        return _PRESETS.get(self.every, self.every)

    def _neighbour(self, key: str, *, forward: bool) -> str:
        from croniter import CroniterError  # here, so that the parse of a Dag file does not pay for it

        moment = datetime.fromisoformat(key)
        try:
            if self.timezone == "UTC":
                tick = next(self._times(moment, forward=forward))
            else:
                tick = self._neighbour_in_zone(moment, forward=forward)
        except CroniterError as error:
            raise DeclarationError(f"{self.every!r} is no cron expression: {error}", key="data.every") from None
        return partition_key(tick.isoformat())

    def _times(self, after: datetime, *, forward: bool) -> Iterator[datetime]:
        """Yield the times that match the expression, without a zone, away from a time that is not among them."""
        from croniter import croniter

        times = croniter(self._cron(), after)
        while True:
            yield times.get_next(datetime) if forward else times.get_prev(datetime)

    def _neighbour_in_zone(self, moment: datetime, *, forward: bool) -> datetime:
        """Return the nearest tick after or before an instant; all times are without a zone, and instants in UTC.

        Around a change of the clock, the order of local times is not that of instants: the search then begins
        earlier by the shift, and goes on for as long before it settles.
        """
        sign = 1 if forward else -1
        local = self._local(moment)
        best: datetime | None = None
        end = local
        for time in self._times(local - sign * (self._shift(moment) + _SECOND), forward=forward):
            if best is not None and (time - end) * sign > timedelta(0):
                return best
            beyond = [tick for tick in self._ticks_at(time) if (tick - moment) * sign > timedelta(0)]
            nearest = min(beyond, key=lambda tick: (tick - moment) * sign, default=None)
            if nearest is not None and (best is None or (best - nearest) * sign > timedelta(0)):
                best, end = nearest, time + sign * self._shift(nearest)
        raise AssertionError("the times of an expression do not end")

    def _local(self, moment: datetime) -> datetime:
        return moment.replace(tzinfo=UTC).astimezone(self.zone).replace(tzinfo=None)

    def _shift(self, moment: datetime) -> timedelta:
        """Return by how much the clock changes in the days around an instant."""
        offsets = [self._local(at) - at for at in (moment - _FAR, moment, moment + _FAR)]
        return max(offsets) - min(offsets)

    def _ticks_at(self, time: datetime) -> list[datetime]:
        """Return the ticks of a local time that matches the expression: usually one, none or two at a change."""
        first, second = (_to_utc(time.replace(tzinfo=self.zone, fold=fold)) for fold in (0, 1))
        if first == second:
            return [first]
        if self._cron().split()[1] not in _EVERY_HOUR:
            return [first]
        return [first, second] if first < second else []


def _to_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
