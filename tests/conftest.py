"""Every test session gets an Airflow home of its own, before anything imports Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from airflow_mlops.testing.airflow_home import isolate_airflow

# Threads of OpenMP that have nothing to do sleep. As it is, they spin for the next piece of work, and where several
# processes share the cores they spin on those of each other: a fit of 0.2 s takes 10 s of two cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if "airflow.configuration" not in sys.modules:
    _HOME = tempfile.mkdtemp(prefix="airflow-home-")
    atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
    isolate_airflow(Path(_HOME))
