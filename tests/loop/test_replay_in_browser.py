"""An editor asks for a replay in a real browser, from the link to the picture of its answer; a viewer only reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlops.testing.metadata import forget_everything
from airflow_mlops.testing.scheduler import InProcessScheduler
from tests.loop.airflow_pages import PREFIX, airflow_server
from tests.loop.project import KEYS, Project, states
from tests.loop.replayed_weeks import WEEKS, project_of_weeks
from tests.loop.walked_pages import same_site, serious_findings, started_browser, visited

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NATURAL_WIDTH = "image => image.complete && image.naturalWidth"


@dataclass
class Replays:
    """A loop of nine weeks, the scheduler of its Dags, the server of its pages, and a browser."""

    project: Project
    scheduler: InProcessScheduler
    address: str
    browser: Browser

    @property
    def path(self) -> str:
        """The path of the page of the model."""
        return f"/models/{self.project.model}"

    @contextmanager
    def visit(self, role: str, path: str, *, scheme: Any = "light") -> Iterator[Page]:
        """Yield a page of the model as somebody of a role sees it."""
        with visited(self.browser, self.address, role, f"{self.path}{path}", scheme=scheme) as page:
            yield page


@pytest.fixture(scope="module")
def replays(airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replays]:
    """The loop, of which nothing was replayed yet."""
    project = project_of_weeks(tmp_path_factory.mktemp("walked"))
    forget_everything()
    with InProcessScheduler(project.dags) as scheduler, airflow_server() as address, started_browser() as browser:
        yield Replays(project, scheduler, address, browser)
    forget_everything()


@pytest.fixture(scope="module")
def record(replays: Replays) -> Any:
    """The record of the replay that an editor has asked for by the link, the form and its confirmation."""
    with replays.visit("USER", "") as page:
        page.get_by_role("link", name="Replay policies").click()
        page.wait_for_url("**/actions/replay")
        assert page.get_by_text(f"as of each of the {WEEKS} published partitions").count() == 1
        assert page.get_by_label("Partitions to train on").input_value() == ""
        page.get_by_label("Policies").fill("never, nightly")
        page.get_by_label("Partitions to train on").fill("all,1")
        page.get_by_label("Last partition").fill(KEYS[WEEKS - 2])
        page.get_by_label("Choose a policy up to").fill(KEYS[4][:10])
        page.get_by_label("Why, for the ledger").fill("<i>spring</i> is near")
        page.get_by_role("button", name="Replay policies").click()
        page.get_by_role("alert").wait_for()
        assert "write [1, all]" in page.get_by_role("alert").inner_text()
        assert page.get_by_label("Last partition").input_value() == KEYS[WEEKS - 2]
        assert serious_findings(page) == []
        page.get_by_label("Partitions to train on").fill("1,all")
        page.get_by_role("button", name="Replay policies").click()
        page.wait_for_url("**?dag=*")
        assert page.get_by_role("status").inner_text().startswith("Asked for: replay, by ann.")
        replays.scheduler.run_until_idle()
        page.reload()
        assert "is success" in page.get_by_role("status").inner_text()
    control = replays.project.dag("control")
    assert states(replays.scheduler, control) == {"control": "success"}, replays.scheduler.failures()
    (made,) = replays.project.of_kind("policy_replayed")
    return made


def test_the_record_has_what_the_editor_typed_in_the_name_of_the_editor(replays: Replays, record: Any) -> None:
    details = record.details
    assert record.actor.endswith(" for person:ann")
    assert (details.policies, details.window) == (("never", "nightly"), "1,all")
    assert (details.until, details.split, details.reason) == (KEYS[WEEKS - 2], KEYS[4], "<i>spring</i> is near")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("role", ["USER", "VIEWER"])
def test_the_page_of_the_answer_has_its_tables_and_a_picture_and_axe_finds_nothing(
    replays: Replays, record: Any, role: str, scheme: str
) -> None:
    with replays.visit(role, "", scheme=scheme) as page:
        page.locator(f"a[href$='/replay?record={record.sequence}']").click()
        page.wait_for_url("**/replay?record=*")
        assert page.get_by_role("heading", level=1).inner_text() == f"Replay of {replays.project.model}"
        assert page.get_by_text("<i>spring</i> is near").count() == 1
        assert page.get_by_text("trained on 1, all partitions in place of the declared window").count() == 1
        assert page.get_by_role("table").count() == 3
        assert page.locator("figure img").evaluate(NATURAL_WIDTH) > 300
        assert serious_findings(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_form(replays: Replays, scheme: str) -> None:
    with replays.visit("USER", "/actions/replay", scheme=scheme) as page:
        assert page.get_by_role("button", name="Replay policies").count() == 1
        assert serious_findings(page) == []


def test_a_viewer_finds_no_link_and_is_refused_form_and_action(replays: Replays) -> None:
    runs = len(replays.scheduler.dag_runs(replays.project.dag("control")))
    form = f"{replays.address}{PREFIX}{replays.path}/actions/replay"
    with replays.visit("VIEWER", "") as page:
        assert page.get_by_role("link", name="Replay policies").count() == 0
        assert page.request.get(form).status == 403
        sent = {"policies": "never", "reason": "x"}
        assert page.request.post(form, form=sent, headers=same_site(replays.address)).status == 403
    assert len(replays.scheduler.dag_runs(replays.project.dag("control"))) == runs
