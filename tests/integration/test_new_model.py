"""``airflow-mlops new``: what is drafted from one file, for each kind of label and file, and what is refused."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_mlops.cli import main
from airflow_mlops.core.declaration.contract import read_contract
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.read_loop import read_loop
from tests.integration.test_new_project import contents
from tests.loop.new_project import work_in

HOUSE = Path(__file__).resolve().parents[2]
New = Callable[..., int]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A folder with one file of rows, in which the commands run."""
    with work_in(tmp_path) as folder:
        rows().to_csv(folder / "trips.csv", index=False)
        yield folder


def rows(count: int = 360) -> pd.DataFrame:
    """Return thirty rows a day: key, time, two numbers of which one lacks values, a flag, a shop, and labels."""
    random = np.random.default_rng(7)
    distance, load = random.uniform(1, 30, count), random.integers(0, 50, count)
    frame = pd.DataFrame({"trip": [f"T{number:04}" for number in range(count)]})
    frame["begun"] = pd.date_range("2025-03-03", periods=count, freq="48min")
    frame["distance"] = distance.round(2)
    frame["load"] = pd.Series(load, dtype="Int64").mask(random.random(count) < 0.1)
    frame["holiday"] = random.random(count) < 0.3
    frame["shop"] = random.choice(["north", "south", "west"], count)
    frame["minutes"] = (5 + 2 * distance + random.normal(scale=2, size=count)).round(1)
    frame["late"] = (frame["minutes"] > 35).astype(int)
    frame["verdict"] = pd.cut(frame["minutes"], [0, 25, 45, 1000], labels=["early", "on time", "late"]).astype(str)
    return frame


def new(*options: str, model: str = "trips", data: str = "trips.csv") -> int:
    """Run the command and return its exit code."""
    return main(["new", model, "--from", data, *options])


def loop_of(model: str = "trips") -> Loop:
    """Return the declaration that was drafted."""
    return read_loop(f"include/loops/{model}.yaml")


@pytest.mark.parametrize(
    ("label", "metric", "classes"),
    [
        ("minutes", "mae", None),
        ("late", "log_loss", None),
        ("holiday", "log_loss", None),
        ("verdict", "log_loss", ("early", "late", "on time")),
    ],
)
def test_the_kind_of_the_label_chooses_metric_classes_and_models_and_the_draft_passes_a_trial(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    label: str,
    metric: str,
    classes: tuple[str, ...] | None,
) -> None:
    assert new("--label", label) == 0
    loop = loop_of()
    assert (loop.data.key, loop.data.time, loop.data.label) == ("trip", "begun", label)
    assert (loop.metric, loop.data.classes) == (metric, classes)
    assert len(Path("include/loops/trips.yaml").read_text().splitlines()) <= 40
    capsys.readouterr()
    trial = trial_of("trips", capsys)
    assert (trial["refused"], trial["published"], trial["quarantined"]) == (None, trial["rows_in"], 0)
    assert trial["rows_in"] > 20
    assert {name: candidate["kept"] for name, candidate in trial["fit"].items()} == {"boosting": True, "linear": True}
    assert main(["check", "trips"]) == 0


