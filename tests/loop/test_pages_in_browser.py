"""People walk the pages in a real browser: nobody, a viewer and an editor, and axe looks for what keeps people out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from airflow_mlops.core.ledger.rollout_details import RolledBack
from airflow_mlops.testing.metadata import forget_everything, session_scope
from airflow_mlops.testing.scheduler import InProcessScheduler
from airflow_mlops.ui.airflow_facts import loop_facts
from tests.loop.airflow_pages import PREFIX, airflow_server
from tests.loop.project import KEYS, Project, make_project, week
from tests.loop.walked_pages import same_site, serious_findings, started_browser, visited

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
WATCH = {"drift": {"min_effect": 0.1}, "performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20}}
ASKED = {"approval": "human", "stages": [{"live": 100}]}
ROLLOUT = {"stages": [{"shadow": 100, "bake": 1}, {"live": 100}], "min_rows": 20}


@dataclass
class World:
    """A loop whose version 2 waits in the first stage of its rollout, the server of its pages, and a browser.

    Of the loop ``asking``, version 1 waits for the approval of a person.
    """

    project: Project
    asking: Project
    scheduler: InProcessScheduler
    address: str
    browser: Browser

    @contextmanager
    def visit(self, role: str | None, path: str, *, scheme: Any = "light") -> Iterator[Page]:
        """Yield a page as somebody sees it who is signed in with a role, or is not signed in."""
        with visited(self.browser, self.address, role, path, scheme=scheme) as page:
            yield page

    @property
    def model_path(self) -> str:
        """The path of the page of the model."""
        return f"/models/{self.project.model}"

    @property
    def approval_path(self) -> str:
        """The path of the page on which the open question is answered."""
        with session_scope() as session:
            (approval,) = loop_facts(session, [self.asking.model])[self.asking.model].approvals
        return f"/models/{self.asking.model}/approvals/{approval.question}"


@pytest.fixture(scope="module")
def world(airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The world, made by the core alone up to the rollout."""
    folder = tmp_path_factory.mktemp("walked")
    project = make_project(folder, watch=WATCH, rollout=ROLLOUT)
    project.bring_challenger()
    (project.dags / "loop_dags.py").rename(project.dags / "first_loop_dags.py")
    asking = make_project(folder, rollout=ASKED)
    asking.fields["data"]["tolerance"] = 0.1
    for key in KEYS[:2]:
        rows = week(key)
        asking.put(key, pa.concat_tables([rows, rows.slice(0, 1)]))
        asking.publish(key)
    asking.register(KEYS[1], by_hand=True)
    forget_everything()
    with InProcessScheduler(project.dags) as scheduler, airflow_server() as address, started_browser() as browser:
        scheduler.trigger(asking.dag("rollout"), partition_key=KEYS[1])
        scheduler.run_until_idle()
        yield World(project, asking, scheduler, address, browser)
    forget_everything()


def test_nobody_sees_no_page(world: World) -> None:
    with world.visit(None, "/models") as page:
        assert page.request.get(f"{world.address}{PREFIX}/models").status == 401
        assert world.project.model not in page.content()


def test_a_viewer_reads_the_loop_and_finds_nothing_to_press(world: World) -> None:
    with world.visit("VIEWER", "/models") as page:
        page.get_by_role("link", name=world.project.model, exact=True).click()
        page.wait_for_url(f"**{world.model_path}")
        assert page.get_by_role("heading", level=1).inner_text().startswith(world.project.model)
        assert page.get_by_text("Version 2 is at shadow with 100 % of the keys").count() == 1
        assert page.get_by_role("link", name="Abort the rollout").count() == 0
        refused = page.request.post(
            f"{world.address}{PREFIX}{world.model_path}/actions/abort",
            form={"reason": "x"},
            headers=same_site(world.address),
        )
        assert refused.status == 403
    assert world.project.workspace.state().rollout is not None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "path",
    [
        "/models",
        "MODEL",
        "MODEL/records",
        "MODEL/actions/abort",
        "HISTOGRAM",
        "ASKING",
        "APPROVAL",
        "ASKING/quarantine",
    ],
)
def test_axe_finds_nothing_serious(world: World, path: str, scheme: str) -> None:
    paths = {
        "MODEL": world.model_path,
        "HISTOGRAM": f"{world.model_path}/histogram?partition={KEYS[3]}&column=x1",
        "ASKING": f"/models/{world.asking.model}",
        "APPROVAL": world.approval_path,
    }
    address = path
    for name, value in paths.items():
        address = address.replace(name, value)
    with world.visit("ADMIN", address, scheme=scheme) as page:
        violations = serious_findings(page)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        name = path.replace("MODEL", "model").strip("/").replace("/", "-").lower()
        page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}.png", full_page=True)
    assert violations == []


