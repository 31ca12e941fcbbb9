"""Spans of a loop as a collector of OTLP on loopback takes them, and the fields of the log lines of its tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from airflow_mlops.core.errors import DataError, NotReadyError
from airflow_mlops.core.ports.spans import note_version, recording_spans, span
from airflow_mlops.operators.data import TakeSnapshotOperator
from airflow_mlops.operators.stage_spans import TracedStage, observing_stage
from tests.loop.project import KEYS, night
from tests.loop.receivers import span_collector

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

HOUSE = Path(__file__).parents[2]
WEEK, NIGHT = KEYS[2], night(KEYS[1])


@dataclass(frozen=True)
class History:
    """The spans of a history, and the lines of the logs of its tasks."""

    model: str
    tasks: dict[str, list[str]]
    logs: dict[str, list[dict[str, Any]]]
    spans: list[Span]

    def one(self, name: str, stage: str, partition: str) -> Span:
        """Return the one span of a name in a stage of a partition."""
        spans = [
            span
            for span in self.spans
            if span.name == name
            and attributes(span).get("mlops.stage") == stage
            and attributes(span).get("mlops.partition") == partition
        ]
        assert len(spans) == 1, [span.name for span in self.spans]
        return spans[0]

    def lines(self, task: str, logger: str) -> list[dict[str, Any]]:
        """Return the lines that a logger wrote in the log of a task."""
        return [line for line in self.logs[f"{self.model}_{task}"] if logger in str(line.get("logger"))]


def attributes(span: Any) -> dict[str, Any]:
    """Return the attributes of a span with a text as value."""
    return {item.key: item.value.string_value for item in span.attributes}


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """A loop to its second champion, and a partition that it scores and watches, where Airflow traces."""
    folder = tmp_path_factory.mktemp("traced")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    with span_collector() as collector:
        settings = {
            "PYTHONPATH": os.pathsep.join([str(HOUSE / "plugins"), str(HOUSE)]),
            "AIRFLOW__TRACES__OTEL_ON": "True",
            **collector.environment,
        }
        ended = subprocess.run(
            [sys.executable, "-m", "tests.loop.traced_history", str(folder)],
            cwd=HOUSE,
            env={**inherited, **settings},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr[-4000:]
        yield History(**json.loads(ended.stdout), spans=collector.spans)


def test_the_tasks_of_the_history_have_ended_well(history: History) -> None:
    ends = {name.removeprefix(f"{history.model}_"): set(states) for name, states in history.tasks.items()}
    assert ends.pop("watch.report") == {"skipped"}, "nothing alarms"
    of_first = {"score.score", "rollout.shadow_100.enter", "rollout.shadow_100.analyse", "rollout.live_100.promote"}
    assert {name for name, states in ends.items() if "skipped" in states} == of_first, "what needs a champion"
    assert set.union(*ends.values()) == {"skipped", "success"}
    assert all("success" in states for states in ends.values())


@pytest.mark.parametrize(
    ("step", "task", "stage", "partition"),
    [
        ("read", "worker.snapshot", "take_snapshot", WEEK),
        ("fit", "worker.fit[0]", "fit_candidate", NIGHT),
        ("judge", "worker.evaluate", "evaluate_candidates", NIGHT),
        ("register", "worker.register", "register_candidate", NIGHT),
        ("analyse", "worker.shadow_100.analyse", "analyse_rollout", WEEK),
        ("score", "worker.score", "score_partition", WEEK),
    ],
)
def test_a_costly_step_is_a_span_within_that_of_its_task(
    history: History, step: str, task: str, stage: str, partition: str
) -> None:
    of_step, of_task = history.one(f"mlops.{step}", stage, partition), history.one(task, stage, partition)
    assert of_step.parent_span_id == of_task.span_id
    assert of_step.trace_id == of_task.trace_id
    assert of_task.start_time_unix_nano <= of_step.start_time_unix_nano
    assert of_step.end_time_unix_nano <= of_task.end_time_unix_nano
    assert attributes(of_step)["mlops.model"] == attributes(of_task)["mlops.model"] == history.model


def test_signing_is_a_step_of_registering(history: History) -> None:
    signing = history.one("mlops.sign", "register_candidate", NIGHT)
    assert signing.parent_span_id == history.one("mlops.register", "register_candidate", NIGHT).span_id


@pytest.mark.parametrize(
    ("task", "stage", "partition", "version"),
    [
        ("worker.register", "register_candidate", NIGHT, "1"),
        ("worker.start", "start_rollout", NIGHT, "1"),
        ("worker.score", "score_partition", WEEK, "1"),
        ("worker.drift", "detect_drift", WEEK, "1"),
        ("worker.performance", "measure_performance", WEEK, "1"),
        ("worker.register", "register_candidate", WEEK, "2"),
        ("worker.shadow_100.analyse", "analyse_rollout", WEEK, "2"),
        ("worker.live_100.promote", "advance_rollout", WEEK, "2"),
    ],
)
def test_the_span_of_a_task_has_the_version_that_it_is_about(
    history: History, task: str, stage: str, partition: str, version: str
) -> None:
    assert attributes(history.one(task, stage, partition))["mlops.version"] == version


def test_the_candidate_of_a_fit_is_an_attribute(history: History) -> None:
    assert attributes(history.one("mlops.fit", "fit_candidate", NIGHT))["mlops.candidate"] == "linear"


def test_log_lines_of_a_task_have_model_partition_and_stage_as_fields(history: History) -> None:
    lines = history.lines("watch.performance", "MeasurePerformanceOperator")
    assert [(line["model"], line["partition"], line["stage"]) for line in lines] == [
        (history.model, WEEK, "measure_performance")
    ]


def test_log_lines_have_the_version_once_it_is_known(history: History) -> None:
    lines = history.lines("rollout.shadow_100.analyse", "AnalyseRolloutOperator")
    assert [line.get("version") for line in lines] == [None, "2"]
    assert lines[-1]["event"].startswith("version 2 at shadow_100: ")


def test_lines_after_the_stage_have_no_field_of_it(history: History) -> None:
    line = history.logs[f"{history.model}_rollout.shadow_100.analyse"][-1]
    assert {"model", "partition", "stage", "version"}.isdisjoint(line)


@pytest.fixture
def kept() -> tuple[TracerProvider, InMemorySpanExporter]:
    """A tracer of this process, and the spans that it has kept."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def traced_stage(provider: TracerProvider) -> TracedStage:
    """Return a stage whose spans are kept."""
    stage = TracedStage({"model": "bakery", "partition": KEYS[0], "stage": "take_snapshot"})
    stage.tracer = provider.get_tracer("tests")
    return stage


