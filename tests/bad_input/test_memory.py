"""Deliveries that claim to be huge are refused, and large ones are published, in bounded memory."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

from airflow_mlops.core.errors import DataError
from airflow_mlops.testing.peak_memory import forget_peak, peak_mb
from tests.bad_input.cases_of_files import deliver_many_rows
from tests.bad_input.cases_of_partitions import deliver_distinct
from tests.bad_input.world import BAD, HISTORY, World
from tests.wiped_parquet import wipe_rows


def report_ingest(folder: Path, results: multiprocessing.SimpleQueue[tuple[str, float]]) -> None:
    """Ingest the waiting partition and report the outcome, and by how many MB the peak rose."""
    world = World(folder)
    world.put(HISTORY[0])
    world.ingest(HISTORY[0])  # everything is imported and opened now
    forget_peak()
    before = peak_mb()
    try:
        message = f"{world.ingest(BAD).rows:,} rows"
    except DataError as error:
        message = str(error)
    results.put((message, peak_mb() - before))


def ingest_in_process(world: World) -> tuple[str, float]:
    """Return the report of :func:`report_ingest` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    child = context.Process(target=report_ingest, args=(world.folder, results))
    child.start()
    child.join(120)
    assert child.exitcode == 0
    answer: tuple[str, float] = results.get()
    return answer


def test_200_million_rows_in_a_small_file_are_refused_from_the_footer_alone(tmp_path: Path) -> None:
    world = World(tmp_path)
    deliver_many_rows(world)
    wipe_rows(world.file(BAD))
    message, megabytes = ingest_in_process(world)
    assert "it has at least 200,000,000 rows, and data.limits.rows is 100,000,000" in message
    assert megabytes < 20


def test_a_million_categories_go_through_in_less_memory_than_their_frame_would_take(tmp_path: Path) -> None:
    world = World(tmp_path)
    deliver_distinct(world)
    message, megabytes = ingest_in_process(world)
    assert message == "1,000,000 rows"
    assert megabytes < 300
