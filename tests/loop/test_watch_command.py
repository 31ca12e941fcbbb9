"""The commands that follow a loop and that complete its name in a shell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from airflow_mlops.cli import main
from airflow_mlops.core.ledger.training_details import Escalated
from tests.loop.project import KEYS, Project, make_project

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "airflow_mlops.cli"]


@pytest.fixture(scope="module")
def project(airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose loop has a champion."""
    made = make_project(tmp_path_factory.mktemp("watched"))
    made.seed(KEYS[:2])
    (made.root / "include" / "loops").mkdir(exist_ok=True)
    return made


def escalate(project: Project, reason: str) -> None:
    """Record that a person must look."""
    workspace = project.workspace
    details = Escalated(champion="1", decision=1, reason=reason)
    workspace.record_fact(workspace.draft(details, f"escalated:{reason}", KEYS[1]))


def watch(project: Project, *options: str) -> int:
    """Run the command in this process."""
    return main(["watch", project.model, "--root", str(project.root), "--every", "0.1", *options])


def test_the_state_and_the_newest_decisions_come_first(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(project, "--for", "0.05") == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{project.model}: ")
    assert lines[-1].endswith("[test]")
    assert "version 1 became the champion, before it none" in "\n".join(lines)
    assert not [line for line in lines if "published 120 rows" in line]


def test_a_decision_is_printed_when_it_is_recorded_and_only_once(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = threading.Timer(0.4, escalate, (project, "the new one"))
    writer.start()
    assert watch(project, "--for", "1.5") == 0
    writer.join()
    output = capsys.readouterr().out
    assert output.count("a person must look at version 1: the new one") == 1
    assert output.splitlines()[-1].startswith(f"{project.workspace.ledger.head().sequence:>6}  ")


def test_a_program_reads_every_record_as_json(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(project, "--for", "0.05", "--json", "--all") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["sequence"] for record in records] == sorted(record["sequence"] for record in records)
    assert all(record["sentence"] for record in records)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_pause_that_is_no_time_is_refused(project: Project, capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    with pytest.raises(SystemExit):
        watch(project, "--for", seconds)
    assert f"--for: invalid positive value: '{seconds}'" in capsys.readouterr().err


def test_an_interrupt_ends_it_quietly(project: Project) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'plugins'}{os.pathsep}{ROOT}"}
    # A process in the background inherits that interrupts are ignored; the one of a person at a terminal does not.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from airflow_mlops.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "watch", project.model, "--root", str(project.root)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(project.model)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in errors


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_names_the_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "airflow-mlops" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("airflow-mlops roll", {"rollback", "rollout"}),
        ("airflow-mlops status flight_a", {"flight_air_time", "flight_arrival"}),
        ("airflow-mlops rollout pa", {"pause"}),
    ],
)
def test_a_shell_completes_commands_and_models(tmp_path: Path, typed: str, completed: set[str]) -> None:
    answer = tmp_path / "answer"
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'plugins'}{os.pathsep}{ROOT}",
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": typed,
        "COMP_POINT": str(len(typed)),
    }
    subprocess.run(COMMAND, cwd=ROOT, env=environment, check=False, capture_output=True, timeout=60)
    assert {word.strip() for word in answer.read_text().split("\n")} == completed
