"""The pages of models in the Airflow UI, through Airflow's own application, as nobody, viewer and editor."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from airflow_mlops.core.open_workspace import EMBEDDED_LEDGER
from airflow_mlops.core.overview.model_summary import STATES
from airflow_mlops.testing.metadata import forget_everything
from airflow_mlops.testing.scheduler import InProcessScheduler
from airflow_mlops.ui.actions import ACTIONS
from airflow_mlops.ui.plugin import AirflowMlopsPlugin
from tests.loop.airflow_pages import PREFIX, airflow_client, directives, plugin_routes, token
from tests.loop.project import KEYS, Project, make_project

LEVELS = {"watch": {"performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20}}}


@pytest.fixture(scope="module")
def project(airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A loop with a champion and five scored weeks; Airflow knows its Dags, and its training Dag is paused."""
    from airflow_mlops.core.rollout.score_partition import score_partition
    from airflow_mlops.core.watch.performance.measure_performance import measure_performance

    made = make_project(tmp_path_factory.mktemp("paged"), **LEVELS)
    made.seed(KEYS[:2])
    for key in KEYS[2:7]:
        made.put(key)
        made.publish(key)
        score_partition(made.workspace, key)
        measure_performance(made.workspace, key)
    forget_everything()
    with InProcessScheduler(made.dags) as scheduler:
        scheduler.pause(made.dag("train"))
        yield made
    forget_everything()


@pytest.fixture(scope="module")
def airflow(project: Project) -> Iterator[Any]:
    """A client of Airflow's own application."""
    with airflow_client() as client:
        yield client


def addresses(client: Any, project: Project) -> list[tuple[str, str]]:
    """Return method and address of every route of the plugin, about the loop of the tests."""
    values = {
        "{model}": project.model,
        "{partition}": KEYS[3],
        "{dag_id}": project.dag("watch"),
        "{name}": "abort",
        "{question}": str(UUID(int=0)),
    }
    routes = []
    for route in plugin_routes(client):
        path = route.path
        for name, value in values.items():
            path = path.replace(name, value)
        routes += [(method, PREFIX + path) for method in sorted(route.methods)]
    return routes


def page_of(client: Any, project: Project, rest: str = "", role: str = "ADMIN") -> Any:
    """Return the answer of a page of the model."""
    return client.get(f"{PREFIX}/models/{project.model}{rest}", headers=token(role))


def test_nobody_opens_any_route(airflow: Any, project: Project) -> None:
    routes = addresses(airflow, project)
    assert len(routes) >= 9
    same = {"Origin": "http://testserver", "Content-Length": "0"}
    assert {airflow.request(method, address, headers=same).status_code for method, address in routes} == {401}


def test_a_viewer_reads_every_page_and_is_refused_every_action(airflow: Any, project: Project) -> None:
    viewer = token("VIEWER")
    assert airflow.get(f"{PREFIX}/models", headers=viewer).status_code == 200
    assert [page_of(airflow, project, rest, role="VIEWER").status_code for rest in ("", "/records")] == [200, 200]
    for name in ACTIONS:
        address = f"{PREFIX}/models/{project.model}/actions/{name}"
        assert airflow.get(address, headers=viewer).status_code == 403
        assert airflow.post(address, headers=viewer, content="reason=x").status_code == 403
    assert "/actions/" not in page_of(airflow, project, role="VIEWER").text


def test_the_page_of_a_model_tells_champion_metric_partitions_and_decisions(airflow: Any, project: Project) -> None:
    page = page_of(airflow, project).text
    assert "version 1" in page
    assert "mae of served predictions" in page
    assert page.count('class="dot"') >= 5
    for key in KEYS[3:7]:
        assert key[:10] in page
    assert "became the champion, before it none" in page
    assert "registered version 1 (linear), which passed its gates" in page


def test_the_page_of_a_model_tells_what_its_retrains_cost(airflow: Any, project: Project) -> None:
    section = page_of(airflow, project).text.partition('id="cost"')[2].partition("</section>")[0]
    (registered,) = project.of_kind("candidate_registered")
    seconds = registered.details.training_seconds
    assert seconds >= registered.details.fit_seconds - 0.001
    assert "Policy: by alarm. Cooldown: 1 partition; the last retrain was 5 ago." in section
    assert "Budget: 13 promotions in 52 partitions; 1 used in the newest 7." in section
    assert "<summary>1 trainings" in section
    assert "<td>first model</td>" in section
    assert f"<td>{registered.details.rows}</td><td>version 1</td>" in section
    assert f"before={registered.sequence + 1}" in section
    assert "Regret was not measured." in section


def test_the_list_has_the_model_with_its_state_and_links_to_it(airflow: Any, project: Project) -> None:
    page = airflow.get(f"{PREFIX}/models", headers=token("ADMIN")).text
    assert f'href="{PREFIX}/models/{project.model}"' in page
    assert any(f'class="badge {state.replace(" ", "-")}">{state}' in page for state in STATES)


