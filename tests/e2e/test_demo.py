"""The demo on the first weeks of the year: real processes, real flights, both loops."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
WEEKS = 13


@pytest.mark.e2e
@pytest.mark.timeout(900)  # it takes seven minutes on two quiet cores
def test_both_loops_close_by_themselves_and_leave_no_process_behind(tmp_path: Path) -> None:
    into = tmp_path / "demo"
    command = [sys.executable, "-m", "include.demo", "--weeks", str(WEEKS), "--into", str(into)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=840, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    summary = json.loads((into / "summary.json").read_text())
    assert summary["failed_tasks"] == 0
    assert summary["ledger_verified"] is True
    for model in ("flight_air_time", "flight_delay"):
        numbers = summary[model]
        assert numbers["retrains"][0]["cause"] == "first model"
        assert numbers["promotions"] >= 2, "the first model, and one that took over from it"
        assert numbers["promotions_through_shadow_and_canary"] >= 1
        assert numbers["predicted_before_labels_were_read"] is True
        assert all(retrain["cause"] and retrain["ledger"] for retrain in numbers["retrains"])
        replayed = summary["replay"][model]
        assert replayed["same"], replayed
        proof = summary["proof"][model]
        assert proof["reproduced"] == "identical"
        assert proof["score"].keys() == {"data", "model", "infrastructure", "monitoring"}
        assert "How good it is" in (into / f"{model}-card.html").read_text()
    assert (into / "picture.png").stat().st_size > 10_000
    assert not [process.pid for process in psutil.process_iter() if _belongs_to(process, into)]


def _belongs_to(process: psutil.Process, folder: Path) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.environ().get("AIRFLOW_HOME", "").startswith(str(folder)) or str(folder) in process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
