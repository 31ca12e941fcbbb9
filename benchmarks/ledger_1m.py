"""Measure reading the state of a ledger of a million records, and verifying it, each in a process of its own.

python -m benchmarks.ledger_1m state <URL>
python -m benchmarks.ledger_1m verify <URL> <RECORDS>
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import islice
from statistics import median

from airflow_mlops.testing.peak_memory import peak_mb
from benchmarks.long_ledger import MODEL, ledger_of
from benchmarks.row import Row

RECORDS, FEWER = 1_000_000, 100_000
ROUNDS = 5
STATE_BAR, VERIFY_BAR, MEMORY_BAR = 0.05, 60.0, 1.1


def state_1m() -> list[Row]:
    """Return the row: CPU seconds of the state of a million records in a fresh process, beyond imports."""
    many, few = ledger_of(RECORDS), ledger_of(FEWER)
    ours = median(run_measurement("state", many)["cpu"] for _ in range(ROUNDS))
    fewer = median(run_measurement("state", few)["cpu"] for _ in range(ROUNDS))
    return [
        Row(
            name="state_1m",
            ours=round(ours, 4),
            peer=round(fewer, 4),
            unit="CPU s",
            peer_name="the same of 100,000 records",
            ratio=round(ours / fewer, 3),
            bar=f"ours <= {STATE_BAR:g} CPU s",
            reached=ours <= STATE_BAR,
        )
    ]


def verify_1m() -> list[Row]:
    """Return the rows: CPU seconds of verifying a million records, and their peak memory beside 100,000."""
    url = ledger_of(RECORDS)
    few, many = run_measurement("verify", url, FEWER), run_measurement("verify", url, RECORDS)
    return [
        Row(
            name="verify_1m",
            ours=round(many["cpu"], 2),
            peer=round(few["cpu"], 2),
            unit="CPU s",
            peer_name="the first 100,000 records",
            ratio=round(many["cpu"] / few["cpu"], 3),
            bar=f"ours <= {VERIFY_BAR:g} CPU s",
            reached=many["cpu"] <= VERIFY_BAR,
        ),
        Row(
            name="verify_1m_memory",
            ours=round(many["peak_mb"], 1),
            peer=round(few["peak_mb"], 1),
            unit="MB peak",
            peer_name="the first 100,000 records",
            ratio=round(many["peak_mb"] / few["peak_mb"], 3),
            bar=f"ratio <= {MEMORY_BAR:g}",
            reached=many["peak_mb"] <= MEMORY_BAR * few["peak_mb"],
        ),
    ]


def run_measurement(*arguments: object) -> dict[str, float]:
    """Run one measurement in a process of its own and return its CPU seconds and peak memory."""
    command = [sys.executable, "-m", "benchmarks.ledger_1m", *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{process.stderr}")
    result: dict[str, float] = json.loads(process.stdout)
    return result


def read_state(url: str) -> None:
    """Read the state with its champion and its newest partitions."""
    from airflow_mlops.core.ledger.sql_ledger import SqlLedger

    state = SqlLedger(url, MODEL).state()
    if state.champion is None or state.published.newest() is None or state.scored.newest() is None:
        raise RuntimeError("the ledger of the benchmark lacks a champion, or partitions")


def verify(url: str, count: int) -> None:
    """Verify the first records of a ledger."""
    from airflow_mlops.core.ledger.record import verify_chain
    from airflow_mlops.core.ledger.sql_ledger import SqlLedger

    if verify_chain(islice(SqlLedger(url, MODEL).records(), count)) != count:
        raise RuntimeError("the ledger of the benchmark lacks records")


if __name__ == "__main__":
    import sqlalchemy.dialects.sqlite.pysqlite

    assert sqlalchemy.dialects.sqlite.pysqlite is not None  # imported before the clock starts
    began = time.process_time()
    if sys.argv[1] == "state":
        read_state(sys.argv[2])
    else:
        verify(sys.argv[2], int(sys.argv[3]))
    print(json.dumps({"cpu": time.process_time() - began, "peak_mb": peak_mb()}))
