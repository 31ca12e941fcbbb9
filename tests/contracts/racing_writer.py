"""``python racing_writer.py FOLDER NUMBER ROUNDS``: write, read the version that came back, print what was wrong."""

from __future__ import annotations

import json
import sys

import pyarrow as pa

from airflow_mlops.core.data.delta_snapshots import DeltaPartitions


def wrong_versions(folder: str, number: int, rounds: int) -> list[str]:
    """Return a line for each write whose version does not hold what was written; half of them replace a partition."""
    table, wrong = DeltaPartitions(folder), []
    for turn in range(rounds):
        key, value = f"2026-{number:02}-{turn // 2 + 1:02}T00:00:00", 1000 * number + turn
        version = table.write(key, pa.table({"a": [value]}))
        try:
            values = table.read(key, version=version).column("a").to_pylist()
        except Exception as error:
            wrong.append(f"{key} in version {version}: {error}")
            continue
        if values != [value]:
            wrong.append(f"{key} in version {version} holds {values} and not {value}")
    return wrong


if __name__ == "__main__":
    json.dump(wrong_versions(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])), sys.stdout)
