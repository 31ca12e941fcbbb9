"""Fit candidates in SageMaker training jobs, through the amazon provider.

The name of a job is derived from its request: a retry finds the job of the first try and adopts it, whatever its state.
Only a job that failed for want of machines, or by a fault of SageMaker, is no answer: the next declared type of
instance is tried, and once all were, a retry of the task begins with the first again.
The rows are in S3 while the job runs, and are deleted when it has ended. The image holds Python and the packages of
``requirements-step.lock`` and no project code: the job runs the same lines as the worker, and a changed training
function needs no new image.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import re
import shutil
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_mlops.core.errors import FitPlaceError, FitStoppedError, FitUnderWayError, TrainingError
from airflow_mlops.core.fault_point import external_write, write
from airflow_mlops.core.ports.fit_request import FitRequest, FitResult
from airflow_mlops.core.rollout.targets.sagemaker.endpoint import is_not_found
from airflow_mlops.hooks.sagemaker import aws_clients

if TYPE_CHECKING:
    from airflow_mlops.core.declaration.train import FitLimits, OnSageMaker
    from airflow_mlops.core.ports.fit_rows import RowsToFit

LOG = logging.getLogger(__name__)
LARGEST_MODEL = 4 * 2**30
"""Bytes of the largest model file that is taken from a job."""
FOLDER = "/opt/ml"
CHANNEL, CHECKPOINTS = "job", "checkpoints"
DEFAULT_SECONDS = 24 * 60 * 60
"""Time limit of a job without a declared one: SageMaker's own default."""
NO_MACHINE = ("ResourceLimitExceeded", "CapacityError", "InsufficientCapacityError")
"""Codes of a refused start that another type of instance may help against."""
REFUSED_FOR_NOW = (*NO_MACHINE, "ThrottlingException", "ServiceUnavailable", "InternalFailure")
"""Codes of a refused start that say nothing about the job."""
FAULT_OF_PLACE = re.compile(
    r"^(InternalServerError|CapacityError|ServiceUnavailable)|insufficient\s*capacity|unable to provision",
    re.IGNORECASE,
)
"""Reasons of a failure that say nothing about the model; its own are AlgorithmError and ClientError."""
IN_PROGRESS = ("InProgress", "Stopping")
PACKAGE = Path(__file__).resolve().parents[1]
START = '''"""Unpack this archive and run the step in it."""
import sys, tempfile, zipfile
folder = tempfile.mkdtemp()
zipfile.ZipFile(sys.path[0]).extractall(folder)
sys.path[0] = folder
from airflow_mlops.step import main
sys.exit(main())
'''


