"""``python -m include.demo``: what ``make demo`` runs.

--keep      leave Airflow and MLflow up afterwards, and say where
--stop      stop what an earlier --keep left up
--model M   replay one loop and not the first two: flight_air_time, flight_delay or flight_arrival
--weeks N   replay only the first N weeks
--into DIR  write there and not into build/demo
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from airflow_mlops.testing.stack import LocalStack
from include.demo.as_replayed import compare_with_replay, replay_line
from include.demo.loops import DEFAULT, MODELS, demo_loops, open_loop
from include.demo.picture import draw_picture
from include.demo.proof import print_proof, prove_champion
from include.demo.replay import replay_year
from include.demo.report import print_table
from include.demo.summary import summarise

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "demo"


def main() -> int:
    """Run the demo and return the exit code: 0 only if no task failed and every ledger verifies."""
    arguments = parse_arguments()
    build = arguments.into.resolve()
    home = build / "home"
    LocalStack.stop_pids(home)
    if arguments.stop:
        print("stopped")
        return 0
    shutil.rmtree(build, ignore_errors=True)
    build.mkdir(parents=True)
    loops = demo_loops(ROOT, arguments.model)
    began = time.monotonic()
    print("==> PostgreSQL, MLflow and Airflow on free ports of 127.0.0.1")
    with LocalStack(home, dags_folder=ROOT / "dags", project_root=ROOT, keep=arguments.keep, report=step) as stack:
        print(f"==> 2013, week after week, through {len(loops)} {'loops' if len(loops) > 1 else 'loop'}")
        user, password = stack.login
        print(f"    watch it: {stack.api_url}/airflow-mlops/models   user {user}, password {password}", flush=True)
        replay_year(stack, loops, weeks=arguments.weeks)
        print("==> summary")
        workspaces = [open_loop(loop, stack, ROOT, home) for loop in loops]
        for loop in (workspace.loop for workspace in workspaces if not workspace.state().scored):
            print(f"no week of {loop.model} was scored: its first model is fitted on {loop.train.window} weeks and")
            print(f"judged on later ones; replay more than --weeks {arguments.weeks}")
            return 1
        summary = summarise(workspaces, stack.client, minutes=(time.monotonic() - began) / 60)
        summary["proof"] = {workspace.loop.model: prove_champion(workspace, build) for workspace in workspaces}
        summary["replay"] = {workspace.loop.model: compare_with_replay(workspace) for workspace in workspaces}
        (build / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        draw_picture(summary, build / "picture.png")
        print_table(summary)
        for model, comparison in summary["replay"].items():
            print(replay_line(model, comparison))
        for model, proof in summary["proof"].items():
            print_proof(model, proof)
        print(f"\nwritten: summary.json, picture.png and a model card of each champion in {build}")
        if arguments.keep:
            print(f"\nAirflow  {stack.api_url}   user {user}, password {password}\nMLflow   {stack.mlflow_url}")
            where = "" if build == BUILD else f" --into {build}"
            print(f"stop both with: .venv/bin/python -m include.demo --stop{where}")
    return 0 if summary["ledger_verified"] and not summary["failed_tasks"] else 1


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m include.demo", description="Replay 2013 through the flight loops.")
    parser.add_argument("--keep", action="store_true", help="leave Airflow and MLflow up afterwards")
    parser.add_argument("--stop", action="store_true", help="stop what an earlier --keep left up")
    parser.add_argument("--model", action="append", choices=MODELS, help="replay this loop alone; may be repeated")
    parser.add_argument("--weeks", type=int, help="replay only so many weeks")
    parser.add_argument("--into", type=Path, default=BUILD, help="folder to write to, emptied first")
    arguments = parser.parse_args()
    arguments.model = arguments.model or list(DEFAULT)
    return arguments


def step(line: str) -> None:
    """Print a step of the start-up."""
    print(f"    {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