@pytest.mark.parametrize("query", ["q=no-such-name", "owner=nobody", "tag=none", "state=held"])
def test_a_filter_that_nothing_fits_says_so(airflow: Any, project: Project, query: str) -> None:
    page = airflow.get(f"{PREFIX}/models?{query}", headers=token("ADMIN")).text
    assert "No model fits the filter" in page
    assert f"/models/{project.model}" not in page


def test_only_models_whose_watch_dag_the_user_may_read_are_listed(
    airflow: Any, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    monkeypatch.setattr(get_auth_manager(), "get_authorized_dag_ids", lambda **_: {"other_watch"})
    page = airflow.get(f"{PREFIX}/models", headers=token("ADMIN")).text
    assert project.model not in page
    assert "0 of 0 models" in page


def test_every_page_is_locked_against_scripts_frames_and_other_sites(airflow: Any, project: Project) -> None:
    for rest in ("", "/records", "/actions/abort"):
        headers = page_of(airflow, project, rest).headers
        policy = directives(headers["content-security-policy"])
        assert policy["default-src"] == "'none'"
        assert "script-src" not in policy
        assert (policy["form-action"], policy["frame-ancestors"]) == ("'self'", "'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "private, no-store"
        assert "<script" not in page_of(airflow, project, rest).text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {},
    ],
)
def test_a_form_of_another_site_with_the_cookie_of_the_user_is_refused(
    airflow: Any, project: Project, headers: dict[str, str]
) -> None:
    from tests.loop.airflow_pages import COOKIE, jwt_of

    address = f"{PREFIX}/models/{project.model}/actions/retrain"
    cookie = {"Cookie": f"{COOKIE}={jwt_of('ADMIN')}"}
    assert airflow.post(address, headers={**headers, **cookie}, content="").status_code == 403


def test_a_form_without_end_is_refused_before_it_is_read(airflow: Any, project: Project) -> None:
    address = f"{PREFIX}/models/{project.model}/actions/retrain"
    assert airflow.post(address, headers=token("ADMIN"), content="x" * 20_001).status_code == 413


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_an_action_that_cannot_be_done_now_says_why_and_starts_nothing(
    airflow: Any, project: Project, name: str
) -> None:
    answer = page_of(airflow, project, f"/actions/{name}")
    if name in ("retrain", "replay"):
        assert answer.status_code == 200
        assert (KEYS[6] if name == "retrain" else "each of the 7 published partitions") in answer.text
        return
    assert answer.status_code == 409
    assert "<form" not in answer.text
    address = f"{PREFIX}/models/{project.model}/actions/{name}"
    assert airflow.post(address, headers=token("ADMIN"), content="reason=x").status_code == 409


def test_an_action_whose_dag_is_paused_is_refused_in_words(airflow: Any, project: Project) -> None:
    answer = airflow.post(f"{PREFIX}/models/{project.model}/actions/retrain", headers=token("ADMIN"), content="")
    assert answer.status_code == 409
    assert f"The Dag {project.dag('train')} is paused" in answer.text


def test_an_action_whose_dag_airflow_does_not_know_is_refused_in_words(airflow: Any, other_home: Path) -> None:
    restore_frozen_ledger(other_home)
    address = f"{PREFIX}/models/toy_people/actions/abort"
    assert "goes into quarantine; version 5 serves" in airflow.get(address, headers=token("ADMIN")).text
    answer = airflow.post(address, headers=token("ADMIN"), content="shown=6&reason=x")
    assert answer.status_code == 409
    assert "knows no Dag toy_people_control" in answer.text


@pytest.mark.parametrize("shown", ["5", "7", ""])
def test_an_action_is_done_to_the_version_that_was_shown_or_to_none(
    airflow: Any, other_home: Path, monkeypatch: pytest.MonkeyPatch, shown: str
) -> None:
    restore_frozen_ledger(other_home)
    started: list[Any] = []
    monkeypatch.setattr("airflow_mlops.ui.model_pages.start_run", lambda *run: started.append(run) or "run")
    monkeypatch.setattr("airflow_mlops.ui.model_pages.idle_dag", lambda _dag_id: None)
    address = f"{PREFIX}/models/toy_people/actions/abort"
    assert 'name="shown" value="6"' in airflow.get(address, headers=token("ADMIN")).text
    answer = airflow.post(address, headers=token("ADMIN"), content=f"shown={shown}&reason=x")
    assert answer.status_code == 409
    assert f"You were asked about version {shown or 'none'}, and it would be version 6 now" in answer.text
    assert started == []
    airflow.post(address, headers=token("ADMIN"), content="shown=6&reason=x", follow_redirects=False)
    assert [conf["version"] for _, conf, _ in started] == ["6"]


