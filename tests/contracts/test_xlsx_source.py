"""Excel workbooks as a source: cells keep their meaning, and each row is published or in quarantine."""

from __future__ import annotations

import importlib.util
import io
import uuid
import zipfile
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow.fs import S3FileSystem

from airflow_mlops.core.check_declaration import check_extras
from airflow_mlops.core.data.row_times import DeclaredTimes
from airflow_mlops.core.declaration.data import Data, Limits
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.errors import (
    DeclarationError,
    PartitionRefusedError,
    SourceMissingError,
    SourceUnreadableError,
)
from airflow_mlops.core.ports.partitions import BATCH_ROWS, Arrival
from airflow_mlops.core.sources.time_cut import TimeColumn
from airflow_mlops.core.sources.xlsx_rows import SheetForm
from airflow_mlops.core.sources.xlsx_source import XlsxFiles, XlsxTable
from tests.bad_input.world import KEYS, World, good_rows
from tests.unit.core.sources.workbooks import workbook
from tests.unit.core.toy_loop import toy_fields

FIRST, SECOND, THIRD = "2013-01-06T00:00:00", "2013-01-13T00:00:00", "2013-01-20T00:00:00"
FORM = SheetForm(required=("id", "at"))
CONTRACT = """
contract: orders
key: id
time: at
columns:
  id: {type: text}
  at: {type: time, zone: none}
"""


def put(folder: Path, rows: list[list[Any]], *, name: str = "2013-01-06.xlsx", **options: Any) -> None:
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / name).write_bytes(workbook({"Orders": rows}, **options))


def files(folder: Path, **options: Any) -> XlsxFiles:
    return XlsxFiles("in/{partition}.xlsx", root=folder, **{"form": FORM, **options})


def table(folder: Path, uri: str = "in/all.xlsx", **options: Any) -> XlsxTable:
    (folder / "contract.yaml").write_text(CONTRACT)
    source = {"kind": "xlsx", "uri": uri}
    data = Data.model_validate(
        {"source": source, "key": "id", "time": "at", "label": "y", "contract": "contract.yaml"}, strict=False
    )
    time = TimeColumn("at", PartitionSchedule("@weekly"), DeclaredTimes(data, folder))
    return XlsxTable(
        uri, root=folder, time=time, **{"form": replace(FORM, types={"at": pa.timestamp("us")}), **options}
    )


def take(arrival: Arrival) -> list[dict[str, Any]]:
    rows = pa.Table.from_batches(arrival.batches, schema=arrival.schema)
    rows.validate(full=True)
    entries: list[dict[str, Any]] = rows.to_pylist()
    return entries


def ids_of(source: XlsxFiles, key: str = FIRST) -> list[str]:
    """Return the ids of a partition, and the numbers of its broken rows in brackets; none if it is not there yet."""
    try:
        with source.open(key) as arrival:
            ids = [row["id"] for row in take(arrival)]
            return [*ids, *(f"[{row.at.rpartition(' ')[2]}]" for row in arrival.broken)]
    except SourceMissingError:
        return []


def test_cells_of_every_type_are_written_as_the_contract_reads_them(tmp_path: Path) -> None:
    values = [
        "0017",
        17,
        0.1,
        1e-7,
        True,
        date(2013, 1, 2),
        datetime.fromisoformat("2013-01-02T03:04:05"),
        " ä <&> ",
        None,
    ]
    put(tmp_path, [["id", "at", *"abcdefg"], ["x", "t", *values[:7]], ["y", "t", *values[7:]]])
    with files(tmp_path).open(FIRST) as arrival:
        assert arrival.typed is False
        first, second = take(arrival)
    assert list(first.values()) == [
        *("x", "t", "0017", "17", "0.1", "0.0000001", "true", "2013-01-02", "2013-01-02 03:04:05"),
    ]
    assert (second["a"], second["b"], second["g"]) == (" ä <&> ", "", "")


@pytest.mark.parametrize(
    ("kind", "declared", "value", "text"),
    [
        (pa.timestamp("us"), None, date(2013, 1, 2), "2013-01-02 00:00:00"),
        (pa.date32(), None, datetime.fromisoformat("2013-01-02T00:00:00"), "2013-01-02"),
        (pa.date32(), None, datetime.fromisoformat("2013-01-02T03:00:00"), "2013-01-02 03:00:00"),
        (pa.date32(), "%d.%m.%Y", date(2013, 1, 2), "02.01.2013"),
    ],
)
def test_a_date_is_written_as_the_type_and_the_format_of_its_column(
    tmp_path: Path, kind: pa.DataType, declared: str | None, value: date, text: str
) -> None:
    put(tmp_path, [["id", "at"], ["x", value]])
    form = SheetForm(types={"at": kind}, formats={"at": declared} if declared else {})
    with files(tmp_path, form=form).open(FIRST) as arrival:
        assert take(arrival) == [{"id": "x", "at": text}]


