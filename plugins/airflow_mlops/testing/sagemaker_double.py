"""A local double of SageMaker's training jobs: jobs have states, can be stopped, and run on this machine.

    with SageMakerDouble(s3_endpoint="http://127.0.0.1:5000") as sagemaker:
        connection = {"conn_type": "aws", "login": "key", "password": "secret", "extra": {
            "region_name": "us-east-1", "service_config": {
                "s3": {"endpoint_url": "http://127.0.0.1:5000"}, "sagemaker": {"endpoint_url": sagemaker.url}}}}

It answers ``CreateTrainingJob``, ``DescribeTrainingJob`` and ``StopTrainingJob`` over HTTP as SageMaker does. The
container is a process of this interpreter in a folder that stands for ``/opt/ml``; inputs, outputs and checkpoints are
in any S3, such as moto's. The image is ignored.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from pyarrow.fs import FileSelector, S3FileSystem

from airflow_mlops.core.training.child_process import arithmetic_variables

ENDED = ("Completed", "Failed", "Stopped")


class RefusedCallError(Exception):
    """A call that is answered with an error: code and message."""


class SageMakerDouble:
    """A server of training jobs on loopback.

    :param s3_endpoint: address of the S3 that holds inputs and outputs
    :param key: access key there
    :param secret: secret of that key
    :param held: whether jobs wait in progress until ``release`` is called
    """

    def __init__(self, *, s3_endpoint: str, key: str = "key", secret: str = "secret", held: bool = False) -> None:
        self.files = S3FileSystem(
            access_key=key,
            secret_key=secret,
            region="us-east-1",
            endpoint_override=s3_endpoint,
        )
        self.jobs: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.faults: list[str] = []
        """Reasons with which the next jobs fail before their code runs, first to last.

        ``MaxWaitTimeExceeded`` stops a job as one for which no spot instance came.
        """
        self.refusals: list[str] = []
        """Codes with which the next starts of a job are refused, first to last."""
        self.interruptions: list[Callable[[Path], bool]] = []
        """Conditions on the folder of checkpoints at which the next machines are lost, first to last.

        What the folder holds then is what SageMaker has copied, and the job begins anew on another machine.
        """
        self._may_run = threading.Event()
        self._lock = threading.Lock()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        if not held:
            self.release()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.jobs):
            self._end(name, "Stopped", "Stopped")
        self.release()
        self._server.shutdown()
        self._server.server_close()

    def release(self) -> None:
        """Run the waiting jobs, and all later ones at once."""
        self._may_run.set()

    def count(self, call: str) -> int:
        """Return the number of calls of a name."""
        return sum(name == call for name, _ in self.calls)

    def answer(self, call: str, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a call of the API.

        :raises RefusedCallError: as SageMaker refuses it
        """
        name = str(request.get("TrainingJobName", ""))
        with self._lock:
            self.calls.append((call, name))
            if call == "CreateTrainingJob":
                return self._create(name, request)
            if name not in self.jobs:
                raise RefusedCallError("ValidationException", "Requested resource not found.")
            if call == "DescribeTrainingJob":
                return self.jobs[name]
            if call == "StopTrainingJob":
                return self._stop(name)
        raise RefusedCallError("UnknownOperationException", call)

    def _create(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        if self.refusals:
            raise RefusedCallError(self.refusals.pop(0), "not now")
        if name in self.jobs:
            raise RefusedCallError(
                "ResourceInUse", "Training job names must be unique within an AWS account and region"
            )
        arn = f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}"
        self.jobs[name] = {
            **request,
            "TrainingJobArn": arn,
            "TrainingJobStatus": "InProgress",
            "SecondaryStatus": "Starting",
        }
        threading.Thread(target=self._run, args=(name,), daemon=True).start()
        return {"TrainingJobArn": arn}

    def _stop(self, name: str) -> dict[str, Any]:
        if self.jobs[name]["TrainingJobStatus"] in ENDED:
            raise RefusedCallError(
                "ValidationException", "The request was rejected because the training job has ended."
            )
        self._end(name, "Stopped", "Stopped")
        return {}

    def _end(self, name: str, status: str, secondary: str, **more: Any) -> None:
        """Set the final state of a job, once, and kill its process."""
        job = self.jobs[name]
        if job["TrainingJobStatus"] in ENDED:
            return
        self.jobs[name] = {**job, **more, "TrainingJobStatus": status, "SecondaryStatus": secondary}
        process = self._processes.get(name)
        if process is not None and process.poll() is None:
            process.kill()

    def _run(self, name: str) -> None:
        self._may_run.wait()
        job = self.jobs[name]
        if job["TrainingJobStatus"] in ENDED:
            return
        while not self._fail(name) and not self._run_on_machine(name, job):
            self.jobs[name] = {**self.jobs[name], "SecondaryStatus": "Restarting"}

    def _fail(self, name: str) -> bool:
        """End a job by the next of the faults; return False if there is none."""
        if not self.faults:
            return False
        reason = self.faults.pop(0)
        if reason == "MaxWaitTimeExceeded":
            self._end(name, "Stopped", reason)
        else:
            self._end(name, "Failed", "Failed", FailureReason=reason)
        return True

    def _run_on_machine(self, name: str, job: dict[str, Any]) -> bool:
        """Run a job on one machine and set how it has ended; return False if the machine was lost instead."""
        with tempfile.TemporaryDirectory(prefix="opt-ml-") as path:
            folder = Path(path)
            for part in ("input/data", "model", "output"):
                (folder / part).mkdir(parents=True)
            for channel in job["InputDataConfig"]:
                self._download(
                    channel["DataSource"]["S3DataSource"]["S3Uri"], folder / "input/data" / channel["ChannelName"]
                )
            checkpoints = job.get("CheckpointConfig", {}).get("S3Uri")
            if checkpoints:
                (folder / "checkpoints").mkdir()
                self._download(checkpoints, folder / "checkpoints")
            lost = self.interruptions.pop(0) if self.interruptions else None
            code = self._in_container(name, job, folder, lost)
            if checkpoints:
                self._copy_checkpoints(folder / "checkpoints", checkpoints)
            if lost is not None and lost(folder / "checkpoints"):
                return False
            if code is None:
                self._end(name, "Stopped", "MaxRuntimeExceeded")
            elif code:
                failure = folder / "output" / "failure"
                message = failure.read_text() if failure.exists() else ""
                self._end(name, "Failed", "Failed", FailureReason=f"AlgorithmError: {message}, exit code: {code}")
            else:
                artifacts = self._upload(
                    f"{job['OutputDataConfig']['S3OutputPath']}/{name}/output/model.tar.gz", folder
                )
                self._end(name, "Completed", "Completed", ModelArtifacts={"S3ModelArtifacts": artifacts})
        return True

    def _in_container(
        self, name: str, job: dict[str, Any], folder: Path, lost: Callable[[Path], bool] | None
    ) -> int | None:
        """Run the container's command and return its exit code; None after a timeout. A lost machine kills it."""
        run = job["AlgorithmSpecification"]
        command = [
            part.replace("/opt/ml", str(folder)) for part in (*run["ContainerEntrypoint"], *run["ContainerArguments"])
        ]
        command[0] = sys.executable if command[0] == "python" else command[0]
        process = subprocess.Popen(command, cwd=folder, env={"PATH": os.environ["PATH"]} | arithmetic_variables())
        self._processes[name] = process
        until = time.monotonic() + float(job["StoppingCondition"]["MaxRuntimeInSeconds"])
        while process.poll() is None:
            if lost is not None and lost(folder / "checkpoints"):
                process.kill()
            elif time.monotonic() > until:
                process.kill()
                process.wait()
                return None
            time.sleep(0.01)
        return process.returncode

    def _copy_checkpoints(self, folder: Path, uri: str) -> None:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            address = f"{uri.removeprefix('s3://').rstrip('/')}/{file.relative_to(folder).as_posix()}"
            with self.files.open_output_stream(address, compression=None) as target:
                target.write(file.read_bytes())

    def _download(self, uri: str, folder: Path) -> None:
        prefix = uri.removeprefix("s3://").rstrip("/")
        for info in self.files.get_file_info(FileSelector(prefix, recursive=True, allow_not_found=True)):
            if info.is_file:
                target = folder / info.path.removeprefix(f"{prefix}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                with self.files.open_input_stream(info.path, compression=None) as source:
                    target.write_bytes(source.read())

    def _upload(self, uri: str, folder: Path) -> str:
        archive = folder / "model.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for path in sorted((folder / "model").iterdir()):
                tar.add(path, arcname=path.name)
        with self.files.open_output_stream(uri.removeprefix("s3://"), compression=None) as target:
            target.write(archive.read_bytes())
        return uri


def handler_of(double: SageMakerDouble) -> type[BaseHTTPRequestHandler]:
    """Return the HTTP request handler class of a double."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            call = self.headers["X-Amz-Target"].rpartition(".")[2]
            try:
                status, body = 200, double.answer(call, request)
            except RefusedCallError as error:
                code, message = error.args
                status, body = 400, {"__type": code, "message": message}
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    return Handler
