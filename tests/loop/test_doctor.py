"""The doctor on a home that is well, and on each fault, made for real: it names what is wrong and ends in seconds."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.cli import doctor_command, main
from airflow_mlops.doctor.check_stores import folder_finding
from airflow_mlops.testing.airflow_home import airflow_environment
from airflow_mlops.testing.metadata import forget_everything
from airflow_mlops.testing.scheduler import InProcessScheduler
from tests.loop.project import KEYS, Project, declaration, make_project

ROOT = Path(__file__).parents[2]
LEVELS = ("ok", "warning", "wrong")
DRIFT_BY_EVIDENTLY = {"engine": "evidently", "method": "wasserstein", "threshold": 0.1}
Findings = list[dict[str, str]]
Examine = Callable[..., Findings]


@pytest.fixture(scope="module")
def project(airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A loop with a champion, whose Dags Airflow has read."""
    made = make_project(tmp_path_factory.mktemp("doctor"))
    made.seed(KEYS[:2])
    forget_everything()
    with InProcessScheduler(made.dags):
        yield made
    forget_everything()


@pytest.fixture
def examine(project: Project, capsys: pytest.CaptureFixture[str]) -> Examine:
    """Return a function that runs the doctor and returns its findings; the exit code has to fit them."""

    def run(root: Path = project.root) -> Findings:
        code = main(["doctor", "--json", "--root", str(root)])
        printed = capsys.readouterr()
        findings = [json.loads(line) for line in printed.out.splitlines()]
        wrong = [finding for finding in findings if finding["level"] == "wrong"]
        assert code == (1 if wrong else 0)
        assert ("findings are wrong" in printed.err) == bool(wrong)
        return findings

    return run


