"""Every part of the drill, side by side: ``make drill EVERY=1``.

Some parts keep a core busy and others wait for processes to start, so that together they take little longer than the
longest. What a part prints is shown with its name, and kept in a file of its own in ``build/drill``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.drill.numbers import HOUSE, RESULT, add_numbers, kept_numbers

LOGS = RESULT.with_suffix("")


@dataclass(frozen=True)
class Part:
    """A part of the drill: a module, and what it is called with."""

    module: str
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name by which its lines are shown."""
        return self.module.removeprefix("tests.drill").removeprefix(".") or "writes"


def lanes(processes: int) -> list[list[Part]]:
    """Return the parts: those in a list follow each other, the lists run side by side."""
    return [
        [
            Part("tests.drill", ("--every", "--processes", str(processes))),
            Part("tests.drill.bad_inputs"),
        ],
        [Part("tests.drill.network")],
        [Part("tests.drill.kills"), Part("tests.drill.gateway_kills")],
    ]


def run_lane(parts: Sequence[Part], codes: dict[str, int]) -> None:
    """Run one part after the other, whether or not it succeeds, and note their exit codes."""
    for part in parts:
        began = time.monotonic()
        codes[part.name] = run_part(part)
        tell(part.name, f"ended with {codes[part.name]} after {(time.monotonic() - began) / 60:.1f} min")


def run_part(part: Part) -> int:
    """Run a part, show its lines, and return its exit code."""
    command = [sys.executable, "-u", "-m", part.module, *part.arguments]
    with (
        (LOGS / f"{part.name}.log").open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command, cwd=HOUSE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            tell(part.name, line.rstrip())
    return process.returncode


def tell(name: str, words: str) -> None:
    """Print a line of a part."""
    print(f"[{name}] {words}", flush=True)


def add_up(known: dict[str, Any]) -> dict[str, Any]:
    """Return the totals of all parts; ``checks`` is how often a loop was held to its invariants after a fault.

    Parameters
    ----------
    known : dict
        The numbers of every part, as they stand in ``build/drill.json``.
    """
    parts = {name: known.get(name, {}) for name in ("writes", "network", "killing", "gateway")}
    return {
        "tried": sum(parts[name].get("tried", 0) for name in ("writes", "network")),
        "kills": sum(parts[name].get("kills", 0) for name in ("killing", "gateway")),
        "checks": parts["writes"].get("tried", 0),
        "violations": [
            *(f"{name}: {words}" for name, part in parts.items() for words in part.get("violations", [])),
            *(f"bad input: {case}" for case in known.get("bad_inputs_wrong", {})),
        ],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run every part; return 1 if one of them found a violation, or broke off."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill.whole", description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="processes that share the writes")
    arguments = parser.parse_args(argv)
    LOGS.mkdir(parents=True, exist_ok=True)
    RESULT.unlink(missing_ok=True)
    began, codes = time.monotonic(), dict[str, int]()
    every = lanes(arguments.processes)
    threads = [threading.Thread(target=run_lane, args=(lane, codes)) for lane in every]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    add_numbers(add_up(kept_numbers()))
    total = kept_numbers()
    for violation in total["violations"]:
        print(f"VIOLATION: {violation}")
    # A part without an exit code was not run to its end.
    broken = sorted(part.name for lane in every for part in lane if codes.get(part.name) != 0)
    print(
        f"{total.get('points', 0)} points, {total['tried']} faults tried, {total['kills']} kills, "
        f"{total.get('bad_inputs', 0)} bad inputs; invariants checked {total['checks']} times, "
        f"{len(total['violations'])} violations; {(time.monotonic() - began) / 60:.1f} min; "
        f"in {RESULT.relative_to(HOUSE)}"
    )
    for name in broken:
        print(f"not passed: {name}; see {(LOGS / name).relative_to(HOUSE)}.log")
    return 1 if broken or total["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
