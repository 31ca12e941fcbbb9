"""``python -m include.demo``: what ``make demo`` runs.

--keep      leave Airflow and MLflow up afterwards, and say where
--stop      stop what an earlier --keep left up
--weeks N   replay only the first N weeks
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from airflow_mlops.testing.stack import LocalStack
from include.demo.loops import demo_loops, open_loop
from include.demo.picture import draw_picture
from include.demo.replay import replay_year
from include.demo.report import print_table
from include.demo.summary import summarise

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "demo"
HOME = BUILD / "home"


def main() -> int:
    """Run the demo and return the exit code: 0 only if no task failed and every ledger verifies."""
    arguments = parse_arguments()
    LocalStack.stop_pids(HOME)
    if arguments.stop:
        print("stopped")
        return 0
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    loops = demo_loops(ROOT)
    began = time.monotonic()
    print("==> PostgreSQL, MLflow and Airflow on free ports of 127.0.0.1")
    with LocalStack(HOME, dags_folder=ROOT / "dags", project_root=ROOT, keep=arguments.keep, report=step) as stack:
        print(f"==> 2013, week after week, through {len(loops)} loops")
        replay_year(stack, loops, weeks=arguments.weeks)
        print("==> summary")
        opened = [open_loop(loop, stack, ROOT, HOME) for loop in loops]
        summary = summarise(opened, stack.client, minutes=(time.monotonic() - began) / 60)
        (BUILD / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        draw_picture(summary, BUILD / "picture.png")
        print_table(summary)
        print(f"\n{BUILD.relative_to(ROOT)}/summary.json, {BUILD.relative_to(ROOT)}/picture.png")
        if arguments.keep:
            user, password = stack.login
            print(f"\nAirflow  {stack.api_url}   user {user}, password {password}\nMLflow   {stack.mlflow_url}")
            print("stop both with: .venv/bin/python -m include.demo --stop")
    return 0 if summary["ledger_verified"] and not summary["failed_tasks"] else 1


def parse_arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m include.demo", description="Replay 2013 through both loops.")
    parser.add_argument("--keep", action="store_true", help="leave Airflow and MLflow up afterwards")
    parser.add_argument("--stop", action="store_true", help="stop what an earlier --keep left up")
    parser.add_argument("--weeks", type=int, help="replay only so many weeks")
    return parser.parse_args()


def step(line: str) -> None:
    """Print a step of the start."""
    print(f"    {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
