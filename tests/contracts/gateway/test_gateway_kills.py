"""A gateway that is killed under load keeps its promises, and a broken one would be found."""

from __future__ import annotations

from pathlib import Path

from tests.drill.gateway_kills import LATE_SECONDS, Outage, count_violations, kill_gateway, line_violations

KILL = Outage(since=100.0, until=103.0)


def test_a_gateway_killed_twice_under_load_serves_what_it_was_last_told_and_counts_its_lines(tmp_path: Path) -> None:
    result = kill_gateway(2, 19, tmp_path)
    assert result["violations"] == []
    assert (result["kills"], result["answers"] > 100, result["turned_away"] > 0) == (2, True, True)
    assert result["lines"] <= result["answers"] + result["turned_away"]


def test_only_a_kill_excuses_an_answer_without_a_line() -> None:
    assert line_violations({"a": 99.0}, set(), [KILL], []) == []
    assert line_violations({"a": 99.0 - LATE_SECONDS}, set(), [KILL], []) == [
        "a was answered, no kill followed, and it has no line"
    ]
    assert line_violations({"a": 104.0}, set(), [KILL], []) != []


def test_a_line_twice_and_a_line_of_nobody_are_found() -> None:
    assert line_violations({"a": 99.0}, {"b"}, [KILL], ["a", "a", "b", "c"]) == [
        "a has 2 lines",
        "c has a line, and nobody asked for it",
    ]


def test_counters_that_are_not_the_lines_are_found() -> None:
    counted = {"order": 4, "champion": {"requests": 2}, "challenger": {"requests": 1}}
    assert count_violations(counted, [{"order": 4}] * 3 + [{"order": 3}]) == []
    assert count_violations(counted, [{"order": 4}] * 2) == ["record 4 has 2 lines and counted 3 rows"]
