"""After any tampering with the registry the ledger's champion serves, or no version does and a task says why."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, embedded_stores, make_project, states, why

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.conftest import SchedulerFactory

NEXT, AFTER = KEYS[2], KEYS[3]
LOAD = "flavors:\n  python_function: {loader_module: mlflow.sklearn, model_path: model.pkl, python_version: 3.11.0}\n"
CLOUDPICKLE = (
    LOAD + "  sklearn: {pickled_model: model.pkl, serialization_format: cloudpickle, sklearn_version: 1.9.1}\n"
)


class Payload:
    """An object that writes a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self._witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return self._witness.touch, ()


def client() -> MlflowClient:
    uri = embedded_stores().tracking_uri
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def files_of(project: Project, number: str) -> Path:
    """Return the folder in which MLflow keeps the files of a version."""
    return Path(urlsplit(client().get_model_version(project.model, number).source).path)


def copies_of(project: Project) -> Path:
    """Return the folder of verified copies that the loop keeps itself."""
    return project.workspace.scratch / "models"


@pytest.fixture
def live(tmp_path: Path, start_scheduler: SchedulerFactory) -> tuple[Project, InProcessScheduler]:
    """Return a loop whose version 1 is live, and its scheduler."""
    project = make_project(tmp_path)
    project.seed(KEYS[:2])
    return project, start_scheduler(project.dags)


def spoil_model(project: Project, witness: Path) -> str:
    """Put a pickle in the place of the model file."""
    (files_of(project, "1") / "model.skops").write_bytes(pickle.dumps(Payload(witness)))
    return "model.skops was changed after it was signed"


def spoil_mlmodel(project: Project, witness: Path) -> str:
    """Declare a cloudpickle in MLmodel and add the file: MLflow's own loader would run it."""
    folder = files_of(project, "1")
    (folder / "MLmodel").write_text(CLOUDPICKLE)
    (folder / "model.pkl").write_bytes(pickle.dumps(Payload(witness)))
    return "MLmodel was changed after it was signed"


@pytest.mark.parametrize("spoil", [spoil_model, spoil_mlmodel], ids=["tampered", "cloudpickle"])
def test_a_tampered_artefact_is_named_while_the_verified_copy_serves_and_is_never_loaded(
    live: tuple[Project, InProcessScheduler], tmp_path: Path, spoil: Any
) -> None:
    project, scheduler = live
    kept, witness = tmp_path / "kept", tmp_path / "it-ran"
    shutil.copytree(files_of(project, "1"), kept)
    words = spoil(project, witness)
    project.put(NEXT)
    project.ingest(scheduler, NEXT)
    watch = states(scheduler, project.dag("watch"), NEXT)
    assert (watch["verify"], watch["reconcile"], watch["decide"]) == ("failed", "success", "success")
    assert "version 1, the champion, was changed in the registry: " in why(scheduler, "verify")
    assert words in why(scheduler, "verify")
    assert project.details_of("predictions_published", NEXT).served == {"1": 120}

    shutil.rmtree(copies_of(project))
    project.put(AFTER)
    project.ingest(scheduler, AFTER)
    assert states(scheduler, project.dag("score"), AFTER) == {"score": "failed"}
    assert f"version 1 of {project.model} is refused: {words}" in why(scheduler, "score")
    assert AFTER not in project.workspace.state().scored
    assert not witness.exists()
    champion = project.workspace.state().champion
    assert champion is not None
    assert champion.number == "1"

    shutil.rmtree(files_of(project, "1"))
    shutil.copytree(kept, files_of(project, "1"))
    scheduler.trigger(project.dag("score"), partition_key=AFTER)
    scheduler.run_until_idle()
    assert project.details_of("predictions_published", AFTER).served == {"1": 120}
    assert project.workspace.registry.aliases() == {"champion": "1"}
    assert_invariants(project.workspace)


def test_a_forged_alias_moves_no_traffic_and_is_put_back(live: tuple[Project, InProcessScheduler]) -> None:
    project, scheduler = live
    stranger = client().create_model_version(project.model, f"{files_of(project, '1').as_uri()}/../forged")
    client().set_registered_model_alias(project.model, "champion", str(stranger.version))
    project.put(NEXT)
    project.ingest(scheduler, NEXT)
    assert project.details_of("predictions_published", NEXT).served == {"1": 120}
    watch = states(scheduler, project.dag("watch"), NEXT)
    assert (watch["reconcile"], watch["verify"], watch["decide"]) == ("success", "success", "success")
    assert project.workspace.registry.aliases() == {"champion": "1"}
    results = {task: scheduler.xcom(project.dag("watch"), task, partition_key=NEXT) for task in ("reconcile", "verify")}
    assert results["reconcile"] == ["alias champion was 2, is now 1"]
    assert results["verify"] == [
        "version 2 is in the registry and not in the ledger (made by somebody else than the loop); it is never served"
    ]
    assert list(project.workspace.state().versions) == ["1"]
    client().delete_model_version(project.model, "2")
    assert_invariants(project.workspace)


def test_a_version_deleted_under_the_champion_serves_on_is_reported_and_can_be_followed(
    live: tuple[Project, InProcessScheduler],
) -> None:
    project, scheduler = live
    client().delete_model_version(project.model, "1")
    shutil.rmtree(files_of_deleted(project))
    assert project.workspace.registry.aliases() == {}
    project.put(NEXT)
    project.ingest(scheduler, NEXT)
    assert project.details_of("predictions_published", NEXT).served == {"1": 120}
    watch = states(scheduler, project.dag("watch"), NEXT)
    assert (watch["verify"], watch["reconcile"], watch["decide"]) == ("failed", "success", "success")
    for word in ("version 1, the champion, was deleted in the registry", "goes on serving", "airflow-mlops rollback"):
        assert word in why(scheduler, "verify")
    champion = project.workspace.state().champion
    assert champion is not None
    assert champion.number == "1"

    # The loop goes on: what comes after it is judged against its copy, and takes its place.
    project.put(AFTER, level=6.0)
    project.ingest(scheduler, AFTER)
    assert project.judged("performance", AFTER).verdict == "alarm"
    assert project.of_kind("retrain_decided")[-1].details.retrain
    project.put(KEYS[4], level=6.0)
    project.ingest(scheduler, KEYS[4])
    champion = project.workspace.state().champion
    assert champion is not None
    assert champion.number == "2"
    assert project.workspace.registry.aliases() == {"champion": "2"}


def files_of_deleted(project: Project) -> Path:
    """Return the files of version 1, which the ledger still knows where MLflow does not."""
    return Path(urlsplit(project.workspace.state().versions["1"].details.source).path)
