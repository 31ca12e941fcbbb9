"""The contract of every rollout target.

A target joins by a name in ``TARGETS`` and a function that yields a :class:`Case` of it, with nothing served yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import CandidateRegistered
from airflow_mlops.core.ports.rollout_target import SERVING, OlderTrafficError, RolloutTarget, Traffic
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.testing.gateway_process import TELL_TOKEN
from airflow_mlops.testing.in_memory_target import InMemoryTarget
from tests.contracts.gateway.toy_project import ToyProject
from tests.contracts.sagemaker_target.place import running_place


@dataclass(frozen=True)
class Case:
    """A target, a function that returns a registered version by its number, and a second client of the target."""

    target: RolloutTarget
    version: Callable[[int], Version]
    again: Callable[[], RolloutTarget]


@contextmanager
def in_memory(_folder: Path) -> Iterator[Case]:
    target = InMemoryTarget()
    yield Case(
        target, lambda number: Version(str(number), "p", CandidateRegistered(version=str(number))), lambda: target
    )


@contextmanager
def gateway(folder: Path, *, replicas: int = 1) -> Iterator[Case]:
    project = ToyProject(folder)
    try:
        urls = [project.gateway(f"replica-{at}").start().url for at in range(replicas)]
        target = GatewayTarget(project.workspace, urls, TELL_TOKEN)
        yield Case(target, project.version, lambda: GatewayTarget(project.workspace, urls, TELL_TOKEN))
    finally:
        project.close()


@contextmanager
def two_replicas(folder: Path) -> Iterator[Case]:
    with gateway(folder, replicas=2) as case:
        yield case


@contextmanager
def sagemaker(folder: Path) -> Iterator[Case]:
    with running_place(folder) as place:
        yield Case(place.target, lambda number: place.version(str(number)), place.another_try)


TARGETS = {"in_memory": in_memory, "gateway": gateway, "two_replicas": two_replicas, "sagemaker": sagemaker}
_orders = iter(range(10, 1_000_000, 10))


@pytest.fixture(scope="module", params=TARGETS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    with TARGETS[request.param](tmp_path_factory.mktemp(request.param)) as made:
        for number in (1, 2, 3):
            made.target.prepare(made.version(number))
        yield made


@pytest.fixture
def alone(case: Case) -> Traffic:
    """Apply version 1 alone, as the champion; return that traffic."""
    traffic = Traffic(next(_orders), "1")
    case.target.apply(traffic)
    return traffic


def rollout_of(alone: Traffic, kind: str = "canary", share: float = 10.0) -> Traffic:
    return replace(alone, order=alone.order + 1, challenger="2", kind=kind, share=share, salt="rollout-2")


@pytest.mark.parametrize("kind", ["shadow", "standby", "canary", "ab", "rolling"])
def test_what_was_applied_is_observed_whoever_looks(case: Case, alone: Traffic, kind: str) -> None:
    assert case.target.observe() == alone
    expected = rollout_of(alone, kind, 50.0)
    if kind == "rolling" and case.target.name == "sagemaker":
        with pytest.raises(RolloutError, match="rolling"):
            case.target.apply(expected)
        return
    case.target.apply(expected)
    assert case.target.observe() == expected
    assert case.again().observe() == expected
    assert expected.exposed == (50.0 if kind in SERVING else 0.0)


def test_the_same_traffic_twice_is_as_if_it_were_told_once(case: Case, alone: Traffic) -> None:
    case.target.apply(rollout_of(alone))
    case.again().apply(rollout_of(alone))
    assert case.target.observe() == rollout_of(alone)


def test_older_traffic_is_refused_and_changes_nothing(case: Case, alone: Traffic) -> None:
    late = rollout_of(alone)
    taken_back = replace(alone, order=alone.order + 2)
    case.target.rollback(taken_back)
    with pytest.raises(OlderTrafficError):
        case.again().apply(late)
    assert case.target.observe() == taken_back


def test_one_record_never_says_two_things(case: Case, alone: Traffic) -> None:
    case.target.apply(rollout_of(alone))
    with pytest.raises(OlderTrafficError):
        case.target.apply(rollout_of(alone, share=90.0))
    assert case.target.observe() == rollout_of(alone)


def test_a_rollback_takes_the_challenger_away_and_may_be_told_twice(case: Case, alone: Traffic) -> None:
    case.target.apply(rollout_of(alone, share=50.0))
    back = replace(alone, order=alone.order + 5)
    case.target.rollback(back)
    case.target.rollback(back)
    assert case.target.observe() == back


def test_a_rollback_has_no_challenger(case: Case, alone: Traffic) -> None:
    with pytest.raises(RolloutError, match="no challenger"):
        case.target.rollback(rollout_of(alone))
    assert case.target.observe() == alone


def test_telemetry_begins_anew_with_other_traffic(case: Case, alone: Traffic) -> None:
    case.target.apply(rollout_of(alone))
    seen = case.target.telemetry()
    assert (seen.order, seen.challenger.requests, seen.tripped) == (alone.order + 1, 0, None)
    assert seen.seconds >= 0
    assert seen.paired.shape == (0, 2)


def test_the_challenger_becomes_the_champion_and_the_old_one_stands_by_to_come_back_at_once(
    case: Case, alone: Traffic
) -> None:
    live = Traffic(alone.order + 2, "2", standby="1")
    case.target.apply(rollout_of(alone, "standby", 0.0))
    case.target.apply(live)
    case.target.finalize(live)
    assert case.target.observe() == live
    back = Traffic(alone.order + 3, "1", standby="2")
    case.target.rollback(back)
    assert case.target.observe() == back


def test_a_version_may_be_prepared_twice_and_serves_nobody_by_that(case: Case, alone: Traffic) -> None:
    case.target.prepare(case.version(3))
    case.target.prepare(case.version(3))
    assert case.target.observe() == alone
