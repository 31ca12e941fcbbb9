"""The user's function: each of its faults is one error that names the function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.declaration.user_function import build_candidates, require_function, source_digest
from airflow_mlops.core.errors import DeclarationError, TrainingError

BODY = """
from sklearn.linear_model import LinearRegression

def one(seed): return LinearRegression()
def two(seed): return {"a": LinearRegression(), "b": LinearRegression()}
def raising(seed): raise KeyError("no such column")
def nothing(seed): return None
def empty(seed): return {}
def a_class(seed): return {"good": LinearRegression(), "bad": 7}
def no_seed(): return LinearRegression()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return a function that writes a module into the project and returns its name."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    written: list[str] = []

    def write(body: str = BODY) -> str:
        name = f"training_of_{tmp_path.name}_{len(written)}"
        written.append(name)
        (tmp_path / f"{name}.py").write_text(body)
        return name

    return write


def test_one_estimator_is_one_candidate_and_a_mapping_names_several(module: Any, tmp_path: Path) -> None:
    name = module()
    assert list(build_candidates(f"{name}:one", tmp_path, 0)) == ["model"]
    assert list(build_candidates(f"{name}:two", tmp_path, 0)) == ["a", "b"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("raising", "raised KeyError: 'no such column'"),
        ("nothing", "returned no model: 'model' is a NoneType"),
        ("empty", "returned no model: an empty mapping"),
        ("a_class", "returned no model: 'bad' is a int"),
        ("no_seed", "raised TypeError"),
        ("absent", "cannot be imported: AttributeError"),
    ],
)
def test_a_function_without_a_model_is_a_training_error(
    module: Any, tmp_path: Path, function: str, message: str
) -> None:
    name = module()
    with pytest.raises(TrainingError, match=f"{name}:{function} {message}"):
        build_candidates(f"{name}:{function}", tmp_path, 0)


@pytest.mark.parametrize("body", ["import no_such_package_at_all", "1 / 0", "def broken(:", "raise SystemError('x')"])
def test_a_module_that_cannot_be_imported_is_a_training_error(module: Any, tmp_path: Path, body: str) -> None:
    with pytest.raises(TrainingError, match="cannot be imported"):
        build_candidates(f"{module(body)}:one", tmp_path, 0)


def test_the_digest_of_the_source_is_that_of_the_file(module: Any, tmp_path: Path) -> None:
    first, same, other = module(), module(), module(BODY + "# changed\n")
    assert source_digest(f"{first}:one", tmp_path) == source_digest(f"{same}:two", tmp_path)
    assert source_digest(f"{other}:one", tmp_path) != source_digest(f"{first}:one", tmp_path)


def test_a_function_that_is_there_is_found_without_importing_its_module(module: Any, tmp_path: Path) -> None:
    name = module(
        "raise SystemExit('run')\ndef one(seed): ...\nclass Two: ...\n"
        "from a.b import imported, c as renamed\nassigned = one\n"
    )
    require_function(f"{name}:one", tmp_path)
    require_function(f"{name}:Two", tmp_path)
    for elsewhere in ("imported", "renamed", "assigned"):
        require_function(f"{name}:{elsewhere}", tmp_path)
    require_function("sklearn.linear_model:Ridge", tmp_path)
    assert name not in sys.modules


def test_a_package_s_own_file_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("def one(seed): ...")
    require_function("pack:one", tmp_path)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("{name}:candidats", "has no function 'candidats'; did you mean 'candidates'?"),
        ("{name}:zzz", "valid keys: candidates"),
        ("no_such_module_at_all:f", "looked for no_such_module_at_all.py"),
        ("pack.absent:f", "module 'pack.absent' does not exist; looked for pack/absent.py"),
    ],
)
def test_a_missing_function_is_a_declaration_error_with_the_nearest_name(
    module: Any, tmp_path: Path, reference: str, message: str
) -> None:
    (tmp_path / "pack").mkdir()
    name = module("def candidates(seed): ...")
    with pytest.raises(DeclarationError) as caught:
        require_function(reference.format(name=name), tmp_path)
    assert message in caught.value.message
    assert caught.value.key == "train.function"


def test_a_file_that_is_no_python_is_a_declaration_error_with_its_line(module: Any, tmp_path: Path) -> None:
    name = module("x = 1\ndef broken(:\n")
    with pytest.raises(DeclarationError, match=rf"{name}\.py is no Python: line 2"):
        require_function(f"{name}:broken", tmp_path)
