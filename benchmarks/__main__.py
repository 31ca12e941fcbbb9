"""``python -m benchmarks [NAME …]``: run benchmarks, print the table, and store it in ``build/bench.json``."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from airflow_mlops.testing.airflow_home import isolate_airflow
from benchmarks.row import Row

BUILD = Path(__file__).resolve().parents[1] / "build"


def main() -> int:
    """Run the benchmarks that the command line names, or all; return 0 only if every bar was reached."""
    with tempfile.TemporaryDirectory(prefix="airflow-home-") as home:
        isolate_airflow(Path(home))
        from benchmarks.auc_gate import auc_gate
        from benchmarks.batch_score import batch_score, score_lightgbm
        from benchmarks.drift_rates import alarm_rates, power
        from benchmarks.drift_speed import (
            merge_365,
            profile_memory_growth,
            profile_vs_decode,
            profile_vs_evidently,
            profile_vs_nannyml,
        )
        from benchmarks.false_aborts import false_aborts
        from benchmarks.gateway import gateway_hot_swaps, gateway_requests
        from benchmarks.ingest import ingest, ingest_csv, ingest_memory_growth
        from benchmarks.ingest_one_file import ingest_one_file
        from benchmarks.interval_coverage import interval_coverage
        from benchmarks.ledger_1m import state_1m, verify_1m
        from benchmarks.many_loops import cli_help, parse_200_loops, validate_100
        from benchmarks.multiclass_gate import multiclass_gate
        from benchmarks.pages import page_50_models, page_model
        from benchmarks.parse_per_dag import parse_per_dag
        from benchmarks.partition_growth import partition_growth
        from benchmarks.register import register
        from benchmarks.slices import slices
        from benchmarks.validate_clean import validate_clean

        benchmarks = {
            "parse_per_dag": parse_per_dag,
            "parse_200_loops": parse_200_loops,
            "validate_100": validate_100,
            "cli_help": cli_help,
            "ingest": ingest,
            "ingest_csv": ingest_csv,
            "ingest_one_file": ingest_one_file,
            "ingest_memory_growth": ingest_memory_growth,
            "validate_clean": validate_clean,
            "auc_gate": auc_gate,
            "multiclass_gate": multiclass_gate,
            "slices": slices,
            "register": register,
            "false_aborts": false_aborts,
            "interval_coverage": interval_coverage,
            "batch_score": batch_score,
            "score_lightgbm": score_lightgbm,
            "gateway_requests": gateway_requests,
            "gateway_hot_swaps": gateway_hot_swaps,
            "profile_vs_decode": profile_vs_decode,
            "profile_vs_evidently": profile_vs_evidently,
            "profile_vs_nannyml": profile_vs_nannyml,
            "profile_memory_growth": profile_memory_growth,
            "merge_365": merge_365,
            "alarm_rates": alarm_rates,
            "power": power,
            "state_1m": state_1m,
            "verify_1m": verify_1m,
            "partition_growth": partition_growth,
            "page_50_models": page_50_models,
            "page_model": page_model,
        }
        names = sys.argv[1:] or list(benchmarks)
        unknown = sorted(set(names) - set(benchmarks))
        if unknown:
            print(f"no benchmark {unknown[0]!r}; there are {', '.join(benchmarks)}", file=sys.stderr)
            return 2
        rows: list[Row] = []
        for name in names:
            print(f"==> {name}", flush=True)
            measured = benchmarks[name]()
            store_rows(measured)
            rows += measured
    print_rows(rows)
    return 0 if all(row.reached for row in rows) else 1


def store_rows(rows: list[Row]) -> None:
    """Store rows in ``build/bench.json`` as soon as they are measured, so that a later failure loses none of them."""
    BUILD.mkdir(exist_ok=True)
    rows_by_name = {row["name"]: row for row in earlier_rows()} | {row.name: asdict(row) for row in rows}
    (BUILD / "bench.json").write_text(json.dumps(list(rows_by_name.values()), indent=2) + "\n")


def earlier_rows() -> list[dict[str, Any]]:
    """Return the rows of earlier runs; a new run replaces only its own."""
    path = BUILD / "bench.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return rows


def print_rows(rows: list[Row]) -> None:
    """Print the rows as a table."""
    print(f"\n{'name':<22}{'ours':>10}{'peer':>10}  {'unit':<12}{'ratio':>7}  {'reached':<9}{'bar':<28}peer is")
    for row in rows:
        print(
            f"{row.name:<22}{row.ours:>10.4g}{row.peer:>10.4g}  {row.unit:<12}{row.ratio:>7.2f}  "
            f"{'yes' if row.reached else 'NO':<9}{row.bar:<28}{row.peer_name}"
        )


if __name__ == "__main__":
    sys.exit(main())