class SageMakerStep:
    """A :class:`~airflow_mlops.core.ports.step_runner.StepRunner` that fits in a training job.

    :param place: the declared job
    :param limits: ``minutes`` becomes SageMaker's time limit of the job
    :param poll_seconds: longest pause between two requests about the job; the first pauses are shorter
    :param wait: whether to wait for the job, or to raise FitUnderWayError while it has not ended
    :param first: ``first`` of the FitUnderWayError after which the task goes on; None in a task that begins
    """

    def __init__(
        self,
        place: OnSageMaker,
        limits: FitLimits,
        *,
        poll_seconds: float = 15.0,
        wait: bool = True,
        first: int | None = None,
    ) -> None:
        self.place, self.limits, self.poll_seconds = place, limits, poll_seconds
        self.wait, self.first = wait, first
        clients = aws_clients(place.connection, key="train.runs_on.kind")
        self.jobs, self.files = clients.sagemaker(), clients.s3()
        self._name: str | None = None
        self._stopped = False

    def fit(self, request: FitRequest, rows: RowsToFit) -> FitResult:
        """Fit in a job, adopting the job of an earlier try; see the port.

        :raises TrainingError: also if the job failed or was stopped, with SageMaker's reason
        :raises FitPlaceError: if SageMaker had no machine of any declared type for the job, or failed itself
        :raises FitStoppedError: if the task was stopped
        :raises FitUnderWayError: if the job has not ended, and the runner does not wait
        """
        number, failed = self._next_job(request)
        first = number if self.first is None else self.first
        untried = self.place.instance_types
        if failed is not None and number > first:  # it has failed while nobody waited
            self._remove_rows(failed["TrainingJobName"])
            untried = types_after(failed, untried)
        job = failed
        while untried:
            job = self._ended_job(request, number, rows, untried, first=first)
            if not failed_by_place(job):
                break
            untried = types_after(job, self.place.instance_types)
            if untried:
                LOG.warning("SageMaker job %s failed: %s; another follows", job["TrainingJobName"], reason_of(job))
            number += 1
        assert job is not None
        require_completed(job, request.candidate, self.limits)
        return self._fetch_result(job, request)

    def _ended_job(
        self, request: FitRequest, number: int, rows: RowsToFit, untried: Sequence[str], *, first: int
    ) -> dict[str, Any]:
        """Return a job of the request once it has ended; it is started if there is none, and its rows are removed."""
        self._name = name = job_name(request, number)
        job = self._find_job(name)
        if job is None:
            self._start(name, request, rows, untried)
        else:
            LOG.info("adopting SageMaker job %s, which is %s", name, job["TrainingJobStatus"])
        try:
            job = self._wait_for_job(name, request.candidate, first)
        except FitStoppedError:
            self._remove_rows(name)
            raise
        self._remove_rows(name)
        return job

    def stop(self) -> None:
        """Stop the running job."""
        self._stopped = True
        if self._name is not None:
            try:
                write("sagemaker", self.jobs, "stop_training_job", TrainingJobName=self._name)
            except self.jobs.exceptions.ClientError as error:  # it has ended, or was never started
                LOG.info("SageMaker job %s is not stopped: %s", self._name, error)

    def _next_job(self, request: FitRequest) -> tuple[int, dict[str, Any] | None]:
        """Return the number of the job to adopt or to start, and the job before it, which was no answer."""
        failed = None
        for number in itertools.count(1):
            job = self._find_job(job_name(request, number))
            if job is None or not failed_by_place(job):
                return number, failed
            failed = job
        raise AssertionError("numbers do not end")

    def _find_job(self, name: str) -> dict[str, Any] | None:
        """Return the description of a job; None if there is no job of that name."""
        try:
            return dict(self.jobs.describe_training_job(TrainingJobName=name))
        except self.jobs.exceptions.ClientError as error:
            if is_not_found(error):
                return None
            raise

    def _start(self, name: str, request: FitRequest, rows: RowsToFit, types: Sequence[str]) -> None:
        """Send code and rows, and start a job on the first of the types of instance that is not refused."""
        with tempfile.TemporaryDirectory(prefix="job-") as scratch:
            folder = Path(scratch)
            rows.load().write(folder / "rows.parquet")
            own_metric = (request.search or {}).get("own_metric", ())[:1]
            write_code((request.function, *request.own_types, *own_metric), Path(request.root), folder / "code.zip")
            # Paths of this worker do not exist in the job.
            checkpoints = CHECKPOINTS if self.place.checkpoints else ""
            request_of_job = replace(request, rows="", file="", root="", checkpoints=checkpoints)
            (folder / "request.json").write_text(json.dumps(request_of_job.to_dict()), encoding="utf-8")
            for file in sorted(folder.iterdir()):
                bucket, key = self._input_location(name, file.name)
                write("s3", self.files, "upload_file", str(file), bucket, key)
        inputs = f"{self.place.storage.rstrip('/')}/{name}/input/"
        kept = checkpoint_folder(request, self.place) if self.place.checkpoints else None
        for instance_type in types:
            described = describe_job(name, self.place, self.limits, inputs, instance_type, checkpoints=kept)
            try:
                write("sagemaker", self.jobs, "create_training_job", **described)
            except self.jobs.exceptions.ClientError as error:
                code = error.response["Error"]["Code"]
                if code in NO_MACHINE and instance_type != types[-1]:
                    LOG.warning("SageMaker has no %s for job %s: %s", instance_type, name, error)
                    continue
                if code in REFUSED_FOR_NOW:
                    raise FitPlaceError(f"SageMaker does not start job {name} now: {error}; try again later") from error
                if code != "ResourceInUse":  # another try was faster, and its job is adopted
                    raise
            break
        LOG.info("SageMaker job %s; its log is in the group /aws/sagemaker/TrainingJobs", name)

    def _wait_for_job(self, name: str, candidate: str, first: int) -> dict[str, Any]:
        """Wait until the job has ended, log its status, and return its description.

        :raises FitUnderWayError: if it has not, and the runner does not wait
        """
        last_status, pause = None, 1.0
        while True:
            job = self._find_job(name)
            if self._stopped:
                raise FitStoppedError(f"candidate {candidate!r}: SageMaker job {name} was stopped with its task")
            if job is None:
                raise TrainingError(f"candidate {candidate!r}: SageMaker job {name} does not exist any more")
            status = f"{job['TrainingJobStatus']}, {job.get('SecondaryStatus', '')}"
            if status != last_status:
                LOG.info("SageMaker job %s: %s", name, status)
                last_status = status
            if job["TrainingJobStatus"] not in IN_PROGRESS:
                return job
            if not self.wait:
                raise FitUnderWayError(name, first)
            self._wait(min(pause, self.poll_seconds))
            pause *= 2

    def _wait(self, seconds: float) -> None:
        """Wait in short steps, so that a stopped task ends soon."""
        until = time.monotonic() + seconds
        while not self._stopped and time.monotonic() < until:
            time.sleep(min(0.5, seconds))

    def _fetch_result(self, job: dict[str, Any], request: FitRequest) -> FitResult:
        """Fetch the model of a completed job into the file of the request, and return the result."""
        address = str(job["ModelArtifacts"]["S3ModelArtifacts"])
        if not address.startswith(f"{self.place.storage.rstrip('/')}/"):
            raise TrainingError(
                f"SageMaker gives {address} as the address of the model, which is outside of {self.place.storage}"
            )
        parts = urlsplit(address)
        file = Path(request.file)
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="model-", dir=file.parent) as scratch:
            folder = Path(scratch)
            self.files.download_file(parts.netloc, parts.path.lstrip("/"), str(folder / "model.tar.gz"))
            unpack(folder / "model.tar.gz", ("model.skops", "result.json"), folder)
            result = FitResult.from_dict(json.loads((folder / "result.json").read_text(encoding="utf-8")))
            with external_write("scratch.fetch_model"):
                (folder / "model.skops").replace(file)
        return result

    def _remove_rows(self, name: str) -> None:
        bucket, key = self._input_location(name, "rows.parquet")
        write("s3", self.files, "delete_object", Bucket=bucket, Key=key)

    def _input_location(self, name: str, file: str) -> tuple[str, str]:
        """Return bucket and key of an input file of a job."""
        parts = urlsplit(self.place.storage)
        return parts.netloc, f"{parts.path.strip('/')}/{name}/input/{file}".lstrip("/")