def test_an_action_without_a_reason_is_asked_for_again(airflow: Any, other_home: Path) -> None:
    restore_frozen_ledger(other_home)
    answer = airflow.post(
        f"{PREFIX}/models/toy_people/actions/abort", headers=token("ADMIN"), content="shown=6&reason=+"
    )
    assert answer.status_code == 409
    assert "Why, for the ledger is empty" in answer.text
    assert "<form" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/models/nobody",
        "/models/nobody/records",
        "/models/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "/models/..%2F..%2Fetc",
        f"/models/{'a' * 300}",
        "/models/UPPER",
        "/dags/some_etl",
        "/dags/%3Cimg%20src=x%3E_watch",
    ],
)
def test_what_is_no_model_is_a_clear_page_that_repeats_nothing_unescaped(airflow: Any, path: str) -> None:
    answer = airflow.get(PREFIX + path, headers=token("ADMIN"))
    assert answer.status_code == 404
    assert "Traceback" not in answer.text
    assert "<script" not in answer.text
    assert "<img" not in answer.text


def test_a_loop_that_has_not_run_has_its_pages_too(airflow: Any, project: Project, other_home: Path) -> None:
    SqlLedger(f"sqlite:///{other_home}", "another").state()
    assert "no version was promoted yet" in page_of(airflow, project).text
    assert "Nothing was decided yet" in page_of(airflow, project, "/records").text
    answer = page_of(airflow, project, "/actions/retrain")
    assert (answer.status_code, "No partition is published yet" in answer.text) == (409, True)


def test_who_may_not_start_a_dag_is_not_offered_what_it_does(
    airflow: Any, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    def allow_all_but_training(*, method: str, details: Any, **_: Any) -> bool:
        return not (method == "POST" and details.id == project.dag("train"))

    assert "/actions/retrain" in page_of(airflow, project).text
    monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", allow_all_but_training)
    assert "/actions/retrain" not in page_of(airflow, project).text
    address = f"{PREFIX}/models/{project.model}/actions/retrain"
    assert airflow.post(address, headers=token("ADMIN"), content="").status_code == 403


def test_a_dag_of_the_loop_leads_to_the_page_of_its_model(airflow: Any, project: Project) -> None:
    plugin = AirflowMlopsPlugin.external_views
    assert {view["destination"] for view in plugin} == {"nav", "dag", "dag_run", "task"}
    address = next(view["href"] for view in plugin if view["destination"] == "dag")
    answer = airflow.get(address.replace("{DAG_ID}", project.dag("watch")), headers=token("VIEWER"))
    assert str(answer.url).endswith(f"{PREFIX}/models/{project.model}")
    assert project.model in answer.text


@pytest.fixture
def other_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of Airflow whose ledger a test makes."""
    ledger = tmp_path / "mlops" / EMBEDDED_LEDGER
    ledger.parent.mkdir()
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    return ledger


def test_without_a_ledger_the_page_says_which_file_is_missing(airflow: Any, other_home: Path) -> None:
    answer = airflow.get(f"{PREFIX}/models", headers=token("ADMIN"))
    assert answer.status_code == 503
    assert "there is no ledger at" in answer.text
    assert "airflow-mlops doctor" in answer.text


@pytest.mark.parametrize("content", [b"", b"this is no database, whatever its name says" * 50])
def test_an_empty_or_broken_ledger_is_a_clear_page(airflow: Any, other_home: Path, content: bytes) -> None:
    other_home.write_bytes(content)
    answer = airflow.get(f"{PREFIX}/models", headers=token("ADMIN"))
    assert "Traceback" not in answer.text
    if content:
        assert answer.status_code == 503
        assert "The models cannot be read now" in answer.text
    else:  # of the one model whose Dags are known, nothing is known yet
        assert answer.status_code == 200
        assert "no version was promoted yet" in answer.text


def restore_frozen_ledger(place: Path) -> None:
    """Put the ledger of an earlier release in place, and read the state of its models once, as every step does."""
    shutil.copyfile(Path(__file__).parents[1] / "unit" / "core" / "ledger" / "frozen" / "ledger.sqlite", place)
    assert SqlLedger(f"sqlite:///{place}", "toy_people").state().rollout is not None


def test_a_ledger_of_an_earlier_release_is_read(
    airflow: Any, other_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    restore_frozen_ledger(other_home)
    monkeypatch.setattr(get_auth_manager(), "get_authorized_dag_ids", lambda **_: {"toy_people_watch"})
    assert "version 6 is paused at canary" in airflow.get(f"{PREFIX}/models", headers=token("ADMIN")).text
    page = airflow.get(f"{PREFIX}/models/toy_people", headers=token("ADMIN"))
    assert page.status_code == 200
    assert "is missing from" in page.text  # its evidence was not kept with it, and the page says so


def test_a_locked_ledger_is_a_clear_page(airflow: Any, other_home: Path) -> None:
    SqlLedger(f"sqlite:///{other_home}", "toy").state()
    holder = sqlite3.connect(other_home, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        answer = airflow.get(f"{PREFIX}/models", headers=token("ADMIN"))
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert answer.status_code == 503
    assert "did not answer" in answer.text
