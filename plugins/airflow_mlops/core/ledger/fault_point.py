"""Named points between two writes at which a test may stop the process (crash testing).

Set ``AIRFLOW_MLOPS_FAULT=promoted:kill`` and the process is killed as by ``kill -9`` when it gets
there. Without the variable a point costs one look into the environment.
"""

from __future__ import annotations

import os
import signal


def fault_point(name: str) -> None:
    """Kill the process or raise here if the environment asks for it: ``NAME:kill`` or ``NAME:raise``."""
    fault = os.environ.get("AIRFLOW_MLOPS_FAULT")
    if not fault:
        return
    point, _, how = fault.partition(":")
    if point != name:
        return
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise RuntimeError(f"fault injected at {name}")
