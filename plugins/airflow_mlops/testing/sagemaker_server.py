"""The endpoints of `sagemaker_endpoints` in front of moto, over HTTP, in a process of its own.

    with SageMakerEndpoints(tmp_path / "sagemaker.log") as aws:
        os.environ["AIRFLOW_CONN_MLOPS_SAGEMAKER"] = aws.connection(serving={...})
        aws.ask("predictor", model="-v2-", status=500)
        aws.ask("advance", seconds=120)

One address answers for SageMaker, its runtime, CloudWatch and S3. What is not imitated goes to moto. CloudWatch's
statistics of ``AWS/SageMaker`` are counted from the invocations, percentiles and trimmed counts among them. It is a
process of its own, because libraries that hold the interpreter while they wait would otherwise wait for themselves.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from email.utils import formatdate
from pathlib import Path
from typing import Any, Self

from airflow_mlops.testing.child_processes import Child, start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.free_ports import free_port
from airflow_mlops.testing.sagemaker_endpoints import EndpointsDouble, RefusedCallError
from airflow_mlops.testing.sagemaker_statistics import patch_moto_statistics

MODEL_ERROR = 424
Answer = tuple[int, dict[str, str], bytes]


class SageMakerEndpoints:
    """The server as a child process.

    :param log: file for its output
    :param change_seconds: duration of a change of an endpoint
    """

    def __init__(self, log: Path, *, change_seconds: float = 0.0) -> None:
        self.log, self.change_seconds = log, change_seconds
        self.url = ""
        self._child: Child | None = None

    def __enter__(self) -> Self:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", __name__, "--port", str(port), "--change-seconds", str(self.change_seconds)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        self._child = start_child("sagemaker-endpoints", command, environment, self.log)
        wait_until_ready(self._child, self._answers, timeout_seconds=60)
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            stop_sessions([self._child.pid], patience_seconds=2)
            self._child.process.wait()

    def connection(self, **extra: Any) -> str:
        """Return an Airflow connection to this server, as JSON for ``AIRFLOW_CONN_…``."""
        extra = {"region_name": "us-east-1", "endpoint_url": self.url, **extra}
        return json.dumps({"conn_type": "aws", "login": "key", "password": "secret", "extra": extra})

    def ask(self, command: str, **parameters: Any) -> Any:
        """Send a command to the double itself, and return its state.

        ``state``: calls, models, configurations, endpoints, tags, invocations · ``predictor`` (``model``, ``status``,
        ``share``, ``seconds``, ``body``): how models answer whose name contains ``model`` · ``advance``
        (``seconds``): move its clock · ``fail`` (``reason``): roll the next change back · ``slow`` (``seconds``): how
        long changes take from now on.
        """
        return self._post(f"double/{command}", parameters)

    def reset(self) -> None:
        """Delete all state, also moto's buckets and alarms."""
        self._post("double/reset", {})
        self._post("moto-api/reset", {})

    def count(self, call: str) -> int:
        """Return the number of API calls of a name."""
        return sum(name == call for name, _ in self.ask("state")["calls"])

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(f"{self.url}/{path}", data=json.dumps(body).encode(), method="POST")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as response:
            return json.load(response)

    def _answers(self) -> bool:
        try:
            self.ask("state")
        except (urllib.error.URLError, OSError):
            return False
        return True


class Front:
    """The WSGI application: the double answers the calls that it imitates, moto all others.

    :param behind: moto's WSGI application
    """

    def __init__(self, double: EndpointsDouble, behind: Any) -> None:
        self.double, self.behind = double, behind

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        answer = self._answer(environ)
        if answer is None:
            passed: Iterable[bytes] = self.behind(environ, start_response)
            return passed
        status, headers, body = answer
        headers = {"Content-Length": str(len(body)), **headers}
        start_response(f"{status} Said", list(headers.items()))
        return [body]

    def _answer(self, environ: dict[str, Any]) -> Answer | None:
        path, target = environ["PATH_INFO"], environ.get("HTTP_X_AMZ_TARGET", "")
        invocation = re.fullmatch(r"/endpoints/([^/]+)/invocations", path)
        if not (target.startswith("SageMaker.") or invocation or path.startswith("/double/")):
            return None
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        try:
            if invocation:
                return self._invoke(invocation[1], environ.get("HTTP_X_AMZN_SAGEMAKER_TARGET_VARIANT"))
            request = json.loads(body or b"{}")
            if path.startswith("/double/"):
                return json_answer(200, control_double(self.double, path.removeprefix("/double/"), request))
            answer = self.double.answer(target.removeprefix("SageMaker."), request)
        except RefusedCallError as error:
            code, message = error.args
            return json_answer(400, {"__type": code, "message": message})
        if answer is None:
            environ["wsgi.input"] = io.BytesIO(body)
            return None
        return json_answer(200, answer)

    def _invoke(self, name: str, variant: str | None) -> Answer:
        status, body, chosen = self.double.invoke(name, variant)
        if status == 200:
            headers = {"Content-Type": "application/json", "x-Amzn-Invoked-Production-Variant": chosen}
            return 200, headers, body.encode()
        error = {"Message": f"Received server error ({status}) from primary", "OriginalStatusCode": status}
        return MODEL_ERROR, {"x-amzn-ErrorType": "ModelError"}, json.dumps(error).encode()


def json_answer(status: int, body: dict[str, Any]) -> Answer:
    """Return an answer in JSON, in the form of SageMaker."""
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(body).encode()


def control_double(double: EndpointsDouble, command: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run a command of `SageMakerEndpoints.ask` on the double, and return its state."""
    with double.lock:
        if command == "predictor":
            double.predictors.append(parameters)
        elif command == "advance":
            double.ahead += parameters["seconds"]
        elif command == "fail":
            double.failures.append(parameters["reason"])
        elif command == "slow":
            double.change_seconds = parameters["seconds"]
        elif command == "reset":
            fresh = EndpointsDouble(change_seconds=0.0, ringing=double.ringing, lock=double.lock)
            double.__dict__.update(fresh.__dict__)
        invocations = [vars(invocation) for invocation in double.invocations]
        return {"calls": double.calls, "tags": double.tags, "invocations": invocations, **double.things}


def main() -> None:
    """Serve until the process is ended."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--change-seconds", type=float, default=0.0)
    args = parser.parse_args()
    double = EndpointsDouble(change_seconds=args.change_seconds)
    patch_moto_statistics(double)

    class Handler(MotoRequestHandler):
        def date_time_string(self, timestamp: float | None = None) -> str:
            """Return the time of the double, for the Date header."""
            return formatdate(double.now() if timestamp is None else timestamp, usegmt=True)

        def log(self, type: str, message: str, *args: Any) -> None:
            """Log no requests."""

    app = Front(double, DomainDispatcherApplication(create_backend_app))
    make_server("127.0.0.1", args.port, app, threaded=True, request_handler=Handler).serve_forever()


if __name__ == "__main__":
    main()
