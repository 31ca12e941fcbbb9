"""``python -m benchmarks [NAME …]``: run benchmarks, print the table, and store it in ``build/bench.json``."""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow_mlops.testing.airflow_home import isolate_airflow
from benchmarks.row import Row

BUILD = Path(__file__).resolve().parents[1] / "build"


MODULES = {
    "parse_per_dag": "parse_per_dag",
    "parse_300_loops": "many_loops",
    "validate_100": "many_loops",
    "cli_help": "many_loops",
    "cold_imports": "cold_imports",
    "ingest": "ingest",
    "ingest_csv": "ingest",
    "ingest_one_file": "ingest_one_file",
    "ingest_memory_growth": "ingest",
    "spark_ingest": "spark_ingest",
    "validate_clean": "validate_clean",
    "auc_gate": "auc_gate",
    "multiclass_gate": "multiclass_gate",
    "slices": "slices",
    "register": "register",
    "false_aborts": "false_aborts",
    "interval_coverage": "interval_coverage",
    "batch_score": "batch_score",
    "score_lightgbm": "batch_score",
    "gateway_requests": "gateway",
    "gateway_hot_swaps": "gateway",
    "fleet_4_gateways": "fleet",
    "profile_vs_decode": "drift_speed",
    "profile_vs_evidently": "drift_speed",
    "profile_vs_nannyml": "drift_speed",
    "profile_memory_growth": "drift_speed",
    "merge_365": "drift_speed",
    "alarm_rates": "drift_rates",
    "power": "drift_rates",
    "streams": "streams",
    "state_1m": "ledger_1m",
    "verify_1m": "ledger_1m",
    "partition_growth": "partition_growth",
    "page_50_models": "pages",
    "page_model": "pages",
    "newcomer_commands": "newcomer",
    "loops_300_turn": "loops_300",
    "celery_turn": "celery_turn",
    "soak_turns": "soak",
    "gateway_soak": "gateway_soak",
}
"""The module of each benchmark, whose function has its name, in the order of a whole run."""


def main() -> int:
    """Run the benchmarks that the command line names, or all; return 0 only if every bar was reached."""
    names = sys.argv[1:] or list(MODULES)
    unknown = sorted(set(names) - set(MODULES))
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are {', '.join(MODULES)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="airflow-home-") as home:
        isolate_airflow(Path(home))
        for name in names:
            print(f"==> {name}", flush=True)
            # Imported here: what it imports must find the isolated home.
            run: Callable[[], list[Row]] = getattr(import_module(f"benchmarks.{MODULES[name]}"), name)
            try:
                measured = run()
            except Exception:  # one that raises must not lose those after it
                traceback.print_exc()
                failed.append(name)
                continue
            store_rows(measured)
            rows += measured
    print_rows(rows)
    for name in failed:
        print(f"{name} gave no row: it raised, see above", file=sys.stderr)
    return 0 if not failed and all(row.reached for row in rows) else 1


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
