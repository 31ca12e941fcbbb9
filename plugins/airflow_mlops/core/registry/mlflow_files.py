"""The folder of a version in MLflow: the judged model file, and the metadata for MLflow's own tools.

``MLmodel`` and the requirements are written for people and for MLflow's page. They are never read back: this package
alone decides which file is loaded, how, and under which types.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from airflow_mlops.core.ports.registry import MODEL_FILE, ModelInterface, Registration
from airflow_mlops.core.registry.model_file import check_model_file
from airflow_mlops.core.registry.trusted_types import TRUSTED_TYPES


def write_folder(registration: Registration, folder: Path) -> None:
    """Fill ``folder`` with the files of a registration, and seal it.

    Raises
    ------
    RegistryError
        If the model file is not the one that was judged, or cannot be loaded.
    """
    check_model_file(registration.model_file, registration.digest, registration.own_types)
    if registration.folder is not None:
        shutil.copytree(registration.folder, folder)
    else:
        write_new_folder(registration, folder)
    if registration.seal is not None:
        registration.seal(folder)


def write_new_folder(registration: Registration, folder: Path) -> None:
    """Fill ``folder`` with the model file of a registration, what is stored beside it, and the metadata for MLflow."""
    import yaml
    from mlflow import pyfunc
    from mlflow.models import Model

    folder.mkdir(parents=True)
    shutil.copyfile(registration.model_file, folder / MODEL_FILE)
    pinned = dict(requirement.split("==", 1) for requirement in registration.requirements if "==" in requirement)
    model = Model()
    pyfunc.add_to_model(
        model, loader_module="mlflow.sklearn", python_env="python_env.yaml", model_path=MODEL_FILE, predict_fn="predict"
    )
    model.add_flavor(
        "sklearn",
        pickled_model=MODEL_FILE,
        sklearn_version=pinned.get("scikit-learn"),
        serialization_format="skops",
        code=None,
        skops_trusted_types=[*TRUSTED_TYPES, *registration.own_types],
    )
    if registration.interface is not None:
        add_interface(model, registration.interface, folder)
    model.model_size_bytes = registration.model_file.stat().st_size
    model.save(str(folder / "MLmodel"))
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in registration.requirements))
    environment = {"python": pinned.get("python"), "build_dependencies": [], "dependencies": ["-r requirements.txt"]}
    (folder / "python_env.yaml").write_text(
        yaml.safe_dump({name: version for name, version in environment.items() if version})
    )
    for name, content in registration.files.items():
        (folder / name).write_bytes(content)


def add_interface(model: Any, interface: ModelInterface, folder: Path) -> None:
    """Add MLflow's signature to the metadata of a model, and its input example to the folder.

    MLflow's own tools then refuse a frame that lacks a column or has one of another type.
    """
    from mlflow.models import ModelSignature
    from mlflow.models.utils import _save_example
    from mlflow.types import ColSpec, Schema

    model.signature = ModelSignature(
        inputs=Schema([ColSpec(kind, name) for name, kind in interface.inputs.items()]),
        outputs=Schema([ColSpec(interface.output, "prediction")]),
    )
    _save_example(model, interface.example, str(folder))
