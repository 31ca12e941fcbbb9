"""The double of SageMaker with batch transform jobs, whose containers run on this machine.

    with TransformsDouble(s3_endpoint="http://127.0.0.1:5000") as sagemaker:
        ...

It answers ``CreateModel``, ``DescribeModel``, ``CreateTransformJob``, ``DescribeTransformJob`` and ``StopTransformJob``
beside the calls of :class:`~airflow_mlops.testing.sagemaker_double.SageMakerDouble`. The container of a job is a
process of this interpreter that serves the unpacked archive of the model, and is asked once for each file of the input.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyarrow.fs import FileSelector

from airflow_mlops.core.training.child_process import arithmetic_variables
from airflow_mlops.testing.free_ports import free_port
from airflow_mlops.testing.sagemaker_double import ENDED, RefusedCallError, SageMakerDouble

START_SECONDS = 120


class TransformsDouble(SageMakerDouble):
    """A server of training and batch transform jobs on loopback; see the base for its arguments."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.models: dict[str, dict[str, Any]] = {}
        self.transforms: dict[str, dict[str, Any]] = {}
        self.change_output: Callable[[dict[str, bytes]], dict[str, bytes]] = dict
        """Changes the files of predictions of a job, by their names, before they are written."""

    def __exit__(self, *exception: object) -> None:
        for name in list(self.transforms):
            self._end_transform(name, "Stopped")
        super().__exit__(*exception)

    def answer(self, call: str, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a call of the API.

        :raises RefusedCallError: as SageMaker refuses it
        """
        if call in ("CreateModel", "DescribeModel"):
            return self._answer_model(call, str(request["ModelName"]), request)
        if "TransformJob" not in call:
            return super().answer(call, request)
        name = str(request["TransformJobName"])
        with self._lock:
            self.calls.append((call, name))
            if call == "CreateTransformJob":
                return self._create_transform(name, request)
            if name not in self.transforms:
                raise RefusedCallError("ValidationException", f'Could not find requested job with name: "{name}"')
            if call == "DescribeTransformJob":
                return self.transforms[name]
            if self.transforms[name]["TransformJobStatus"] in ENDED:
                raise RefusedCallError("ValidationException", "The job has ended.")
            self._end_transform(name, "Stopped")
            return {}

    def _answer_model(self, call: str, name: str, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.calls.append((call, name))
            if call == "DescribeModel" and name not in self.models:
                raise RefusedCallError("ValidationException", f'Could not find model "{name}".')
            if call == "CreateModel":
                if name in self.models:
                    raise RefusedCallError("ValidationException", "Cannot create already existing model")
                self.models[name] = request | {"ModelArn": f"arn:aws:sagemaker:us-east-1:123456789012:model/{name}"}
            return self.models[name]

    def _create_transform(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        if self.refusals:
            raise RefusedCallError(self.refusals.pop(0), "not now")
        if name in self.transforms:
            raise RefusedCallError("ResourceInUse", "Job name must be unique within an AWS account and region")
        if request["ModelName"] not in self.models:
            raise RefusedCallError("ValidationException", "Could not find model.")
        arn = f"arn:aws:sagemaker:us-east-1:123456789012:transform-job/{name}"
        self.transforms[name] = request | {"TransformJobArn": arn, "TransformJobStatus": "InProgress"}
        threading.Thread(target=self._transform, args=(name,), daemon=True).start()
        return {"TransformJobArn": arn}

    def _end_transform(self, name: str, status: str, **more: Any) -> None:
        """Set the final state of a job, once, and kill its process."""
        job = self.transforms[name]
        if job["TransformJobStatus"] in ENDED:
            return
        self.transforms[name] = {**job, **more, "TransformJobStatus": status}
        process = self._processes.get(name)
        if process is not None and process.poll() is None:
            process.kill()

    def _transform(self, name: str) -> None:
        self._may_run.wait()
        job = self.transforms[name]
        if job["TransformJobStatus"] in ENDED:
            return
        if self.faults:
            self._end_transform(name, "Failed", FailureReason=self.faults.pop(0))
            return
        with tempfile.TemporaryDirectory(prefix="opt-ml-") as path:
            folder = Path(path)
            self._unpack_model(self.models[job["ModelName"]], folder / "model")
            self._download(job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"], folder / "input")
            answers = self._ask_container(name, job, folder)
            if answers is None:
                reason = "ClientError: See job logs for more information"
                self._end_transform(name, "Failed", FailureReason=reason)
                return
            output = str(job["TransformOutput"]["S3OutputPath"]).removeprefix("s3://").rstrip("/")
            for file, content in self.change_output(answers).items():
                with self.files.open_output_stream(f"{output}/{file}", compression=None) as target:
                    target.write(content)
            self._end_transform(name, "Completed")

    def _unpack_model(self, model: dict[str, Any], folder: Path) -> None:
        address = str(model["PrimaryContainer"]["ModelDataUrl"]).removeprefix("s3://")
        with (
            self.files.open_input_stream(address, compression=None) as source,
            tarfile.open(fileobj=source, mode="r|gz") as archive,
        ):
            archive.extractall(folder, filter="data")

    def _ask_container(self, name: str, job: dict[str, Any], folder: Path) -> dict[str, bytes] | None:
        """Return the answer of a container to each file of the input; None if it refuses one, or does not run."""
        port = free_port()
        command = [sys.executable, str(folder / "model" / "code.zip"), "serve", "--folder", str(folder)]
        address = {"SAGEMAKER_BIND_TO_PORT": str(port), "MLOPS_BIND_TO_HOST": "127.0.0.1"}
        environment = {"PATH": os.environ["PATH"]} | arithmetic_variables() | address
        process = subprocess.Popen(command, cwd=folder, env=environment)
        self._processes[name] = process
        try:
            if not answers_ping(process, port):
                return None
            files = sorted((folder / "input").iterdir())
            answers = {f"{file.name}.out": send(port, "POST", "/invocations", file.read_bytes(), job) for file in files}
            refused = any(status != 200 for status, _ in answers.values())
            return None if refused else {name: content for name, (_, content) in answers.items()}
        except OSError:  # the process was killed, because the job was stopped
            return None
        finally:
            process.kill()
            process.wait()

    def objects_below(self, uri: str) -> list[str]:
        """Return the names of the objects below an address of S3."""
        parts = urlsplit(uri)
        folder = FileSelector(f"{parts.netloc}{parts.path}".rstrip("/"), recursive=True, allow_not_found=True)
        return sorted(info.base_name for info in self.files.get_file_info(folder) if info.is_file)


def answers_ping(process: subprocess.Popen[bytes], port: int) -> bool:
    """Return whether a container answers before it ends, within two minutes."""
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            return send(port, "GET", "/ping", b"", {})[0] == 200
        except ConnectionRefusedError:
            time.sleep(0.05)
    return False


def send(port: int, method: str, path: str, body: bytes, job: dict[str, Any]) -> tuple[int, bytes]:
    """Return status and body of the answer of a container."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    kind = job.get("TransformInput", {}).get("ContentType", "")
    connection.request(method, path, body, {"Content-Type": kind, "Content-Length": str(len(body))})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content
