"""Count what a newcomer types: from an empty folder to a champion on an own CSV file, by the tutorial's commands.

The commands of *From an empty folder* are run in order until the ledger has a champion; after each, all that follows
from it runs, and the nights pass. ``python …`` makes the file that a person has already. The peer is the tutorial that
declares the same by hand: its commands, and the files that a person writes, up to its champion.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.row import Row

if TYPE_CHECKING:
    from tests.loop.newcomer import Newcomer

BAR = 6
MODEL = "parcels"
MAKES_DATA = ("make_parcels.py", "make_sales.py")
LOOKS = ("tail ", "airflow-mlops status")
"""Commands that only show what has happened begin with one of these."""
CHAMPION = "champion          version 1"


def newcomer_commands() -> list[Row]:
    """Return the row: commands from an empty folder to a champion; the peer writes the declaration by hand."""
    typed = commands_to_champion()
    by_hand = steps_by_hand()
    print(*(f"    {line}" for line in typed), sep="\n")
    return [
        Row(
            name="newcomer_commands",
            ours=len(typed),
            peer=by_hand,
            unit="commands",
            peer_name="From one CSV file: commands, and files written by hand",
            ratio=round(len(typed) / by_hand, 2),
            bar=f"ours <= {BAR}",
            reached=len(typed) <= BAR,
        )
    ]


def commands_to_champion() -> list[str]:
    """Return the commands of the page that lead to a champion, run in an empty folder."""
    from airflow_mlops.testing.metadata import create_metadata
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.new_project import work_in
    from tests.loop.newcomer import Newcomer

    create_metadata()
    newcomer = Newcomer(InProcessScheduler)
    with tempfile.TemporaryDirectory(prefix="newcomer-") as name, work_in(Path(name)) as folder:
        try:
            return type_until_champion(newcomer, folder)
        finally:
            if newcomer.airflow is not None:
                newcomer.airflow.close()


def type_until_champion(newcomer: Newcomer, folder: Path) -> list[str]:
    """Write the files of the page, type its commands until there is a champion, and return the commands.

    Raises
    ------
    RuntimeError
        If the page ends before; the message has the commands.
    """
    from tests.loop.newcomer import PAGE
    from tests.loop.tutorial_page import blocks

    typed = []
    for paragraph, language, text in blocks(PAGE.read_text(encoding="utf-8")):
        if language == "python":
            (file,) = re.findall(r"`([a-z_/]+\.py)`", paragraph)
            (folder / file).write_text(text, encoding="utf-8")
        for line in text.splitlines() if language == "bash" else ():
            newcomer.type(line)
            if not line.endswith(MAKES_DATA):
                typed.append(line)
            let_the_night_pass(newcomer)
            if has_champion():
                return typed
    raise RuntimeError(f"{PAGE.name} ends without a champion; its commands are {typed}")


def let_the_night_pass(newcomer: Newcomer) -> None:
    """Run the nightly Dag, as the clock does, once rows have been ingested."""
    if newcomer.airflow is None or not (runs := newcomer.airflow.dag_runs(f"{MODEL}_ingest")):
        return
    day = str(runs[-1].partition_key).partition("T")[0]
    newcomer.airflow.trigger(f"{MODEL}_nightly", partition_key=f"{day}T02:00:00")
    newcomer.airflow.run_until_idle()


def has_champion() -> bool:
    """Return whether the ledger of this home has a champion; without a ledger there is none."""
    from tests.loop.tutorial_page import run_command

    home = Path(os.environ["AIRFLOW_HOME"])
    return (home / "mlops" / "ledger.db").exists() and CHAMPION in run_command(f"airflow-mlops status {MODEL}")


def steps_by_hand() -> int:
    """Return the number of commands and of written files in *From one CSV file* up to its first champion."""
    from tests.loop.newcomer import PAGE
    from tests.loop.tutorial_page import blocks

    steps = 0
    page = PAGE.with_name("from-one-csv-file.md").read_text(encoding="utf-8")
    for paragraph, language, text in blocks(page):
        if CHAMPION in text:
            return steps
        if language == "bash":
            steps += sum(not line.endswith(MAKES_DATA) and not line.startswith(LOOKS) for line in text.splitlines())
        elif language in ("python", "yaml"):
            steps += not any(name in paragraph for name in MAKES_DATA)
    raise RuntimeError("From one CSV file ends without a champion; see the lines of `airflow-mlops status` in the page")
