"""The costly steps of a stage, for whoever traces them: the port of a tracer. Without one, a step costs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Protocol


class SpanRecorder(Protocol):
    """A tracer of the steps of one stage."""

    def span(self, name: str, attributes: Mapping[str, str]) -> AbstractContextManager[object]:
        """Return a context in which the step of a name runs; it raises no error of its own."""

    def set_attributes(self, attributes: Mapping[str, str]) -> None:
        """Note what has become known of the stage, such as the version that it is about."""


_RECORDER: ContextVar[SpanRecorder | None] = ContextVar("airflow_mlops_span_recorder", default=None)


@contextmanager
def recording_spans(recorder: SpanRecorder) -> Iterator[None]:
    """Give the steps in the body to a recorder.

    A thread that the body starts has none: its steps are within the step that started it.
    """
    token = _RECORDER.set(recorder)
    try:
        yield
    finally:
        _RECORDER.reset(token)


@contextmanager
def span(name: str, **attributes: str) -> Iterator[None]:
    """Run the body, or the function that is decorated, as a step of the stage.

    >>> with span("fit", candidate="linear"):
    ...     print("fitted")
    fitted
    """
    recorder = _RECORDER.get()
    if recorder is None:
        yield
        return
    with recorder.span(name, attributes):
        yield


def note_version(number: str) -> None:
    """Note the version that the stage is about, once it is known."""
    recorder = _RECORDER.get()
    if recorder is not None:
        recorder.set_attributes({"version": number})
