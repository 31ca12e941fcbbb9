"""A replay that a person asks for on the page of a model: a run of the control Dag, a record, a table and a picture."""

from __future__ import annotations

import base64
import multiprocessing
import re
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.ledger.record import verify_chain
from airflow_mlops.core.ledger.replay_details import PolicyReplayed
from airflow_mlops.core.replay.policy_names import POLICIES
from airflow_mlops.testing.metadata import forget_everything
from airflow_mlops.testing.scheduler import InProcessScheduler
from tests.loop.airflow_pages import PREFIX, airflow_client, token
from tests.loop.project import KEYS, Project, make_project, states, why
from tests.loop.replayed_weeks import WEEKS, project_of_weeks

FORM = "policies=never,nightly,+clock:2&reason=spring+is+near&shown="
FOREIGN = {"Sec-Fetch-Site": "cross-site"}


@pytest.fixture(scope="module")
def project(airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A loop with nine published weeks, whose relation changes in the fifth."""
    made = project_of_weeks(tmp_path_factory.mktemp("replayed"))
    forget_everything()
    yield made
    forget_everything()


@pytest.fixture(scope="module")
def scheduler(project: Project) -> Iterator[InProcessScheduler]:
    with InProcessScheduler(project.dags) as started:
        yield started


@pytest.fixture(scope="module")
def airflow(scheduler: InProcessScheduler) -> Iterator[Any]:
    """A client of Airflow's own application, which knows the Dags."""
    with airflow_client() as client:
        yield client


@pytest.fixture(scope="module")
def replayed(project: Project, scheduler: InProcessScheduler, airflow: Any) -> Any:
    """The record of a replay that Ann, an editor, has asked for; the second time she asks it is under way."""
    answer = post(airflow, project, "USER", FORM, follow_redirects=False)
    assert (answer.status_code, f"/models/{project.model}?dag=" in answer.headers["location"]) == (303, True)
    again = post(airflow, project, "USER", FORM)
    assert again.status_code == 409
    assert f"of {project.dag('control')} does it already" in again.text
    scheduler.run_until_idle()
    assert states(scheduler, project.dag("control")) == {"control": "success"}, scheduler.failures()
    (record,) = project.of_kind("policy_replayed")
    assert "Asked for: replay, by ann" in airflow.get(answer.headers["location"], headers=token("USER")).text
    return record


def post(client: Any, project: Project, role: str | None, form: str, **options: Any) -> Any:
    """Send the form of the action."""
    headers = {**({} if role is None else token(role)), **options.pop("headers", {})}
    return client.post(f"{PREFIX}/models/{project.model}/actions/replay", headers=headers, content=form, **options)


def get(client: Any, project: Project, rest: str, role: str | None = "VIEWER") -> Any:
    return client.get(f"{PREFIX}/models/{project.model}{rest}", headers={} if role is None else token(role))


def test_the_confirmation_says_what_will_happen_and_starts_nothing(airflow: Any, project: Project) -> None:
    page = get(airflow, project, "/actions/replay", role="USER").text
    assert f"as of each of the {WEEKS} published partitions" in page
    assert "Nothing that serves is changed" in page
    assert f'value="{POLICIES}"' in page
    assert "The ledger records it in your name, ann." in page


def test_only_who_may_start_the_control_dag_may_ask_and_no_other_site_may_for_them(
    airflow: Any, project: Project, scheduler: InProcessScheduler
) -> None:
    before = len(scheduler.dag_runs(project.dag("control")))
    assert post(airflow, project, None, FORM, headers={"Origin": "http://testserver"}).status_code == 401
    assert post(airflow, project, "VIEWER", FORM).status_code == 403
    assert get(airflow, project, "/actions/replay").status_code == 403
    assert post(airflow, project, "USER", FORM, headers=FOREIGN).status_code == 403
    assert len(scheduler.dag_runs(project.dag("control"))) == before


@pytest.mark.parametrize(
    ("policies", "words"),
    [
        ("often", "no policy &#39;often&#39;; there are declared, never"),
        ("never,%3Cscript%3E", "no policy &#39;&lt;script&gt;&#39;"),
        (",", "0 are named"),
        ("+", "Policies, with commas between is empty"),
        (",".join(f"clock:{pace}" for pace in range(1, 14)), "13 are named"),
    ],
)
def test_policies_that_are_none_are_refused_before_anything_starts(
    airflow: Any, project: Project, scheduler: InProcessScheduler, policies: str, words: str
) -> None:
    before = len(scheduler.dag_runs(project.dag("control")))
    answer = post(airflow, project, "USER", f"policies={policies}&reason=x&shown=")
    assert (answer.status_code, words in answer.text, "<script" in answer.text) == (409, True, False)
    assert len(scheduler.dag_runs(project.dag("control"))) == before


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("window=many", "window &#39;many&#39; is neither a number of partitions nor all; write 8, all or 4,13,all"),
        ("window=all,4", "all at its end, such as [4, 13, all]; write [4, all]"),
        (f"window={'9' * 400}", "is neither a number of partitions nor all"),
        ("until=soon", "partition &#39;soon&#39; is no ISO date or time"),
        ("until=1999-12-31", f"No partition is published by 1999-12-31T00:00:00; the first is {KEYS[0]}."),
        ("split=2013-02-01T00:00:00%2B01:00", "carries a time zone"),
        (f"split={KEYS[WEEKS - 1]}", f"The partitions are {KEYS[0]} to {KEYS[WEEKS - 1]}, and none of them lies after"),
        ("split=2012-01-01", "and none of them lies up to 2012-01-01T00:00:00; choose one between"),
    ],
)
def test_what_leaves_nothing_to_replay_is_refused_and_the_rest_of_the_form_is_kept(
    airflow: Any, project: Project, scheduler: InProcessScheduler, answer: str, words: str
) -> None:
    before = len(scheduler.dag_runs(project.dag("control")))
    refused = post(airflow, project, "USER", f"policies=never&{answer}&reason=the+night&shown=")
    assert (refused.status_code, words in refused.text) == (409, True)
    assert 'value="the night"' in refused.text
    assert len(scheduler.dag_runs(project.dag("control"))) == before


