"""Schedulers that are meant to be killed, run by ``python -m tests.loop.doomed_scheduler``.

Each line on standard input, a folder of Dags and a fault point, becomes one fork of this process: a scheduler
with its task runner that works on what is queued in the Airflow home of the test until it is killed at the
fault point as by ``kill -9``. Its exit status is answered on standard output. The libraries are imported here
once and used in the forks only, as Airflow's own workers do it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from airflow_mlops.testing.scheduler import InProcessScheduler
from airflow_mlops.warm_scheduler import MODULES, preload


def run_and_exit(dags: str, point: str) -> None:
    """Work on what is queued; leave with 0 if nobody killed this process."""
    status = 1
    try:
        os.environ["AIRFLOW_MLOPS_FAULT"] = f"{point}:kill"
        InProcessScheduler(Path(dags), unpause=False).run_until_idle()
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    """Answer each line with the exit status of its fork: the number of the signal, negative, if it was killed."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the forks print is no answer
    preload(tuple(name for name in MODULES if name != "great_expectations"))
    for line in sys.stdin:
        dags, point = line.split()
        child = os.fork()
        if child == 0:
            run_and_exit(dags, point)
        _, status = os.waitpid(child, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")


if __name__ == "__main__":
    main()
