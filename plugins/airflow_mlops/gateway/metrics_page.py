"""Render the page for Prometheus from the gateway's own counts, at the time of the request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from airflow_mlops.core.ports.rollout_target import LATENCY_EDGES
from airflow_mlops.gateway.serving import Serving

PREFIX = "airflow_mlops_gateway"


class _GatewayCollector(Collector):
    """A collector of the gateway's counts since it started."""

    def __init__(self, serving: Serving, requests: Mapping[int, int]) -> None:
        self._serving, self._requests = serving, requests

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        serving = self._serving
        served, totals = serving.served, serving.router.totals
        by_status = CounterMetricFamily(f"{PREFIX}_requests", "Requests for predictions, by status", labels=["status"])
        for status, count in sorted(self._requests.items()):
            by_status.add_metric([str(status)], count)
        yield by_status
        for name, help_text, value in (
            ("rows", "Rows that versions were asked for", totals.rows),
            ("rows_answered", "Rows that were answered", totals.answered),
            ("rows_instead", "Rows that the champion answered for a challenger that failed", totals.fallbacks),
            ("log_lines_written", "Lines of the prediction log on disk", serving.log.written),
            ("log_lines_lost", "Lines of the prediction log given up", serving.log.lost),
        ):
            yield CounterMetricFamily(f"{PREFIX}_{name}", help_text, value=value)
        yield from self._version_metrics()
        traffic = served.traffic
        exposed = GaugeMetricFamily(
            f"{PREFIX}_exposed_percent", "Share that the challenger answers", labels=["version"]
        )
        exposed.add_metric([traffic.challenger or ""], served.challenger_bound / 100)
        yield exposed
        yield GaugeMetricFamily(f"{PREFIX}_order", "Record that said what is served", value=traffic.order)
        yield GaugeMetricFamily(f"{PREFIX}_ready", "Whether a champion is served", value=float(serving.ready))
        yield GaugeMetricFamily(
            f"{PREFIX}_tripped", "Whether the challenger was taken out", value=float(served.tripped is not None)
        )
        if served.shadow is not None:
            yield GaugeMetricFamily(
                f"{PREFIX}_shadow_dropped", "Rows left out by this shadow", value=served.shadow.dropped
            )

    def _version_metrics(self) -> Iterator[Metric]:
        rows = CounterMetricFamily(f"{PREFIX}_version_rows", "Rows that a version was asked for", labels=["version"])
        errors = CounterMetricFamily(f"{PREFIX}_version_errors", "Rows that a version failed at", labels=["version"])
        seconds = HistogramMetricFamily(f"{PREFIX}_seconds", "Seconds from arrival to answer", labels=["version"])
        for number, version_totals in sorted(self._serving.log.totals.items()):
            rows.add_metric([number], version_totals.rows)
            errors.add_metric([number], version_totals.errors)
            edges = [*(str(edge) for edge in LATENCY_EDGES), "+Inf"]
            buckets = list(zip(edges, version_totals.latency.cumsum().tolist(), strict=True))
            seconds.add_metric([number], buckets=buckets, sum_value=version_totals.seconds)
        yield from (rows, errors, seconds)


def metrics_page(serving: Serving, requests: Mapping[int, int]) -> tuple[bytes, str]:
    """Return the page and its content type."""
    serving.log.count()
    registry = CollectorRegistry()
    registry.register(_GatewayCollector(serving, requests))
    return generate_latest(registry), CONTENT_TYPE_LATEST
