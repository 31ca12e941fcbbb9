"""One session with a Spark cluster in this process, and its errors in words.

A cluster that is not there is refused in seconds: Spark itself would try for a minute, or wait for executors for ever.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import re
import shutil
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.errors import DeclarationError, EngineError, EngineLostError, MlopsError
from airflow_mlops.core.ports.connections import SparkAddress

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CONNECT_SECONDS = 5.0
POLL_SECONDS = 0.5
SETTINGS = {
    "spark.app.name": "airflow-mlops",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
}
"""Properties of the session, unless the connection has others."""
_PYTHON_ERROR = re.compile(
    r"^((?!org\.|java\.|scala\.|py4j\.|pyspark\.)[A-Za-z_][\w.]*(?:Error|Exception)\b.*)$", re.MULTILINE
)
_OPEN: list[tuple[SparkAddress, SparkSession]] = []
"""The session of this process, if one is open; Spark allows no second."""


def require_pyspark() -> None:
    """Raise DeclarationError, which names what to install, unless PySpark is installed.

    Raises
    ------
    DeclarationError
        If it is not.
    """
    if importlib.util.find_spec("pyspark") is None:
        raise DeclarationError(
            "is spark, which needs PySpark, and that is not installed: pip install 'airflow-mlops[spark]'", key="engine"
        )


def open_session(address: SparkAddress) -> SparkSession:
    """Return a session with a cluster: the one that is open already, or a new one.

    Raises
    ------
    DeclarationError
        If PySpark or Java is missing.
    EngineLostError
        If no master answers, or no executor comes.
    """
    require_pyspark()
    if _OPEN and _OPEN[0][0] == address and not _is_stopped(_OPEN[0][1]):
        return _OPEN[0][1]
    close_session()
    _require_java()
    _require_master(address.master)
    with translate_errors(address):
        session = _new_session(address)
        _OPEN.append((address, session))
        _await_executor(session, address)
    return session


def close_session() -> None:
    """Stop the session of this process, if one is open."""
    while _OPEN:
        _, session = _OPEN.pop()
        with suppress(Exception):  # a session whose cluster is gone cannot be stopped in order
            session.stop()


atexit.register(close_session)


def _new_session(address: SparkAddress) -> SparkSession:
    from pyspark.sql import SparkSession

    builder: Any = SparkSession.builder.master(address.master)
    for name, value in {**SETTINGS, **address.settings}.items():
        builder = builder.config(name, value)
    # Spark takes the interpreter of its executors from here, once, and else the python3 of each machine.
    before = os.environ.get("PYSPARK_PYTHON")
    os.environ["PYSPARK_PYTHON"] = address.python or before or sys.executable
    try:
        session: SparkSession = builder.getOrCreate()
    finally:
        if before is None:
            del os.environ["PYSPARK_PYTHON"]
        else:
            os.environ["PYSPARK_PYTHON"] = before
    session.sparkContext.setLogLevel("ERROR")
    return session


def _require_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if shutil.which(f"{home}/bin/java" if home else "java") is None:
        raise DeclarationError(
            f"is spark, which needs Java 17 or newer, and there is none {'in JAVA_HOME' if home else 'on the PATH'}; "
            "install one, on Debian and Ubuntu: apt-get install default-jre-headless",
            key="engine",
        )


def _require_master(master: str) -> None:
    """Raise EngineLostError unless one of the masters of an address accepts a connection."""
    places = re.findall(r"([^/,\s]+):(\d+)", master.partition("://")[2]) if "://" in master else []
    errors = []
    for host, port in places:
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except OSError as error:
            errors.append(f"{host}:{port}: {error}")
        else:
            return
    if errors:
        raise EngineLostError(
            f"no Spark master answers at {master} ({'; '.join(errors)}); nothing was published: start the master, or "
            "correct connection mlops_spark"
        )


def _await_executor(session: SparkSession, address: SparkAddress) -> None:
    end = time.monotonic() + address.wait
    while count_executors(session, address) == 0:
        if time.monotonic() > end:
            close_session()
            raise _no_executor(address)
        time.sleep(POLL_SECONDS)


def _no_executor(address: SparkAddress) -> EngineLostError:
    return EngineLostError(
        f"Spark master {address.master} gave no executor for {address.wait:g} s; nothing was published: start a "
        "worker, free cores or memory of one, or let connection mlops_spark wait longer"
    )


def count_executors(session: SparkSession, address: SparkAddress) -> int:
    """Return the number of executors that are alive; in local mode the driver is the one."""
    alive = int(_jvm_context(session).getExecutorMemoryStatus().size())
    return alive if address.master.startswith("local") else alive - 1


def _jvm_context(session: SparkSession) -> Any:
    return session.sparkContext._jsc.sc()


def _is_stopped(session: SparkSession) -> bool:
    try:
        return bool(_jvm_context(session).isStopped())
    except Exception:
        return True


@contextmanager
def watch_cluster(session: SparkSession, address: SparkAddress) -> Iterator[None]:
    """Cancel the work in the block if the cluster has no executor left.

    That is where the master does not answer either, or gives no other for as long as the address waits.

    Raises
    ------
    EngineLostError
        If it was cancelled, or failed.
    EngineError
        If the executors cannot do the work as they are set up.
    """
    watcher = _Watcher(session, address)
    watcher.start()
    try:
        with translate_errors(address):
            yield
    except EngineLostError as error:
        if watcher.loss is not None:
            raise watcher.loss from error
        raise
    finally:
        watcher.ended.set()
        watcher.join()


class _Watcher(Thread):
    """Looks for executors until the work has ended; ``loss`` is the reason why it was cancelled."""

    def __init__(self, session: SparkSession, address: SparkAddress) -> None:
        super().__init__(daemon=True)
        self.ended = Event()
        self.loss: EngineLostError | None = None
        self._session, self._address = session, address

    def run(self) -> None:
        """Look until the work has ended, or the cluster is lost."""
        with suppress(Exception):  # the driver itself is gone, and the work says so
            since = time.monotonic()
            while not self.ended.wait(POLL_SECONDS):
                try:
                    since = self._look(since)
                except EngineLostError as error:
                    self.loss = error
                    self._session.sparkContext.cancelAllJobs()
                    return

    def _look(self, since: float) -> float:
        """Return when there was an executor last; ``since`` is when there was one at the look before."""
        if count_executors(self._session, self._address):
            return time.monotonic()
        _require_master(self._address.master)
        if time.monotonic() - since > self._address.wait:
            raise _no_executor(self._address)
        return since


@contextmanager
def translate_errors(address: SparkAddress) -> Iterator[None]:
    """Raise errors of Spark as those of this package, without PySpark's warning about pandas, which is not used here.

    Raises
    ------
    EngineLostError
        If the work has failed.
    EngineError
        If it would fail again.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
            yield
    except MlopsError:
        raise
    except (Py4JError, PySparkException, OSError) as error:
        text = str(error)
        if "PYTHON_VERSION_MISMATCH" in text:
            raise EngineError(
                f"the workers of Spark master {address.master} run another Python than this task, which runs "
                f"{sys.version_info.major}.{sys.version_info.minor}; name theirs as python in the extra of connection "
                "mlops_spark"
            ) from error
        raise EngineLostError(
            f"Spark master {address.master}: the work failed: {_reason(text)}; nothing was published: run it again"
        ) from error


def _reason(text: str) -> str:
    """Return the line of an error that says most: that of Python on an executor, else the first."""
    lines = _PYTHON_ERROR.findall(text)
    first = next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
    return (lines[-1] if lines else first).strip()
