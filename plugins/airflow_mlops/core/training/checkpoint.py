"""A finished fit, kept in a folder that outlasts its process, so that a job that lost its machine fits nothing twice.

    CHECKPOINTS/model.skops     the model file
    CHECKPOINTS/fit.json        the fit that it is of, and its result
    CHECKPOINTS/trials          the outcomes of a search of Optuna; see :mod:`trial_file`

The folder may be copied away while files in it are written, so nothing in it is believed: a fit counts only if it is of
the same request and packages, and the model file has the digest of its result. Anything else is fitted again.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.fault_point import external_write
from airflow_mlops.core.lake import replace_file
from airflow_mlops.core.ports.fit_request import FitRequest, FitResult, environment
from airflow_mlops.core.registry.model_file import check_model_file
from airflow_mlops.core.registry.own_code import verified_own_types

log = logging.getLogger(__name__)

MODEL, FIT = "model.skops", "fit.json"


def packages() -> dict[str, str]:
    """Return the versions that decide a fit; not the platform, whose kernel differs from one machine to the next."""
    return {name: version for name, version in environment().items() if name != "platform"}


def resume_fit(request: FitRequest) -> FitResult | None:
    """Return the result of the kept fit, with its model in the file of the request; None if it is to be fitted.

    What is kept is refused, with a warning, if it is of another fit, was cut, or holds a model that cannot be trusted.

    Raises
    ------
    OwnCodeError
        If the code of the user's own types is not the one of the request.
    """
    folder = Path(request.checkpoints)
    if not request.checkpoints or not (folder / FIT).is_file():
        return None
    own_types = verified_own_types(
        request.own_types, request.own_code, Path(request.root), f"candidate {request.candidate!r}"
    )
    try:
        kept = json.loads((folder / FIT).read_text(encoding="utf-8"))
        if kept["fit"] != _identity(request):
            raise ValueError("it is of another fit")
        result = FitResult.from_dict(kept["result"])
        check_model_file(folder / MODEL, result.digest, own_types)
    except (ValueError, KeyError, TypeError, RegistryError) as error:
        log.warning("the fit kept in %s is not taken, and is made again: %s", folder, error)
        return None
    with external_write("scratch.resume_fit"), replace_file(Path(request.file)) as part:
        shutil.copyfile(folder / MODEL, part)
    log.info("candidate %s was fitted before its machine was lost; its model is taken", request.candidate)
    return result


def keep_fit(request: FitRequest, result: FitResult) -> None:
    """Keep a finished fit in the folder of checkpoints; do nothing without one."""
    if not request.checkpoints:
        return
    folder = Path(request.checkpoints)
    with external_write("scratch.checkpoint"):
        folder.mkdir(parents=True, exist_ok=True)
        with replace_file(folder / MODEL) as part:
            shutil.copyfile(request.file, part)
        with replace_file(folder / FIT) as part:
            part.write_text(json.dumps({"fit": _identity(request), "result": result.to_dict()}), encoding="utf-8")


def _identity(request: FitRequest) -> dict[str, Any]:
    """Return the request and the packages that a kept fit must agree in, as JSON values."""
    identity: dict[str, Any] = json.loads(json.dumps({**request.identity(), "environment": packages()}))
    return identity
