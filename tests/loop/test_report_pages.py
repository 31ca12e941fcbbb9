"""Kept reports in the Airflow UI: through Airflow's own application, as nobody, as a stranger and as a viewer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.ledger.evidence_files import EvidenceFiles
from airflow_mlops.core.ledger.record import Draft
from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from airflow_mlops.core.ledger.watch_details import ReportRendered
from tests.loop.airflow_pages import PREFIX, airflow_client, directives, plugin_routes, token
from tests.loop.project import embedded_stores

MODEL = "reported"
WEEK = "2013-01-27T00:00:00"
PAGES = {"own": "<!doctype html><title>ours</title>", "evidently": "<!doctype html><title>theirs</title>"}
ADDRESSES = [f"{PREFIX}/reports/{MODEL}/{WEEK}", f"{PREFIX}/reports/{MODEL}/{WEEK}/evidently"]


@pytest.fixture(scope="module")
def airflow(airflow_home: Path) -> Iterator[Any]:
    """A client of Airflow's own application, where two reports are kept."""
    with airflow_client() as client:
        stores = embedded_stores()
        ledger, evidence = SqlLedger(stores.ledger_url, MODEL), EvidenceFiles(stores.lake / MODEL / "evidence")
        for sequence, (engine, page) in enumerate(PAGES.items()):
            digest = evidence.put({"media_type": "text/html", "page": page})
            details = ReportRendered(engine=engine, report=digest, media_type="text/html", why="alarm")
            ledger.append(Draft(details, engine, WEEK, "test", (digest,)), read=sequence)
        yield client


def report_routes(client: Any) -> list[str]:
    """Return the addresses of reports that the plugin opens, with the kept report in the place of their parameters."""
    paths = [route.path for route in plugin_routes(client) if route.path.startswith("/reports/")]
    return [PREFIX + path.replace("{model}", MODEL).replace("{partition}", WEEK) for path in paths]


def test_the_plugin_opens_two_pages_of_a_report(airflow: Any) -> None:
    assert report_routes(airflow) == ADDRESSES


