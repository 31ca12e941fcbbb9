"""The demo on the first weeks of the year: real processes, real flights, both loops."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
WEEKS = 13


@pytest.mark.e2e
@pytest.mark.timeout(900)  # it takes seven minutes on two quiet cores
def test_both_loops_close_by_themselves_and_leave_no_process_behind(tmp_path: Path) -> None:
    into = tmp_path / "demo"
    command = [sys.executable, "-m", "include.demo", "--weeks", str(WEEKS), "--into", str(into)]
    output, pages = tmp_path / "output.txt", dict[str, str]()
    with output.open("w") as file, subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT) as demo:
        ends = time.monotonic() + 840
        while demo.poll() is None and time.monotonic() < ends:
            time.sleep(5)
            pages = pages_once_both_serve(output.read_text()) or pages
        if demo.poll() is None:
            demo.terminate()
    assert demo.returncode == 0, output.read_text()[-5000:]

    assert pages, "the page showed no champion of both loops while the demo ran"
    for model in ("flight_air_time", "flight_delay"):
        assert f'href="/airflow-mlops/models/{model}"' in pages["models"]
        assert "became the champion" in pages[model]
        assert "<svg" in pages[model]
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


def pages_once_both_serve(output: str) -> dict[str, str]:
    """Return the pages at the address that the demo has printed; empty until both loops have a champion."""
    printed = re.search(r"watch it: (\S+)/airflow-mlops/models   user (\S+), password (\S+)", output)
    if printed is None:
        return {}
    url, user, password = printed.groups()
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        try:
            token = client.post("/auth/token", json={"username": user, "password": password}).json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            pages = {"models": client.get("/airflow-mlops/models").text}
            for model in ("flight_air_time", "flight_delay"):
                pages[model] = client.get(f"/airflow-mlops/models/{model}").text
        except httpx.TransportError:
            return {}  # the server has ended between two looks
    return pages if all("became the champion" in page for name, page in pages.items() if name != "models") else {}


def _belongs_to(process: psutil.Process, folder: Path) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.environ().get("AIRFLOW_HOME", "").startswith(str(folder)) or str(folder) in process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