def test_what_is_unsure_is_said_on_the_screen_and_in_the_file(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new("--label", "verdict") == 0
    printed, text = capsys.readouterr().out, Path("include/loops/trips.yaml").read_text()
    remarks = [line.removeprefix("unsure: ") for line in printed.splitlines() if line.startswith("unsure: ")]
    assert "trip is the key, as it is never null and never repeats" in remarks
    assert "begun is the time of a row" in remarks
    assert any(
        remark.startswith("verdict has the classes that the file holds, early, late, on time") for remark in remarks
    )
    assert all(f"# * {remark}" in text for remark in remarks)
    assert printed.splitlines()[-4:] == [
        "  airflow-mlops check trips",
        "  airflow-mlops try trips --fit",
        "  airflow standalone              # with AIRFLOW_HOME set to the project folder",
        "  airflow-mlops enable trips --past --wait 300",
    ]


@pytest.mark.parametrize("kind", ["parquet", "csv.gz"])
def test_other_kinds_of_files_are_read_as_they_are(
    project: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    if kind == "parquet":
        rows().to_parquet("trips.parquet")
    else:
        Path("trips.csv.gz").write_bytes(gzip.compress(Path("trips.csv").read_bytes()))
    assert new("--label", "minutes", "--every", "@daily", data=f"trips.{kind}") == 0
    assert loop_of().data.every == "@daily"
    capsys.readouterr()
    trial = trial_of("trips", capsys)
    assert (trial["rows_in"], trial["published"], trial["refused"]) == (30, 30, None)


def test_a_file_outside_the_project_is_named_by_its_whole_path(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("elsewhere") / "trips.csv"
    rows().to_csv(file, index=False)
    assert new("--label", "minutes", data=str(file)) == 0
    assert loop_of().data.source.model_dump()["uri"] == str(file)


def test_without_tests_and_with_a_name_of_two_parts_the_module_can_be_imported(project: Path) -> None:
    assert new("--label", "minutes", "--no-tests", "--owner", "ann", model="2-trips") == 0
    assert not Path("tests").exists()
    loop = loop_of("2-trips")
    assert (loop.owner, loop.train.function) == ("ann", "include.training.model_2_trips:candidates")


def test_columns_with_names_that_are_no_words_pass_through(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"trip": 'no "1"', "begun": "Beginn: [Uhr]", "shop": "Ort #2", "minutes": "Dauer (min)", "load": "yes"}
    rows().rename(columns=names).to_csv("odd.csv", index=False, sep=";", decimal=",", encoding="cp1252")
    assert new("--label", "Dauer (min)", data="odd.csv") == 0
    capsys.readouterr()
    trial = trial_of("trips", capsys)
    assert trial["refused"] is None
    assert [candidate["kept"] for candidate in trial["fit"].values()] == [True, True]


def test_texts_that_stand_for_null_are_declared_as_such_and_said_to_be_a_guess(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = rows()
    frame["shop"] = frame["shop"].where(frame.index % 50 > 0)
    frame.to_csv("na.csv", index=False, na_rep="NA")
    assert new("--label", "minutes", data="na.csv") == 0
    assert (
        "NOT DECIDED: 'NA' is read as null, in every column, as load would be text otherwise" in capsys.readouterr().out
    )
    assert loop_of().data.source.model_dump()["nulls"] == ("", "NA")
    contract = read_contract("include/contracts/trips.yaml")
    assert {name: (contract.columns[name].type, contract.columns[name].nullable) for name in ("load", "shop")} == {
        "load": ("int", True),
        "shop": ("text", True),
    }
    trial = trial_of("trips", capsys)
    assert (trial["rows_in"] - trial["published"], trial["refused"]) == (0, None)
    assert [candidate["kept"] for candidate in trial["fit"].values()] == [True, True]


def test_the_draft_leaves_the_comparison_with_the_champion_to_the_default_and_says_so(project: Path) -> None:
    assert new("--label", "late") == 0
    loop = loop_of()
    assert [gate.better_than for gate in loop.gates] == ["dummy"]
    compared = loop.gates_in_force(compared=True)[-1]
    assert (compared.metric, compared.better_than, compared.confidence) == ("log_loss", "champion", 0.8)
    assert (
        "  # By default a later model must also have a lower log_loss than the champion on the same rows, with 80 % "
        "confidence.\n" in Path("include/loops/trips.yaml").read_text()
    )


def test_a_file_whose_names_no_declaration_can_hold_is_refused_and_nothing_is_written(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows().rename(columns={"load": "{{load}}"}).to_csv("braces.csv", index=False)
    before = contents(project)
    assert new("--label", "minutes", data="braces.csv") == 1
    assert "no model can be declared over this file: columns.load.from: holds a template" in capsys.readouterr().err
    assert contents(project) == before


def trial_of(model: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the outcome of a trial with a fit of the newest partition."""
    assert main(["try", model, "--fit", "--json"]) == 0
    trial: dict[str, Any] = json.loads(capsys.readouterr().out)
    return trial


BAD = {
    "missing.csv": (None, "missing.csv: does not exist; name the file with the rows after --from"),
    "empty.csv": (b"", "empty.csv cannot be read: it is empty: there is not even a header"),
    "header.csv": (b"trip,begun,minutes\n", "header.csv: there is no row, so no column can be learned"),
    "binary.csv": (bytes(range(256)) * 9, "binary.csv cannot be read: byte 0 is NUL, so it is not text in"),
    "binary.parquet": (bytes(range(256)) * 9, "binary.parquet cannot be read: Parquet magic bytes not found"),
    "rows.jsonl": (b"{}\n", "rows.jsonl: is of the kind json, which is not cut by time; give one of csv, parquet"),
    "rows.doc": (b"x", "files of the kind doc were given"),
    "no_key.csv": (
        b"begun,minutes\n" + b"2025-01-01,1\n2025-01-01,1\n2025-01-02,2\n" * 30,
        "key: no column tells all rows apart (text or whole numbers, never null, never twice), and no two do together; "
        "say which are the key with --key a,b,c",
    ),
    "no_time.csv": (
        b"trip,load,minutes\n" + b"".join(b"%d,7,%d\n" % (n, n % 9) for n in range(90)),
        "time: no column holds dates or times; say which does with --time",
    ),
    "no_feature.csv": (
        b"trip,begun,minutes\n" + b"".join(b"T%d,2025-01-%02d,%d.5\n" % (n, n % 9 + 1, n % 9) for n in range(90)),
        "no column is left for the model to see",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_no_model_can_be_drafted_from_is_refused_and_nothing_is_written(
    project: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    content, reason = BAD[name]
    if content is not None:
        Path(name).write_bytes(content)
    before = contents(project)
    assert new("--label", "minutes", data=name) == 1
    error = capsys.readouterr().err
    assert error.startswith("airflow-mlops: ")
    assert reason in error
    assert contents(project) == before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "which column is to be predicted? say it with --label; the columns are trip, begun, distance"),
        (("--label", "minuts"), "there is no column 'minuts'; "),
        (("--label", "begun"), "'begun' cannot be the label: it holds timestamp"),
        (("--label", "shop", "--key", "shop"), "key: 'shop' cannot be the key"),
        (("--label", "trip"), "'trip' cannot be the label: it is text with too many different values to be classes"),
        (("--label", "minutes", "--time", "shop"), "time: 'shop' cannot be the time"),
        (("--label", "minutes", "--every", "often"), "'often' is no cron expression"),
    ],
)
def test_a_choice_that_is_missing_or_wrong_is_refused_with_its_option_or_rule(
    project: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], reason: str
) -> None:
    before = contents(project)
    assert new(*options) == 1
    assert reason in capsys.readouterr().err
    assert contents(project) == before


@pytest.mark.parametrize("model", ["Trips", "my trips", "../trips", "", "-trips", "a" * 64])
def test_a_name_that_is_none_is_refused(project: Path, model: str) -> None:
    before = contents(project)
    # Behind "--", as a name may begin like an option.
    ended = main(["new", "--from", "trips.csv", "--label", "minutes", "--", model])
    assert ended == 1
    assert contents(project) == before


def test_a_model_that_exists_is_refused_and_left_as_it_is(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new("--label", "minutes") == 0
    Path("include/loops/trips.yaml").rename("include/loops/renamed.yaml")
    before = contents(project)
    capsys.readouterr()
    assert new("--label", "minutes") == 1
    assert "include/contracts/trips.yaml, include/expectations/trips.yaml" in capsys.readouterr().err
    for path in ("include/contracts/trips.yaml", "include/expectations/trips.yaml", "include/training/trips.py"):
        Path(path).unlink()
    for path in ("dags/trips.py", "tests/test_trips.py"):
        Path(path).unlink()
    assert new("--label", "minutes") == 1
    assert "model 'trips' is declared already below" in capsys.readouterr().err
    assert contents(project).keys() == before.keys() - {
        "include/contracts/trips.yaml",
        "include/expectations/trips.yaml",
        "include/training/trips.py",
        "dags/trips.py",
        "tests/test_trips.py",
    }


def answer(text: bytes, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command on a terminal on which a person types."""
    keyboard, terminal = pty.openpty()
    os.write(keyboard, text)
    ended = subprocess.run(
        [sys.executable, "-m", "airflow_mlops.cli", "new", "trips", *arguments],
        stdin=terminal,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(HOUSE / "plugins")},
        text=True,
        check=False,
    )
    os.close(terminal)
    os.close(keyboard)
    return ended


def test_on_a_terminal_it_asks_for_what_is_not_given(project: Path) -> None:
    ended = answer(b"minuts\nminutes\n\n\n@daily\nno\n", "--from", "trips.csv")
    assert ended.returncode == 0, ended.stderr
    assert "there is no column 'minuts'; the columns are trip, begun" in ended.stdout
    assert "the columns that tell rows apart, as a or a,b [trip]: the time of a row" in ended.stdout
    assert "which cuts the file [begun]: the length of a partition [@daily]: write a test? [yes]: " in ended.stdout
    loop = loop_of()
    assert (loop.data.label, loop.data.key, loop.data.every) == ("minutes", "trip", "@daily")
    assert not Path("tests").exists()


def test_on_a_terminal_it_asks_for_a_key_that_it_cannot_guess_and_says_why(project: Path) -> None:
    frame = rows().drop(columns="trip")
    for name, (rows_of_each, count) in {"day": (12, 36), "lane": (2, 6), "turn": (1, 2)}.items():
        frame[name] = np.arange(len(frame)) // rows_of_each % count
    frame["begun"] = frame["begun"].dt.date
    frame.drop(columns=["distance", "minutes"]).to_csv("parts.csv", index=False)
    ended = answer(
        b"\nday,lane,turn\n",
        "--from",
        "parts.csv",
        "--label",
        "late",
        "--time",
        "begun",
        "--every",
        "@daily",
        "--tests",
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "no column tells all rows apart" in ended.stdout
    assert loop_of().data.key_columns == ("day", "lane", "turn")
    assert Path("tests/test_trips.py").exists()