@pytest.mark.parametrize("more", ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect", "/reports", "/"])
def test_nothing_describes_the_pages_to_anybody(airflow: Any, more: str) -> None:
    assert airflow.get(PREFIX + more, headers=token("ADMIN")).status_code == 404


def test_nobody_opens_no_route(airflow: Any) -> None:
    assert [airflow.get(address).status_code for address in report_routes(airflow)] == [401, 401]


def test_a_made_up_token_opens_no_route(airflow: Any) -> None:
    headers = {"Authorization": "Bearer made.up.token"}
    assert {airflow.get(address, headers=headers).status_code for address in report_routes(airflow)} <= {401, 403}


def test_somebody_without_a_role_opens_no_route(airflow: Any) -> None:
    headers = token(None)
    assert [airflow.get(address, headers=headers).status_code for address in report_routes(airflow)] == [403, 403]


def test_a_token_in_the_address_is_no_token(airflow: Any) -> None:
    address = f"{ADDRESSES[0]}?user=ann&token={token('ADMIN')['Authorization'][7:]}"
    assert airflow.get(address).status_code == 401


@pytest.mark.parametrize(("address", "engine"), list(zip(ADDRESSES, PAGES, strict=True)))
def test_a_viewer_reads_the_kept_page(airflow: Any, address: str, engine: str) -> None:
    answered = airflow.get(address, headers=token("VIEWER"))
    assert (answered.status_code, answered.text) == (200, PAGES[engine])
    assert answered.headers["content-type"] == "text/html; charset=utf-8"


def test_only_who_may_read_the_watch_dag_of_the_model_reads_its_pages(
    airflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    checks = []

    def record_and_allow(*, method: str, details: Any, **_: Any) -> bool:
        checks.append((method, details.id))
        return bool(details.id != f"{MODEL}_watch")

    monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", record_and_allow)
    headers = token("ADMIN")
    # A parameter of the address must not name another Dag than the path does.
    answers = [airflow.get(f"{address}?dag_id=other_watch", headers=headers).status_code for address in ADDRESSES]
    assert answers == [403, 403]
    assert checks == [("GET", f"{MODEL}_watch")] * 2


@pytest.mark.parametrize("address", ADDRESSES)
def test_nothing_is_written_through_the_pages(airflow: Any, address: str) -> None:
    for method in ("post", "put", "patch", "delete"):
        assert getattr(airflow, method)(address, headers=token("ADMIN")).status_code == 405


def test_our_page_is_served_without_scripts_and_evidentlys_with_no_origin(airflow: Any) -> None:
    own_page, evidently_page = (airflow.get(address, headers=token("VIEWER")).headers for address in ADDRESSES)
    policy = directives(own_page["content-security-policy"])
    assert policy["sandbox"] == ""
    assert (policy["default-src"], policy["style-src"], policy["img-src"]) == ("'none'", "'unsafe-inline'", "data:")
    assert "script-src" not in policy
    policy = directives(evidently_page["content-security-policy"])
    assert policy["sandbox"] == "allow-scripts"
    assert (policy["default-src"], policy["img-src"]) == ("'none'", "data:")
    assert "connect-src" not in policy


def test_every_answer_is_locked_errors_too(airflow: Any) -> None:
    for headers, address in ((token("VIEWER"), ADDRESSES[0]), ({}, ADDRESSES[0]), (token("VIEWER"), PREFIX + "/none")):
        answered = airflow.get(address, headers=headers).headers
        assert answered["x-content-type-options"] == "nosniff"
        assert answered["referrer-policy"] == "no-referrer"
        assert answered["cache-control"] == "private, no-store"
        assert directives(answered["content-security-policy"])["sandbox"] in ("", "allow-scripts")


@pytest.mark.parametrize(
    "path",
    [
        f"/reports/{MODEL}/2013-02-03",
        "/reports/nobodys/2013-01-27",
        f"/reports/{MODEL}/<script>",
        f"/reports/{MODEL}/x",
    ],
)
def test_what_was_not_kept_is_not_there(airflow: Any, path: str) -> None:
    answered = airflow.get(PREFIX + path, headers=token("VIEWER"))
    assert answered.status_code == 404
    assert "script" not in answered.text


@pytest.mark.parametrize("model", ["..", "%2e%2e", "..%2freported", "UPPER", "a b", "reported%00"])
def test_a_name_that_is_no_models_reaches_no_store(airflow: Any, model: str) -> None:
    assert airflow.get(f"{PREFIX}/reports/{model}/{WEEK}", headers=token("VIEWER")).status_code in (404, 422)


def test_a_page_that_was_changed_after_it_was_kept_is_not_served(airflow: Any) -> None:
    stores = embedded_stores()
    evidence, ledger = EvidenceFiles(stores.lake / "changed" / "evidence"), SqlLedger(stores.ledger_url, "changed")
    digest = evidence.put({"media_type": "text/html", "page": "as it was"})
    details = ReportRendered(engine="own", report=digest, media_type="text/html", why="alarm")
    ledger.append(Draft(details, "own", WEEK, "test", (digest,)), read=0)
    Path(evidence.location(digest)).write_text('{"media_type": "text/html", "page": "as somebody wants it"}')
    answered = airflow.get(f"{PREFIX}/reports/changed/{WEEK}", headers=token("VIEWER"))
    assert answered.status_code == 500
    assert "wants" not in answered.text


def test_a_process_that_answers_no_request_imports_no_page(airflow_home: Path) -> None:
    code = (
        "import sys\nimport airflow_mlops.ui.plugin\n"
        "print([name for name in ('fastapi', 'airflow_mlops.ui.pages_app', 'pandas', 'sqlalchemy.orm.session')"
        " if name in sys.modules and name not in before])"
    )
    code = "import sys, airflow.plugins_manager\nbefore = set(sys.modules)\n" + code
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert ended.stdout.strip().splitlines()[-1] == "[]"
