"""Bad inputs of one run: each case that is marked as one, and whether it had its outcome; by ``make drill EVERY=1``."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.drill.numbers import HOUSE, RESULT, add_numbers

TESTS = ("tests/bad_input", "tests/unit/core/sources")
STOPPED = ("refused", "declaration error", "not ready", "quarantined")
"""The outcomes of an input that reaches no model; what is published with a warning is counted apart."""


@dataclass(eq=False)
class BadInputs:
    """A plugin of pytest that keeps each case with its outcome, those that had it, and those that had another one."""

    outcomes: dict[str, str] = field(default_factory=dict)
    right: set[str] = field(default_factory=set)
    wrong: dict[str, str] = field(default_factory=dict)

    @pytest.hookimpl(trylast=True)  # after the selection by mark
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the outcome that each case must have."""
        self.outcomes = {item.nodeid: outcome_of(item) for item in items}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep whether the case had its outcome; one that was left out had not."""
        if not report.passed:
            self.wrong[report.nodeid] = str(report.longrepr)[-400:]
        elif report.when == "call":
            self.right.add(report.nodeid)

    def result(self) -> dict[str, Any]:
        """Return the number of inputs that were stopped, that of each outcome, and the cases that had another one."""
        kept = Counter(outcome for case, outcome in self.outcomes.items() if case in self.right - set(self.wrong))
        return {
            "bad_inputs": sum(kept[outcome] for outcome in STOPPED),
            "bad_inputs_by_outcome": dict(sorted(kept.items())),
            "bad_inputs_wrong": self.wrong,
        }


def outcome_of(item: pytest.Item) -> str:
    """Return the outcome of a case: that of its mark, or of the case itself."""
    (mark,) = item.iter_markers("bad_input")
    if mark.args:
        return str(mark.args[0])
    assert isinstance(item, pytest.Function)
    return str(item.callspec.params["case"].outcome)


def main() -> int:
    """Try every bad input, add their number to those of the drill; return 1 if one had another outcome."""
    counted = BadInputs()
    status = pytest.main(["-q", "-m", "bad_input", "--no-header", *(str(HOUSE / path) for path in TESTS)], [counted])
    result = counted.result()
    add_numbers(result)
    print(
        f"{result['bad_inputs']} bad inputs refused or in quarantine, of {result['bad_inputs_by_outcome']}; "
        f"{len(result['bad_inputs_wrong'])} with another outcome; in {RESULT.relative_to(HOUSE)}"
    )
    return 1 if status or result["bad_inputs_wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
