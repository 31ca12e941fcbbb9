"""Of any rows, those are published whose key of two columns is whole and theirs alone, and a copy is kept once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import toy_loop, week

CONTRACT: dict[str, Any] = {
    "contract": "toy",
    "key": ["a", "b"],
    "time": "at",
    "columns": {
        "a": {"type": "text"},
        "b": {"type": "int"},
        "at": {"type": "time", "zone": "none"},
        "x": {"type": "float"},
        "y": {"type": "float"},
    },
}
Row = tuple[str | None, int | None, float]
ROWS: st.SearchStrategy[list[Row]] = st.lists(
    st.tuples(
        st.one_of(st.none(), st.sampled_from(["", "1", "1+1", "+", "\\", "\\+1", "é"])),
        st.one_of(st.none(), st.integers(-2, 2)),
        st.sampled_from([0.5, 1.5]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_a_row_is_published_if_its_pair_is_whole_and_its_own(rows: list[Row]) -> None:
    everything: list[Row] = [*rows, *[("good", number, 0.5) for number in range(100)]]
    whole = [row for row in everything if row[0] is not None and row[1] is not None]
    by_pair: dict[tuple[Any, Any], set[float]] = {}
    for a, b, x in whole:
        by_pair.setdefault((a, b), set()).add(x)
    expected = Counter({(a, b, x) for a, b, x in whole if len(by_pair[a, b]) == 1})
    frame = pd.DataFrame(
        {
            "a": pd.Series([row[0] for row in everything], dtype=object),
            "b": pd.Series([row[1] for row in everything], dtype="Int64"),
            "at": pd.Timestamp(week(0)) - pd.Timedelta(days=1),
            "x": [row[2] for row in everything],
            "y": 1.0,
        }
    )
    with TemporaryDirectory() as folder:
        (Path(folder) / "contract.yaml").write_text(yaml.safe_dump(CONTRACT))
        source = {"kind": "parquet", "uri": "toy/{partition}.parquet"}
        data = {"source": source, "key": ["a", "b"], "time": "at", "label": "y", "contract": "contract.yaml"}
        loop = toy_loop(data={**data, "tolerance": 0.9})
        workspace = in_memory_workspace(loop, {week(0): pa.Table.from_pandas(frame)}, scratch=Path(folder))
        manifest = take_snapshot(workspace, week(0))
        stored = workspace.snapshots.read(week(0), version=manifest.version).to_pylist()
        bad = workspace.quarantine.read(week(0)).to_pylist() if manifest.rejected else []
    assert Counter((row["a"], row["b"], row["x"]) for row in stored) == expected
    assert len({row["a+b"] for row in stored}) == len(stored)
    assert len(stored) + len(bad) == len(everything)
    without_key = sum(row[0] is None or row[1] is None for row in everything)
    assert sum(row["key"] is None for row in bad) == without_key
    assert all(json.loads(row["reasons"]) for row in bad)
