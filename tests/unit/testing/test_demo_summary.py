"""The failures of the demo: every failed task but the refusals that the ledger has."""

from __future__ import annotations

import pytest

from include.demo.summary import unexpected_failures


def run(number: int, **states: str) -> list[dict[str, str]]:
    """Return the tasks of one training with their states."""
    return [
        {"dag_id": "toy_train", "dag_run_id": f"run {number}", "task_id": task, "state": state}
        for task, state in states.items()
    ]


PASSED = run(1, fit="success", gate="success", register="success")
REFUSED = run(2, fit="success", gate="failed", register="upstream_failed")
BROKEN = run(3, fit="failed", gate="upstream_failed", register="upstream_failed")


@pytest.mark.parametrize(
    ("instances", "refused", "failures"),
    [
        (PASSED, 0, 0),
        (PASSED + REFUSED, 1, 0),
        (PASSED + REFUSED, 0, 2),
        (REFUSED + BROKEN, 1, 3),
        (PASSED + REFUSED, 2, 2),
    ],
)
def test_a_refusal_that_the_ledger_has_is_no_failure(
    instances: list[dict[str, str]], refused: int, failures: int
) -> None:
    assert unexpected_failures(instances, refused) == failures