def test_a_record_of_a_replay_from_before_windows_could_be_asked_for_still_reads(replayed: Any) -> None:
    stored = replayed.details.stored()
    assert {"window", "until", "split"}.isdisjoint(stored)
    del stored["schema"]
    earlier = PolicyReplayed.read(stored)
    assert (earlier, earlier.window, earlier.until, earlier.split) == (replayed.details, None, None, None)


def test_a_split_that_leaves_nothing_to_judge_is_refused_before_any_fit(project: Project) -> None:
    from airflow_mlops.core.errors import NotReadyError
    from airflow_mlops.core.replay.recorded_replay import replay_history
    from airflow_mlops.core.replay.replay_request import replay_request

    fits: list[str] = []
    with pytest.raises(NotReadyError, match=f"none of them lies before {KEYS[0]}"):
        replay_history(project.workspace, replay_request("never", split=KEYS[0]), progress=fits.append)
    assert fits == []


def test_the_ledger_has_the_answer_with_the_name_of_the_person_and_nothing_else_changed(
    project: Project, replayed: Any
) -> None:
    assert replayed.actor.startswith(f"{project.dag('control')}/control/")
    assert replayed.actor.endswith(" for person:ann")
    details = replayed.details
    assert details.policies == ("never", "nightly", "clock:2")
    assert (details.first, details.last, details.reason) == (KEYS[0], KEYS[WEEKS - 1], "spring is near")
    assert {record.kind for record in project.records} == {"snapshot_published", "policy_replayed"}
    assert (project.workspace.state().champion, project.workspace.state().in_flight) == (None, None)
    verify_chain(project.records)


def test_the_page_of_the_model_leads_a_viewer_to_the_table_and_the_picture(
    airflow: Any, project: Project, replayed: Any
) -> None:
    address = f"/replay?record={replayed.sequence}"
    model_page = get(airflow, project, "").text
    assert f'href="{PREFIX}/models/{project.model}{address}"' in model_page
    assert replayed.details.advice[:40] in model_page
    figures = project.workspace.evidence.get(replayed.details.report)["figures"]
    for rest in (address, "/replay"):
        page = get(airflow, project, rest)
        assert page.status_code == 200
        for row in figures["whole"]:
            assert f'<th scope="row">{row["name"]}</th>' in page.text
        nightly = next(row for row in figures["whole"] if row["name"] == "nightly")
        assert f"<td>100 %</td>\n<td>{nightly['promotions']}</td>" in page.text
        assert "not replayed: gates on cost" in page.text
        assert "spring is near" in page.text
        (picture,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page.text)
        assert base64.b64decode(picture).startswith(b"\x89PNG")
    assert get(airflow, project, address, role=None).status_code == 401


