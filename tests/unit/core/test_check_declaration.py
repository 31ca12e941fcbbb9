"""The checks of a declaration: cheap ones at the parse of a Dag file, all of them on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.check_declaration import CHECKS, CHECKS_AT_PARSE, check_declaration
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DeclarationError
from tests.unit.core.toy_loop import toy_fields, toy_loop

FILE = "include/loops/toy.yaml"


def loop_with(section: str, **fields: Any) -> Loop:
    """Return the toy loop with some fields of a section changed."""
    return toy_loop(**{section: {**toy_fields().get(section, {}), **fields}})


def test_the_checks_at_parse_are_some_of_all_checks() -> None:
    assert set(CHECKS_AT_PARSE) < set(CHECKS)


@pytest.mark.parametrize("key", ["contract", "expectations"])
def test_a_missing_file_is_found_by_all_checks_and_not_at_parse(key: str) -> None:
    loop = loop_with("data", **{key: "none.yaml"})
    root = Path(__file__).parents[3]  # where the training function of the toy loop is
    check_declaration(loop, root, at_parse=True)
    with pytest.raises(DeclarationError, match=r"none\.yaml: cannot be read"):
        check_declaration(loop, root)


@pytest.mark.parametrize("at_parse", [True, False])
def test_a_fault_of_a_key_names_the_file_of_the_declaration(tmp_path: Path, at_parse: bool) -> None:
    loop = loop_with("train", function="no_such_module_at_all:candidates")
    with pytest.raises(DeclarationError) as caught:
        check_declaration(loop, tmp_path, at_parse=at_parse, file=FILE)
    assert (caught.value.file, caught.value.key) == (FILE, "train.function")


@pytest.mark.parametrize("at_parse", [True, False])
def test_an_optional_package_that_is_not_installed_is_found_in_either_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_parse: bool
) -> None:
    from airflow_mlops.core.watch.drift import evidently_extra

    monkeypatch.setattr(evidently_extra, "find_spec", lambda _name: None)
    (tmp_path / "made.py").write_text("def candidates(seed): ...\n")
    drift = {"engine": "evidently", "method": "psi", "threshold": 0.1}
    loop = toy_loop(watch={"drift": drift}, train={"function": "made:candidates", "window": 2})
    with pytest.raises(DeclarationError, match="Evidently is not installed"):
        check_declaration(loop, tmp_path, at_parse=at_parse)
