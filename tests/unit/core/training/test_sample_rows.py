"""The sample of a training window: which rows it takes, and that every fit takes the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from airflow_mlops.core.check_declaration import check_declaration
from airflow_mlops.core.errors import DeclarationError, TrainingError
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.training.sample_rows import sample_mask, shares_of
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, train, week

KINDS = ["common", "rare", None]


def rows_of(count: int, seed: int) -> pd.DataFrame:
    """Return rows of a key, a class and a kind, whose third value is null."""
    source = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": [f"row {number}" for number in range(count)],
            "y": (source.random(count) < 0.1).astype(float),
            "kind": source.choice(np.array(KINDS, object), count, p=[0.8, 0.15, 0.05]),
        }
    )


def taken(rows: pd.DataFrame, sample: dict[str, Any] | None, *, label: str | None = "y", seed: int = 0) -> set[str]:
    """Return the keys of the rows that a sample takes."""
    return set(rows["id"][sample_mask(rows, sample, key="id", label=label, seed=seed)])


@given(st.integers(1, 400), st.integers(0, 5), st.integers(100, 300), st.booleans())
def test_a_sample_has_its_rows_and_each_stratum_its_share(count: int, seed: int, wanted: int, by_kind: bool) -> None:
    rows = rows_of(count, seed)
    sample = {"rows": wanted, **({"by": "kind"} if by_kind else {})}
    mask = sample_mask(rows, sample, key="id", label="y", seed=seed)
    assert mask.sum() == min(count, wanted)
    columns = ["y", *(["kind"] if by_kind else [])]
    whole = rows.groupby(columns, dropna=False).size()
    part = rows[mask].groupby(columns, dropna=False).size()
    assert set(part.index) == set(whole.index) or mask.all()
    exact = whole * mask.sum() / count
    assert ((part - exact).abs() <= len(whole)).all()


@given(st.permutations(range(150)), st.integers(0, 3))
def test_the_order_of_rows_does_not_matter_and_another_seed_draws_others(order: list[int], seed: int) -> None:
    rows, sample = rows_of(150, 1), {"rows": 100}
    assert taken(rows, sample, seed=seed) == taken(rows.iloc[order].reset_index(drop=True), sample, seed=seed)
    assert taken(rows, sample, seed=seed) != taken(rows, sample, seed=seed + 1)


def test_a_row_that_was_taken_is_taken_again_when_the_window_moves_on() -> None:
    rows = rows_of(1_000, 2)
    before = taken(rows.iloc[:900], {"rows": 300}, label=None)
    after = taken(rows.iloc[100:].reset_index(drop=True), {"rows": 300}, label=None)
    staying = {key for key in before if int(key.removeprefix("row ")) >= 100}
    assert len(staying & after) > 0.9 * len(staying)


@given(st.lists(st.integers(1, 1_000), min_size=1, max_size=12), st.integers(0, 100))
def test_shares_add_up_and_no_stratum_gives_more_than_it_has(counts: list[int], more: int) -> None:
    numbers = np.array(counts)
    rows = min(len(counts) + more, int(numbers.sum()))
    shares = shares_of(numbers, rows)
    assert shares.sum() == rows
    assert (shares >= 1).all()
    assert (shares <= numbers).all()


def test_a_column_that_is_not_there_and_too_many_strata_are_refused() -> None:
    rows = rows_of(200, 3)
    with pytest.raises(TrainingError, match=r"train\.sample\.by: the rows have no column 'carrier'; they have id, y"):
        taken(rows, {"rows": 100, "by": "carrier"})
    with pytest.raises(TrainingError, match=r"200 strata by 'id' do not fit into 100 rows"):
        taken(rows, {"rows": 100, "by": "id"})


def loop_of(tmp_path: Path, sample: dict[str, Any] | None) -> Workspace:
    """Return a loop in memory with six weeks of 300 rows, whose fits take a sample of two of them."""
    loop = toy_loop(train={"function": "tests.unit.core.toy_loop:candidates", "window": 2, "sample": sample})
    frames = {week(number): toy_rows(number, rows=300) for number in range(6)}
    workspace = in_memory_workspace(loop, frames, scratch=tmp_path / "scratch", root=tmp_path)
    for key in frames:
        ingest(workspace, key)
    return workspace


def test_a_version_is_fitted_on_the_sample_says_so_and_is_made_again_from_it(tmp_path: Path) -> None:
    workspace = loop_of(tmp_path, {"rows": 120, "by": "kind"})
    train(workspace, week(2))
    version = workspace.state().versions["1"]
    report = workspace.evidence.get(str(version.details.report))
    assert report["request"]["sample"] == {"rows": 120, "by": "kind"}
    rows = pd.concat([toy_rows(number, rows=300) for number in (0, 1)], ignore_index=True)
    mask = sample_mask(rows, {"rows": 120, "by": "kind"}, key=workspace.loop.data.key, label=None, seed=0)
    expected = LinearRegression().fit(rows[mask][["x"]], rows[mask]["y"])
    model = load_version(workspace, version)
    assert float(model[-1].coef_[0]) == pytest.approx(float(expected.coef_[0]))
    whole = LinearRegression().fit(rows[["x"]], rows["y"])
    assert float(model[-1].coef_[0]) != pytest.approx(float(whole.coef_[0]), rel=1e-9)
    assert reproduce_version(workspace, "1").verdict == "identical"
    # A version keeps its sample when the declaration has another one.
    changed = loop_of(tmp_path / "changed", None).loop
    assert reproduce_version(replace(workspace, loop=changed), "1").verdict == "identical"


def test_a_loop_without_a_sample_makes_the_same_request_as_before(tmp_path: Path) -> None:
    workspace = loop_of(tmp_path, None)
    train(workspace, week(2))
    version = workspace.state().versions["1"]
    assert "sample" not in workspace.evidence.get(str(version.details.report))["request"]


def test_a_declared_stratum_is_a_column_of_the_contract(tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text(
        "contract: toy\nkey: id\ntime: at\ncolumns:\n  id: {type: text}\n  at: {type: time}\n  x: {type: float}\n"
        "  y: {type: float}\n"
    )
    loop = toy_loop(
        data={**toy_loop().to_dict()["data"], "contract": "contract.yaml"},
        train={"function": "tests.unit.core.toy_loop:candidates", "sample": {"rows": 100, "by": "z"}},
    )
    with pytest.raises(DeclarationError, match=r"train\.sample\.by.*has no column 'z'"):
        check_declaration(loop, tmp_path)
