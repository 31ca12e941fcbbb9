"""A version as a SageMaker model: its verified files as one archive in S3, and names that are the same for every try.

The archive has the same bytes for the same files and is named by their digest, so a second try finds what the first
one left. The container reaches no network and gets no secret.
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
from airflow_mlops.core.ports.rollout_target import TargetError
from airflow_mlops.core.registry.load import verified_folder
from airflow_mlops.core.registry.model_file import file_digest
from airflow_mlops.core.rollout.targets.sagemaker.endpoint import described, exists_already

if TYPE_CHECKING:
    from airflow_mlops.core.ledger.state_machine import Version
    from airflow_mlops.core.rollout.targets.sagemaker.endpoint_settings import ServingPlace
    from airflow_mlops.core.workspace import Workspace

VARIANT = "version-"


def endpoint_name(model: str) -> str:
    """Return the name of the endpoint of a model: at most 39 letters, digits and hyphens, of no other model.

    >>> endpoint_name("flight_delay")
    'mlops-flight-delay-f8374997'
    """
    words = re.sub(r"[^A-Za-z0-9]+", "-", model)[:24].strip("-") or "model"
    return f"mlops-{words}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def variant_name(number: str) -> str:
    """Return the name of the variant that serves a version.

    :raises RolloutError: if SageMaker lets no variant be called so
    """
    if not re.fullmatch(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,50}", number):
        raise RolloutError(f"version {number!r} cannot be the name of a variant of a SageMaker endpoint")
    return f"{VARIANT}{number}"


def version_of(variant: str) -> str | None:
    """Return the number of the version that a variant serves; None if it is none of ours."""
    return variant.removeprefix(VARIANT) if variant.startswith(VARIANT) else None


def models_of(model: str, number: str) -> str:
    """Return what the names of all SageMaker models of a version begin with."""
    return f"{endpoint_name(model)}-v{number[:8]}-"


def sagemaker_model_name(model: str, version: Version, place: ServingPlace) -> str:
    """Return the name of the SageMaker model of a version: another one where its files or the container differ."""
    signature = version.details.signature
    held = [
        version.number, version.details.artefact, signature and signature.digest, place.image, place.role,
        place.storage, dict(sorted(place.environment.items())),
    ]  # fmt: skip
    return f"{models_of(model, version.number)}{hashlib.sha256(json.dumps(held).encode()).hexdigest()[:12]}"


def config_name(model: str, described: Mapping[str, Any]) -> str:
    """Return the name of an endpoint configuration, from a digest of what it holds."""
    content = json.dumps(described, sort_keys=True)
    return f"{endpoint_name(model)}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def adopt_model(workspace: Workspace, version: Version, place: ServingPlace, sagemaker: Any, files: Any) -> str:
    """Return the name of the SageMaker model of a version, which is made if there is none.

    :param sagemaker: boto3's client of SageMaker
    :param files: boto3's client of S3
    :raises RegistryError: if no good copy of the version is to be had
    """
    model = workspace.loop.model
    name = sagemaker_model_name(model, version, place)
    if described(sagemaker.describe_model, ModelName=name) is not None:
        return name
    with tempfile.TemporaryDirectory(prefix="model-") as made:
        archive = Path(made) / "model.tar.gz"
        pack(verified_folder(workspace, version), archive)
        address = stored(archive, f"{place.storage.rstrip('/')}/{model}", files)
    container = {
        "Image": place.image, "ModelDataUrl": address,
        "Environment": {**place.environment, "MLOPS_MODEL": model, "MLOPS_VERSION": version.number},
    }  # fmt: skip
    try:
        sagemaker.create_model(
            ModelName=name, ExecutionRoleArn=place.role, PrimaryContainer=container, EnableNetworkIsolation=True
        )
    except sagemaker.exceptions.ClientError as error:
        if not exists_already(error):  # else another try was quicker: its model is adopted
            raise
    return name


def require_model(sagemaker: Any, name: str, number: str) -> None:
    """Let a SageMaker model through that is there.

    :raises TargetError: if it is not
    """
    if described(sagemaker.describe_model, ModelName=name) is None:
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


def stored(archive: Path, folder: str, files: Any) -> str:
    """Return the address in S3 of an archive, below the digest of its bytes; it is sent there if it is missing."""
    address = f"{folder}/{file_digest(archive)}/{archive.name}"
    parts = urlsplit(address)
    bucket, key = parts.netloc, parts.path.lstrip("/")
    try:
        found = files.head_object(Bucket=bucket, Key=key)["ContentLength"]
    except files.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchKey", "NotFound"):
            raise
        found = -1
    if found != archive.stat().st_size:
        files.upload_file(str(archive), bucket, key)
    return address