@pytest.fixture
def copied_home(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ledger of the project in a home of its own, which a test may harm."""
    home = tmp_path / "home"
    (home / "mlops").mkdir(parents=True)
    with (
        sqlite3.connect(Path(os.environ["AIRFLOW_HOME"]) / "mlops" / "ledger.db") as ledger,
        sqlite3.connect(home / "mlops" / "ledger.db") as copy,
    ):
        ledger.backup(copy)
    monkeypatch.setenv("AIRFLOW_HOME", str(home))
    return home


def of_check(findings: Findings, check: str, *levels: str) -> Findings:
    """Return the findings of a check, of some levels or of any."""
    return [finding for finding in findings if finding["check"] == check and finding["level"] in (levels or LEVELS)]


def the_fault(findings: Findings, check: str, level: str = "wrong") -> dict[str, str]:
    """Return the one finding of a check that has a level."""
    (finding,) = of_check(findings, check, level)
    return finding


def child_environment(home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a doctor in a home of its own."""
    paths = os.pathsep.join([*([more.pop("first")] if "first" in more else []), str(ROOT / "plugins"), str(ROOT)])
    return {**os.environ, **airflow_environment(home, home / "dags"), "PYTHONPATH": paths, **more}


def child_doctor(home: Path, **more: str) -> tuple[int, Findings]:
    """Return exit code and findings of a doctor that is a process of its own."""
    (home / "dags").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "airflow_mlops.cli", "doctor", "--json", "--root", str(home)]
    ran = subprocess.run(
        command, env=child_environment(home, **more), capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.returncode, [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]


@contextmanager
def server(
    status: Callable[[str], int] = lambda path: 200, moment: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Iterator[int]:
    """Yield the port of an HTTP server on loopback whose answers have a status by path, and a clock."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status(self.path))
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def date_time_string(self, timestamp: float | None = None) -> str:
            return format_datetime(moment(), usegmt=True)

        def log_message(self, *_: Any) -> None:
            return

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    try:
        yield served.server_port
    finally:
        served.shutdown()
        served.server_close()


def declare_registry(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Name a server on loopback as the registry."""
    connection = {"conn_type": "http", "host": "127.0.0.1", "port": port}
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_REGISTRY", json.dumps(connection))


def test_a_home_that_is_well_has_nothing_wrong(
    examine: Examine, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = examine()
    assert {finding["check"] for finding in findings} == {
        *("versions", "home", "connections", "ledger", "lake", "scratch", "mlflow", "clock", "executor", "database"),
        *("plugin", "workers", "loops", "dags"),
    }
    remarks = [finding for finding in findings if finding["level"] != "ok"]
    # The tests' own Airflow and its ledger are on SQLite, which is good for a try.
    assert [(finding["check"], finding["level"]) for finding in remarks] == 2 * [("database", "warning")]
    assert "postgresql+psycopg2://" in remarks[0]["remedy"]
    assert "mlops_ledger" in remarks[1]["remedy"]
    assert the_fault(findings, "dags", "ok")["seen"] == f"{project.model} has 7 Dags, none of them paused"
    assert main(["doctor", "--root", str(project.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines if not line.startswith(" ")] == [
        [finding["level"], finding["check"]] for finding in findings
    ]
    assert sum(line.lstrip().startswith("-> ") for line in lines) == len(remarks)


def test_a_locked_ledger_is_named_within_seconds(examine: Examine, copied_home: Path) -> None:
    with sqlite3.connect(copied_home / "mlops" / "ledger.db", isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        finding = the_fault(examine(), "ledger")
        assert time.monotonic() - began < 30
    assert finding["seen"].endswith("cannot be used: database is locked")
    assert finding["remedy"] == f"fuser -v {copied_home / 'mlops' / 'ledger.db'}"


def test_a_file_that_is_no_ledger_is_named(examine: Examine, copied_home: Path) -> None:
    (copied_home / "mlops" / "ledger.db").write_bytes(b"not a database, but long enough to look like one" * 100)
    assert "cannot be used: file is not a database" in the_fault(examine(), "ledger")["seen"]


def test_where_nothing_has_run_there_is_no_ledger_and_none_is_made(
    examine: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("AIRFLOW_HOME", str(home))
    finding = the_fault(examine(), "ledger", "warning")
    assert "no task of a loop has run here" in finding["seen"]
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("revision", "level", "remedy"),
    [("0001", "warning", "airflow-mlops list"), ("9999", "wrong", "pip install --upgrade airflow-mlops")],
)
def test_another_migration_is_named_and_left_alone(
    examine: Examine, copied_home: Path, revision: str, level: str, remedy: str
) -> None:
    with sqlite3.connect(copied_home / "mlops" / "ledger.db") as connection:
        connection.execute("UPDATE airflow_mlops_schema SET version_num = ?", (revision,))
    finding = the_fault(examine(), "ledger", level)
    assert f"is at migration {revision}" in finding["seen"]
    assert finding["remedy"] == remedy
    with sqlite3.connect(copied_home / "mlops" / "ledger.db") as connection:
        assert connection.execute("SELECT version_num FROM airflow_mlops_schema").fetchall() == [(revision,)]


def test_a_newest_record_that_was_changed_shows(examine: Examine, copied_home: Path, project: Project) -> None:
    last = project.records[-1].sequence
    with sqlite3.connect(copied_home / "mlops" / "ledger.db") as connection:
        connection.execute(
            "UPDATE airflow_mlops_ledger SET actor = 'nobody' WHERE model = ? AND sequence = ?", (project.model, last)
        )
    finding = the_fault(examine(), "ledger")
    assert f"{project.model}: record {last}" in finding["seen"]
    assert finding["remedy"] == f"airflow-mlops audit verify {project.model}"


def test_a_registry_that_is_down_and_one_that_hangs_are_named_within_seconds(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # it takes connections, and nobody answers them
        port = hanging.getsockname()[1]
        declare_registry(monkeypatch, port)
        began = time.monotonic()
        assert f"127.0.0.1:{port} does not answer: ReadTimeout" in the_fault(examine(), "mlflow")["seen"]
        assert time.monotonic() - began < 30
    assert f"127.0.0.1:{port} does not answer: ConnectError" in the_fault(examine(), "mlflow")["seen"]


@pytest.mark.parametrize(
    ("search", "outcome"),
    [
        (200, ("warning", "answers without credentials")),
        (401, ("wrong", "asks for credentials, and connection mlops_registry has no login")),
        (404, ("wrong", "is no MLflow server: its list of experiments answers 404")),
    ],
)
def test_a_registry_that_answers_anybody_is_a_warning(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, search: int, outcome: tuple[str, str]
) -> None:
    # A password of the user's must not be sent: the question is who gets an answer without one.
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with server(lambda path: 200 if path == "/health" else search) as port:
        declare_registry(monkeypatch, port)
        findings = examine()
    level, words = outcome
    assert words in the_fault(findings, "mlflow", level)["seen"]
    assert the_fault(findings, "clock", "ok")["seen"].endswith("that of MLflow")


@pytest.mark.parametrize(("seconds", "level"), [(-3600, "wrong"), (20, "warning")])
def test_a_clock_that_is_wrong_shows(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, seconds: int, level: str
) -> None:
    with server(moment=lambda: datetime.now(UTC) + timedelta(seconds=seconds)) as port:
        declare_registry(monkeypatch, port)
        finding = the_fault(examine(), "clock", level)
    assert ("ahead of" if seconds < 0 else "behind") in finding["seen"]
    assert abs(int(finding["seen"].split()[0]) - abs(seconds)) <= 5


def test_a_lake_that_cannot_be_written_is_named(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not below the folder of the tests, which nobody else may enter.
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        lake.mkdir()
        Path(folder).chmod(0o755)
        lake.chmod(0o555)
        monkeypatch.setenv("AIRFLOW_CONN_MLOPS_LAKE", json.dumps({"conn_type": "fs", "extra": {"path": str(lake)}}))
        if os.geteuid():
            finding = the_fault(examine(), "lake")
            seen, remedy = finding["seen"], finding["remedy"]
        else:  # root may write anywhere, so somebody else looks
            os.seteuid(65534)
            try:
                result = folder_finding("lake", lake)
            finally:
                os.seteuid(0)
            assert result.level == "wrong"
            seen, remedy = result.seen, result.remedy
    assert f"{lake} cannot be written by user " in seen
    assert seen.endswith(": Permission denied")
    assert remedy.startswith("chown -R ")


def test_a_full_disk_shows(tmp_path: Path) -> None:
    levels = [folder_finding("lake", tmp_path / "new", scarce=s, least=n).level for s, n in ((0, 0), (10**18, 0))]
    assert levels == ["ok", "warning"]
    full = folder_finding("lake", tmp_path / "new", least=10**18)
    assert (full.level, full.remedy.split(";")[0]) == ("wrong", f"df -h {tmp_path}")


def test_a_connection_that_says_too_little_is_named(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_LAKE", json.dumps({"conn_type": "fs"}))
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_SIGNING", json.dumps({"conn_type": "generic"}))
    seen = [finding["seen"] for finding in of_check(examine(), "connections", "wrong")]
    assert [text.split("'")[1] for text in seen] == ["mlops_lake", "mlops_signing"]


def test_stores_of_one_machine_under_workers_of_many_are_wrong(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    seen = [finding["seen"].partition(" is ")[0] for finding in of_check(examine(), "executor", "wrong")]
    assert seen == ["the ledger", "the lake"]
    lake = {"conn_type": "fs", "extra": {"path": str(tmp_path)}}
    monkeypatch.setenv("AIRFLOW_CONN_MLOPS_LAKE", json.dumps(lake))
    assert "which every worker of CeleryExecutor must share" in the_fault(examine(), "executor", "warning")["seen"]


def test_a_paused_dag_and_a_loop_without_dags_are_named(examine: Examine, project: Project, tmp_path: Path) -> None:
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session

    dag_id = project.dag("ingest")
    for paused in (True, False):
        with create_session() as session:
            session.get(DagModel, dag_id).is_paused = paused
        findings = examine()
        assert bool(of_check(findings, "dags", "warning")) is paused
        if paused:
            finding = the_fault(findings, "dags", "warning")
            assert (finding["seen"].split()[0], finding["remedy"]) == (dag_id, f"airflow dags unpause {dag_id}")
    (tmp_path / "include" / "loops").mkdir(parents=True)
    fields = {**project.fields, "model": "unheard_of"}
    (tmp_path / "include" / "loops" / "unheard_of.yaml").write_text(json.dumps(fields))
    assert "Airflow has no Dag of unheard_of" in the_fault(examine(tmp_path), "dags", "warning")["seen"]


def test_a_pool_that_airflow_lacks_and_one_that_is_too_small_for_a_task_are_named(
    examine: Examine, tmp_path: Path
) -> None:
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session

    loops, name = tmp_path / "include" / "loops", "fits of the doctor"
    loops.mkdir(parents=True)
    resources = {"fit": {"pool": name, "slots": 3}, "score": {"pool": "default_pool"}}
    fields = declaration("pooled", "include.pooled:candidates", resources=resources)
    (loops / "pooled.yaml").write_text(json.dumps(fields))
    missing = the_fault(examine(tmp_path), "pools")
    assert missing["seen"] == f"Airflow has no pool '{name}', so tasks that take it never start"
    assert missing["remedy"] == f"airflow pools set '{name}' 4 'tasks of loops'"
    try:
        Pool.create_or_update_pool(name, 2, "", include_deferred=False)
        small = the_fault(examine(tmp_path), "pools")
        assert small["seen"] == f"pool '{name}' has 2 slots, and a task takes 3, so it never starts"
        Pool.create_or_update_pool(name, 3, "", include_deferred=False)
        assert [finding["level"] for finding in of_check(examine(tmp_path), "pools")] == ["ok", "ok"]
    finally:
        with create_session() as session:
            session.delete(Pool.get_pool(name, session=session))


def test_an_extra_that_a_loop_needs_and_a_broken_declaration_are_named(
    examine: Examine, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "include" / "loops"
    folder.mkdir(parents=True)
    fields = {**project.fields, "watch": {"drift": DRIFT_BY_EVIDENTLY}}
    (folder / "needy.yaml").write_text(json.dumps(fields))
    (folder / "torn.yaml").write_text("model: torn\nowner: nobody\nwach: {}\n")
    (tmp_path / f"train_{project.model}").symlink_to(project.root / f"train_{project.model}")
    monkeypatch.setattr("airflow_mlops.core.watch.drift.evidently_extra.find_spec", lambda name: None)
    torn, needy = of_check(examine(tmp_path), "loops", "wrong")
    assert needy["remedy"] == "pip install 'airflow-mlops[evidently]'"
    assert torn["seen"].startswith(f"{folder / 'torn.yaml'}:3: wach: unknown key")
    assert torn["remedy"] == f"airflow-mlops check {folder / 'torn.yaml'}"


def test_a_dag_file_that_never_ends_holds_up_nothing_else(
    examine: Examine, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "endless.py").write_text("import time  # before build_dags\ntime.sleep(600)\n")
    monkeypatch.setattr(doctor_command, "READ_SECONDS", 2.0)
    began = time.monotonic()
    findings = examine(tmp_path)
    assert time.monotonic() - began < 60
    assert the_fault(findings, "loops")["seen"] == "gave no answer in 2 s"
    assert of_check(findings, "ledger", "ok")


def test_a_bucket_that_never_answers_ends_neither_late_nor_never(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        lake = {
            "conn_type": "aws",
            "login": "key",
            "password": "secret",
            "extra": {
                "path": "s3://bucket/lake",
                "endpoint_url": f"http://127.0.0.1:{hanging.getsockname()[1]}",
                "region_name": "us-east-1",
            },
        }
        began = time.monotonic()
        code, findings = child_doctor(tmp_path / "home", AIRFLOW_CONN_MLOPS_LAKE=json.dumps(lake))
    assert time.monotonic() - began < 60
    assert code == 1
    assert the_fault(findings, "folders")["seen"] == "gave no answer in 10 s"


@pytest.mark.parametrize(
    ("words", "level", "seen"),
    [
        (["airflow", "scheduler"], "warning", "has imported nothing"),
        (["airflow_mlops.warm_scheduler"], "ok", "has imported what tasks need"),
        (["airflow", "dag-processor"], "ok", "no scheduler of this AIRFLOW_HOME"),
    ],
)
def test_a_scheduler_that_has_imported_nothing_is_a_warning(
    examine: Examine, words: list[str], level: str, seen: str
) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", *words]) as scheduler:
        try:
            finding = the_fault(examine(), "workers", level)
        finally:
            scheduler.send_signal(signal.SIGKILL)
    assert seen in finding["seen"]
    assert ("airflow_mlops.warm_scheduler" in finding["remedy"]) == (level == "warning")


def test_a_home_that_is_not_named_is_a_warning_and_one_that_is_not_there_is_wrong(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "nowhere"))
    assert the_fault(examine(), "home")["seen"].endswith("nowhere, which is no folder")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AIRFLOW_HOME")
    assert the_fault(examine(), "home", "warning")["seen"].startswith("AIRFLOW_HOME is not set")


def test_a_fresh_home_lacks_airflows_tables_and_a_second_registration_of_the_plugin_shows(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "plugins").mkdir(parents=True)
    (home / "plugins" / "again.py").write_text("from airflow_mlops.ui.plugin import AirflowMlopsPlugin\n")
    code, findings = child_doctor(home, AIRFLOW__CORE__PLUGINS_FOLDER=str(home / "plugins"))
    assert code == 1
    assert the_fault(findings, "database")["remedy"] == "airflow db migrate"
    assert "the plugin is registered twice" in the_fault(findings, "plugin")["seen"]


def test_a_distribution_out_of_its_bounds_is_named_with_the_command_that_mends_it(tmp_path: Path) -> None:
    metadata = tmp_path / "site" / "airflow_mlops-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: airflow-mlops\nVersion: 0.1.0\nProvides-Extra: river\n"
        "Requires-Dist: numpy<1,>=0.1\nRequires-Dist: not-installed-anywhere<2,>=1\n"
        "Requires-Dist: river<0.2,>=0.1; extra == 'river'\nRequires-Dist: pandas>=1\n"
        "Requires-Dist: no-such-extra>=1; extra == 'river'\n"
    )
    code, findings = child_doctor(tmp_path / "home", first=str(metadata.parent))
    assert code == 1
    faults = {finding["remedy"]: finding["level"] for finding in of_check(findings, "versions")}
    assert faults == {
        "pip install 'numpy<1,>=0.1'": "wrong",
        "pip install 'not-installed-anywhere<2,>=1'": "wrong",
        "pip install 'river<0.2,>=0.1'": "warning",
    }
