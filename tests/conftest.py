"""Every session has folders of its own, idle threads that sleep, one profile of Hypothesis."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings

from airflow_mlops.testing.airflow_home import isolate_airflow

# Threads of OpenMP that have nothing to do sleep. As it is, they spin for the next piece of work, and where several
# processes share the cores they spin on those of each other: a fit of 0.2 s takes 10 s of two cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if not {"PYTEST_XDIST_WORKER", "PYTEST_DEBUG_TEMPROOT"} & os.environ.keys():
    # A session that starts takes the rights of others from the folder which pytest shares between sessions, and with
    # them an embedded PostgreSQL, which is another user there, loses its files. So each session has a root of its own;
    # --basetemp keeps what a person wants to look at.
    _ROOT = tempfile.mkdtemp(prefix="tests-")
    atexit.register(shutil.rmtree, _ROOT, ignore_errors=True)
    os.environ["PYTEST_DEBUG_TEMPROOT"] = _ROOT

if "airflow.configuration" not in sys.modules:
    _HOME = tempfile.mkdtemp(prefix="airflow-home-")
    atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
    isolate_airflow(Path(_HOME))

# No clock decides: a machine may be busy. CI tries the same examples every time, so that a change is what fails it.
settings.register_profile(
    "house",
    max_examples=150,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("house")