def test_the_pictures_have_their_numbers_and_lead_on(world: World) -> None:
    with world.visit("ADMIN", world.model_path) as page:
        assert page.locator("figure svg").count() >= 3
        page.locator("svg a", has_text="x1, ").first.click()
        page.wait_for_url("**/histogram?*")
        assert page.get_by_role("heading", level=1).inner_text() == "x1"
        assert page.locator("figure svg rect").count() > 4


def test_everything_can_be_reached_and_pressed_by_keyboard(world: World) -> None:
    with world.visit("ADMIN", "/models") as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == world.project.model:
                break
        page.keyboard.press("Enter")
        page.wait_for_url(f"**{world.model_path}")


def test_an_editor_aborts_a_rollout_and_the_ledger_has_the_name(world: World) -> None:
    with world.visit("ADMIN", world.model_path) as page:
        page.get_by_role("link", name="Abort the rollout").click()
        page.wait_for_url("**/actions/abort*")
        assert page.get_by_text("is taken back at once and goes into quarantine").count() == 1
        page.get_by_label("Why, for the ledger").fill("<b>complaints</b> from the shop")
        page.get_by_role("button", name="Abort the rollout").click()
        page.wait_for_url("**?dag=*")
        assert page.get_by_role("status").inner_text().startswith("Asked for: abort, by ann.")
        world.scheduler.run_until_idle()
        page.reload()
        assert "is success" in page.get_by_role("status").inner_text()
        timeline = page.locator(".timeline").inner_text()
        assert "took version 2 back: <b>complaints</b> from the shop; the champion stays" in timeline
        assert "for person:ann" in timeline
        assert page.get_by_role("link", name="Abort the rollout").count() == 0
    (rolled_back,) = world.project.workspace.ledger.records(RolledBack)
    assert rolled_back.actor.endswith("for person:ann")
    assert rolled_back.details.version == "2"


def test_a_version_that_was_taken_back_is_let_out_of_quarantine_from_the_page(world: World) -> None:
    assert "2" in world.project.workspace.state().quarantined
    with world.visit("ADMIN", f"{world.model_path}/actions/unquarantine") as page:
        page.get_by_label("Version").select_option("2")
        page.get_by_label("Why, for the ledger").fill("the shop was wrong")
        page.get_by_role("button", name="Lift a quarantine").click()
        page.wait_for_url("**?dag=*")
    world.scheduler.run_until_idle()
    assert "2" not in world.project.workspace.state().quarantined


def test_an_editor_approves_a_version_where_a_viewer_only_reads_the_question(world: World) -> None:
    path = f"/models/{world.asking.model}"
    with world.visit("VIEWER", path) as page:
        assert page.get_by_text(f"May version 1 of {world.asking.model} be rolled out?").count() >= 1
        assert page.get_by_role("link", name="Approve or reject").count() == 0
        refused = page.request.post(
            f"{world.address}{PREFIX}{world.approval_path}",
            form={"shown": "1", "answer": "Approve"},
            headers=same_site(world.address),
        )
        assert refused.status == 403
    with world.visit("USER", path) as page:
        page.get_by_role("link", name="Approve or reject").click()
        page.wait_for_url(f"**{world.approval_path}")
        assert page.get_by_text("The rollout of version 1 begins: there is no champion to compare it with").count() == 1
        page.get_by_role("button", name="Approve version 1").click()
        page.wait_for_url("**?question=*")
        assert page.get_by_role("status").inner_text().startswith("Answered: Approve, by ann.")
        world.scheduler.run_until_idle()
        page.reload()
        assert "The task approve is success" in page.get_by_role("status").inner_text()
        assert page.get_by_role("link", name="Approve or reject").count() == 0
    (approved,) = world.asking.of_kind("approved")
    assert (approved.details.by, approved.details.version) == ("ann", "1")
    assert world.asking.workspace.registry.aliases() == {"champion": "1"}


def test_an_editor_finds_the_rows_in_quarantine_and_a_viewer_does_not(world: World) -> None:
    path = f"/models/{world.asking.model}"
    with world.visit("VIEWER", path) as page:
        assert page.locator("a[href*='/quarantine']").count() == 0
        assert page.request.get(f"{world.address}{PREFIX}{path}/quarantine").status == 403
    with world.visit("USER", path) as page:
        page.locator("a[href*='/quarantine']").first.click()
        page.wait_for_url("**/quarantine*")
        assert page.get_by_role("heading", name="id: is not unique").count() == 1
        assert page.locator("li", has_text="x1").count() >= 1
