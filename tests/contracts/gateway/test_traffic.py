"""Who answers: the split by key, the challenger that fails, swaps under load, and what is never loaded."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import pytest

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ports.registry import MODEL_FILE
from airflow_mlops.core.ports.rollout_target import Kind, Traffic
from airflow_mlops.core.rollout.sticky_share import sticky_share
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.testing.gateway_process import TELL_TOKEN, GatewayProcess
from tests.contracts.gateway.toy_project import ToyProject, describe_version, line, picky, row

KEYS = [f"passenger-{number}" for number in range(400)]
IN_CHALLENGER_SHARE = [bool(flag) for flag in sticky_share(KEYS, salt="salt", percent=25.0)]
"""Which of the keys batch scoring gives to a challenger of 25 percent."""
PICKY, INFINITE = 5, 6
"""Versions that raise on a kind they do not know, and that say infinity for large x."""


@dataclass
class Served:
    """A gateway that the tests of this file share, and what tells it; version 1 is the champion."""

    project: ToyProject
    gateway: GatewayProcess
    target: GatewayTarget
    orders: Iterator[int]

    def roll_out(self, challenger: int, *, kind: Kind = "canary", share: float = 25.0) -> Traffic:
        """Apply traffic with a challenger, and return it."""
        made = Traffic(next(self.orders), "1", str(challenger), kind, share, "salt")
        self.target.apply(made)
        return made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    project = ToyProject(tmp_path_factory.mktemp("toy"))
    gateway = project.gateway().start()
    for number in range(1, 5):
        project.version(number)
    project.version(PICKY, picky(PICKY))
    project.version(INFINITE, line(1e308))
    yield Served(project, gateway, GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN), count(1))
    project.close()


@pytest.fixture
def served(shared: Served) -> Served:
    """Return the shared gateway with version 1 alone."""
    shared.target.apply(Traffic(next(shared.orders), "1"))
    return shared


def test_the_challenger_answers_just_the_keys_that_batch_scoring_would_give_it(served: Served) -> None:
    served.roll_out(2)
    expected = ["2" if flag else "1" for flag in IN_CHALLENGER_SHARE]
    assert expected.count("2") > 50
    together = served.gateway.predict([row(key) for key in KEYS])
    assert together["versions"] == expected
    assert together["predictions"] == [float(number) for number in expected]
    assert [served.gateway.predict(row(key))["version"] for key in KEYS[:40]] == expected[:40]


def test_telemetry_counts_each_version_by_the_units_of_the_split(served: Served) -> None:
    served.roll_out(2)
    for _ in range(3):
        served.gateway.predict([row(key, x=2.0) for key in KEYS])
    seen = served.target.telemetry()
    for version, total, prediction in (
        (seen.challenger, 3 * sum(IN_CHALLENGER_SHARE), 4.0),
        (seen.champion, 3 * (400 - sum(IN_CHALLENGER_SHARE)), 2.0),
    ):
        assert (version.requests, version.errors, version.latency.sum()) == (total, 0, total)
        assert version.errors_by_unit is not None
        assert version.errors_by_unit.count.sum() == total
        assert (version.errors_by_unit.count % 3 == 0).all()
        assert version.errors_by_unit.total.sum() == 0
        assert set(version.predictions.tolist()) == {prediction}


def test_telemetry_goes_on_where_a_new_record_says_the_same(served: Served) -> None:
    first = served.roll_out(2)
    served.gateway.predict([row(key) for key in KEYS])
    again = served.roll_out(2)
    assert again.order > first.order
    seen = served.target.telemetry()
    assert (seen.order, seen.challenger.requests) == (again.order, sum(IN_CHALLENGER_SHARE))
    served.roll_out(2, share=26.0)
    assert served.target.telemetry().challenger.requests == 0


def test_where_the_challenger_raises_the_champion_answers_and_the_error_is_the_challengers(served: Served) -> None:
    served.roll_out(PICKY)
    challenger_keys = [key for key, flag in zip(KEYS, IN_CHALLENGER_SHARE, strict=True) if flag]
    assert served.gateway.predict([row(key) for key in challenger_keys])["versions"] == [str(PICKY)] * len(
        challenger_keys
    )
    result = served.gateway.predict(
        [row(challenger_keys[0], kind="new"), row(challenger_keys[1]), row(challenger_keys[2], x=3.0)]
    )
    assert result["versions"] == ["1", str(PICKY), str(PICKY)]
    assert result["predictions"] == pytest.approx([1.0, 5.0, 15.0])
    seen = served.target.telemetry()
    assert (seen.challenger.requests, seen.challenger.errors) == (len(challenger_keys) + 3, 1)
    assert seen.challenger.errors_by_unit is not None
    assert seen.challenger.errors_by_unit.total.sum() == 1
    assert (seen.champion.requests, seen.champion.errors) == (0, 0)
    assert seen.tripped is None


def test_a_challenger_that_gives_no_finite_number_is_not_what_anybody_gets(served: Served) -> None:
    served.roll_out(INFINITE, share=100.0)
    assert served.gateway.predict(row(x=1.5))["version"] == str(INFINITE)
    assert served.gateway.predict(row(x=1e3)) == {"prediction": 1e3, "version": "1"}
    assert served.target.telemetry().challenger.errors == 1


@pytest.fixture
def load(served: Served) -> Iterator[Counter[object]]:
    """Run six clients until the test is done; an answer that is not a correct prediction fails the test."""
    outcomes: Counter[object] = Counter()
    done, lock = threading.Event(), threading.Lock()

    def ask(number: int) -> None:
        with served.gateway.client() as client:
            number_of_request = 0
            while not done.is_set():
                number_of_request += 1
                try:
                    answer = client.post("/predict", json=row(f"{number}-{number_of_request}"))
                    reply = answer.json()
                    right = answer.status_code == 200 and reply["prediction"] == float(reply["version"])
                    outcome: object = reply["version"] if right else (answer.status_code, answer.text)
                except httpx.TransportError as error:
                    outcome = repr(error)
                with lock:
                    outcomes[outcome] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    yield outcomes
    done.set()
    for thread in threads:
        thread.join()
    assert set(outcomes) <= {"1", "2", "3", "4"}, outcomes


def test_swaps_under_load_fail_no_request_and_give_no_wrong_number(served: Served, load: Counter[object]) -> None:
    target, orders = served.target, served.orders
    for champion, challenger in (("1", "2"), ("2", "3"), ("3", "4"), ("4", "1")):
        target.prepare(served.project.version(int(challenger)))
        target.apply(Traffic(next(orders), champion, challenger, "standby", 0.0, "s"))
        target.apply(Traffic(next(orders), champion, challenger, "canary", 50.0, "s"))
        live = Traffic(next(orders), challenger, standby=champion)
        target.apply(live)
        target.finalize(live)
        before = sum(load.values())
        while sum(load.values()) < before + 50:
            threading.Event().wait(0.01)
    assert {"1", "2", "3", "4"} <= set(load)


def test_blue_green_switches_to_the_one_that_stands_by_and_back_without_the_lake(served: Served) -> None:
    served.roll_out(2, kind="standby", share=0.0)
    assert served.gateway.predict(row())["version"] == "1"
    assert served.target.telemetry().challenger.requests == 0
    served.target.apply(Traffic(next(served.orders), "2", standby="1"))
    assert served.gateway.predict(row())["version"] == "2"
    models = served.project.lake / "toy" / "models"
    models.rename(models.with_name("away"))
    served.target.rollback(Traffic(next(served.orders), "1", standby="2"))
    models.with_name("away").rename(models)
    assert served.gateway.predict(row())["version"] == "1"


def test_nothing_is_loaded_that_was_changed_or_signed_by_somebody_else(served: Served) -> None:
    alone = served.target.observe()
    served.target.finalize(alone)
    good = describe_version(served.project.version(2))
    file = served.project.lake / "toy" / "models" / good["signature"]["digest"] / MODEL_FILE
    kept = file.read_bytes()
    for content, given, words in (
        (kept[:-1] + b"x", good, "model.skops was changed after it was signed"),
        (kept, {**good, "artefact": "0" * 64}, "its digest is"),
        (kept, {**good, "signature": {**good["signature"], "key": "0" * 64}}, "not trusted here"),
        (kept, {**good, "signature": None}, "serves signed versions only"),
        (kept, {**good, "signature": {**good["signature"], "digest": "../../x"}}, "not a SHA-256"),
        (kept, {**good, "number": "../1"}, "not the number of a version"),
    ):
        file.write_bytes(content)
        shutil.rmtree(served.gateway.state / "models" / good["signature"]["digest"], ignore_errors=True)
        answer = served.gateway.control("PUT", "prepare", given)
        assert answer.status_code == 422, answer.text
        assert words in answer.json()["error"]
    request = {"traffic": Traffic(next(served.orders), "1", "2", "canary", 25.0).to_dict()}
    assert served.gateway.control("PUT", "traffic", request).status_code == 412
    assert served.target.observe() == alone
    assert served.gateway.predict(row())["version"] == "1"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"order": "2"}, "order is '2'"),
        ({"share": 101}, "share is 101"),
        ({"kind": "all"}, "kind is 'all'"),
        ({"champion": 1}, "champion is 1"),
        ({"challenger": "2"}, "kind is 'none', and the challenger is '2'"),
        ({"weight": 1}, "'weight' is unknown"),
    ],
)
def test_traffic_that_makes_no_sense_is_refused_in_words(served: Served, changed: dict[str, Any], words: str) -> None:
    alone = served.target.observe()
    request = {"traffic": {**Traffic(alone.order + 1, "1").to_dict(), **changed}}
    answer = served.gateway.control("PUT", "traffic", request)
    assert answer.status_code == 422
    assert words in answer.json()["error"]
    assert served.target.observe() == alone


def test_a_wrong_token_is_an_error_that_trying_again_does_not_cure(served: Served) -> None:
    with pytest.raises(RolloutError, match="refuses with 401") as error:
        GatewayTarget(served.project.workspace, [served.gateway.url], "wrong").observe()
    assert not error.value.retryable


def test_finalize_deletes_the_copies_that_nothing_needs(served: Served) -> None:
    served.roll_out(2)
    kept = served.gateway.state / "models"
    assert len(list(kept.iterdir())) > 1
    back = Traffic(next(served.orders), "1")
    served.target.rollback(back)
    served.target.finalize(back)
    digest = served.project.version(1).details.signature.digest
    assert [folder.name for folder in kept.iterdir()] == [digest]
    assert served.gateway.predict(row())["version"] == "1"


def test_without_a_contract_rows_hold_the_columns_of_the_version(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.unit.core.toy_loop import ingest, week

    project = ToyProject(tmp_path_factory.mktemp("bare"), contract=None)
    try:
        ingest(project.workspace, week(0))
        gateway = project.gateway().start()
        target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
        target.prepare(project.version(1))
        target.apply(Traffic(1, "1"))
        assert gateway.predict({"id": "a", "x": 2.0, "kind": "a"}) == {"prediction": 2.0, "version": "1"}
        with gateway.client() as client:
            reply = client.post("/predict", json={"id": "a", "x": 2.0}).json()
        assert (reply["field"], reply["reason"]) == ("kind", "is missing")
    finally:
        project.close()
