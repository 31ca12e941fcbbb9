"""A small client of Airflow's public REST API, to start partitions and watch the runs that follow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

_PAGE = 100
_UNFINISHED = ("queued", "running")


class AirflowApiError(RuntimeError):
    """Airflow refused a request; the message quotes the answer."""


class AirflowClient:
    """Talks to one API server as one user, and logs in again when the token has expired.

    :param url: address of the API server, without a path
    :param user: name of the user of the simple auth manager
    :param password: password of that user
    :param timeout_seconds: how long one answer may take
    """

    def __init__(self, url: str, user: str, password: str, *, timeout_seconds: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self._login = {"username": user, "password": password}
        self._http = httpx.Client(base_url=self.url, timeout=timeout_seconds, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send one request and return the JSON object of the answer.

        Raises
        ------
        AirflowApiError
            If the answer is not 2xx; names the request, the status and the answer.
        """
        if "Authorization" not in self._http.headers:
            self._log_in()
        answer = self._http.request(method, path, **options)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._log_in()
            answer = self._http.request(method, path, **options)
        if not answer.is_success:
            raise AirflowApiError(f"{method} {path} was answered {answer.status_code}: {answer.text[:800]}")
        body: dict[str, Any] = answer.json() if answer.content else {}
        return body

    def health(self) -> dict[str, str | None]:
        """Return the status of each component; empty while the API server does not answer."""
        try:
            answer = self._http.get("/api/v2/monitor/health", timeout=5.0)
        except httpx.TransportError:
            return {}
        if not answer.is_success:
            return {}
        return {name: part.get("status") for name, part in answer.json().items() if part}

    def dag_ids(self) -> list[str]:
        """Return the ids of all Dags, sorted."""
        return sorted(dag["dag_id"] for dag in self._pages("/api/v2/dags", "dags"))

    def import_errors(self) -> dict[str, str]:
        """Return the stack trace of each Dag file that cannot be imported, by its name."""
        errors = self._pages("/api/v2/importErrors", "import_errors")
        return {str(error["filename"]): str(error["stack_trace"]) for error in errors}

    def wait_for_dags(self, *dag_ids: str, timeout_seconds: float = 60.0) -> None:
        """Wait until the Dag processor has found the Dags.

        Raises
        ------
        AirflowApiError
            If one is missing when the time is up, or a Dag file cannot be imported.
        """
        deadline = time.monotonic() + timeout_seconds
        while missing := sorted(set(dag_ids) - set(self.dag_ids())):
            if errors := self.import_errors():
                file, trace = next(iter(errors.items()))
                raise AirflowApiError(f"The Dag file {file} cannot be imported:\n{trace}")
            if time.monotonic() > deadline:
                raise AirflowApiError(
                    f"Airflow did not find the Dag {missing[0]!r} within {timeout_seconds:g} s; "
                    f"it knows {self.dag_ids()}. Look at the log of the Dag processor."
                )
            time.sleep(0.3)

    def unpause(self, *dag_ids: str) -> None:
        """Unpause Dags; asset events before that are lost to their consumers."""
        for dag_id in dag_ids:
            self.request("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def pause(self, *dag_ids: str) -> None:
        """Pause Dags, so that they start no runs."""
        for dag_id in dag_ids:
            self.request("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": True})

    def trigger(self, dag_id: str, partition_key: str | None = None, *, conf: dict[str, Any] | None = None) -> str:
        """Queue one run, of one partition where a key is given, and return the id of the run."""
        body = {"logical_date": None, "partition_key": partition_key, "conf": conf or {}}
        return str(self.request("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def dag_runs(self, dag_id: str = "~", **filters: Any) -> list[dict[str, Any]]:
        """Return the runs of a Dag (``~``: of all), oldest first; ``filters`` as in ``GET …/dagRuns``."""
        return list(self._pages(f"/api/v2/dags/{dag_id}/dagRuns", "dag_runs", {"order_by": "id", **filters}))

    def task_instances(self, dag_id: str = "~", run_id: str = "~", **filters: Any) -> list[dict[str, Any]]:
        """Return the task instances of a run (``~``: of all), each with its state, try and times."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return list(self._pages(path, "task_instances", filters))

    def log(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1) -> str:
        """Return the log of one attempt as text, one event a line."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        content = self.request("GET", path, params={"map_index": map_index, "full_content": True})["content"]
        return "\n".join(line if isinstance(line, str) else str(line.get("event", line)) for line in content)

    def unfinished_runs(self) -> int:
        """Return the number of queued or running runs, also of paused Dags."""
        answer = self.request("GET", "/api/v2/dags/~/dagRuns", params={"state": list(_UNFINISHED), "limit": 1})
        return int(answer["total_entries"])

    def pending_partitions(self) -> int:
        """Return the number of partitions with an event but no run of the consumer yet."""
        answer = self.request("GET", "/ui/partitioned_dag_runs", params={"has_created_dag_run_id": False})
        return int(answer["total"])

    def unsettled(self) -> int:
        """Return the number of unfinished runs and of partitions without a run; 0 means idle.

        A partition turns into a run between two requests, so runs are counted again when all seems quiet.
        """
        count = self.unfinished_runs() + self.pending_partitions()
        return count or self.unfinished_runs() + self.pending_partitions()

    def wait_until_settled(
        self,
        *,
        timeout_seconds: float = 300.0,
        poll_seconds: float = 0.2,
        count: Callable[[], int] | None = None,
    ) -> float:
        """Wait until no work is left, and return the seconds it took.

        ``count`` replaces `unsettled`, for example by a query of the metadata database.

        Raises
        ------
        AirflowApiError
            If work is left when the time is up; names up to five runs.
        """
        unsettled, started = count or self.unsettled, time.monotonic()
        while remaining := unsettled():
            if time.monotonic() - started > timeout_seconds:
                runs = [f"{r['dag_id']} {r['dag_run_id']} {r['state']}" for r in self.dag_runs(state=_UNFINISHED)]
                raise AirflowApiError(
                    f"{remaining} runs or partitions are not settled after {timeout_seconds:g} s: "
                    f"{runs[:5] or 'partitions without a run'}"
                )
            time.sleep(poll_seconds)
        return time.monotonic() - started

    def _log_in(self) -> None:
        answer = self._http.post("/auth/token", json=self._login)
        if not answer.is_success:
            raise AirflowApiError(
                f"Airflow refused the login of {self._login['username']!r}: {answer.status_code} {answer.text[:300]}"
            )
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def _pages(self, path: str, field: str, params: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            page = self.request("GET", path, params={**(params or {}), "limit": _PAGE, "offset": offset})
            yield from page[field]
            offset += len(page[field])
            if not page[field] or offset >= page["total_entries"]:
                return
