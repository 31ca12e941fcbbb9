"""Peak memory is that of the process itself, and of what it did last."""

from __future__ import annotations

import subprocess
import sys

from airflow_mlops.testing.peak_memory import forget_peak, peak_mb

MEGABYTES = 300
CHILD = "from airflow_mlops.testing.peak_memory import peak_mb; print(peak_mb())"


def test_a_child_of_a_large_process_tells_its_own_peak() -> None:
    held = b"x" * (MEGABYTES << 20)
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert peak_mb() > MEGABYTES
    assert float(done.stdout) < MEGABYTES / 3
    assert len(held) == MEGABYTES << 20


def test_a_peak_that_is_forgotten_is_not_that_of_what_comes_next() -> None:
    held = b"x" * (MEGABYTES << 20)
    before = peak_mb()
    del held
    forget_peak()
    assert peak_mb() < before - MEGABYTES / 2
