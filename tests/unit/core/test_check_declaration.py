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


CONTRACT = """\
contract: orders
key: row_id
time: at
columns:
  row_id: {type: text}
  at: {type: time}
  x: {type: float}
  place: {type: text}
  y: {type: LABEL}
"""
CSV = {"kind": "csv", "uri": "{partition}.csv"}
SUITE = "expectations:\n  - type: expect_column_values_to_not_be_null\n    kwargs: {column: COLUMN}\n"


def project_with(folder: Path, *, label: str = "float", column: str = "x", **sections: Any) -> Loop:
    """Return a loop of numbers with a contract, a suite and a training function in a folder."""
    (folder / "contract.yaml").write_text(CONTRACT.replace("LABEL", label))
    (folder / "suite.yaml").write_text(SUITE.replace("COLUMN", column))
    (folder / "made.py").write_text("def candidates(seed): ...\ndef tell(context): ...\n")
    fields = toy_fields()
    data = {
        "source": {"kind": "parquet", "uri": "{partition}.parquet"},
        "contract": "contract.yaml",
        "expectations": "suite.yaml",
        "key": "row_id",
        "time": "at",
        "label": "y",
        **sections.pop("data", {}),
    }
    gates = [{"metric": "mae", "at_most": 1.0}]
    fields |= {"train": {"function": "made:candidates", "window": 2}, "gates": gates, "watch": {}, **sections}
    return Loop(**{**fields, "data": data})


def test_a_declaration_whose_parts_fit_is_well_declared(tmp_path: Path) -> None:
    loop = project_with(tmp_path, evaluate={"slices": ["place"]}, notify=["made:tell"])
    check_declaration(loop, tmp_path)


@pytest.mark.parametrize(
    ("parts", "key", "words"),
    [
        ({"column": "z"}, "expectations[0].kwargs.column", "reads 'z', which the contract contract.yaml does not have"),
        ({"evaluate": {"slices": ["plaice"]}}, "evaluate", "'plaice', which the contract contract.yaml does not have"),
        ({"evaluate": {"slices": ["plaice"]}}, "evaluate", "did you mean 'place'?"),
        ({"evaluate": {"groups": ["region"]}}, "evaluate", "slice by 'region'"),
        ({"gates": [{"metric": "mae", "at_most": 1.0, "slices": ["region"]}]}, "gates", "slice by 'region'"),
        ({"label": "text"}, "data.label", "is of type text in contract.yaml, and the gates need labels of numbers"),
        ({"label": "bool"}, "data.label", "is of type bool in contract.yaml, and the gates need labels of numbers"),
        ({"label": "text", "gates": [{"metric": "roc_auc", "at_least": 0.6}]}, "data.label", "labels of 0 and 1"),
        ({"data": {"source": CSV | {"encoding": "klingon"}}}, "data.source.encoding", "is no encoding of text"),
        ({"data": {"source": CSV | {"comment": "é"}}}, "data.source.comment", "must be one ASCII character"),
        ({"notify": ["made:nobody"]}, "notify[0]", "has no function 'nobody'"),
        ({"notify": ["nowhere:tell"]}, "notify[0]", "module 'nowhere' does not exist"),
        ({"notify": ["json:tell"]}, "notify[0]", "json:tell cannot be imported"),
        ({"notify": {"alarm": ["made:tell", "made:nobody"]}}, "notify.alarm[1]", "has no function 'nobody'"),
        ({"notify": {"failed": ["nowhere:tell"]}}, "notify.failed[0]", "module 'nowhere' does not exist"),
    ],
)
def test_what_does_not_fit_together_is_found_before_a_partition_comes(
    tmp_path: Path, parts: dict[str, Any], key: str, words: str
) -> None:
    with pytest.raises(DeclarationError) as caught:
        check_declaration(project_with(tmp_path, **parts), tmp_path)
    assert caught.value.key == key
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("column", "limit", "words"),
    [
        ("at", "5", "min_value is 5, and the column holds timestamp[us, tz=UTC]; write a value such as 2025-12-01"),
        ("x", "2025-12-01", "min_value is '2025-12-01', and the column holds double"),
    ],
)
def test_a_limit_of_another_type_than_its_column_is_found(tmp_path: Path, column: str, limit: str, words: str) -> None:
    loop = project_with(tmp_path)
    kwargs = f"{{column: {column}, min_value: {limit}}}"
    suite = f"expectations:\n  - type: expect_column_values_to_be_between\n    kwargs: {kwargs}\n"
    (tmp_path / "suite.yaml").write_text(suite)
    with pytest.raises(DeclarationError) as caught:
        check_declaration(loop, tmp_path)
    assert caught.value.key == "expectations[0].kwargs"
    assert words in str(caught.value)


def test_a_limit_of_a_time_is_written_as_a_date(tmp_path: Path) -> None:
    loop = project_with(tmp_path)
    kwargs = "{column: at, min_value: 2025-12-01}"
    suite = f"expectations:\n  - type: expect_column_values_to_be_between\n    kwargs: {kwargs}\n"
    (tmp_path / "suite.yaml").write_text(suite)
    check_declaration(loop, tmp_path)


def test_a_slice_that_the_features_may_hold_is_no_fault(tmp_path: Path) -> None:
    loop = project_with(tmp_path, evaluate={"slices": ["distance"]}, data={"features": "made:candidates"})
    check_declaration(loop, tmp_path)


def test_days_in_the_wrong_order_leave_no_partition(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="until: 2013-01-01 lies before from: 2013-02-01"):
        project_with(tmp_path, data={"from": "2013-02-01", "until": "2013-01-01"})


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            "several",
            ["'groups' cannot be used: KMeans is a clusterer", "'strange' cannot be used: it holds types"],
        ),
        ("no_models", ["returned no model: 'model' is a int"]),
    ],
)
def test_candidates_that_cannot_be_used_are_found_where_they_are_looked_at(function: str, words: list[str]) -> None:
    root = Path(__file__).parents[3]
    loop = loop_with("train", function=f"tests.unit.core.toy_loop:{function}")
    check_declaration(loop, root)
    with pytest.raises(DeclarationError) as caught:
        check_declaration(loop, root, candidates=True, file=FILE)
    assert (caught.value.file, caught.value.key) == (FILE, "train.function")
    assert all(word in str(caught.value) for word in words)


def test_candidates_that_can_be_used_are_well_declared() -> None:
    check_declaration(toy_loop(), Path(__file__).parents[3], candidates=True)