@pytest.mark.parametrize("rest", ["/replay?record=1", "/replay?record=99999"])
def test_a_record_that_is_no_replay_has_no_page(airflow: Any, project: Project, replayed: Any, rest: str) -> None:
    answer = get(airflow, project, rest)
    assert (answer.status_code, "no replay of" in answer.text) == (404, True)


def test_a_picture_that_was_changed_is_not_shown(airflow: Any, project: Project, replayed: Any) -> None:
    place = Path(project.workspace.evidence.location(replayed.details.report))
    kept = place.read_bytes()
    place.write_bytes(kept.replace(b"not replayed", b"also replayed"))
    try:
        answer = get(airflow, project, "/replay")
    finally:
        place.write_bytes(kept)
    assert (answer.status_code, "was changed after it was written" in answer.text) == (503, True)


def test_an_attempt_that_was_recorded_is_not_made_again(project: Project, replayed: Any) -> None:
    from airflow_mlops.core.replay.recorded_replay import replay_and_record
    from airflow_mlops.core.replay.replay_request import ReplayRequest

    run = replayed.actor.removesuffix(" for person:ann")
    again = replay_and_record(
        replace(project.workspace), ReplayRequest(policies=("never",)), reason="again", attempt=run
    )
    assert again.sequence == replayed.sequence
    assert len([*project.workspace.ledger.records(PolicyReplayed)]) == 1


def test_a_replay_is_held_to_the_window_and_the_partitions_that_were_asked_for(
    airflow: Any, project: Project, scheduler: InProcessScheduler, replayed: Any
) -> None:
    until, split = KEYS[WEEKS - 2], KEYS[4]
    form = f"policies=never,nightly&window=1,+all&until={until}&split={split[:10]}&reason=x&shown="
    assert post(airflow, project, "USER", form, follow_redirects=False).status_code == 303
    scheduler.run_until_idle()
    record = project.of_kind("policy_replayed")[-1]
    details = record.details
    assert (details.window, details.until, details.split) == ("1,all", until, split)
    assert (details.first, details.last) == (KEYS[0], until)
    figures = project.workspace.evidence.get(details.report)["figures"]
    assert (figures["partitions"], figures["suggested_until"]) == (KEYS[: WEEKS - 1], split)
    assert set(figures["windows"]["rows"]) >= {"1", "all"}
    page = get(airflow, project, f"/replay?record={record.sequence}").text
    assert "As asked: trained on 1, all partitions in place of the declared window; " in page
    assert f"partitions up to {until}; a policy chosen up to {split}, and judged after." in page
    assert "on window 1,all over" in get(airflow, project, "/records").text
    assert "As asked:" not in get(airflow, project, f"/replay?record={replayed.sequence}").text


def test_a_history_too_short_to_replay_fails_with_what_is_missing(
    tmp_path: Path, project: Project, scheduler: InProcessScheduler, replayed: Any
) -> None:
    short = make_project(tmp_path)
    short.put(KEYS[0])
    short.publish(KEYS[0])
    with InProcessScheduler(short.dags) as other:
        other.trigger(short.dag("control"), conf={"action": "replay", "reason": "x"}, user="ann")
        other.run_until_idle()
        assert states(other, short.dag("control")) == {"control": "failed"}
        assert "nothing was replayed: 1 partitions are published; a replay needs 3" in why(other, "control")


def test_a_run_that_is_ended_by_hand_ends_the_processes_that_fit() -> None:
    from airflow_mlops.operators.control import ControlLoopOperator

    operator = ControlLoopOperator(task_id="control", loop="loop.yaml", action="replay", reason="x")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fits:
        endless = fits.submit(time.sleep, 600)
        while not endless.running():
            time.sleep(0.01)
        operator.on_kill()
        with pytest.raises(BrokenProcessPool):
            endless.result(timeout=60)
