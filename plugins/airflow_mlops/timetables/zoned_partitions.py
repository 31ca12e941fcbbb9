"""The timetable of partitions whose ticks are on a local clock: the ticks and keys of the core, for Airflow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pendulum
from airflow.timetables.trigger import CronPartitionTimetable

from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule

if TYPE_CHECKING:
    from pendulum import DateTime


class ZonedPartitionTimetable(CronPartitionTimetable):
    """A cron expression on a local clock, whose partition keys are its ticks in UTC.

    Airflow's own timetable writes the local time into the key, so the two hours of a clock set back share one key, and
    its next and previous ticks disagree around some changes. Here both come from the core, so scheduler, backfill and
    ingest mean the same ticks.
    """

    @property
    def _schedule(self) -> PartitionSchedule:
        return PartitionSchedule(self._expression, str(self._timezone.name))

    def _get_next(self, current: DateTime) -> DateTime:
        return _moment(self._schedule.next(_key(current)))

    def _get_prev(self, current: DateTime) -> DateTime:
        return _moment(self._schedule.previous(_key(current + timedelta(microseconds=999_999))))

    def _format_key(self, partition_date: DateTime) -> str:
        return partition_date.in_timezone("UTC").strftime(self._key_format)

    def _decode_partition_date(self, partition_key: str) -> datetime:
        super()._decode_partition_date(partition_key)  # for its error about another format; its time is a local one
        return datetime.strptime(partition_key, self._key_format).replace(tzinfo=UTC)


def _key(moment: DateTime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat()


def _moment(key: str) -> DateTime:
    return pendulum.instance(datetime.fromisoformat(key), tz="UTC")
