"""Two processes promote two versions on the same state of the ledger, a hundred times: exactly one wins each time."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_mlops.core.ledger.record import verify_chain
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.workspace import Workspace
from tests.contracts.promoter import workspace_of
from tests.unit.core.ledger.histories import draft_of
from tests.unit.core.toy_loop import week

ROUNDS = 100
HOUSE = Path(__file__).parents[2]


class Promoter:
    """A process that promotes versions on request."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._asks, self._answers = process.stdin, process.stdout

    def tell(self, text: object) -> None:
        self._asks.write(f"{text}\n")
        self._asks.flush()

    def answer(self) -> str:
        return self._answers.readline().strip()


@contextmanager
def promoters(count: int, arguments: list[str]) -> Iterator[list[Promoter]]:
    command = [sys.executable, "-m", "tests.contracts.promoter", *arguments]
    with tempfile.TemporaryFile("w+") as log:
        processes = [
            subprocess.Popen(command, cwd=HOUSE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
            for _ in range(count)
        ]
        try:
            yield [Promoter(process) for process in processes]
        finally:
            for process in processes:
                process.communicate(timeout=30)
            log.seek(0)
            assert [process.returncode for process in processes] == [0] * count, log.read()[-4000:]


def register(workspace: Workspace, uri: str, count: int) -> None:
    """Register versions in MLflow and in the ledger, without artefacts."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model(workspace.loop.model)
    for number in range(1, count + 1):
        client.create_model_version(workspace.loop.model, source=f"mlflow-artifacts:/{number}")
        draft = draft_of(workspace, "candidate_registered", f"candidate:{number}", week(0), version=str(number))
        workspace.ledger.append(draft, read=number - 1)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_of_two_promoters_on_the_same_state_exactly_one_wins_and_the_other_is_told(
    request: pytest.FixtureRequest, tmp_path: Path, mlflow_store: tuple[str, str], fresh_name: str, database: str
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}" if database == "sqlite" else request.getfixturevalue("postgres_url")
    arguments = [url, mlflow_store[0], fresh_name, str(tmp_path)]
    workspace = workspace_of(*arguments, actor="test")
    register(workspace, mlflow_store[0], ROUNDS + 1)
    winners: list[str] = []
    loser = "1"
    with promoters(2, arguments) as both:
        for number in range(ROUNDS):
            versions = [loser, str(number + 2)]  # the loser has read again, and decides again
            for promoter, version in zip(both, versions, strict=True):
                promoter.tell(version)
            assert [promoter.answer() for promoter in both] == [f"ready {ROUNDS + 1 + number}"] * 2
            start = time.monotonic() + 0.02
            for promoter in both:
                promoter.tell(start)
            answers = dict(zip(versions, [promoter.answer() for promoter in both], strict=True))
            (winner,) = [version for version in versions if answers[version] == "won"]
            (loser,) = [version for version in versions if version != winner]
            assert answers[loser].startswith(f"lost StaleLedgerError: {fresh_name}: promoted was decided on record"), (
                answers
            )
            assert "another record came first; read the ledger again and decide again" in answers[loser]
            winners.append(winner)
            assert workspace.registry.aliases()["champion"] == winner
    records = list(workspace.ledger.records())
    assert verify_chain(records) == 2 * ROUNDS + 1
    promoted = [record for record in records if record.kind == "promoted"]
    assert [record.details.version for record in promoted] == winners
    assert [record.details.previous for record in promoted] == [None, *winners[:-1]]
    assert len({record.actor for record in promoted}) == 2, "one process won every round: that was no race"
    workspace.registry.set_alias("champion", "1" if winners[-1] != "1" else "2")
    assert reconcile(workspace)
    state = workspace.state()
    assert state.champion is not None
    assert workspace.registry.aliases()["champion"] == state.champion.number == winners[-1]
