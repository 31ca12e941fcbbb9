"""Every test session gets an Airflow home of its own, before anything imports Airflow."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from pathlib import Path

from airflow_mlops.testing.airflow_home import isolate_airflow

if "airflow.configuration" not in sys.modules:
    _HOME = tempfile.mkdtemp(prefix="airflow-home-")
    atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
    isolate_airflow(Path(_HOME))
