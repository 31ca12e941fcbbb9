"""The outcomes of a search, kept in a file beside the model until it is fitted, so that a killed search goes on.

The file holds scores only, by parameters: the first line names the fit, and each further one has one outcome. What is
tried next is not in it, so a search that takes it up makes every choice again and skips no more than fits.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_mlops.core.fault_point import external_write
from airflow_mlops.core.ports.fit_request import FitRequest, environment
from airflow_mlops.core.training.arithmetic import arithmetic_in_use
from airflow_mlops.core.training.checkpoint import packages as packages_of_fit

log = logging.getLogger(__name__)

TRIALS = "trials"
"""Name of the file in a folder of checkpoints."""
Outcome = dict[str, Any]
"""The ``score`` of parameters, more is better; or None, and the ``error`` that their fit raised."""


class TrialFile:
    """The outcomes by parameters, of the file if it is of the same fit, and of this process.

    Parameters
    ----------
    path : Path, optional
        The file; None to keep outcomes in memory alone.
    fit : mapping
        What identifies the fit: outcomes of another are dropped.
    """

    def __init__(self, path: Path | None, fit: Mapping[str, Any]) -> None:
        self._path, self._outcomes = path, dict[str, Outcome]()
        if path is None:
            return
        first, *rest = list(_whole_lines(path)) or [{}]
        if first == fit:
            self._outcomes = {_key(line["params"]): line["outcome"] for line in rest}
        if self._outcomes:
            log.info("the search goes on with the outcomes of %s trials in %s", len(self._outcomes), path)
        lines = [fit, *rest] if first == fit else [fit]
        path.parent.mkdir(parents=True, exist_ok=True)
        with external_write("scratch.trials"):
            path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")

    def outcome(self, params: Mapping[str, Any], measure: Callable[[], Outcome]) -> Outcome:
        """Return the outcome of parameters: the one that is kept, or else the measured one, which is kept then."""
        key = _key(params)
        if key not in self._outcomes:
            self._outcomes[key] = measure()
            if self._path is not None:
                line = json.dumps({"params": dict(params), "outcome": self._outcomes[key]})
                with external_write("scratch.trial"), self._path.open("a", encoding="utf-8") as file:
                    file.write(f"{line}\n")
        return self._outcomes[key]


@contextmanager
def trial_file(request: FitRequest, **packages: str) -> Iterator[TrialFile]:
    """Yield the outcomes of a fit by these ``packages``; their file is left only where the process is stopped."""
    # Checkpoints may be taken up by another machine, whose kernel does not matter, and whose arithmetic does.
    machine = packages_of_fit() | arithmetic_in_use() if request.checkpoints else environment()
    fit = json.loads(json.dumps({**request.identity(), "environment": machine | packages}))
    path = Path(request.checkpoints) / TRIALS if request.checkpoints else None
    if path is None and request.file:
        path = Path(f"{request.file}.trials")
    try:
        yield TrialFile(path, fit)
    except Exception:
        _remove(path)
        raise
    _remove(path)


def _remove(path: Path | None) -> None:
    if path is not None:
        path.unlink(missing_ok=True)


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file up to the first that was cut, as by the end of its process."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            values = json.loads(line)
        except ValueError:
            return
        if not line.endswith("\n"):
            return
        yield values


def _key(params: Mapping[str, Any]) -> str:
    return json.dumps(dict(params), sort_keys=True)
