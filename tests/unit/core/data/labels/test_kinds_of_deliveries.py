"""Labels of every kind of source, and text in the written form that their source declares."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyarrow import orc
from pyiceberg.catalog import load_catalog

from airflow_mlops.core.check_declaration import check_dialect
from airflow_mlops.core.data.labels.labels_of import labels_of, pin_labels
from airflow_mlops.core.data.labels.take_labels import take_labels
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DeclarationError, SourceMissingError, SourceUnreadableError
from airflow_mlops.core.ledger.data_details import LabelsArrived
from airflow_mlops.core.ports.connections import HttpAddress, NoConnections
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.later_labels import labelled_fields, labelled_workspace, weeks
from tests.unit.core.sources.small_service import Answer, small_service
from tests.unit.core.sources.workbooks import workbook
from tests.unit.core.toy_loop import ingest, toy_loop, week

ROWS = weeks(2)
SLUG = week(1)[:10]
CAME = datetime.fromisoformat(week(1)) - timedelta(hours=12)


@dataclass(frozen=True)
class OurConnections(NoConnections):
    """The connections of a place with one Iceberg catalogue, and one service if its address is given."""

    properties: dict[str, str]
    address: HttpAddress | None = None

    def catalog(self, conn_id: str) -> dict[str, str]:
        assert conn_id == "lake"
        return self.properties

    def http(self, conn_id: str) -> HttpAddress:
        assert conn_id == "shop"
        assert self.address is not None
        return self.address


def catalogue(folder: Path) -> dict[str, str]:
    return {"type": "sql", "uri": f"sqlite:///{folder}/catalogue.db", "warehouse": (folder / "warehouse").as_uri()}


def open_loop(
    folder: Path, source: dict[str, Any], *, tolerance: float = 0.01, at: HttpAddress | None = None, **labels: Any
) -> Workspace:
    """Return a workspace with two published weeks, whose labels come from a source."""
    workspace = labelled_workspace(folder, ROWS, labels={"source": source, **labels}, tolerance=tolerance)
    connections = OurConnections(catalogue(folder), at)
    workspace = replace(workspace, ports=replace(workspace.ports, connections=lambda: connections))
    for number in (0, 1):
        ingest(workspace, week(number))
    (folder / "labels").mkdir(parents=True)
    return workspace


def labels_as_of(workspace: Workspace) -> dict[str, float]:
    pin = pin_labels(workspace.state().labels, week(0), week(1))
    return {str(key): value for key, value in labels_of(workspace, week(0), pin).items()}


def rows(**more: Any) -> pa.Table:
    return pa.table({"order": ["0-1", "0-2", "0-3"], "outcome": [1.5, None, -2.0], "note": ["a", "b", "c"], **more})


def timed_rows() -> pa.Table:
    came = [CAME, CAME, CAME, CAME + timedelta(weeks=1)]
    kept = pa.concat_tables([rows(), rows().slice(0, 1)])
    return kept.append_column("came", pa.array(came, pa.timestamp("us", tz="UTC")))


def json_lines(folder: Path) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows().to_pylist())
    (folder / "labels" / f"{SLUG}.jsonl").write_text(text)


def sheet(folder: Path) -> None:
    cells = [rows().column_names, *map(list, zip(*rows().to_pydict().values(), strict=True))]
    (folder / "labels" / f"{SLUG}.xlsx").write_bytes(workbook({"labels": [["from the shops"], *cells]}))


def sheet_of_all(folder: Path) -> None:
    table = timed_rows()
    came = [moment.replace(tzinfo=None) for moment in table["came"].to_pylist()]
    values = table.to_pydict() | {"came": came}
    cells = [table.column_names, *map(list, zip(*values.values(), strict=True))]
    (folder / "labels" / "all.xlsx").write_bytes(workbook({"labels": cells}))


def iceberg(folder: Path) -> None:
    catalog = load_catalog("lake", **catalogue(folder))
    catalog.create_namespace("shop")
    catalog.create_table("shop.labels", schema=timed_rows().schema).append(timed_rows())


KINDS: dict[str, tuple[dict[str, Any], Callable[[Path], Any]]] = {
    "parquet": (
        {"kind": "parquet", "uri": "labels/{partition}.parquet"},
        lambda folder: pq.write_table(rows(), folder / "labels" / f"{SLUG}.parquet"),
    ),
    "orc": (
        {"kind": "orc", "uri": "labels/{partition}.orc"},
        lambda folder: orc.write_table(rows(), folder / "labels" / f"{SLUG}.orc"),
    ),
    "json": ({"kind": "json", "uri": "labels/{partition}.jsonl"}, json_lines),
    "xlsx": ({"kind": "xlsx", "uri": "labels/{partition}.xlsx", "skip_rows": 1}, sheet),
}
TABLES: dict[str, tuple[dict[str, Any], Callable[[Path], Any]]] = {
    "orc": (
        {"kind": "orc", "uri": "labels/all.orc"},
        lambda folder: orc.write_table(timed_rows(), folder / "labels" / "all.orc"),
    ),
    "xlsx": ({"kind": "xlsx", "uri": "labels/all.xlsx"}, sheet_of_all),
    "delta": (
        {"kind": "delta", "uri": "labels/table"},
        lambda folder: write_deltalake(folder / "labels" / "table", timed_rows()),
    ),
    "iceberg": ({"kind": "iceberg", "conn_id": "lake", "table": "shop.labels"}, iceberg),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_delivery_of_each_kind_labels_rows_by_their_key(tmp_path: Path, kind: str) -> None:
    source, put = KINDS[kind]
    workspace = open_loop(tmp_path, source, key="order", label="outcome")
    with pytest.raises(SourceMissingError):
        take_labels(workspace, week(1))
    put(tmp_path)
    record = take_labels(workspace, week(1))
    assert (record.rows, record.empty, record.bad, record.touches) == (2, 1, {}, {week(0): 2})
    assert labels_as_of(workspace) == {"0-1": 1.5, "0-3": -2.0}
    assert take_labels(workspace, week(1)) == record


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_service_delivers_labels_as_files_do(tmp_path: Path, form: str) -> None:
    kept = rows().drop_columns("note").to_pylist()
    text = "order,outcome\n0-1,1.5\n0-2,\n0-3,-2.0\n" if form == "csv" else json.dumps(kept)
    held = {f"/labels/{SLUG}": text.encode()}
    source = {"kind": "http", "conn_id": "shop", "path": "labels/{partition}", "format": form}
    with small_service(lambda path, _: Answer(held[path]) if path in held else Answer(status=404)) as service:
        workspace = open_loop(tmp_path, source, at=service.address, key="order", label="outcome")
        record = take_labels(workspace, week(1))
        assert (record.rows, record.empty, record.bad) == (2, 1, {})
        assert labels_as_of(workspace) == {"0-1": 1.5, "0-3": -2.0}
        with pytest.raises(SourceMissingError):
            take_labels(workspace, week(2))


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_of_all_deliveries_is_cut_by_the_time_at_which_a_label_came(tmp_path: Path, kind: str) -> None:
    source, put = TABLES[kind]
    workspace = open_loop(tmp_path, source, key="order", label="outcome", time="came")
    put(tmp_path)
    record = take_labels(workspace, week(1))
    assert (record.delivered, record.rows, record.bad) == (3, 2, {})
    assert labels_as_of(workspace) == {"0-1": 1.5, "0-3": -2.0}
    assert take_labels(workspace, week(2)).delivered == 1
    with pytest.raises(SourceMissingError, match="no rows between"):
        take_labels(workspace, week(3))


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_of_all_deliveries_needs_a_time_of_its_own(kind: str) -> None:
    with pytest.raises(DeclarationError, match=r"declare time, the column with the arrival time of a +label"):
        Loop(**labelled_fields(labels={"source": TABLES[kind][0]}))


def take_csv(folder: Path, text: str, *, tolerance: float = 0.01, **source: Any) -> tuple[Workspace, LabelsArrived]:
    """Deliver the text of a CSV file whose form is declared, and take it."""
    declared = {"kind": "csv", "uri": "labels/{partition}.csv", **source}
    workspace = open_loop(folder, declared, tolerance=tolerance)
    encoding = source.get("encoding", "utf-8")
    (folder / "labels" / f"{SLUG}.csv").write_bytes(text.encode(encoding))
    return workspace, take_labels(workspace, week(1))


def test_labels_have_the_signs_of_numbers_that_are_declared(tmp_path: Path) -> None:
    workspace, record = take_csv(
        tmp_path,
        "Übersicht\nid;y\n0-1;1,5\n0-2;-1.234.567,25\n0-3;,5\n0-4;2e-3\n",
        delimiter=";",
        decimal=",",
        thousands=".",
        encoding="cp1252",
        skip_rows=1,
    )
    assert record.bad == {}
    assert labels_as_of(workspace) == {"0-1": 1.5, "0-2": -1234567.25, "0-3": 0.5, "0-4": 0.002}


def test_a_number_with_another_sign_than_declared_is_none(tmp_path: Path) -> None:
    workspace, record = take_csv(
        tmp_path, "id;y\n0-1;1.5\n0-2;1.50\n0-3;2,5\n", tolerance=0.7, delimiter=";", decimal=","
    )
    assert record.bad == {"no number": 2}
    assert labels_as_of(workspace) == {"0-3": 2.5}
    other, record = take_csv(tmp_path / "plain", 'id,y\n0-1,"1,5"\n0-3,2.5\n', tolerance=0.7)
    assert record.bad == {"no number": 1}
    assert labels_as_of(other) == {"0-3": 2.5}


def test_labels_have_the_words_for_truth_and_null_that_are_declared(tmp_path: Path) -> None:
    workspace, record = take_csv(
        tmp_path,
        "id,y\n0-1,Ja\n0-2,NEIN\n0-3,k.A.\n0-4,true\n0-5,\n",
        tolerance=0.5,
        true_values=["ja"],
        false_values=["nein"],
        nulls=["k.A."],
    )
    assert (record.empty, record.bad) == (1, {"no number": 2})
    assert labels_as_of(workspace) == {"0-1": 1.0, "0-2": 0.0}


def test_a_key_that_means_null_is_no_key(tmp_path: Path) -> None:
    _, record = take_csv(tmp_path, "id,y\n0-1,1\nNA,2\n,3\n", tolerance=0.7, nulls=["NA", ""])
    assert record.bad == {"no key": 2}


def test_a_key_is_read_in_the_form_of_its_file(tmp_path: Path) -> None:
    source = {"kind": "csv", "uri": "labels/{partition}.csv", "delimiter": ";", "decimal": ",", "thousands": "."}
    numbered = {week(0): ROWS[week(0)].assign(id=range(1000, 1120))}
    workspace = labelled_workspace(tmp_path, numbered, labels={"source": source})
    ingest(workspace, week(0))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / f"{SLUG}.csv").write_text("id;y\n1.007;1,5\n1008;2,5\n")
    assert take_labels(workspace, week(1)).touches == {week(0): 2}


def test_a_header_that_is_not_there_is_listed_and_not_taken_from_the_contract_of_the_rows(tmp_path: Path) -> None:
    workspace, _ = take_csv(tmp_path, "0-1,1.5\n", header=["id", "y"])
    assert labels_as_of(workspace) == {"0-1": 1.5}
    source = {"kind": "csv", "uri": "labels/{partition}.csv", "header": False}
    loop = toy_loop(**labelled_fields(labels={"source": source}))
    with pytest.raises(DeclarationError, match=r"list them: header: \[id, label\]"):
        check_dialect(loop, tmp_path)


def test_a_line_that_is_no_record_is_left_out_and_counted(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path, {"kind": "json", "uri": "labels/{partition}.jsonl"}, tolerance=0.6)
    lines = ['{"id": "0-1", "y": 1.5}', '{"id": "0-2", "y": ', '{"id": "0-3", "y": [1]}', '{"id": "0-4", "y": true}']
    (tmp_path / "labels" / f"{SLUG}.jsonl").write_text("\n".join(lines))
    record = take_labels(workspace, week(1))
    assert (record.delivered, record.bad) == (4, {"broken line": 2})
    assert labels_as_of(workspace) == {"0-1": 1.5, "0-4": 1.0}


def test_a_truncated_workbook_is_refused_and_named(tmp_path: Path) -> None:
    source, put = KINDS["xlsx"]
    workspace = open_loop(tmp_path, source, key="order", label="outcome")
    put(tmp_path)
    path = tmp_path / "labels" / f"{SLUG}.xlsx"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SourceUnreadableError, match=rf"labels/{SLUG}\.xlsx cannot be read: it is no xlsx workbook"):
        take_labels(workspace, week(1))
    (record,) = [record for record in workspace.ledger.records() if record.kind == "window_judged"]
    assert (record.details.check, record.details.verdict) == ("labels", "insufficient data")


def test_the_time_of_a_label_may_be_a_date(tmp_path: Path) -> None:
    workspace = open_loop(tmp_path, {"kind": "orc", "uri": "labels/all.orc"}, time="day")
    days = [CAME.date(), CAME.date() + timedelta(days=1), date(2013, 12, 31)]
    table = pa.table({"id": ["0-1", "0-2", "0-3"], "y": [1.0, 2.0, 3.0], "day": pa.array(days, pa.date32())})
    orc.write_table(table, tmp_path / "labels" / "all.orc")
    assert take_labels(workspace, week(1)).rows == 1
