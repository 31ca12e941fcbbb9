"""A key of several columns from ingest on: uniqueness, quarantine, features, masks, labels, erasure, release."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from airflow_mlops.cli import main
from airflow_mlops.core.data.masking import keyed_hash, mask_key
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DeclarationError, PartitionRefusedError
from tests.integration.order_lines import (
    COLUMN,
    CONTRACT,
    KEY,
    ORDERS,
    SECRET,
    ingest,
    lines_fields,
    open_lines,
    order_lines,
    published,
    put,
    quarantined,
)

LINES = 3 * ORDERS


def contract(**changes: Any) -> dict[str, Any]:
    """Return the contract with columns that differ."""
    changed = copy.deepcopy(CONTRACT)
    for name, fields in changes.items():
        changed["columns"][name] = {**changed["columns"].get(name, {}), **fields}
    return changed


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_lines_of_one_order_are_rows_of_their_own(tmp_path: Path, kind: str) -> None:
    workspace = open_lines(tmp_path, kind=kind)
    put(workspace, 0)
    record = ingest(workspace, 0)
    assert (record.rows, record.quarantined) == (LINES, 0)
    rows = published(workspace, 0)
    assert rows[COLUMN].tolist() == sorted(f"{order}+{line}" for order, line in rows[KEY].itertuples(index=False))
    assert set(rows.columns) == {*CONTRACT["columns"], COLUMN}
    assert ingest(workspace, 0) == record


def test_rows_with_the_same_pair_are_quarantined_and_a_copy_is_kept_once(tmp_path: Path) -> None:
    workspace, rows = open_lines(tmp_path), order_lines(0)
    other = rows.iloc[[1]].assign(x=99.0)
    put(workspace, 0, pd.concat([rows, rows.iloc[[0]], other]))
    record = ingest(workspace, 0)
    assert (record.rows, record.quarantined) == (LINES - 1, 3)
    assert sorted(quarantined(workspace, 0)) == [
        ("1000+1", [f"{COLUMN}: is not unique: '1000+1' stands there 2 times, and this row is a copy"]),
        ("1000+2", [f"{COLUMN}: is not unique: '1000+2' stands there 2 times with different values"]),
        ("1000+2", [f"{COLUMN}: is not unique: '1000+2' stands there 2 times with different values"]),
    ]


def test_a_row_without_a_part_of_its_key_is_bad(tmp_path: Path) -> None:
    workspace, rows = open_lines(tmp_path), order_lines(0).astype({"line": object})
    rows.loc[4, "line"] = None
    rows.loc[5, "line"] = "three"
    put(workspace, 0, rows)
    assert ingest(workspace, 0).rows == LINES - 2
    assert quarantined(workspace, 0) == [
        (None, ["line: is null"]),
        ("1001+three", ["line: 'three' is no int"]),
    ]


def test_parts_that_hold_the_sign_between_parts_make_different_keys(tmp_path: Path) -> None:
    texts = contract(order_id={"type": "text"}, line={"type": "text"})
    workspace, rows = open_lines(tmp_path, texts), order_lines(0).astype({"order_id": str, "line": str})
    rows.loc[[0, 1, 2, 3], "order_id"] = ["a+b", "a", "a\\", "a"]
    rows.loc[[0, 1, 2, 3], "line"] = ["c", "b+c", "+c", "\\+c"]
    put(workspace, 0, rows)
    assert ingest(workspace, 0).quarantined == 0
    keys = published(workspace, 0)[COLUMN]
    assert len(set(keys)) == LINES
    assert {r"a\+b+c", r"a+b\+c", r"a\\+\+c", r"a+\\\+c"} < set(keys)


def test_no_part_of_the_key_is_a_feature_and_the_function_of_the_user_sees_them_all(tmp_path: Path) -> None:
    workspace = open_lines(tmp_path)
    put(workspace, 0)
    ingest(workspace, 0)
    rows = published(workspace, 0)
    assert FeatureMaker(workspace).make(rows, "2013-01-06T00:00:00").columns.tolist() == ["x"]
    (tmp_path / "lines_features.py").write_text(
        "def features(frame):\n"
        "    return frame[['order_id', 'line', 'order_id+line']].assign(place=frame['line'], size=frame['x'])\n"
    )
    own = open_lines(tmp_path, features="lines_features:features")
    features = FeatureMaker(own).make(rows, "2013-01-06T00:00:00")
    assert features.columns.tolist() == ["place", "size"]
    assert features["place"].tolist() == rows["line"].tolist()


def test_rows_that_differ_in_the_key_alone_are_counted_as_duplicates(tmp_path: Path) -> None:
    workspace, rows = open_lines(tmp_path), order_lines(0)
    put(workspace, 0, rows.assign(x=1.0, y=2.0))
    record = ingest(workspace, 0)
    assert workspace.evidence.get(str(record.profile))["duplicates"] == LINES - 1


def test_a_loop_without_a_contract_has_such_keys_too(tmp_path: Path) -> None:
    workspace = open_lines(tmp_path, kind="parquet", contract_file=None)
    for number in range(2):
        put(workspace, number)
        assert ingest(workspace, number).rows == LINES
    assert published(workspace, 1)[COLUMN][0] == "2000+1"
    put(workspace, 2, order_lines(2).drop(columns="line"))
    with pytest.raises(PartitionRefusedError, match="column 'line', the declared key, is missing"):
        ingest(workspace, 2)
    put(workspace, 2, order_lines(2).assign(**{COLUMN: "7"}))
    with pytest.raises(PartitionRefusedError, match=r"'order_id\+line' has the name of the column that holds the"):
        ingest(workspace, 2)


def test_a_masked_part_is_masked_before_it_is_joined(tmp_path: Path) -> None:
    masked = contract(order_id={"type": "text", "privacy": "personal", "mask": True})
    workspace, rows = open_lines(tmp_path, masked), order_lines(0).astype({"order_id": str})
    rows["order_id"] = "erika-" + rows["order_id"]
    rows.loc[0, "x"] = float("inf")
    put(workspace, 0, pd.concat([rows, rows.iloc[[7]]]))
    record = ingest(workspace, 0)
    assert (record.rows, record.quarantined) == (LINES - 1, 2)
    key = mask_key(SECRET, "order_id")
    hashed = keyed_hash("erika-1000", key)
    assert f"{hashed}+2" in set(published(workspace, 0)[COLUMN])
    assert (f"{hashed}+1", ["x: 'inf' is no float"]) in quarantined(workspace, 0)
    assert "erika" not in everything_below(tmp_path / "home")


def everything_below(folder: Path) -> str:
    """Return the text of every file below a folder."""
    return "\n".join(
        json.dumps(pq.read_table(path).to_pylist(), default=str)
        if path.suffix == ".parquet"
        else path.read_bytes().decode("latin-1")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )


def test_a_list_of_one_column_means_the_same_as_its_name(tmp_path: Path) -> None:
    records = []
    for name, key in (("plain", "id"), ("listed", ["id"])):
        (tmp_path / name).mkdir()
        declared = {**contract(id={"type": "text"}), "key": key}
        workspace = open_lines(tmp_path / name, declared, key=key)
        put(workspace, 0, order_lines(0).assign(id=[f"row-{at}" for at in range(LINES)]))
        details = ingest(workspace, 0)
        records.append((workspace.loop, workspace.loop.to_dict(), workspace.contract, details))
    assert records[0] == records[1]
    assert repr(records[0]) == repr(records[1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": ["order_id", "lien"]}, "key: 'lien' is none of the columns; did you mean 'line'?"),
        ({"key": []}, "lists no column"),
        ({"key": ["line", "line"]}, "names 'line' more than once"),
        (
            {"key": ["line", "order_id"]},
            r"the contract says key: ['line', 'order_id'], the loop says ['order_id', 'line']",
        ),
        (contract(line={"optional": True}), "key: 'line' is optional"),
        (
            contract(**{"Order_ID+line": {"type": "text"}}),
            "'Order_ID+line' is the name of the column that holds",
        ),
    ],
)
def test_a_contract_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    workspace = open_lines(tmp_path, {**CONTRACT, **changes})
    put(workspace, 0)
    with pytest.raises(DeclarationError) as raised:
        ingest(workspace, 0)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": ["order_id", "y"]}, "'y' is the label"),
        (
            {"labels": {"source": {"kind": "csv", "uri": "l/{partition}.csv"}, "delay": 1, "key": ["order_id"]}},
            "labels.key names order_id, and key order_id, line",
        ),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        Loop(**lines_fields(**changes))


def test_check_and_try_read_the_declared_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = open_lines(tmp_path)
    put(workspace, 0, pd.concat([order_lines(0), order_lines(0).iloc[[4]]]))
    declaration = tmp_path / "loop.yaml"
    declaration.write_text(
        yaml.safe_dump({**lines_fields(expectations="suite.yaml"), "train": {"function": "lines_models:candidates"}})
    )
    (tmp_path / "lines_models.py").write_text("from tests.unit.core.toy_loop import candidates as candidates\n")
    place = ["--root", str(tmp_path)]
    suite = {"type": "expect_column_value_lengths_to_be_between", "kwargs": {"column": COLUMN, "max_value": 9}}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({"expectations": [suite]}))
    assert main(["check", str(declaration), *place]) == 0
    assert "well declared" in capsys.readouterr().out
    assert main(["try", str(declaration), *place, "--partition", "2013-01-06", "--fit", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["published"], shown["quarantined"], shown["features"]) == (LINES, 1, {"x": "float64"})
    assert shown["reasons"] == {f"{COLUMN}: is not unique": 1}
    assert shown["fit"]["line"]["error"] is None
    declaration.write_text(yaml.safe_dump(lines_fields(key=["order_id", "lien"])))
    assert main(["check", str(declaration), *place]) != 0
    assert "the contract says key: ['order_id', 'line'], the loop says ['order_id', 'lien']" in capsys.readouterr().err
