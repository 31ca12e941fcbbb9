"""The metrics of all loops of a ledger as families of Prometheus, read from the ledger at each request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from airflow_mlops.core.errors import MlopsError
from airflow_mlops.core.ledger.record_counts import NO_RECORDS, RecordCounts
from airflow_mlops.core.ledger.sql_ledger import SqlLedger, open_ledgers
from airflow_mlops.core.overview.loop_metrics import COUNTER, METRICS, PREFIX, Sample, measure_loop
from airflow_mlops.release import __version__

Report = Callable[[str], None]


class LedgerCollector(Collector):
    """A collector of the loops of a ledger; several requests at a time are answered one after the other.

    :param find_ledger: returns the SQLAlchemy URL of the ledger, anew for each request
    :param report: takes a line about what cannot be read, once for as long as it is so
    :param clock: returns the seconds since the epoch
    """

    def __init__(self, find_ledger: Callable[[], str], report: Report, clock: Callable[[], float] = time.time) -> None:
        self._find_ledger, self._report, self._clock = find_ledger, report, clock
        self._counts: dict[str, RecordCounts] = {}
        self._failures: dict[str, str] = {}
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric that has a sample."""
        with self._lock:
            samples = list(self._samples())
        for metric in METRICS:
            of_metric = [sample for sample in samples if sample.metric == metric.name]
            if not of_metric:
                continue
            kind = CounterMetricFamily if metric.kind == COUNTER else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=metric.labels)
            for sample in of_metric:
                family.add_metric(sample.labels, sample.value)
            yield family

    def _samples(self) -> Iterator[Sample]:
        yield Sample(f"{PREFIX}_build_info", 1.0, (__version__,))
        try:
            with open_ledgers(self._find_ledger(), migrating=False) as ledgers:
                samples = [sample for ledger in ledgers.values() for sample in self._loop_samples(ledger)]
        except Exception as error:  # Airflow's connections are anybody's code, and a page is owed all the same
            self._note("", str(error) if isinstance(error, MlopsError) else f"{type(error).__name__}: {error}")
            yield Sample(f"{PREFIX}_up", 0.0)
            return
        self._note("", None)
        yield Sample(f"{PREFIX}_up", 1.0)
        yield from samples

    def _loop_samples(self, ledger: SqlLedger) -> list[Sample]:
        model = ledger.model
        try:
            self._counts[model] = ledger.count_records(self._counts.get(model, NO_RECORDS))
            samples = list(measure_loop(model, ledger.state(), self._counts[model], self._clock()))
        except MlopsError as error:
            self._note(model, str(error))
            return [Sample(f"{PREFIX}_projection_readable", 0.0, (model,))]
        self._note(model, None)
        return samples

    def _note(self, subject: str, failure: str | None) -> None:
        """Report a failure of a subject, the ledger or a model, when it begins or changes, and its end."""
        known = self._failures.pop(subject, None)
        name = f"the state of {subject}" if subject else "the ledger"
        if failure is not None:
            self._failures[subject] = failure
        if failure is not None and failure != known:
            self._report(f"{name} cannot be read: {failure}")
        elif failure is None and known is not None:
            self._report(f"{name} can be read again")


def ledger_registry(find_ledger: Callable[[], str], report: Report) -> CollectorRegistry:
    """Return a registry of the loops' metrics alone."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector(find_ledger, report))
    return registry
