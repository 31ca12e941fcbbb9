"""Fault points stop a process where the environment asks for it, and nowhere else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlops.core import fault_point
from airflow_mlops.core.fault_point import InjectedError, external_write, write

HOUSE = Path(__file__).resolve().parents[3]
SCRIPT = """
from airflow_mlops.core.fault_point import external_write
print("began", flush=True)
with external_write("table.commit"):
    print("written", flush=True)
print("ended", flush=True)
"""


def child(fault: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "AIRFLOW_MLOPS_FAULT": fault, "PYTHONPATH": str(HOUSE / "plugins")}
    return subprocess.Popen([sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("point", "printed"), [("before", ["began"]), ("after", ["began", "written"])])
def test_a_process_is_killed_at_the_point(point: str, printed: list[str]) -> None:
    with child(f"table.commit.{point}:kill") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert output.split() == printed


def test_a_process_is_stopped_at_the_point_and_goes_on_when_it_may() -> None:
    with child("table.commit.after:stop") as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert output.split() == ["began", "written", "ended"]


def test_an_error_is_raised_at_that_point_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fault_point.VARIABLE, "list.append.after:raise")
    values: list[int] = []
    write("set", values, "append", 1)
    with pytest.raises(InjectedError, match=r"list\.append\.after"):
        write("list", values, "append", 2)
    assert values == [1, 2]


def test_a_fault_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fault_point.VARIABLE, "table.commit.before:burn")
    with (
        pytest.raises(ValueError, match="'burn' is no fault; one of raise, kill, stop"),
        external_write("table.commit"),
    ):
        pytest.fail("the block must not begin")


def test_observers_see_the_points_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(fault_point, "observers", [seen.append])
    with external_write("outer"), external_write("inner"):
        pass
    assert seen == ["outer.before", "inner.before", "inner.after", "outer.after"]
