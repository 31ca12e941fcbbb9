"""The parts of the drill add their numbers to one file, and a violation of any of them counts."""

from __future__ import annotations

import json
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.drill import numbers
from tests.drill.whole import add_up

WITH_A_VIOLATION = {
    "writes": ({"writes": {"tried": 3, "violations": ["register: two versions"]}}, "writes: register: two versions"),
    "network": ({"network": {"tried": 4, "violations": ["cut: lost"]}}, "network: cut: lost"),
    "kills": ({"killing": {"kills": 5, "violations": ["missing: promoted"]}}, "killing: missing: promoted"),
    "a gateway": ({"gateway": {"kills": 6, "violations": ["wrong answer"]}}, "gateway: wrong answer"),
    "bad inputs": ({"bad_inputs_wrong": {"case 7": "no error"}}, "bad input: case 7"),
}
WHOLE = {
    "points": 2,
    "writes": {"tried": 3, "violations": []},
    "network": {"tried": 4, "violations": []},
    "killing": {"kills": 5, "violations": []},
    "gateway": {"kills": 6, "violations": []},
    "bad_inputs_wrong": {},
}


def add_one(file: Path, number: int) -> None:
    numbers.RESULT = file
    numbers.add_numbers({str(number): number})


def test_parts_beside_each_other_lose_no_numbers(tmp_path: Path) -> None:
    file = tmp_path / "build" / "drill.json"
    processes = [get_context("fork").Process(target=add_one, args=(file, number)) for number in range(12)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 12
    assert json.loads(file.read_text()) == {str(number): number for number in range(12)}


def test_totals_are_those_of_every_part() -> None:
    total = add_up(WHOLE)
    assert (total["tried"], total["kills"], total["violations"]) == (7, 11, [])
    assert total["checks"] == 3


@pytest.mark.parametrize("name", WITH_A_VIOLATION)
def test_a_violation_of_any_part_counts(name: str) -> None:
    part, words = WITH_A_VIOLATION[name]
    assert add_up({**WHOLE, **part})["violations"] == [words]