def unpack(archive: Path, names: tuple[str, ...], folder: Path) -> None:
    """Extract the named files, and no others, from a tar archive into a folder.

    :raises TrainingError: if a file is missing, is not a regular file, or is too large
    """
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for name in names:
                member = opened.getmember(name)
                content = opened.extractfile(member)
                if content is None or not member.isreg() or member.size > LARGEST_MODEL:
                    raise TrainingError(
                        f"{name!r} of the SageMaker job is not a file of at most {LARGEST_MODEL:,} bytes"
                    )
                with (folder / name).open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise TrainingError(
            f"the output of the SageMaker job is not an archive with {' and '.join(names)}: {error}"
        ) from error


def job_name(request: FitRequest, number: int = 1) -> str:
    """Return the job name of a request: the same for every try of an attempt, and unique otherwise.

    It has at most 63 letters, digits and hyphens.

    :param number: 1 for the first job, 2 for the one after a job that failed for no fault of its own
    """
    identity = f"{request.operation} {request.candidate} {request.attempt}" + (f" {number}" if number > 1 else "")
    digest = hashlib.sha256(identity.encode()).hexdigest()[:24]
    words = re.sub(r"[^A-Za-z0-9]+", "-", f"{request.model}-{request.candidate}")[:32].strip("-")
    return f"mlops-{words}-{digest}"


def checkpoint_folder(request: FitRequest, place: OnSageMaker) -> str:
    """Return the S3 address of the checkpoints of a fit, which the jobs of all its numbers share, and no other fit.

    It is made of the model and a digest of the whole request and the image.
    """
    identity = json.dumps({**request.identity(), "image": place.image}, sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:32]
    return f"{place.storage.rstrip('/')}/{CHECKPOINTS}/{request.model}/{digest}/"