def test_titles_empty_rows_and_empty_columns_around_the_table_do_not_matter(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["Orders of 2013"], [], [None, None, "id", "at"], [], [None, None, "a", "t"], []]
    put(tmp_path, [*rows, [None, None, "b", "t"]])
    assert ids_of(files(tmp_path, form=SheetForm(skip_rows=1))) == ["a", "b"]


def test_the_sheet_is_chosen_by_its_name_or_is_the_first(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    sheets = {"One": [["id"], ["a"]], "Two & more": [["id"], ["b"]]}
    (tmp_path / "in" / "2013-01-06.xlsx").write_bytes(workbook(sheets))
    assert ids_of(files(tmp_path, form=SheetForm())) == ["a"]
    assert ids_of(files(tmp_path, form=SheetForm(sheet="Two & more"))) == ["b"]
    with pytest.raises(SourceUnreadableError, match=r"there is no sheet 'Three'; there are One, Two & more"):
        ids_of(files(tmp_path, form=SheetForm(sheet="Three")))


def test_names_of_columns_are_declared_where_no_row_has_them(tmp_path: Path) -> None:
    put(tmp_path, [["a", "t"], ["b", "t"]])
    assert ids_of(files(tmp_path, form=SheetForm(names=("id", "at")))) == ["a", "b"]


@pytest.mark.parametrize(
    ("rows", "merged", "words"),
    [
        ([["id", None, "at"], ["a", 1, "t"]], [], r"the cells B1 of its header are empty"),
        ([["id", " ", "at"], ["a", 1, "t"]], [], r"the cells B1 of its header are empty"),
        ([["id", "Sales", None], ["a", 1, 2]], ["B1:C1"], r"the cells B1:C1 of its header are merged.*skip_rows"),
        ([], [], "not even a header"),
    ],
)
def test_a_header_that_names_no_columns_is_refused_with_its_cells(
    tmp_path: Path, rows: list[list[Any]], merged: list[str], words: str
) -> None:
    put(tmp_path, rows, merged=merged)
    with pytest.raises(SourceUnreadableError, match=words) as caught:
        ids_of(files(tmp_path))
    assert str(caught.value).startswith(f"partition {FIRST}: in/2013-01-06.xlsx, sheet 'Orders' cannot be read")


def test_rows_without_key_or_time_and_rows_that_are_too_long_are_broken_with_their_numbers(tmp_path: Path) -> None:
    rows: list[list[Any]] = [
        ["id", "at", "n"],
        ["a", "t", 1],
        [],
        ["Total", None, 41],
        [None, None, 7.5],
        ["b", "t", 2, "note"],
    ]
    put(tmp_path, rows)
    with files(tmp_path).open(FIRST) as arrival:
        assert [row["id"] for row in take(arrival)] == ["a"]
        assert [(row.at, row.reason, row.text) for row in arrival.broken] == [
            ("in/2013-01-06.xlsx, sheet 'Orders', row 4", "has no value in 'at'", "Total,,41,"),
            ("in/2013-01-06.xlsx, sheet 'Orders', row 5", "has no value in 'id' and 'at'", ",,7.5,"),
            (
                "in/2013-01-06.xlsx, sheet 'Orders', row 6",
                "has a value beside the 3 columns of the header",
                "b,t,2,note",
            ),
        ]


def test_batches_are_bounded_and_no_row_is_lost_between_them(tmp_path: Path) -> None:
    count = BATCH_ROWS + 100
    put(tmp_path, [["id", "at"], *([str(number), "t"] for number in range(count))])
    with files(tmp_path).open(FIRST) as arrival:
        batches = list(arrival.batches)
    assert max(batch.num_rows for batch in batches) <= BATCH_ROWS
    assert [value for batch in batches for value in batch.column(0).to_pylist()] == list(map(str, range(count)))


@pytest.mark.parametrize("limits", [Limits(rows=2), Limits(cells=5), Limits(bytes=100)])
def test_more_than_the_limits_allow_is_refused(tmp_path: Path, limits: Limits) -> None:
    put(tmp_path, [["id", "at"], ["a", "t"], ["b", "t"], ["c", "t"]])
    assert len(ids_of(files(tmp_path, limits=Limits(rows=3, cells=6)))) == 3
    with pytest.raises(PartitionRefusedError, match=rf"partition {FIRST}: .* and data\.limits\.\w+ is"):
        ids_of(files(tmp_path, limits=limits))


def test_what_is_no_workbook_is_refused(tmp_path: Path) -> None:
    put(tmp_path, [["id"], ["a"]])
    path = tmp_path / "in" / "2013-01-06.xlsx"
    content = path.read_bytes()
    empty = io.BytesIO()
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("a.txt", "a")
    for damaged in (b"", b"id,at\n", content[: len(content) // 2], empty.getvalue()):
        path.write_bytes(damaged)
        with pytest.raises(SourceUnreadableError, match=r"in/2013-01-06\.xlsx cannot be read: it is no xlsx workbook"):
            ids_of(files(tmp_path))


def test_a_partition_without_rows_is_read_and_a_missing_workbook_is_missing(tmp_path: Path) -> None:
    put(tmp_path, [["id", "at"]])
    with files(tmp_path).open(FIRST) as arrival:
        assert (take(arrival), arrival.broken) == ([], [])
    with pytest.raises(SourceMissingError, match=SECOND), files(tmp_path).open(SECOND):
        pass


def test_several_workbooks_of_a_partition_have_the_same_columns_in_any_order(tmp_path: Path) -> None:
    put(tmp_path, [["id", "at"], ["a", "t"]], name="2013-01-06-1.xlsx")
    put(tmp_path, [["at", "id"], ["t", "b"]], name="2013-01-06-2.xlsx")
    source = XlsxFiles("in/{partition}-*.xlsx", root=tmp_path, form=FORM)
    assert ids_of(source) == ["a", "b"]
    put(tmp_path, [["id", "when"], ["c", "t"]], name="2013-01-06-3.xlsx")
    with pytest.raises(PartitionRefusedError, match=r"2013-01-06-3\.xlsx.*column 'at' is missing"):
        ids_of(source)


def test_one_workbook_is_cut_by_time_and_each_of_its_rows_is_in_one_partition(tmp_path: Path) -> None:
    rows: list[list[Any]] = [
        ["id", "at"],
        [None, "no key"],
        ["a", datetime.fromisoformat("2013-01-02T00:00:00")],
        ["b", datetime.fromisoformat("2013-01-09T00:00:00")],
        ["Total", None],
        ["c", datetime.fromisoformat("2013-01-05T23:59:00")],
        ["d", "no time"],
    ]
    put(tmp_path, rows, name="all.xlsx")
    source = table(tmp_path)
    assert [ids_of(source, key) for key in (FIRST, SECOND, THIRD)] == [["a", "c", "d", "[2]"], ["b", "[5]"], []]
    assert str(source.newest(THIRD)) == "2013-01-09T00:00:00.000000"
    with source.open(FIRST) as arrival:
        assert arrival.origin["end"] == FIRST
    assert ids_of(table(tmp_path, limits=Limits(rows=2)), SECOND) == ["b", "[5]"]


def test_a_workbook_in_an_object_store_that_did_not_change_is_not_read_again(
    tmp_path: Path, object_store: S3FileSystem
) -> None:
    bucket = f"b{uuid.uuid4().hex}"
    object_store.create_dir(bucket)
    with object_store.open_output_stream(f"{bucket}/2013-01-06.xlsx") as stream:
        stream.write(workbook({"Orders": [["id", "at"], ["a", "t"]]}))
    source = XlsxFiles(f"s3://{bucket}/{{partition}}.xlsx", root=tmp_path, form=FORM, filesystem=object_store)
    with source.open(FIRST) as arrival:
        origin = arrival.origin
        assert [row["id"] for row in take(arrival)] == ["a"]
    with source.open(FIRST, known=origin) as arrival:
        assert (arrival.unchanged, list(arrival.batches)) == (True, [])


def test_without_calamine_the_refusal_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "python_calamine" else find_spec(name)
    )
    with pytest.raises(DeclarationError, match=r"airflow-mlops\[excel\]"):
        files(tmp_path)
    fields = toy_fields()
    source = {"kind": "xlsx", "uri": "in/{partition}.xlsx"}
    loop = Loop(**{**fields, "data": {**fields["data"], "source": source, "contract": "contract.yaml"}})
    with pytest.raises(DeclarationError, match=r"airflow-mlops\[excel\]"):
        check_extras(loop, tmp_path)


@pytest.mark.parametrize("uri", ["in/{partition}.xlsx", "in/all.xlsx"])
def test_a_loop_publishes_the_rows_of_a_sheet_and_quarantines_its_totals(tmp_path: Path, uri: str) -> None:
    world = World(tmp_path, source="csv", data={"source": {"kind": "xlsx", "uri": uri, "sheet": "Orders"}})
    rows = good_rows(KEYS[0])
    names = rows.schema.names
    cells = [[row[name] for name in names] for row in rows.to_pylist()]
    plain = [
        [value.replace(tzinfo=None).isoformat() + "Z" if isinstance(value, datetime) else value for value in row]
        for row in cells
    ]
    plain = [
        [float(value) if name == "price" else value for name, value in zip(names, row, strict=True)] for row in plain
    ]
    put(tmp_path, [names, *plain, ["Total", None, 12.5]], name=uri.partition("/")[2].format(partition=KEYS[0][:10]))
    record = world.ingest(KEYS[0])
    assert (record.rows, record.rejected) == (200, 1)
    assert "row 202" in str(world.quarantined(KEYS[0]))
