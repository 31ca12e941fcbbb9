"""A terminal in the environment of the wheel: commands run as processes, as a person types them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from airflow_mlops.testing.airflow_client import AirflowClient
from airflow_mlops.testing.child_processes import Child, start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.free_ports import free_port

HOUSE = Path(__file__).resolve().parents[2]
ENVIRONMENT = HOUSE / ".venv-wheel"
PASSWORDS = "simple_auth_manager_passwords.json.generated"
READY_SECONDS, SETTLED_SECONDS = 180, 900
NOT_INHERITED = ("AIRFLOW", "PYTHON", "MLFLOW", "VIRTUAL_ENV")
"""Variables of this process that a fresh terminal does not have begin with one of these."""


def fresh_environment(home: Path) -> dict[str, str]:
    """Return the variables of a fresh terminal: the programs of the environment first, and ports that are free.

    Parameters
    ----------
    home : Path
        Folder of the person, who has no settings yet.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    api, tasks, triggers = free_port(), free_port(), free_port()
    return {
        **inherited,
        "PATH": f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "NO_PROXY": "127.0.0.1,localhost",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_WAIT_POLICY": "PASSIVE",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(api),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api}/execution/",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(tasks),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(triggers),
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
    }


class Terminal:
    """A shell in a folder: it keeps what is exported, and ``airflow standalone`` in the background.

    Parameters
    ----------
    folder : Path
        Where the commands run; the AIRFLOW_HOME once they have exported it.
    environment : dict of str to str
        The variables that the shell starts with.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.url = f"http://127.0.0.1:{environment['AIRFLOW__API__PORT']}"
        self.exports: list[str] = []
        self.airflow: Child | None = None
        self._client: AirflowClient | None = None

    def type(self, line: str) -> str:
        """Run a command, wait for what follows from it where Airflow runs, and return what it prints.

        Raises
        ------
        AssertionError
            If it does not return 0; the message holds its output.
        """
        if line.startswith("export "):
            self.exports.append(line)
            return ""
        if line == "airflow standalone":
            self._start_airflow(line)
            self.client()  # tasks that start before the API server answers fail, and go on a retry later
            return ""
        ran = subprocess.run(
            ["bash", "-c", self._script(line)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"{line} returned {ran.returncode}:\n{ran.stdout}\n{ran.stderr}"
        if self.airflow is not None:
            self.client().wait_until_settled(timeout_seconds=SETTLED_SECONDS, poll_seconds=1.0)
        return ran.stdout

    def client(self) -> AirflowClient:
        """Return a client of the Airflow that runs, logged in with the password that it has made up."""
        assert self.airflow is not None
        if self._client is None:
            user, password = self._login()
            self._client = AirflowClient(self.url, user, password)
            health = self._client.health
            wait_until_ready(
                self.airflow, lambda: health().get("scheduler") == "healthy", timeout_seconds=READY_SECONDS
            )
        return self._client

    def page(self, path: str) -> str:
        """Return a page of the Airflow that runs, as the person who has logged in sees it."""
        user, password = self._login()
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as http:
            token = http.post("/auth/token", json={"username": user, "password": password}).json()["access_token"]
            answer = http.get(path, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.text

    def errors(self) -> list[str]:
        """Return the lines of error that the processes of Airflow have printed."""
        assert self.airflow is not None
        lines = self.airflow.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in lines if is_error(line)]

    def close(self) -> None:
        """Stop Airflow and all of its processes, if it runs."""
        if self._client is not None:
            self._client.close()
        if self.airflow is not None:
            os.killpg(self.airflow.pid, signal.SIGTERM)  # Ctrl-C is ignored where make runs in the background
            stop_sessions([self.airflow.pid])
            self.airflow.process.wait(60)
            self.airflow = None

    def _start_airflow(self, line: str) -> None:
        log = self.folder.with_name(f"{self.folder.name}.log")
        self.airflow = start_child("standalone", ["bash", "-c", self._script(f"exec {line}")], self.environment, log)
        wait_until_ready(self.airflow, (self.folder / PASSWORDS).exists, timeout_seconds=READY_SECONDS)

    def _script(self, line: str) -> str:
        return "\n".join([f"cd {shlex.quote(str(self.folder))}", *self.exports, line])

    def _login(self) -> tuple[str, str]:
        ((user, password),) = json.loads((self.folder / PASSWORDS).read_text(encoding="utf-8")).items()
        return user, password


def is_error(line: str) -> bool:
    """Return whether a line of a log tells of an error; what a task writes to stderr is a line of level error."""
    return "Traceback" in line or ("[error " in line and "[task.stderr]" not in line)


@contextmanager
def open_terminal(folder: Path, **more: str) -> Iterator[Terminal]:
    """Yield a terminal in an empty folder below ``folder``, and stop what it has started.

    :param more: further variables of its environment
    """
    home, project = folder / "home", folder / "project"
    home.mkdir()
    project.mkdir()
    terminal = Terminal(project, {**fresh_environment(home), **more})
    try:
        yield terminal
    except BaseException as error:
        if terminal.airflow is not None:
            error.add_note(f"Airflow's log ends:\n{terminal.airflow.tail()}")
        raise
    finally:
        terminal.close()
