"""Fits run as SageMaker training jobs, through the amazon provider.

A job has a name made of its request, so a task that is tried again finds the job of the first try and adopts it,
whatever has become of it. The rows lie in S3 while the job runs, and are removed when it has ended.
"""

from __future__ import annotations

import json
import logging
import shutil
import tarfile
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_mlops.core.errors import FitStoppedError, TrainingError
from airflow_mlops.core.ports.fit_request import FitRequest, FitResult
from airflow_mlops.hooks.sagemaker import aws_clients
from airflow_mlops.hooks.sagemaker_code import write_code
from airflow_mlops.hooks.sagemaker_job import UNDER_WAY, job_described, job_name, require_completed

if TYPE_CHECKING:
    from airflow_mlops.core.declaration.train import FitLimits, OnSageMaker
    from airflow_mlops.core.ports.fit_rows import FitRows

LOG = logging.getLogger(__name__)
LARGEST_MODEL = 4 * 2**30


class SageMakerStep:
    """Fits in a training job; a :class:`~airflow_mlops.core.ports.step_runner.StepRunner`.

    :param place: the declared job
    :param limits: ``minutes`` becomes the longest time that SageMaker lets the job run
    :param poll_seconds: longest pause between two looks at the job; the first ones are shorter
    """

    def __init__(self, place: OnSageMaker, limits: FitLimits, *, poll_seconds: float = 15.0) -> None:
        self.place, self.limits, self.poll_seconds = place, limits, poll_seconds
        clients = aws_clients(place.connection, key="train.runs_on.kind")
        self.jobs, self.files = clients.sagemaker(), clients.s3()
        self._name: str | None = None
        self._stopped = False

    def fit(self, request: FitRequest, rows: FitRows) -> FitResult:
        """Fit in a job, the one of a try before if there was one; see the port.

        :raises TrainingError: also if the job failed or was stopped, with SageMaker's reason
        """
        name = self._name = job_name(request)
        job = self._described(name)
        if job is None:
            self._start(name, request, rows)
        else:
            LOG.info("adopting SageMaker job %s, which is %s", name, job["TrainingJobStatus"])
        try:
            job = self._awaited(name, request.candidate)
        except FitStoppedError:
            self._remove_rows(name)
            raise
        self._remove_rows(name)
        require_completed(job, request.candidate, self.limits)
        return self._fetched(job, request)

    def stop(self) -> None:
        """Ask SageMaker to stop the job that is under way."""
        self._stopped = True
        if self._name is not None:
            try:
                self.jobs.stop_training_job(TrainingJobName=self._name)
            except self.jobs.exceptions.ClientError as error:  # it has ended, or was never started
                LOG.info("SageMaker job %s is not stopped: %s", self._name, error)

    def _described(self, name: str) -> dict[str, Any] | None:
        """Return the job of a name; None if there is none."""
        try:
            return dict(self.jobs.describe_training_job(TrainingJobName=name))
        except self.jobs.exceptions.ClientError as error:
            said = error.response["Error"]
            if said["Code"] == "ResourceNotFound" or "not found" in said["Message"] or "not find" in said["Message"]:
                return None
            raise

    def _start(self, name: str, request: FitRequest, rows: FitRows) -> None:
        with tempfile.TemporaryDirectory(prefix="job-") as made:
            folder = Path(made)
            rows.write(folder / "rows.parquet")
            write_code(request.function, Path(request.root), folder / "code.zip")
            # Paths of this worker mean nothing there.
            sent = replace(request, rows="", file="", root="")
            (folder / "request.json").write_text(json.dumps(sent.to_dict()), encoding="utf-8")
            for file in sorted(folder.iterdir()):
                bucket, key = self._input(name, file.name)
                self.files.upload_file(str(file), bucket, key)
        inputs = f"{self.place.storage.rstrip('/')}/{name}/input/"
        try:
            self.jobs.create_training_job(**job_described(name, self.place, self.limits, inputs))
        except self.jobs.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "ResourceInUse":  # another try was quicker: its job is adopted
                raise
        LOG.info("SageMaker job %s; its log is in the group /aws/sagemaker/TrainingJobs", name)

    def _awaited(self, name: str, candidate: str) -> dict[str, Any]:
        """Return the description of the job once it has ended, saying in the log what it does meanwhile."""
        before, pause = None, 1.0
        while True:
            job = self._described(name)
            if self._stopped:
                raise FitStoppedError(f"candidate {candidate!r}: SageMaker job {name} was stopped with its task")
            if job is None:
                raise TrainingError(f"candidate {candidate!r}: SageMaker job {name} is not there any more")
            now = f"{job['TrainingJobStatus']}, {job.get('SecondaryStatus', '')}"
            if now != before:
                LOG.info("SageMaker job %s: %s", name, now)
                before = now
            if job["TrainingJobStatus"] not in UNDER_WAY:
                return job
            self._wait(min(pause, self.poll_seconds))
            pause *= 2

    def _wait(self, seconds: float) -> None:
        """Wait in short steps, so that a task that is killed is not waited for."""
        until = time.monotonic() + seconds
        while not self._stopped and time.monotonic() < until:
            time.sleep(min(0.5, seconds))

    def _fetched(self, job: dict[str, Any], request: FitRequest) -> FitResult:
        """Fetch the model of a completed job to where the request wants it, and return the result beside it."""
        address = str(job["ModelArtifacts"]["S3ModelArtifacts"])
        if not address.startswith(f"{self.place.storage.rstrip('/')}/"):
            raise TrainingError(f"SageMaker says that the model is at {address}, outside of {self.place.storage}")
        parts = urlsplit(address)
        file = Path(request.file)
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="model-", dir=file.parent) as made:
            folder = Path(made)
            self.files.download_file(parts.netloc, parts.path.lstrip("/"), str(folder / "model.tar.gz"))
            unpack(folder / "model.tar.gz", ("model.skops", "result.json"), folder)
            result = FitResult.from_dict(json.loads((folder / "result.json").read_text(encoding="utf-8")))
            (folder / "model.skops").replace(file)
        return result

    def _remove_rows(self, name: str) -> None:
        bucket, key = self._input(name, "rows.parquet")
        self.files.delete_object(Bucket=bucket, Key=key)

    def _input(self, name: str, file: str) -> tuple[str, str]:
        """Return bucket and key of an input file of a job."""
        parts = urlsplit(self.place.storage)
        return parts.netloc, f"{parts.path.strip('/')}/{name}/input/{file}".lstrip("/")


def unpack(archive: Path, names: tuple[str, ...], folder: Path) -> None:
    """Write the files of these names, and no others, from a tar archive into a folder.

    :raises TrainingError: if one is missing, is no plain file, or is too large
    """
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for name in names:
                member = opened.getmember(name)
                content = opened.extractfile(member)
                if content is None or not member.isreg() or member.size > LARGEST_MODEL:
                    raise TrainingError(f"{name!r} of the SageMaker job is no file of at most {LARGEST_MODEL:,} bytes")
                with (folder / name).open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise TrainingError(f"what the SageMaker job left is no archive with {' and '.join(names)}: {error}") from error
