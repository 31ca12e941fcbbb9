"""The user's function: whatever it does wrong is one error that names it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.declaration.function_exists import check_function_exists
from airflow_mlops.core.declaration.user_function import candidates_of, source_digest
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
    """Return what writes a module into the project and gives its name."""
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
    assert list(candidates_of(f"{name}:one", tmp_path, 0)) == ["model"]
    assert list(candidates_of(f"{name}:two", tmp_path, 0)) == ["a", "b"]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("raising", "raised KeyError: 'no such column'"),
        ("nothing", "returned no model: 'model' is a NoneType"),
        ("empty", "returned no model: an empty mapping"),
        ("a_class", "returned no model: 'bad' is a int"),
        ("no_seed", "raised TypeError"),
        ("absent", "cannot be imported: AttributeError"),
    ],
)
def test_a_function_without_a_model_is_a_training_error(module: Any, tmp_path: Path, function: str, said: str) -> None:
    name = module()
    with pytest.raises(TrainingError, match=f"{name}:{function} {said}"):
        candidates_of(f"{name}:{function}", tmp_path, 0)


@pytest.mark.parametrize("body", ["import no_such_package_at_all", "1 / 0", "def broken(:", "raise SystemError('x')"])
def test_a_module_that_cannot_be_imported_is_a_training_error(module: Any, tmp_path: Path, body: str) -> None:
    with pytest.raises(TrainingError, match="cannot be imported"):
        candidates_of(f"{module(body)}:one", tmp_path, 0)


def test_the_digest_of_the_source_is_that_of_the_file(module: Any, tmp_path: Path) -> None:
    first, same, other = module(), module(), module(BODY + "# changed\n")
    assert source_digest(f"{first}:one", tmp_path) == source_digest(f"{same}:two", tmp_path)
    assert source_digest(f"{other}:one", tmp_path) != source_digest(f"{first}:one", tmp_path)


def test_a_function_that_is_there_is_found_without_importing_its_module(module: Any, tmp_path: Path) -> None:
    name = module(
        "raise SystemExit('run')\ndef one(seed): ...\nclass Two: ...\n"
        "from a.b import imported, c as renamed\nassigned = one\n"
    )
    check_function_exists(f"{name}:one", tmp_path)
    check_function_exists(f"{name}:Two", tmp_path)
    for elsewhere in ("imported", "renamed", "assigned"):
        check_function_exists(f"{name}:{elsewhere}", tmp_path)
    check_function_exists("sklearn.linear_model:Ridge", tmp_path)
    assert name not in sys.modules


def test_a_package_s_own_file_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("def one(seed): ...")
    check_function_exists("pack:one", tmp_path)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("{name}:candidats", "has no function 'candidats'; did you mean 'candidates'?"),
        ("{name}:zzz", "valid keys: candidates"),
        ("no_such_module_at_all:f", "looked for no_such_module_at_all.py"),
        ("pack.absent:f", "module 'pack.absent' is not there; looked for pack/absent.py"),
    ],
)
def test_what_is_not_there_is_a_declaration_error_with_what_is_nearest(
    module: Any, tmp_path: Path, reference: str, said: str
) -> None:
    (tmp_path / "pack").mkdir()
    name = module("def candidates(seed): ...")
    with pytest.raises(DeclarationError) as caught:
        check_function_exists(reference.format(name=name), tmp_path)
    assert said in caught.value.message
    assert caught.value.key == "train.function"


def test_a_file_that_is_no_python_is_a_declaration_error_with_its_line(module: Any, tmp_path: Path) -> None:
    name = module("x = 1\ndef broken(:\n")
    with pytest.raises(DeclarationError, match=rf"{name}\.py is no Python: line 2"):
        check_function_exists(f"{name}:broken", tmp_path)
