"""Both flight loops prove themselves: versions that can be made again, and a score whose points can be looked at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_mlops.cli import main
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.factories.build_dags import loops_in
from tests.loop.by_core import live_through

ROOT = Path(__file__).resolve().parents[2]
WEEKS = {"flight_air_time": 22, "flight_delay": 9}
"""How many weeks of 2013 are lived through: enough for three champions to be compared with a fresh model."""


def loop_of(model: str) -> Loop:
    """Return a loop as its Dag file declares it."""
    (loop,) = loops_in(ROOT / "dags" / f"{model}.py")
    return loop


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, airflow_home: Path) -> Path:
    """A home in which both loops have lived through their first weeks."""
    folder = tmp_path_factory.mktemp("flights")
    for model, weeks in WEEKS.items():
        workspace = opened(folder, model)
        files = sorted((ROOT / "include" / "data" / model.replace("flight_", "flights_")).glob("*.parquet"))
        for file in files[:weeks]:
            live_through(workspace, f"{file.stem}T00:00:00")
    return folder


def opened(home: Path, model: str) -> Workspace:
    """Return the workspace of a loop, where the command line finds it too."""
    return open_workspace(loop_of(model), Stores.embedded(home / "mlops"), root=ROOT, actor="test")


@pytest.fixture
def command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line looks for its stores in the home of the flights."""
    monkeypatch.setenv("AIRFLOW_HOME", str(home))


@pytest.mark.parametrize("model", sorted(WEEKS))
def test_every_kind_of_flight_model_is_made_again_bit_for_bit(
    home: Path, command: None, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = max(opened(home, model).state().versions, key=int)
    assert main(["reproduce", model, newest, "--root", str(ROOT)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{model} version {newest}: identical: all ")
    assert "the model file is the same byte for byte" in out
    assert opened(home, model).state().reproduced[newest].details.verdict == "identical"


def test_the_score_of_air_time_is_five_of_seven_for_data_and_model_and_names_what_is_missing(
    home: Path, command: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ml-test-score", "flight_air_time", "--root", str(ROOT)]) == 0
    out = capsys.readouterr().out
    sums = {name: float(points) for name, points in re.findall(r"^(\w+): ([\d.]+) of 7$", out, re.MULTILINE)}
    assert list(sums) == ["Data", "Model", "Infrastructure", "Monitoring"]
    assert sums["Data"] >= 5
    assert sums["Model"] >= 5
    assert f"flight_air_time: {min(sums.values()):g} of 7" in out
    for section in ("Infrastructure", "Monitoring"):
        below = out[out.index(f"{section}: ") :]
        assert re.search(r"not full: (I|Mo)\d ", below)


def test_every_point_names_evidence_that_is_there(
    home: Path, command: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ml-test-score", "flight_air_time", "--root", str(ROOT)]) == 0
    count = opened(home, "flight_air_time").ledger.head().sequence
    lines = capsys.readouterr().out.splitlines()
    for item, following in zip(lines, [*lines[1:], ""], strict=True):
        if re.match(r"  (D|M|I|Mo)\d +(0\.5|1) ", item):
            assert following.lstrip().startswith("see "), item
    for where in (line.split("see ", 1)[1] for line in lines if line.lstrip().startswith("see ")):
        record = re.match(r"record (\d+) of airflow-mlops history", where)
        if record:
            assert 1 <= int(record[1]) <= count
        elif not where.startswith(("airflow-mlops ", "git show ")):
            assert (ROOT / where).exists(), where


def test_a_row_of_a_flight_is_traced_and_the_card_says_what_became_of_the_version(
    home: Path, command: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = opened(home, "flight_air_time")
    state = workspace.state()
    assert state.champion is not None
    newest = max(state.scored)
    key = workspace.predictions.read(newest).column("key")[0].as_py()
    assert main(["explain", "flight_air_time", state.champion.number, "--row", key, "--root", str(ROOT)]) == 0
    traced = capsys.readouterr().out
    assert "what each feature adds to" in traced
    assert re.search(r"distance +[\d.]+ +[+-][\d.]+", traced)
    assert f"by version {state.scored[newest].champion}" in traced
    page = tmp_path / "card.html"
    command_line = ["card", "flight_air_time", state.champion.number, "--to", str(page), "--root", str(ROOT)]
    assert main(command_line) == 0
    shown = page.read_text()
    for words in ("What it is for", "How good it is", "By slice", "Fairness", "Limits", "Lineage", "promoted"):
        assert words in shown
    assert "<script" not in shown
    assert "://" not in shown
