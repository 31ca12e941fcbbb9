"""Projects of one small loop, for the command ``airflow-mlops try``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.cli import main

DELIVERY = "in/2013-01-13.csv"
COLUMNS: dict[str, Any] = {
    "id": {"type": "int", "nullable": False},
    "at": {"type": "time"},
    "name": {"type": "text"},
    "x": {"type": "float"},
    "y": {"type": "float"},
}
CANDIDATES = """\
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline


def numbers(model):
    return make_pipeline(make_column_transformer(("passthrough", ["x"])), model)


def candidates(seed):
    return {"linear": numbers(LinearRegression())}


def classifiers(seed):
    return {"logistic": numbers(LogisticRegression())}
"""

Try = Callable[..., dict[str, Any]]


def good_rows(count: int = 100) -> list[list[str]]:
    """Return the cells of a week, shape (count, 5): id, time, name, a number and a label that it does not tell."""
    return [
        [str(n), f"2013-01-{7 + n % 6:02}T10:{n % 60:02}:00Z", f"bolt M{n % 7}", f"{n % 10}.5", f"{n * 7 % 11}.0"]
        for n in range(count)
    ]


def as_lines(rows: Iterable[Sequence[str]], *, header: Sequence[str] = tuple(COLUMNS), delimiter: str = ",") -> str:
    """Return cells as the lines of a text, unquoted."""
    return "".join(f"{delimiter.join(row)}\n" for row in [header, *rows])


def write_project(
    folder: Path,
    files: Mapping[str, str | bytes] = {},
    *,
    data: Mapping[str, Any] = {},
    contract: Mapping[str, Any] = {},
    columns: Mapping[str, Any] = {},
    suite: Sequence[Mapping[str, Any]] = (),
    **loop: Any,
) -> Path:
    """Write a project with its deliveries, and return the path of its declaration.

    Keys of ``data``, ``contract``, ``columns`` and the loop are taken over the usual ones; a column that is None is
    left out.
    """
    columns = {name: column for name, column in {**COLUMNS, **columns}.items() if column is not None}
    declared = {
        "source": {"kind": "csv", "uri": "in/{partition}.csv"},
        "every": "@weekly",
        "from": "2013-01-06",
        "contract": "contract.yaml",
        "key": "id",
        "time": "at",
        "label": "y",
        "tolerance": 0.1,
        **({"expectations": "suite.yaml"} if suite else {}),
        **data,
    }
    texts: dict[str, Any] = {
        "loop.yaml": {
            "model": "bolts",
            "owner": "warehouse",
            "data": declared,
            "train": {"function": "fitting:candidates"},
            "gates": [{"metric": "mae", "at_most": 100}],
            **loop,
        },
        "contract.yaml": {"contract": "bolts", "key": "id", "time": "at", "columns": columns, **contract},
        "suite.yaml": {"expectations": list(suite)},
    }
    for name, text in texts.items():
        (folder / name).write_text(json.dumps(text, indent=1))
    (folder / "fitting.py").write_text(CANDIDATES)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder / "loop.yaml"


def files_of(project: Path) -> list[Path]:
    """Return the files of a project and of the stores in the home of Airflow, but for compiled modules."""
    folders = (project, Path(os.environ["AIRFLOW_HOME"]) / "mlops")
    return sorted(path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts)


def try_loop(loop: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Return the JSON object that the command prints, after checking that it changed no file."""
    before = files_of(loop.parent)
    assert main(["try", str(loop), "--root", str(loop.parent), "--json", *arguments]) == 0
    assert files_of(loop.parent) == before
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return shown
