"""A version as a SageMaker model: its verified files as an archive in S3, under names that every retry repeats.

The same files give the same bytes, and the archive is named by their digest: a retry finds what the first try left. The
container has no network and gets no secret.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.fault_point import write
from airflow_mlops.core.ports.rollout_target import TargetError
from airflow_mlops.core.registry.load import verified_folder
from airflow_mlops.core.registry.model_file import file_digest
from airflow_mlops.core.rollout.targets.sagemaker.endpoint import describe, exists_already

if TYPE_CHECKING:
    from airflow_mlops.core.ledger.state_machine import Version
    from airflow_mlops.core.rollout.targets.sagemaker.endpoint_settings import EndpointSettings
    from airflow_mlops.core.workspace import Workspace

VARIANT = "version-"


def endpoint_name(model: str) -> str:
    """Return the endpoint name of a model: unique, at most 39 letters, digits and hyphens.

    >>> endpoint_name("flight_delay")
    'mlops-flight-delay-f8374997'
    """
    words = re.sub(r"[^A-Za-z0-9]+", "-", model)[:24].strip("-") or "model"
    return f"mlops-{words}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def variant_name(number: str) -> str:
    """Return the name of the variant that serves a version.

    :raises RolloutError: if SageMaker does not allow the name
    """
    if not re.fullmatch(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,50}", number):
        raise RolloutError(f"version {number!r} cannot be the name of a variant of a SageMaker endpoint")
    return f"{VARIANT}{number}"


def version_of(variant: str) -> str | None:
    """Return the number of the version of a variant; None for a variant of another owner."""
    return variant.removeprefix(VARIANT) if variant.startswith(VARIANT) else None


def model_prefix(model: str, number: str) -> str:
    """Return the prefix of the names of all SageMaker models of a version."""
    return f"{endpoint_name(model)}-v{number[:8]}-"


def sagemaker_model_name(model: str, version: Version, settings: EndpointSettings) -> str:
    """Return the SageMaker model name of a version; it differs if the files or the container differ."""
    signature = version.details.signature
    content = [
        version.number,
        version.details.artefact,
        signature and signature.digest,
        settings.image,
        settings.role,
        settings.storage,
        dict(sorted(settings.environment.items())),
    ]
    return f"{model_prefix(model, version.number)}{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]}"


def config_name(model: str, config: Mapping[str, Any]) -> str:
    """Return the name of an endpoint configuration, with the digest of its content."""
    content = json.dumps(config, sort_keys=True)
    return f"{endpoint_name(model)}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def ensure_model(workspace: Workspace, version: Version, settings: EndpointSettings, sagemaker: Any, files: Any) -> str:
    """Return the name of the SageMaker model of a version; create it if it does not exist.

    :param sagemaker: boto3's client of SageMaker
    :param files: boto3's client of S3
    :raises RegistryError: if there is no verified copy of the version
    """
    model = workspace.loop.model
    name = sagemaker_model_name(model, version, settings)
    if describe(sagemaker.describe_model, ModelName=name) is not None:
        return name
    with tempfile.TemporaryDirectory(prefix="model-") as scratch:
        archive = Path(scratch) / "model.tar.gz"
        pack(verified_folder(workspace, version), archive)
        address = upload_archive(archive, f"{settings.storage.rstrip('/')}/{model}", files)
    container = {
        "Image": settings.image,
        "ModelDataUrl": address,
        "Environment": {**settings.environment, "MLOPS_MODEL": model, "MLOPS_VERSION": version.number},
    }
    try:
        write(
            "sagemaker",
            sagemaker,
            "create_model",
            ModelName=name,
            ExecutionRoleArn=settings.role,
            PrimaryContainer=container,
            EnableNetworkIsolation=True,
        )
    except sagemaker.exceptions.ClientError as error:
        if not exists_already(error):  # otherwise another try was faster, and its model is adopted
            raise
    return name


def require_model(sagemaker: Any, name: str, number: str) -> None:
    """Raise TargetError unless a SageMaker model exists.

    :raises TargetError: if it does not
    """
    if describe(sagemaker.describe_model, ModelName=name) is None:
        raise TargetError(f"version {number} was not prepared: SageMaker has no model {name}")


def pack(folder: Path, archive: Path) -> None:
    """Write the files of a folder as a gzipped tar archive; the same files give the same bytes."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=1, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                member = tarfile.TarInfo(path.relative_to(folder).as_posix())
                member.size, member.mode = path.stat().st_size, 0o644
                with path.open("rb") as content:
                    tar.addfile(member, content)


def upload_archive(archive: Path, folder: str, files: Any) -> str:
    """Return the S3 address of an archive, which has the digest of its bytes; upload it if it is missing."""
    address = f"{folder}/{file_digest(archive)}/{archive.name}"
    parts = urlsplit(address)
    bucket, key = parts.netloc, parts.path.lstrip("/")
    try:
        size = files.head_object(Bucket=bucket, Key=key)["ContentLength"]
    except files.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchKey", "NotFound"):
            raise
        size = -1
    if size != archive.stat().st_size:
        write("s3", files, "upload_file", str(archive), bucket, key)
    return address
