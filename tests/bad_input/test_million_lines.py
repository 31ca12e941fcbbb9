"""A file of a million lines with every fault at random places: each line is published or set aside, none is shifted."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from airflow_mlops.core.sources.csv_rows import MAX_BROKEN_ROWS
from airflow_mlops.core.sources.csv_source import CsvFiles

LINES = 1_000_000
ONE_IN = 40
"""One row in so many is written in another way than plainly."""
KEY = "2013-01-06T00:00:00"


def write_rows(path: Path, seed: int) -> tuple[Counter[str], int]:
    """Write a file, and return how many rows are good and bad in each way, and the number of physical lines."""
    source, counts, lines = random.Random(seed), Counter[str](), 1
    with path.open("wb") as file:
        file.write(b"id,name,x\n")
        while lines < LINES:
            row = counts.total()
            kind = source.choice(WAYS) if source.randrange(ONE_IN) == 0 else "plain"
            text = WAYS_TO_WRITE[kind] % {b"id": row}
            file.write(text + (b"\r\n" if source.randrange(50) == 0 else b"\n"))
            counts[kind] += 1
            lines += 1 + text.count(b"\n")
    return counts, lines


WAYS_TO_WRITE: dict[str, bytes] = {
    "plain": b"%(id)d,bolt,%(id)d.5",
    "quoted": b'"%(id)d","bolt, ""M8""","%(id)d.5"',
    "lines": b'%(id)d,"bolt\nof two lines",%(id)d.5',
    "accents": b"%(id)d,caf\xc3\xa9,%(id)d.5",
    "few": b"%(id)d,bolt",
    "many": b"%(id)d,bolt,%(id)d.5,x",
    "bytes": b"%(id)d,caf\xe9,%(id)d.5",
    "within": b'%(id)d,5" bolt,%(id)d.5',
    "behind": b'%(id)d,"bolt" M8,%(id)d.5',
}
GOOD = {"plain", "quoted", "lines", "accents"}
WAYS = sorted(set(WAYS_TO_WRITE) - {"plain"})


def test_of_a_million_lines_each_is_published_or_set_aside_with_its_reason(tmp_path: Path) -> None:
    counts, lines = write_rows(tmp_path / "in.csv", seed=13)
    assert sum(counts[kind] for kind in counts if kind not in GOOD) < MAX_BROKEN_ROWS
    good, names = 0, Counter[str]()
    with CsvFiles("in.csv", root=tmp_path).open(KEY) as arrival:
        for batch in arrival.batches:
            good += batch.num_rows
            rows = batch.to_pydict()
            # A value that stands beside the key of another row would have moved.
            assert [f"{key}.5" for key in rows["id"]] == rows["x"]
            names.update(rows["name"])
    assert good == sum(counts[kind] for kind in GOOD)
    assert names == Counter(
        {
            "bolt": counts["plain"],
            'bolt, "M8"': counts["quoted"],
            "bolt\nof two lines": counts["lines"],
            "café": counts["accents"],
        }
    )
    reasons = Counter(row.reason.split(";")[0] for row in arrival.broken)
    assert reasons == Counter(
        {
            "has 2 values, the header has 3": counts["few"],
            "has 4 values, the header has 3": counts["many"],
            "is not UTF-8 in column 'name'": counts["bytes"],
            "has a quote within a value that does not begin with one": counts["within"],
            "has text behind the quote that closes a value": counts["behind"],
        }
    )
    assert 1 + good + counts["lines"] + len(arrival.broken) == lines
    content = (tmp_path / "in.csv").read_bytes().splitlines()
    for row in arrival.broken[:: max(1, len(arrival.broken) // 500)]:
        line = content[int(row.at.rpartition(" ")[2]) - 1]
        assert row.text == line.decode(errors="backslashreplace")
