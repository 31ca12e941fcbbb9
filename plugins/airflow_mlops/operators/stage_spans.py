"""Model, partition, version and stage as fields of log lines, and as attributes of OpenTelemetry spans.

Airflow's logs are structured: what is bound here is a field of each line of the task, ours and those of libraries.
Spans are recorded where Airflow traces, ``[traces] otel_on``; elsewhere OpenTelemetry is not imported here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.ports.spans import recording_spans

if TYPE_CHECKING:
    from opentelemetry.trace import Span

PREFIX = "mlops."
"""Before the name of each attribute and of each span."""


@contextmanager
def observing_stage(operator: type, model: str, partition: str) -> Iterator[None]:
    """Bind model, partition and stage to the log lines and the spans of the body; the version follows."""
    from airflow.sdk.configuration import conf
    from structlog.contextvars import bound_contextvars, unbind_contextvars

    fields = {"model": model, "partition": partition, "stage": stage_name(operator)}
    traced = conf.getboolean("traces", "otel_on", fallback=False)
    recorder = TracedStage(fields) if traced else LoggedStage()
    with bound_contextvars(**fields), recording_spans(recorder):
        try:
            yield
        finally:
            unbind_contextvars("version")


def stage_name(operator: type) -> str:
    """Return the name of a stage from the class of its operator.

    >>> stage_name(type("DetectDriftOperator", (), {}))
    'detect_drift'
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operator.__name__.removesuffix("Operator")).lower()


class LoggedStage:
    """A stage whose log lines alone are given what becomes known of it."""

    def span(self, name: str, attributes: Mapping[str, str]) -> AbstractContextManager[object]:
        """Return a context that does nothing."""
        return nullcontext()

    def set_attributes(self, attributes: Mapping[str, str]) -> None:
        """Bind fields to the log lines that follow."""
        from structlog.contextvars import bind_contextvars

        bind_contextvars(**attributes)


class TracedStage(LoggedStage):
    """A stage whose steps are spans within the span of its task.

    Each span has the attributes of the stage, so that one can be found without its parents.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        from opentelemetry import trace

        self.fields = dict(fields)
        self.tracer = trace.get_tracer("airflow_mlops")
        self.spans: list[Span] = [trace.get_current_span()]
        self.spans[0].set_attributes(prefixed(self.fields))

    @contextmanager
    def span(self, name: str, attributes: Mapping[str, str]) -> Iterator[None]:
        """Run the body within a span; an error leaves its type there, and not its message, which may quote a row."""
        from opentelemetry.trace import Status, StatusCode

        with self.tracer.start_as_current_span(
            PREFIX + name,
            attributes=prefixed({**self.fields, **attributes}),
            record_exception=False,
            set_status_on_exception=False,
        ) as current:
            self.spans.append(current)
            try:
                yield
            except NotReadyError:
                raise
            except Exception as error:
                current.set_status(Status(StatusCode.ERROR, f"Exception: {type(error).__name__}"))
                raise
            finally:
                self.spans.remove(current)

    def set_attributes(self, attributes: Mapping[str, str]) -> None:
        """Add attributes to the spans that are open and to those that follow, and fields to the log lines."""
        super().set_attributes(attributes)
        self.fields |= attributes
        for open_span in self.spans:
            open_span.set_attributes(prefixed(attributes))


def prefixed(fields: Mapping[str, str]) -> dict[str, str]:
    """Return fields as attributes.

    >>> prefixed({"model": "bakery"})
    {'mlops.model': 'bakery'}
    """
    return {f"{PREFIX}{name}": value for name, value in fields.items()}
