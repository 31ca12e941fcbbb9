"""Single values that are not what their column declares: each goes to quarantine, and none is coerced."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from tests.bad_input.case import Case, cells, column, first_row, published, quarantined, refused, values
from tests.bad_input.world import BAD, CONTRACT, World, good_rows

EDGE = datetime.fromisoformat(BAD)


def contract_with(name: str, **changes: Any) -> dict[str, Any]:
    """Return the contract with one column declared otherwise."""
    columns = CONTRACT["columns"]
    return {"columns": {**columns, name: {**columns[name], **changes}}}


def finer_times(rows: pa.Table) -> pa.Array:
    """Return the times in nanoseconds, the first with one of them too many."""
    times = rows["at"].combine_chunks().cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64()).to_numpy().copy()
    times[0] += 1
    return pa.array(times).cast(pa.timestamp("ns", tz="UTC"))


def unsigned_numbers(rows: pa.Table) -> pa.Array:
    """Return unsigned numbers, the first beyond the largest signed one."""
    return pa.array([2**63 + 5, *rows["n"].to_pylist()[1:]], pa.uint64())


def moments_are_utc(world: World) -> None:
    """Assert that the same moments were kept, whatever their zones were."""
    assert set(world.reader.snapshots.read(BAD)["at"].to_pylist()) == set(good_rows(BAD)["at"].to_pylist())


def in_zones(world: World) -> None:
    """Deliver the good week as CSV, every second time in another zone."""
    from datetime import timezone

    texts = [
        str(time.astimezone(timezone(timedelta(hours=row % 2 * 5))))
        for row, time in enumerate(good_rows(BAD)["at"].to_pylist())
    ]
    cells("at", *texts)(world)


def at(moment: datetime) -> Any:
    """Deliver the good week with another time in the first row."""
    return values("at", moment)


def late_counted(world: World) -> None:
    """Assert that the ledger says how many rows were late."""
    assert world.records("snapshot_published", BAD)[0].details.late == 1


VALUES: list[Case] = [
    quarantined("NaN in a Parquet file", "x: nan is not finite", deliver=values("x", float("nan"))),
    quarantined(
        "infinity in a Parquet file",
        "x: inf is not finite",
        "x: -inf is not finite",
        deliver=values("x", np.inf, -np.inf),
        bad=2,
    ),
    published(
        "NaN where the contract says finite: false",
        deliver=values("y", float("nan")),
        contract=contract_with("y", finite=False),
    ),
    quarantined(
        "inf and nan as text in a CSV file",
        "x: 'inf' is no float",
        "x: 'NaN' is no float",
        deliver=cells("x", "inf", "NaN"),
        source="csv",
        bad=2,
    ),
    quarantined(
        "text in a CSV column of whole numbers", "n: 'many' is no int", deliver=cells("n", "many"), source="csv"
    ),
    quarantined(
        "a fraction, or a thousand with a comma, in a CSV column of whole numbers",
        "n: '12.0' is no int",
        "n: '1,000' is no int",
        deliver=cells("n", "12.0", "1,000"),
        source="csv",
        bad=2,
    ),
    quarantined(
        "yes and 1 in a CSV column of truth values",
        "paid: 'yes' is no bool",
        "paid: '1' is no bool",
        deliver=cells("paid", "yes", "1"),
        source="csv",
        bad=2,
    ),
    quarantined(
        "the 31st of February", "day: '2013-02-31' is no date", deliver=cells("day", "2013-02-31"), source="csv"
    ),
    quarantined(
        "a date the other way round", "day: '21.01.2013' is no date", deliver=cells("day", "21.01.2013"), source="csv"
    ),
    quarantined(
        "a whole number beyond 64 bits",
        "n: '9223372036854775808' is no int",
        deliver=cells("n", str(2**63)),
        source="csv",
    ),
    quarantined(
        "an unsigned number beyond the signed ones in a Parquet file",
        "n: 9223372036854775813 is no int",
        deliver=column("n", unsigned_numbers),
    ),
    quarantined(
        "a float beyond all floats where the contract says finite: false",
        "x: '1e400' is no float",
        deliver=cells("x", "1e400"),
        source="csv",
        contract=contract_with("x", finite=False),
    ),
    quarantined("a float beyond all floats", "x: '1e400' is no float", deliver=cells("x", "1e400"), source="csv"),
    quarantined(
        "a decimal with too many places",
        "price: '10.255' is no decimal(9, 2)",
        deliver=cells("price", "10.255"),
        source="csv",
    ),
    quarantined(
        "a decimal with too many digits",
        "price: '1234567890.00' is no decimal(9, 2)",
        deliver=cells("price", "1234567890.00"),
        source="csv",
    ),
    quarantined(
        "an empty CSV value in a column that must not be null", "id: is null", deliver=cells("id", ""), source="csv"
    ),
    quarantined(
        "a line of totals at the end, without a time",
        "at: is null",
        deliver=cells("at", ""),
        source="csv",
    ),
    quarantined("a row without a time in a Parquet file", "at: is null", deliver=values("at", None)),
    quarantined(
        "a row without a time in a Parquet file, without a contract",
        "at: is null",
        deliver=values("at", None),
        contract=None,
    ),
    published("an empty CSV value in a column that may be null", deliver=cells("x", ""), source="csv"),
    quarantined(
        "several faults in one row",
        "n: 'many' is no int",
        "paid: 'yes' is no bool",
        deliver=first_row(n="many", paid="yes"),
        source="csv",
    ),
    refused(
        "more bad values than data.tolerance allows",
        "3 of 200 rows are bad (1.50%); the declared tolerance is 1.00%",
        "most often n: is no int (3 rows)",
        deliver=cells("n", "many", "few", "none"),
        source="csv",
        bad=3,
    ),
    published("times of several zones in one CSV column", deliver=in_zones, source="csv", check=moments_are_utc),
    quarantined(
        "a time without a zone in a CSV column of moments",
        "at: '2013-01-21 00:00:00' is no time with a zone",
        deliver=cells("at", "2013-01-21 00:00:00"),
        source="csv",
    ),
    refused(
        "times without a zone in a Parquet column of moments",
        "column 'at' has the type timestamp[us]; the contract says time with zone UTC",
        deliver=column("at", lambda rows: rows["at"].cast(pa.timestamp("us"))),
    ),
    quarantined("a time finer than a microsecond", "is no time with a zone", deliver=column("at", finer_times)),
    published(
        "a late row: its time lies before the partition", deliver=at(EDGE - timedelta(days=30)), check=late_counted
    ),
    quarantined(
        "a late row where the contract says late: quarantine",
        "at: 2012-12-28 00:00:00+00:00 lies before the partition",
        deliver=at(EDGE - timedelta(days=30)),
        contract={"late": "quarantine"},
    ),
    quarantined(
        "a row from the future of the partition",
        "at: 2013-01-27 00:00:00+00:00 lies after the partition",
        deliver=at(EDGE),
    ),
    published(
        "a row from the future where the contract says early: accept", deliver=at(EDGE), contract={"early": "accept"}
    ),
    quarantined(
        "a value outside the limits of the suite", "x: expect_column_values_to_be_between", deliver=values("x", 5000.0)
    ),
]
