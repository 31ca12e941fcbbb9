"""A MariaDB of its own on loopback: from the machine, by apt, or unpacked from apt's packages into a cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
import pytest

from airflow_mlops.testing.child_processes import finish_child, start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.free_ports import free_port

PACKAGES = ("mariadb-server-core", "mariadb-client-core")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airflow-mlops" / "mariadb"


@dataclass(frozen=True)
class Programs:
    """Where the programs of MariaDB are: the machine itself, or a folder that packages were unpacked into."""

    root: Path

    @property
    def server(self) -> Path:
        return self.root / "usr" / "sbin" / "mariadbd"

    @property
    def installer(self) -> Path:
        return self.root / "usr" / "bin" / "mariadb-install-db"

    @property
    def environment(self) -> dict[str, str]:
        libraries = [str(folder) for folder in self.root.glob("usr/lib/*-linux-gnu")] if self.root != Path("/") else []
        programs = [str(self.root / "usr" / "bin"), os.environ.get("PATH", "")]
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries), "PATH": ":".join(programs)}


def apt(*words: str, folder: Path | None = None) -> str:
    """Run one command of apt and return what it prints.

    Raises
    ------
    CalledProcessError, OSError, TimeoutExpired
        If there is no apt, or it fails, as without a network.
    """
    command = ["apt-get", "-q", "-o", "Acquire::Retries=0", "-o", "DPkg::Lock::Timeout=60", *words]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    ran = subprocess.run(
        command,
        check=True,
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        stdin=subprocess.DEVNULL,
    )
    return ran.stdout


def unpack_packages(root: Path) -> None:
    """Unpack the server and what it needs into a folder: nothing is installed, so nobody has to be root."""
    simulated = apt("install", "--simulate", "--no-install-recommends", *PACKAGES)
    names = [line.split()[1] for line in simulated.splitlines() if line.startswith("Inst ")]
    packages = root.with_name(f"{root.name}-packages-{os.getpid()}")
    packages.mkdir(parents=True)
    try:
        apt("download", *names, folder=packages)
        unpacked = packages / "root"
        for package in packages.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(unpacked)], check=True, capture_output=True)
        if not root.exists():
            unpacked.rename(root)
    finally:
        shutil.rmtree(packages, ignore_errors=True)


def find_programs() -> Programs:
    """Return MariaDB's programs, which are fetched by apt where there are none; skip the test where there is no way."""
    machine, cached = Programs(Path("/")), Programs(CACHE)
    try:
        if not machine.server.exists() and not cached.server.exists():
            if os.geteuid() == 0:
                apt("update")
                apt("install", "--yes", "--no-install-recommends", *PACKAGES)
            else:
                unpack_packages(CACHE)
    except (OSError, subprocess.SubprocessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1:]
        pytest.skip(f"MariaDB is not installed, and apt cannot bring {PACKAGES[0]}: {' '.join(reason)}")
    return machine if machine.server.exists() else cached


@contextmanager
def running_mariadb(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the arguments of a connection to a server whose data is in a folder, and stop it afterwards."""
    programs, data = find_programs(), folder / "data"
    port = free_port()
    # A server refuses to run as root unless it is named.
    user = ["--user=root"] if os.geteuid() == 0 else []
    base = [f"--basedir={programs.root / 'usr'}", f"--datadir={data}", *user]
    install = [str(programs.installer), "--no-defaults", *base]
    install += ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
    finish_child(
        start_child("mariadb-install-db", install, programs.environment, folder / "install.log"), timeout_seconds=120
    )
    # A path of a socket may have 107 signs, and the folder of a test has more.
    serve = [str(programs.server), "--no-defaults", *base, f"--socket=/tmp/mariadb-{port}.sock", f"--port={port}"]
    serve += ["--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin", "--innodb-buffer-pool-size=32M"]
    serve += ["--innodb-flush-log-at-trx-commit=0", "--default-time-zone=+13:00", f"--pid-file={folder / 'server.pid'}"]
    child = start_child("mariadbd", serve, programs.environment, folder / "server.log")
    access: dict[str, Any] = {"host": "127.0.0.1", "port": port, "user": "root"}

    def answers() -> bool:
        try:
            pymysql.connect(**access, connect_timeout=5).close()
        except pymysql.Error:
            return False
        return True

    try:
        wait_until_ready(child, answers, timeout_seconds=60)
        with pymysql.connect(**access, autocommit=True) as connection:
            connection.cursor().execute("CREATE DATABASE shop CHARACTER SET utf8mb4")
        yield {**access, "database": "shop"}
    finally:
        stop_sessions([child.pid], patience_seconds=10)
        child.process.wait()


if __name__ == "__main__":
    sys.stdout.write(f"{find_programs().server}\n")
