"""A partition of very many small files: the ledger and the XCom hold their number and a digest, evidence the list."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from airflow_mlops.core.data.origin import EVIDENCE, MAX_BYTES, whole_origin
from airflow_mlops.core.data.take_snapshot import take_snapshot
from tests.bad_input.world import BAD, ROWS, World, good_rows

FILES = 200


def deliver(folder: Path, files: int) -> World:
    """Deliver the good week in so many files."""
    world = World(folder, data={"source": {"kind": "parquet", "uri": "in/{partition}/"}})
    rows = good_rows(BAD)
    (folder / "in" / BAD[:10]).mkdir(parents=True)
    for number in range(files):
        part = rows.slice(number * ROWS // files, ROWS // files)
        pq.write_table(part, folder / "in" / BAD[:10] / f"part-{number:05}.parquet")
    return world


def test_many_files_are_a_number_and_a_digest_and_their_list_is_evidence(tmp_path: Path) -> None:
    world = deliver(tmp_path, FILES)
    manifest = take_snapshot(world.workspace, BAD)
    assert len(json.dumps(manifest.to_dict())) < 2 * MAX_BYTES
    published = world.ingest(BAD)
    assert published.rows == ROWS
    sizes = [path.stat().st_size for path in sorted((tmp_path / "in" / BAD[:10]).iterdir())]
    assert (published.origin["file_count"], published.origin["bytes"]) == (FILES, sum(sizes))
    (record,) = world.reader.ledger.records(type(published))
    assert published.origin[EVIDENCE] in record.evidence
    listed = whole_origin(world.reader, published.origin)["files"]
    assert listed == [
        {"path": f"in/{BAD[:10]}/part-{number:05}.parquet", "size": size, "rows": 1}
        for number, size in enumerate(sizes)
    ]


def test_a_partition_that_is_taken_again_adopts_what_was_published(tmp_path: Path) -> None:
    world = deliver(tmp_path, FILES)
    first = world.ingest(BAD)
    assert world.ingest(BAD) == first
    assert len(list(world.reader.ledger.records())) == 1


def test_a_few_files_stand_in_the_record_themselves(tmp_path: Path) -> None:
    published = deliver(tmp_path, 4).ingest(BAD)
    assert [entry["path"] for entry in published.origin["files"]] == [
        f"in/{BAD[:10]}/part-{number:05}.parquet" for number in range(4)
    ]