def test_a_failed_step_leaves_the_type_of_its_error_and_no_value_of_a_row(
    kept: tuple[TracerProvider, InMemorySpanExporter],
) -> None:
    provider, exporter = kept
    with pytest.raises(DataError), recording_spans(traced_stage(provider)), span("read"):
        raise DataError("row 7: iban 'DE02 1203 0000 0000 2020 51' is no number")
    (failed,) = exporter.get_finished_spans()
    assert (failed.status.status_code.name, failed.status.description) == ("ERROR", "Exception: DataError")
    assert failed.events == ()


def test_a_step_that_waits_is_no_error(kept: tuple[TracerProvider, InMemorySpanExporter]) -> None:
    provider, exporter = kept
    with pytest.raises(NotReadyError), recording_spans(traced_stage(provider)), span("analyse"):
        raise NotReadyError("0 of 1 partitions were scored")
    (waiting,) = exporter.get_finished_spans()
    assert waiting.status.status_code.name == "UNSET"


def test_a_version_is_an_attribute_of_open_steps_and_of_later_ones(
    kept: tuple[TracerProvider, InMemorySpanExporter],
) -> None:
    provider, exporter = kept
    with recording_spans(traced_stage(provider)), span("register"):
        with span("sign"):
            pass
        note_version("7")
        with span("read"):
            pass
    versions = {done.name: (done.attributes or {}).get("mlops.version") for done in exporter.get_finished_spans()}
    assert versions == {"mlops.sign": None, "mlops.read": "7", "mlops.register": "7"}


def test_where_airflow_does_not_trace_no_span_is_made(
    kept: tuple[TracerProvider, InMemorySpanExporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, exporter = kept
    monkeypatch.setattr("opentelemetry.trace.get_tracer", provider.get_tracer)

    def run() -> None:
        with observing_stage(TakeSnapshotOperator, "bakery", KEYS[0]), span("read"):
            pass

    monkeypatch.setenv("AIRFLOW__TRACES__OTEL_ON", "False")
    run()
    assert exporter.get_finished_spans() == ()
    monkeypatch.setenv("AIRFLOW__TRACES__OTEL_ON", "True")
    run()
    assert [done.name for done in exporter.get_finished_spans()] == ["mlops.read"]


def test_a_stage_without_tracing_imports_no_opentelemetry() -> None:
    program = (
        "import sys\n"
        "from airflow_mlops.core.ports.spans import note_version, recording_spans, span\n"
        "from airflow_mlops.operators.stage_spans import LoggedStage\n"
        "with recording_spans(LoggedStage()), span('read'):\n"
        "    note_version('1')\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(HOUSE / "plugins")}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
