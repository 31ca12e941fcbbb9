"""Predict partitions in batch transform jobs of SageMaker, through the amazon provider.

The name of a job is derived from the partition, its content and the version: a retry finds the job of the first try,
and adopts it while it runs and when it has completed. A job that was no answer is followed by the next number once a
task begins again. Features are in S3 while the job runs, predictions until they are recorded.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_mlops.core.errors import TransformError, TransformPlaceError, TransformUnderWayError
from airflow_mlops.core.fault_point import write
from airflow_mlops.core.ports.registry import MODEL_FILE
from airflow_mlops.core.registry.load import verified_folder
from airflow_mlops.core.rollout.targets.sagemaker.endpoint import describe, exists_already
from airflow_mlops.core.rollout.targets.sagemaker.model import pack, upload_archive
from airflow_mlops.core.training.transform_server import CODE, MODEL, PARQUET, VERSION, write_features
from airflow_mlops.hooks.sagemaker import aws_clients
from airflow_mlops.hooks.sagemaker_training import FAULT_OF_PLACE, IN_PROGRESS, REFUSED_FOR_NOW, write_code
from airflow_mlops.hooks.transform_output import read_predictions

if TYPE_CHECKING:
    from airflow_mlops.core.declaration.score import TransformOnSageMaker
    from airflow_mlops.core.ledger.state_machine import Version
    from airflow_mlops.core.ports.batch_predictor import RowsToScore
    from airflow_mlops.core.training.row_losses import Floats
    from airflow_mlops.core.workspace import Workspace

LOG = logging.getLogger(__name__)
LARGEST_FILE_MB = 100
"""Most megabytes that SageMaker sends to a container at once."""


class SageMakerTransform:
    """A :class:`~airflow_mlops.core.ports.batch_predictor.BatchPredictor` that predicts in batch transform jobs.

    :param workspace: the loop
    :param place: the declared jobs
    :param poll_seconds: longest pause between two requests about a job; the first pauses are shorter
    :param wait: whether to wait for jobs, or to raise TransformUnderWayError while one has not ended
    :param waited: the jobs for which the task has waited already; a failure of one of them is the answer
    """

    def __init__(
        self,
        workspace: Workspace,
        place: TransformOnSageMaker,
        *,
        poll_seconds: float = 15.0,
        wait: bool = True,
        waited: Sequence[str] = (),
    ) -> None:
        self.workspace, self.place = workspace, place
        self.poll_seconds, self.wait, self.waited = poll_seconds, wait, frozenset(waited)
        clients = aws_clients(place.connection, key="score.runs_on.kind")
        self.jobs, self.files = clients.sagemaker(), clients.s3()
        self._names: dict[str, str] = {}
        self._files: dict[str, int] = {}
        self._stopped = False

    def start(self, version: Version, rows: RowsToScore) -> None:
        """Start the job of a version, or adopt the one of an earlier try; see the port."""
        for number in itertools.count(1):
            name = transform_name(self.workspace.loop.model, version, rows, self.place, number)
            job = self._find_job(name)
            if job is None or name in self.waited or self._may_be_adopted(job, len(rows.keys)):
                break
            LOG.info("SageMaker job %s is %s; another follows", name, job["TransformJobStatus"])
        self._files[name] = self._count_files(len(rows.keys))
        if job is None:
            self._create(name, version, rows)
        else:
            LOG.info("adopting SageMaker job %s, which is %s", name, job["TransformJobStatus"])
        self._names[version.number] = name

    def predict(self, version: Version, rows: RowsToScore) -> Floats:
        """Return the predictions of a job once it has ended, each row once; see the port.

        :raises TransformError: also if the job failed or was stopped, with SageMaker's reason
        """
        name = self._names[version.number]
        job = self._wait_for_job(name)
        self._remove(name, "input")
        require_completed(job, version.number, rows.partition)
        where = f"version {version.number} on partition {rows.partition}: SageMaker job {name}"
        try:
            with tempfile.TemporaryDirectory(prefix="predictions-") as scratch:
                files = [self._fetch(name, place, Path(scratch), where) for place in range(self._files[name])]
                return read_predictions(files, rows.keys, self._width(), where)
        except TransformError:
            self._remove(name, "output")  # so that another try starts another job
            raise

    def finish(self) -> None:
        """Remove the predictions from S3; the model stays for the next partition."""
        for name in self._names.values():
            self._remove(name, "output")

    def stop(self) -> None:
        """Stop the running jobs."""
        self._stopped = True
        for name in self._names.values():
            try:
                write("sagemaker", self.jobs, "stop_transform_job", TransformJobName=name)
            except self.jobs.exceptions.ClientError as error:  # it has ended
                LOG.info("SageMaker job %s is not stopped: %s", name, error)

    def _width(self) -> int | None:
        """Return the count of numbers of a prediction; None where it is one number."""
        loop = self.workspace.loop
        return len(loop.several_class_names or loop.train.quantiles) or None

    def _count_files(self, rows: int) -> int:
        return max(1, -(-rows // self.place.rows_per_file))

    def _may_be_adopted(self, job: dict[str, Any], rows: int) -> bool:
        """Return whether a job runs, or has completed and its predictions are still there."""
        if job["TransformJobStatus"] in IN_PROGRESS:
            return True
        if job["TransformJobStatus"] != "Completed":
            return False
        bucket, key = self._location(job["TransformJobName"], "output", self._count_files(rows) - 1)
        try:
            self.files.head_object(Bucket=bucket, Key=key)
        except self.files.exceptions.ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchKey", "NotFound"):
                raise
            return False
        return True

    def _find_job(self, name: str) -> dict[str, Any] | None:
        return describe(self.jobs.describe_transform_job, TransformJobName=name)

    def _create(self, name: str, version: Version, rows: RowsToScore) -> None:
        """Send model, code and features, and start the job."""
        model = self._ensure_model(version)
        features = rows.features()
        with tempfile.TemporaryDirectory(prefix="features-") as scratch:
            for place in range(self._files[name]):
                part = slice(place * self.place.rows_per_file, (place + 1) * self.place.rows_per_file)
                file = Path(scratch) / part_name(place)
                write_features(file, rows.keys[part], features.iloc[part].reset_index(drop=True))
                if file.stat().st_size > LARGEST_FILE_MB * 10**6:
                    raise TransformError(
                        f"{part.stop - part.start:,} rows of partition {rows.partition} are a file of "
                        f"{file.stat().st_size:,} bytes, and SageMaker sends at most {LARGEST_FILE_MB} MB at once; "
                        "lower score.runs_on.rows_per_file"
                    )
                write("s3", self.files, "upload_file", str(file), *self._location(name, "input", place))
                file.unlink()
        try:
            write("sagemaker", self.jobs, "create_transform_job", **describe_transform(name, model, self.place))
        except self.jobs.exceptions.ClientError as error:
            code = error.response["Error"]["Code"]
            if code in REFUSED_FOR_NOW:
                raise TransformPlaceError(
                    f"SageMaker does not start job {name} now: {error}; try again later"
                ) from error
            if code != "ResourceInUse":  # another try was faster, and its job is adopted
                raise
        LOG.info("SageMaker job %s; its log is in the group /aws/sagemaker/TransformJobs", name)

    def _ensure_model(self, version: Version) -> str:
        """Return the name of the SageMaker model of a version, with the code that predicts; create it if missing."""
        loop, details = self.workspace.loop, version.details
        own_types = [item for item in loop.train.own_types if item.partition(":")[0] in (details.own_code or {})]
        with tempfile.TemporaryDirectory(prefix="model-") as scratch:
            folder = Path(scratch) / "model"
            folder.mkdir()
            shutil.copyfile(verified_folder(self.workspace, version) / MODEL_FILE, folder / MODEL)
            write_code(own_types, self.workspace.root, folder / CODE)
            described = {
                "digest": details.artefact,
                "own_types": own_types,
                "own_code": details.own_code,
                "classifies": loop.classifies,
            }
            (folder / VERSION).write_text(json.dumps(described), encoding="utf-8")
            archive = Path(scratch) / "model.tar.gz"
            pack(folder, archive)
            address = upload_archive(archive, f"{self.place.storage.rstrip('/')}/models/{loop.model}", self.files)
        name = model_name(loop.model, [address, self.place.image, self.place.role])
        if describe(self.jobs.describe_model, ModelName=name) is not None:
            return name
        try:
            write(
                "sagemaker",
                self.jobs,
                "create_model",
                ModelName=name,
                ExecutionRoleArn=self.place.role,
                PrimaryContainer={"Image": self.place.image, "ModelDataUrl": address},
                EnableNetworkIsolation=True,
            )
        except self.jobs.exceptions.ClientError as error:
            if not exists_already(error):  # otherwise another try was faster, and its model is adopted
                raise
        return name

    def _wait_for_job(self, name: str) -> dict[str, Any]:
        """Wait until the job has ended, log its status, and return its description."""
        last_status, pause = None, 1.0
        while True:
            job = self._find_job(name)
            if self._stopped:
                raise TransformPlaceError(f"SageMaker job {name} was stopped with its task; a retry starts another")
            if job is None:
                raise TransformPlaceError(f"SageMaker job {name} does not exist any more; a retry starts another")
            if job["TransformJobStatus"] != last_status:
                last_status = job["TransformJobStatus"]
                LOG.info("SageMaker job %s: %s", name, last_status)
            if last_status not in IN_PROGRESS:
                return job
            if not self.wait:
                raise TransformUnderWayError(tuple(self._names.values()))
            self._pause(min(pause, self.poll_seconds))
            pause *= 2

    def _pause(self, seconds: float) -> None:
        """Wait in short steps, so that a stopped task ends soon."""
        until = time.monotonic() + seconds
        while not self._stopped and time.monotonic() < until:
            time.sleep(min(0.5, seconds))

    def _fetch(self, name: str, place: int, folder: Path, where: str) -> Path:
        """Return a file of predictions of a job, fetched into a folder.

        :raises TransformError: if it is not there
        """
        bucket, key = self._location(name, "output", place)
        file = folder / part_name(place)
        try:
            self.files.download_file(bucket, key, str(file))
        except self.files.exceptions.ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchKey", "NotFound"):
                raise
            raise TransformError(
                f"{where} has completed without predictions of file {place + 1} of {self._files[name]}: there is no "
                f"s3://{bucket}/{key}; clear the task to start another job"
            ) from error
        return file

    def _remove(self, name: str, side: str) -> None:
        """Delete the files of one side of a job."""
        for place in range(self._files[name]):
            bucket, key = self._location(name, side, place)
            write("s3", self.files, "delete_object", Bucket=bucket, Key=key)

    def _location(self, name: str, side: str, place: int) -> tuple[str, str]:
        """Return bucket and key of a file of a job."""
        parts = urlsplit(folder_of(self.place, name, side))
        ending = ".out" if side == "output" else ""  # SageMaker adds it to the name of the file that it read
        return parts.netloc, f"{parts.path.lstrip('/')}{part_name(place)}{ending}"


def part_name(place: int) -> str:
    """Return the name of a file of features.

    >>> part_name(3)
    'part-00003.parquet'
    """
    return f"part-{place:05d}.parquet"


def folder_of(place: TransformOnSageMaker, name: str, side: str) -> str:
    """Return the S3 address of the ``input`` or the ``output`` of a job."""
    return f"{place.storage.rstrip('/')}/{name}/{side}/"


def transform_name(
    model: str, version: Version, rows: RowsToScore, place: TransformOnSageMaker, number: int = 1
) -> str:
    """Return the name of the job that predicts a partition with a version: the same for every try.

    It has at most 63 letters, digits and hyphens.

    :param number: 1 for the first job, 2 for the one after a job that was no answer
    """
    content = [
        model,
        rows.partition,
        rows.snapshot,
        rows.publication,
        version.number,
        version.details.artefact,
        place.image,
        place.rows_per_file,
        number,
    ]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]
    words = re.sub(r"[^A-Za-z0-9]+", "-", f"{model}-v{version.number}")[:26].strip("-")
    return f"mlops-score-{words}-{digest}"


def model_name(model: str, content: Sequence[str]) -> str:
    """Return the name of the SageMaker model of an archive; it differs if the files or the container differ."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", model)[:24].strip("-")
    return f"mlops-score-{words}-{hashlib.sha256(json.dumps(list(content)).encode()).hexdigest()[:16]}"


