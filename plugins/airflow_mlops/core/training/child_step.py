"""Fit in a child process: by this interpreter within limits, or by another with packages of its own.

The rows go in a file that only its owner can read and that is removed afterwards, the request on standard input, and
the environment is reduced to a list of names: the user's code sees no secret of Airflow.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow_mlops.core.declaration.train import FitLimits
from airflow_mlops.core.errors import FitStoppedError, TrainingError
from airflow_mlops.core.ports.fit_request import FitRequest, FitResult
from airflow_mlops.core.ports.fit_rows import RowsToFit
from airflow_mlops.core.training.child_process import AttendedChild
from airflow_mlops.core.training.user_runs import child_variables

STEP = Path(__file__).resolve().parents[2] / "step.py"
"""The script of the child. Run as a file: with ``-m``, packages installed beside this one would be importable."""

ROWS = "rows-"
"""Prefix of the folders that hold the rows of a running fit."""

SPARE_MB = 4_096
"""Address space in MB beyond the memory limit, for what libraries reserve and do not use."""


class ChildStep:
    """Fits in another process; a :class:`~airflow_mlops.core.ports.step_runner.StepRunner`.

    Parameters
    ----------
    python : Path, optional
        The interpreter; by default this one.
    limits : FitLimits, optional
        Limits of time and memory.
    """

    def __init__(self, *, python: Path | None = None, limits: FitLimits | None = None) -> None:
        self.python, self.limits = python, limits or FitLimits()
        self._child: AttendedChild | None = None
        self._stopped = False

    def fit(self, request: FitRequest, rows: RowsToFit) -> FitResult:
        """Fit a candidate in the child; see the port.

        Raises
        ------
        TrainingError
            Also if the interpreter is not there, too old, or lacks a package, and where a limit is met.
        """
        self._stopped = False
        file = Path(request.file)
        file.parent.mkdir(parents=True, exist_ok=True)
        for leftover in file.parent.glob(f"{ROWS}*"):  # of an attempt whose worker was killed
            shutil.rmtree(leftover)
        with tempfile.TemporaryDirectory(prefix=ROWS, dir=file.parent) as folder:
            stored_request = replace(request, rows=str(Path(folder) / "rows.parquet"))
            rows.load().write(Path(stored_request.rows))
            answer = self._answer("fit", stored_request.to_dict(), f"candidate {request.candidate!r}")
            return FitResult.from_dict(answer)

    def inspect_candidates(self, function: str, root: Path, seed: int, **judged: Any) -> dict[str, Any]:
        """Run :func:`~airflow_mlops.core.training.inspect_candidates.inspect_candidates` in the child.

        Raises
        ------
        TrainingError
            If the function gives none, or meets a limit.
        """
        request = {"function": function, "root": str(root.absolute()), "seed": seed, **judged}
        return self._answer("candidates", request, function)

    def stop(self) -> None:
        """Kill the fit and everything it has started."""
        self._stopped = True
        if self._child is not None:
            self._child.kill()

    @property
    def interpreter(self) -> str:
        """Path of the interpreter."""
        return str(self.python or sys.executable)

    def _command(self, step: str) -> list[str]:
        command = [self.interpreter, str(STEP), step, "--attended"]
        if self.limits.memory_mb is not None:
            command += ["--address-space-mb", str(2 * self.limits.memory_mb + SPARE_MB)]
        return command

    def _variables(self) -> dict[str, str]:
        # The folder of step.py holds modules called `core` and `testing`, which must not be importable by these names.
        variables = {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", **child_variables()}
        if self.python is None and "PYTHONPATH" in os.environ:
            variables["PYTHONPATH"] = os.environ["PYTHONPATH"]
        return variables

    def _answer(self, step: str, request: dict[str, Any], subject: str) -> dict[str, Any]:
        """Start the child, wait for it, and return its result; ``subject`` begins each error message."""
        try:
            child = AttendedChild(self._command(step), json.dumps(request).encode(), self._variables())
        except OSError as error:
            raise TrainingError(
                f"interpreter {self.interpreter} cannot be started: {error.strerror or error}; see train.runs_on.python"
            ) from error
        self._child = child
        try:
            code = child.attend(lambda running: self._keep_limits(running, subject))
        finally:
            child.close()
            self._child = None
        if self._stopped:
            raise FitStoppedError(f"{subject}: the fit was stopped after {child.seconds:.0f} s")
        try:
            answer = dict(json.loads(child.answer))
        except ValueError:
            raise TrainingError(self._failure(subject, code, child)) from None
        self._raise_error(answer, subject)
        return dict(answer["result"])

    def _keep_limits(self, child: AttendedChild, subject: str) -> None:
        limits = self.limits
        if self._stopped:  # before there was a child to kill
            child.kill()
        if limits.minutes is not None and child.seconds > 60 * limits.minutes:
            raise TrainingError(
                f"{subject} took longer than {limits.minutes:g} minutes (train.limits.minutes); "
                f"it was killed after {child.seconds:.1f} s"
            )
        resident = None if limits.memory_mb is None else child.resident_mb()
        if limits.memory_mb is not None and resident is not None and resident > limits.memory_mb:
            raise TrainingError(f"{self._memory_exceeded(subject)}; it was killed at {resident:,.0f} MB")

    def _memory_exceeded(self, subject: str) -> str:
        return f"{subject} used more than {self.limits.memory_mb} MB of memory (train.limits.memory_mb)"

    def _failure(self, subject: str, code: int, child: AttendedChild) -> str:
        """Return the error message for a child that exited without an answer."""
        last_line = f"; it last said: {child.last_lines[-1]}" if child.last_lines else ""
        ending = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return f"{subject}: {self.interpreter} ended {ending} and gave no model{last_line}"

    def _raise_error(self, answer: dict[str, Any], subject: str) -> None:
        """Raise TrainingError if an answer holds an error."""
        if answer.get("out_of_memory") and self.limits.memory_mb is not None:
            raise TrainingError(f"{self._memory_exceeded(subject)}: {answer['error']}")
        if answer.get("unfit"):
            raise TrainingError(f"interpreter {self.interpreter} cannot fit: {answer['error']}")
        if "error" in answer:
            raise TrainingError(str(answer["error"]))
