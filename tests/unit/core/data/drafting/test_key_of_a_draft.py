"""A draft names two columns as the key where no column is one, or the columns that a person states."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_mlops.core.data.drafting import choose_key as module
from airflow_mlops.core.declaration.contract import read_contract
from airflow_mlops.core.declaration.key_columns import key_columns
from tests.unit.core.data.drafting.test_suggest_contract import assert_accepts, draft, suggest

LINES = """order_id,line,placed_at,product,amount
1017,1,2024-01-01T10:00:00Z,bolt,2.50
1017,2,2024-01-01T10:00:00Z,nut,2.50
1018,1,2024-01-02T10:00:00Z,bolt,1.25
1018,2,2024-01-02T10:00:00Z,bolt,1.25
"""


def file_with(folder: Path, text: str = LINES, name: str = "lines.csv") -> Path:
    """Return a file that holds a text."""
    file = folder / name
    file.write_text(text)
    return file


def test_two_columns_are_the_key_where_no_column_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = file_with(tmp_path)
    contract = draft(tmp_path, capsys, file)
    assert key_columns(contract.key) == ("order_id", "line")
    text = (tmp_path / "contracts" / "drafted.yaml").read_text()
    assert "key: [order_id, line]\n" in text
    assert "order_id and line are the key together, as no pair of their values repeats" in text
    assert_accepts(tmp_path, [file])
    assert "order_id" not in (tmp_path / "expectations" / "drafted.yaml").read_text()


def test_a_column_that_is_the_key_by_itself_is_preferred(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = LINES.splitlines()
    text = "\n".join([f"{rows[0]},row_no", *(f"{row},{at}" for at, row in enumerate(rows[1:]))])
    assert key_columns(draft(tmp_path, capsys, file_with(tmp_path, text)).key) == ("row_no",)


def test_a_sensor_and_a_time_are_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{sensor},2024-01-0{day}T10:00:00Z,{day / 7}" for day in range(1, 9) for sensor in ("a", "b", "c")]
    contract = draft(tmp_path, capsys, file_with(tmp_path, "\n".join(["sensor,at,value", *rows])))
    assert (key_columns(contract.key), contract.time) == (("sensor", "at"), "at")


def test_a_pair_is_tried_over_all_files_and_all_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for number, file in enumerate(files):
        table = pa.table(
            {
                "order_id": pa.array([at // 3 for at in range(900)]),
                "line": pa.array([at % 3 for at in range(900)]),
                "batch_no": pa.array([number] * 900),
                "at": pa.array([1_700_000_000_000_000] * 900, pa.timestamp("us", tz="UTC")),
            }
        )
        pq.write_table(table, file, row_group_size=100)
    code, _, fault = suggest(capsys, *files, "--name", "lines")
    assert code != 0
    assert "no two do together" in fault
    code, text, fault = suggest(capsys, *files, "--name", "lines", "--key", "order_id,line,batch_no")
    assert code == 0, fault
    assert "key: [order_id, line, batch_no]\n" in text


def test_names_that_a_contract_cannot_have_are_parts_under_their_other_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = file_with(tmp_path, LINES.replace("line,", "R&D no,", 1))
    draft(tmp_path, capsys, file, "--key", "order_id,R&D no")
    assert key_columns(read_contract(tmp_path / "contracts" / "drafted.yaml").key) == ("order_id", "r_d_no")
    assert_accepts(tmp_path, [file])


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ("order_id,product", "order_id, product cannot be the key: some rows have the same values"),
        ("order_id,amount", "'amount' cannot be part of the key"),
        ("order_id,note", "'note' cannot be part of the key"),
        ("order_id,linie", "there is no column 'linie'; did you mean 'line'?"),
        ("order_id,order_id", "names 'order_id' more than once"),
    ],
)
def test_columns_that_are_no_key_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stated: str, words: str
) -> None:
    rows = LINES.splitlines()
    text = "\n".join([f"{rows[0]},note", *(f"{row},{'x' if at else ''}" for at, row in enumerate(rows[1:]))])
    code, _, fault = suggest(capsys, file_with(tmp_path, text), "--key", stated)
    assert code != 0
    assert words in fault


def test_only_some_columns_are_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"c{number}" for number in range(module.MAX_PARTS)]
    text = "\n".join(
        [
            ",".join([*names, "order_id", "line", "at"]),
            *(",".join([*["1"] * len(names), str(at // 2), str(at % 2), "2024-01-01"]) for at in range(6)),
        ]
    )
    assert key_columns(draft(tmp_path, capsys, file_with(tmp_path, text)).key) == ("order_id", "line")