def describe_transform(name: str, model: str, place: TransformOnSageMaker) -> dict[str, Any]:
    """Return the arguments of ``create_transform_job``: one file of the input is one request, and one file out."""
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": folder_of(place, name, "input")}}
    return {
        "TransformJobName": name,
        "ModelName": model,
        "MaxConcurrentTransforms": 1,
        "MaxPayloadInMB": LARGEST_FILE_MB,
        "BatchStrategy": "SingleRecord",
        "TransformInput": {
            "DataSource": source,
            "ContentType": PARQUET,
            "CompressionType": "None",
            "SplitType": "None",
        },
        "TransformOutput": {
            "S3OutputPath": folder_of(place, name, "output").rstrip("/"),
            "Accept": PARQUET,
            "AssembleWith": "None",
        },
        "TransformResources": {"InstanceType": place.instance_type, "InstanceCount": place.instances},
    }


def require_completed(job: dict[str, Any], number: str, partition: str) -> None:
    """Raise an error unless a job has completed.

    :raises TransformPlaceError: if SageMaker had no machine for it, or failed itself
    :raises TransformError: with SageMaker's own reason, if it failed or was stopped
    """
    name, status = job["TransformJobName"], job["TransformJobStatus"]
    if status == "Completed":
        return
    reason = str(job.get("FailureReason") or "SageMaker gives no reason")
    where = f"version {number} on partition {partition}: SageMaker job {name}"
    if status == "Failed" and FAULT_OF_PLACE.search(reason):
        raise TransformPlaceError(f"{where} failed: {reason}; a retry starts another job")
    raise TransformError(f"{where} is {status.lower()}: {reason}; clear the task to start another job")
