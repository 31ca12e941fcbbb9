"""Measure what grows with the number of loops, and what a person waits for: parsing, validating, the help.

The three hundred loops are that of the air time under three hundred names, in one Dag file; the peer has the same Dags
written by hand, in one file too. The declarations are read and checked as Airflow's Dag processor does.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.cpu_time import cpu_of
from benchmarks.parse_per_dag import BY_HAND, DAGS, ROOT, cpu_of_parse, parse
from benchmarks.row import Row

LOOPS, DECLARATIONS = 300, 100
ROUNDS = 5
PARSE_BAR, VALIDATE_BAR, HELP_BAR = 1.15, 2.0, 0.3
DECLARED = ROOT / "include" / "loops" / "flight_air_time.yaml"
DAG_FILE = '''"""Airflow Dags of three hundred loops."""

from airflow_mlops import build_dags

for number in range({count}):
    globals().update(build_dags(f"{folder}/loop_{{number:03}}.yaml", root="{root}"))
'''


def parse_300_loops() -> list[Row]:
    """Return the row: CPU seconds of parsing three hundred loops, against the same Dags by hand."""
    import airflow.sdk  # noqa: F401 - the parent of every parse has it
    from airflow.dag_processing.dagbag import BundleDagBag  # noqa: F401

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_declarations(folder, LOOPS)
        ours_file, by_hand = folder / "loops.py", folder / "by_hand.py"
        ours_file.write_text(DAG_FILE.format(count=LOOPS, folder=folder, root=ROOT))
        by_hand.write_text("\n".join(BY_HAND.replace("by_hand", f"by_hand_{number:03}") for number in range(LOOPS)))
        parse(by_hand, LOOPS * DAGS)  # Airflow's own lazy imports are the same for both
        ours, peer = [], []
        for number in range(ROUNDS + 1):
            pair = cpu_of_parse(ours_file, LOOPS * DAGS), cpu_of_parse(by_hand, LOOPS * DAGS)
            if number:  # the first round compiles and fills the file cache
                ours.append(pair[0])
                peer.append(pair[1])
            print(f"\r    round {number}/{ROUNDS}", end="", flush=True)
    print()
    our_median, peer_median = median(ours), median(peer)
    ratio = our_median / peer_median
    return [
        Row(
            name="parse_300_loops",
            ours=round(our_median, 2),
            peer=round(peer_median, 2),
            unit="CPU s",
            peer_name=f"the same {LOOPS * DAGS:,} Dags by hand, plain Python tasks",
            ratio=round(ratio, 3),
            bar=f"ratio <= {PARSE_BAR:g}",
            reached=ratio <= PARSE_BAR,
        )
    ]


def validate_100() -> list[Row]:
    """Return the row: CPU seconds of reading and checking a hundred declarations; the peer only parses their YAML."""
    import yaml

    from airflow_mlops.core.check_declaration import check_declaration
    from airflow_mlops.core.declaration.read_loop import read_loop

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_declarations(folder, DECLARATIONS)

        def validate() -> None:
            for file in files:
                check_declaration(read_loop(file), ROOT, at_parse=True)

        def parse_yaml() -> None:
            for file in files:
                yaml.safe_load(file.read_text(encoding="utf-8"))

        validate()
        ours = median(cpu_of(validate) for _ in range(ROUNDS))
        peer = median(cpu_of(parse_yaml) for _ in range(ROUNDS))
    return [
        Row(
            name="validate_100",
            ours=round(ours, 3),
            peer=round(peer, 3),
            unit="CPU s",
            peer_name="PyYAML reading the same files, nothing checked",
            ratio=round(ours / peer, 3),
            bar=f"ours <= {VALIDATE_BAR:g} CPU s",
            reached=ours <= VALIDATE_BAR,
        )
    ]


def cli_help() -> list[Row]:
    """Return the row: CPU seconds of ``airflow-mlops --help``; the peer is an interpreter that does nothing."""
    ours = median(cpu_of_command("-m", "airflow_mlops.cli", "--help") for _ in range(ROUNDS + 1))
    peer = median(cpu_of_command("-c", "pass") for _ in range(ROUNDS))
    return [
        Row(
            name="cli_help",
            ours=round(ours, 3),
            peer=round(peer, 3),
            unit="CPU s",
            peer_name="python -c pass",
            ratio=round(ours / peer, 2),
            bar=f"ours <= {HELP_BAR:g} CPU s",
            reached=ours <= HELP_BAR,
        )
    ]


def write_declarations(folder: Path, count: int) -> list[Path]:
    """Write the declaration of the air time under so many names, and return the files."""
    text = DECLARED.read_text(encoding="utf-8")
    files = [folder / f"loop_{number:03}.yaml" for number in range(count)]
    for file in files:
        file.write_text(text.replace("model: flight_air_time", f"model: {file.stem}", 1), encoding="utf-8")
    return files


def cpu_of_command(*arguments: str) -> float:
    """Return the CPU seconds of a command of this interpreter, from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
