"""Clients that ask one address for predictions until they are stopped, and keep the result of each request."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass

from airflow_mlops.testing.gateway_process import PREDICT_TOKEN
from tests.contracts.gateway.toy_project import row

PAUSE_SECONDS = 0.005
HEADERS = {"Authorization": f"Bearer {PREDICT_TOKEN}", "Content-Type": "application/json"}


@dataclass(frozen=True)
class Reply:
    """The result of a request: its status, 0 without an answer, the replica, the version, and when it came."""

    key: str
    status: int
    replica: str
    version: str
    prediction: float
    at: float
    words: str = ""


class Load:
    """Clients in threads of their own, each with one request at a time under a key that is used once."""

    def __init__(self, port: int, clients: int) -> None:
        self.port, self._lock, self.replies = port, threading.Lock(), list[Reply]()
        self._go, self._done = threading.Event(), threading.Event()
        self._idle = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._ask_all, args=(number,)) for number in range(clients)]

    def start(self) -> None:
        """Start asking."""
        self._go.set()
        for thread in self._threads:
            thread.start()

    def pause(self) -> None:
        """Stop asking, and return once every request was answered."""
        self._go.clear()
        for _thread in self._threads:
            self._idle.acquire()

    def resume(self) -> None:
        """Ask again after a pause."""
        self._go.set()

    def stop(self) -> None:
        """End all clients."""
        self._done.set()
        self._go.set()
        for thread in self._threads:
            thread.join()

    def answered(self) -> Counter[str]:
        """Return the count of answers by replica."""
        with self._lock:
            return Counter(reply.replica for reply in self.replies if reply.status == 200)

    def _ask_all(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        count = 0
        while True:
            if not self._go.is_set():
                self._idle.release()
                self._go.wait()
            if self._done.is_set():
                break
            count += 1
            reply = ask(connection, f"{number}-{count}")
            with self._lock:
                self.replies.append(reply)
            self._done.wait(PAUSE_SECONDS)
        connection.close()


def ask(connection: http.client.HTTPConnection, key: str) -> Reply:
    """Return the result of a request for one row."""
    try:
        connection.request("POST", "/predict", body=json.dumps(row(key)), headers=HEADERS)
        answer = connection.getresponse()
        replica, body = answer.getheader("x-replica", ""), answer.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return Reply(key, 0, "", "", 0.0, time.time(), repr(error))
    if answer.status != 200:
        return Reply(key, answer.status, replica, "", 0.0, time.time(), body.decode())
    values = json.loads(body)
    return Reply(key, 200, replica, values["version"], values["prediction"], time.time())
