"""Several processes open an empty MLflow store on one machine, as the first fits of a new project do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlops.core.registry.mlflow_server import lock_database_file

HOUSE = Path(__file__).parents[2]
PROCESSES = 3
OPEN = """
import sys

import mlflow.tracking  # before the start is given, so that all open the store at the same moment
import mlflow.store.tracking.sqlalchemy_store

from airflow_mlops.core.registry.mlflow_server import MlflowServer

print("ready", flush=True)
sys.stdin.readline()
print(MlflowServer(sys.argv[1], "toy").ensure_experiment().name)
"""


def test_processes_that_open_an_empty_store_at_once_all_find_its_tables(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPEN, f"sqlite:///{tmp_path / 'mlflow.db'}"]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, cwd=HOUSE, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("start\n")
        process.stdin.flush()
    ended = [(*process.communicate(), process.returncode) for process in processes]
    assert [(printed, code) for printed, _, code in ended] == [("toy\n", 0)] * PROCESSES, ended[-1][1]


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "sqlite:///{folder}/missing/mlflow.db"])
def test_what_is_no_file_in_a_folder_that_can_be_written_is_not_locked(tmp_path: Path, uri: str) -> None:
    with lock_database_file(uri.format(folder=tmp_path)):
        assert list(tmp_path.iterdir()) == []
