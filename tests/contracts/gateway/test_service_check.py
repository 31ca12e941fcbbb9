"""The watch's check ``service`` asks a real gateway: what it saw since the last look, and whether it answers at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from airflow_mlops.core.declaration.rollout import OnlineMetric
from airflow_mlops.core.ledger.watch_details import WindowJudged
from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.core.watch.checks.run_checks import run_checks
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.gateway_process import TELL_TOKEN, GatewayProcess
from tests.contracts.gateway.toy_project import ToyProject
from tests.unit.core.toy_loop import go_live, ingest, toy_loop, week

ROWS = [{"id": f"key-{number}", "x": 1.0, "kind": "a"} for number in range(600)]
AT_ONCE = 50


@dataclass
class Watched:
    """A loop that a gateway serves, and the gateway."""

    workspace: Workspace
    gateway: GatewayProcess

    def ask(self) -> None:
        """Send all rows."""
        for at in range(0, len(ROWS), AT_ONCE):
            self.gateway.predict(ROWS[at : at + AT_ONCE])

    def look(self, number: int) -> WindowJudged:
        """Return the result of the check for a week."""
        return run_checks(self.workspace, week(number))["service"]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    project = ToyProject(tmp_path, contract=None)
    workspace = project.workspace
    for number in range(5):
        ingest(workspace, week(number))
    version = go_live(workspace, week(2))
    for number in (3, 4):
        score_partition(workspace, week(number))
    gateway = project.gateway().start()
    served = toy_loop(rollout={"target": "gateway"}, watch={"checks": ["service"]})
    served_by_gateway = replace(
        workspace, loop=workspace.loop.model_copy(update={"rollout": served.rollout, "watch": served.watch})
    )
    target = GatewayTarget(served_by_gateway, [gateway.url], TELL_TOKEN)
    watching = replace(served_by_gateway, ports=replace(served_by_gateway.ports, target=lambda _workspace: target))
    target.apply(Traffic(1, version))
    yield Watched(watching, gateway)
    project.close()


def test_what_came_since_the_last_look_is_held_against_the_first(watched: Watched) -> None:
    watched.ask()
    first = watched.look(3)
    assert first.verdict == "insufficient data"
    assert first.numbers["requests"] == len(ROWS)
    assert "first look" in first.message
    watched.ask()
    watched.ask()
    second = watched.look(4)
    assert second.numbers["requests"] == 2 * len(ROWS)
    assert second.numbers["latency_p99"] > 0
    assert "0.00% of 1,200 rows erred" in second.message


def test_a_limit_that_no_gateway_can_keep_is_an_alarm_at_the_first_look(watched: Watched) -> None:
    limit = OnlineMetric(metric="latency", at_most=1e-5)
    rollout = watched.workspace.loop.rollout.model_copy(update={"metrics": (limit,)})
    watched.workspace = replace(watched.workspace, loop=watched.workspace.loop.model_copy(update={"rollout": rollout}))
    watched.ask()
    result = watched.look(3)
    assert result.verdict == "alarm"
    assert "100.00% took longer than 1e-05 s, 1.00% may" in result.message


def test_a_gateway_that_is_gone_is_an_alarm_that_says_so(watched: Watched) -> None:
    watched.ask()
    watched.look(3)
    watched.gateway.stop()
    gone = watched.look(4)
    assert (gone.verdict, gone.numbers) == ("alarm", {"available": False})
    assert watched.gateway.url in gone.message