def describe_job(
    name: str,
    place: OnSageMaker,
    limits: FitLimits,
    inputs: str,
    instance_type: str,
    *,
    checkpoints: str | None = None,
) -> dict[str, Any]:
    """Return the arguments of ``create_training_job``.

    The container has no network and no credentials: all its inputs come through the channel.

    :param inputs: S3 address of the folder of the inputs
    :param checkpoints: S3 address of the folder that SageMaker keeps equal to the container's
    """
    seconds = DEFAULT_SECONDS if limits.minutes is None else max(1, round(60 * limits.minutes))
    stopping, spot = {"MaxRuntimeInSeconds": seconds}, place.spot_wait_minutes
    if spot is not None:
        stopping["MaxWaitTimeInSeconds"] = seconds + 60 * spot  # SageMaker counts the run into the wait
    kept = {"CheckpointConfig": {"S3Uri": checkpoints, "LocalPath": f"{FOLDER}/{CHECKPOINTS}"}} if checkpoints else {}
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": place.image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python", f"{FOLDER}/input/data/{CHANNEL}/code.zip"],
            "ContainerArguments": ["fit", "--folder", FOLDER],
        },
        "RoleArn": place.role,
        "InputDataConfig": [
            {
                "ChannelName": CHANNEL,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": inputs,
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
        ],
        "OutputDataConfig": {"S3OutputPath": place.storage.rstrip("/")},
        "ResourceConfig": {
            "InstanceType": instance_type,
            "InstanceCount": 1,
            "VolumeSizeInGB": place.volume_gb,
        },
        "StoppingCondition": stopping,
        **kept,
        "EnableManagedSpotTraining": spot is not None,
        "EnableNetworkIsolation": True,
    }


def require_completed(job: dict[str, Any], candidate: str, limits: FitLimits) -> None:
    """Raise TrainingError unless a job has completed.

    :raises FitPlaceError: if SageMaker had no machine for it, or failed itself
    :raises TrainingError: with SageMaker's own reason, if it failed or was stopped
    """
    name, status = job["TrainingJobName"], job["TrainingJobStatus"]
    if status == "Completed":
        return
    where = f"candidate {candidate!r}: SageMaker job {name}"
    if job.get("SecondaryStatus") == "MaxRuntimeExceeded":
        minutes = DEFAULT_SECONDS / 60 if limits.minutes is None else limits.minutes
        raise TrainingError(f"{where} took longer than {minutes:g} minutes (train.limits.minutes) and was stopped")
    if failed_by_place(job):
        raise FitPlaceError(f"{where} failed: {reason_of(job)}; a retry starts another job")
    if status == "Failed":
        raise TrainingError(f"{where} failed: {reason_of(job) or 'SageMaker gives no reason'}")
    reason = reason_of(job)
    raise TrainingError(f"{where} is {status.lower()}{f': {reason}' if reason else ''}; it is not started again")


def types_after(job: dict[str, Any], types: tuple[str, ...]) -> tuple[str, ...]:
    """Return the declared types of instance that follow the one of a job, which may have passed over others.

    All of them follow one that is not declared any more.

    >>> types_after({"ResourceConfig": {"InstanceType": "ml.b.l"}}, ("ml.a.l", "ml.b.l", "ml.c.l"))
    ('ml.c.l',)
    """
    used = job["ResourceConfig"]["InstanceType"]
    return types[types.index(used) + 1 :] if used in types else types


def failed_by_place(job: dict[str, Any]) -> bool:
    """Return whether a job failed for want of machines, or by a fault of SageMaker, and not by its own code."""
    if job.get("SecondaryStatus") == "MaxWaitTimeExceeded":
        return True
    return job["TrainingJobStatus"] == "Failed" and FAULT_OF_PLACE.search(reason_of(job)) is not None


def reason_of(job: dict[str, Any]) -> str:
    """Return why a job has failed, in SageMaker's words, or that no spot instance came or stayed; empty if unknown."""
    if job.get("SecondaryStatus") == "MaxWaitTimeExceeded":
        return "there was no spot instance for it, or none for long enough (train.runs_on.spot_wait_minutes)"
    return str(job.get("FailureReason") or "")


def write_code(references: Sequence[str], root: Path, path: Path) -> None:
    """Write the archive that runs a function and holds own types, each ``module:name``; same files, same bytes.

    It holds the core and the top-level modules of this package, and the Python files of the top-level packages of the
    references, or, for a single module, the modules beside it. Installed packages must be in the image.
    """
    files = {"__main__.py": START.encode()}
    for file in sorted([*PACKAGE.glob("*.py"), *(PACKAGE / "core").rglob("*.py")]):
        files[f"airflow_mlops/{file.relative_to(PACKAGE).as_posix()}"] = file.read_bytes()
    for file in {file for reference in references for file in find_modules(reference, root)}:
        files[file.relative_to(root).as_posix()] = file.read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def find_modules(reference: str, root: Path) -> Iterator[Path]:
    """Yield the user's Python files that ``module:name`` may import, without hidden folders."""
    top = root / reference.partition(":")[0].partition(".")[0]
    files = top.rglob("*.py") if top.is_dir() else root.glob("*.py") if top.with_suffix(".py").is_file() else ()
    for file in sorted(files):
        if not any(part.startswith(".") for part in file.relative_to(root).parts):
            yield file
