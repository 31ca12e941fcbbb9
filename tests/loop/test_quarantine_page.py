"""The page with rows of a quarantine, through Airflow's own application, on the loop's real stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.testing.metadata import forget_everything
from tests.loop.airflow_pages import PREFIX, airflow_client, token
from tests.loop.project import KEYS, Project, make_project, week

COLUMNS = {
    "id": {"type": "text", "nullable": False},
    "at": {"type": "time", "zone": "none", "nullable": False},
    "x1": {"type": "float", "nullable": False},
    "x2": {"type": "float"},
    "place": {"type": "category", "levels": ["a", "b"], "unseen": "error", "privacy": "personal", "feature": False},
    "note": {"type": "text", "feature": False},
    "y": {"type": "float"},
}


def bad_week(key: str, rows: int) -> pa.Table:
    """Return a week in which the first ``rows`` rows have no ``x1``, and the second one another place than there is."""
    table = week(key)
    x1, place = table["x1"].to_pylist(), table["place"].to_pylist()
    x1[:rows], place[1] = [None] * rows, "Ann Example"
    notes = pa.array(["<script>alert(1)</script>"] * table.num_rows)
    table = table.set_column(table.schema.get_field_index("x1"), "x1", pa.array(x1, pa.float64()))
    return table.set_column(table.schema.get_field_index("place"), "place", pa.array(place)).append_column(
        "note", notes
    )


@pytest.fixture(scope="module")
def project(airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A loop with a contract whose first two partitions have bad rows, and whose third one was refused for them."""
    made = make_project(tmp_path_factory.mktemp("quarantined"))
    made.fields["data"] |= {"contract": "contract.yaml", "tolerance": 0.1}
    contract = {"contract": "rows", "key": "id", "time": "at", "columns": COLUMNS}
    (made.root / "contract.yaml").write_text(yaml.safe_dump(contract))
    for key, rows in zip(KEYS[:3], (1, 5, 60), strict=True):
        made.put(key, bad_week(key, rows))
        with suppress(PartitionRefusedError):
            made.publish(key)
    yield made
    forget_everything()


@pytest.fixture(scope="module")
def airflow(project: Project) -> Iterator[Any]:
    """A client of Airflow's own application."""
    with airflow_client() as client:
        yield client


def page_of(client: Any, project: Project, rest: str = "/quarantine", role: str = "USER") -> Any:
    """Return the answer of a page of the model."""
    return client.get(f"{PREFIX}/models/{project.model}{rest}", headers=token(role))


def test_rows_are_shown_by_reason_without_what_is_personal(airflow: Any, project: Project) -> None:
    answer = page_of(airflow, project, f"/quarantine?partition={KEYS[1]}")
    assert answer.status_code == 200
    assert "x1: is null" in answer.text
    assert "<p>5 rows, such as:</p>" in answer.text
    assert "place: is no level; there are &#39;a&#39;, &#39;b&#39;" in answer.text
    assert "Withheld, because the contract calls them personal or sensitive: place." in answer.text
    assert "Ann Example" not in answer.text
    assert "&lt;script&gt;alert(1)" in answer.text
    assert "<script" not in answer.text
    assert answer.headers["cache-control"] == "private, no-store"


def test_of_a_refused_delivery_the_newest_rows_are_shown_first(airflow: Any, project: Project) -> None:
    page = page_of(airflow, project).text
    assert "2013-01-20" in page.partition("</h1>")[0]
    assert "<p>60 rows, such as:</p>" in page
    assert "The delivery was refused" in page
    assert "Ann Example" not in page
    assert "/actions/release" not in page
    assert page.count("/quarantine?partition=") == 3


def test_who_may_not_release_rows_does_not_see_them(airflow: Any, project: Project) -> None:
    assert airflow.get(f"{PREFIX}/models/{project.model}/quarantine").status_code == 401
    refused = page_of(airflow, project, role="VIEWER")
    assert refused.status_code == 403
    assert "x1" not in refused.text
    assert "/quarantine" not in page_of(airflow, project, "", role="VIEWER").text
    assert f'/quarantine?partition={KEYS[1].replace(":", "%3A")}">5</a>' in page_of(airflow, project, "").text


@pytest.mark.parametrize("partition", [KEYS[9], "yesterday", "<b>", "../../etc"])
def test_what_is_no_partition_is_said_so(airflow: Any, project: Project, partition: str) -> None:
    answer = page_of(airflow, project, f"/quarantine?partition={partition}")
    assert answer.status_code == 404
    assert "<b>" not in answer.text


def test_rows_whose_contract_nobody_recorded_have_no_values(airflow: Any, project: Project) -> None:
    workspace = project.workspace
    details = workspace.state().published[KEYS[0]]
    assert details.personal == ("place",)
    workspace.record_fact(workspace.draft(replace(details, personal=None, publication=None), "legacy", KEYS[0]))
    page = page_of(airflow, project, f"/quarantine?partition={KEYS[0]}").text
    assert "was not recorded, so all values are withheld" in page
    assert "x1: is null" in page
    assert "&lt;script" not in page


def test_a_table_that_is_out_of_reach_is_said_on_the_page(airflow: Any, project: Project) -> None:
    table = project.workspace.evidence.location("x").rpartition("/evidence/")[0] + "/quarantine"
    folder = Path(table)
    aside = folder.rename(folder.with_name("elsewhere"))
    try:
        page = page_of(airflow, project, f"/quarantine?partition={KEYS[1]}")
    finally:
        aside.rename(folder)
    assert page.status_code == 200
    assert "cannot be read in version" in page.text
    assert "airflow-mlops quarantine show" in page.text
