"""The contract of every registry: one operation is one version, and only verified files are fetched."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from sklearn.linear_model import LinearRegression

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.ports.registry import GHOST_OF, ModelRegistry, Registration, VersionGoneError
from airflow_mlops.core.ports.signing_keys import StaticKeys, new_private_key
from airflow_mlops.core.registry.mlflow_registry import OPERATION, MlflowRegistry
from airflow_mlops.core.registry.model_file import file_digest, load_model, save_model
from airflow_mlops.core.registry.sign_folder import read_signature, sign_folder
from airflow_mlops.testing.in_memory_registry import InMemoryRegistry, KeptVersion

Register = Callable[[str], Registration]


@dataclass
class Case:
    """A registry, and changes of it from outside.

    ``make_ghost`` leaves a second version of an operation, as a repeated request does; ``move`` makes a version that
    says that its files are at another address; ``delete`` deletes a version.
    """

    registry: ModelRegistry
    make_ghost: Callable[[Registration, str], str]
    move: Callable[[str], str]
    delete: Callable[[str], object]


def mlflow_case(uri: str, database: str, name: str, location: str | None) -> Case:
    from mlflow import MlflowClient

    def ghost(registration: Registration, first: str) -> str:
        return made_like(first, registration.operation)

    def made_like(first: str, operation: str) -> str:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        kept = client.get_model_version(name, first)
        # The server wants to know whose artefacts these are; a version does not say it, its source does.
        model_id = next(part for part in kept.source.split("/") if part.startswith("m-"))
        made = client.create_model_version(
            name, kept.source, kept.run_id, tags={OPERATION: operation}, model_id=model_id
        )
        return str(made.version)

    def move(source: str) -> str:
        number = made_like("1", "moved")
        with closing(sqlite3.connect(database)) as store:
            changes = "UPDATE model_versions SET source = ?, storage_location = ? WHERE name = ? AND version = ?"
            store.execute(changes, (source, source, name, number))
            store.commit()
        return number

    delete = partial(MlflowClient(tracking_uri=uri, registry_uri=uri).delete_model_version, name)
    return Case(MlflowRegistry(uri, name, artifact_location=location), ghost, move, delete)


@pytest.fixture(params=["mlflow on sqlite", "mlflow server", "in memory"])
def case(request: pytest.FixtureRequest, fresh_name: str) -> Case:
    if request.param == "mlflow on sqlite":
        uri, location = request.getfixturevalue("mlflow_store")
        return mlflow_case(uri, uri.removeprefix("sqlite:///"), fresh_name, location)
    if request.param == "mlflow server":
        server, database = request.getfixturevalue("mlflow_server"), request.getfixturevalue("mlflow_server_database")
        return mlflow_case(server, database, fresh_name, None)
    registry = InMemoryRegistry()

    def ghost(registration: Registration, first: str) -> str:
        content = registry.versions[int(first) - 1].content
        registry.versions.append(KeptVersion(registration.operation, content, registration))
        return str(len(registry.versions))

    def move(source: str) -> str:
        registry.versions.append(dataclasses.replace(registry.versions[0], operation="moved", source=source))
        return str(len(registry.versions))

    return Case(registry, ghost, move, registry.deleted.add)


def test_registering_twice_under_one_operation_makes_one_version(case: Case, registration: Register) -> None:
    first = case.registry.register(registration("op1"))
    assert case.registry.register(registration("op1")) == first
    assert case.registry.register(registration("op2")) != first
    assert case.registry.register(registration("op1")) == first


def test_a_ghost_of_a_repeated_request_is_ignored_because_the_oldest_version_counts(
    case: Case, registration: Register
) -> None:
    first = case.registry.register(registration("op"))
    ghosts = [case.make_ghost(registration("op"), first) for _ in range(2)]
    assert all(int(ghost) > int(first) for ghost in ghosts)
    assert case.registry.register(registration("op")) == first


def test_ghosts_are_tagged_with_the_version_that_counts_and_once(case: Case, registration: Register) -> None:
    first, other = (case.registry.register(registration(name)) for name in ("op", "other"))
    ghosts = [case.make_ghost(registration("op"), first) for _ in range(2)]
    assert case.registry.mark_ghosts() == dict.fromkeys(ghosts, first)
    assert case.registry.mark_ghosts() == {}
    tags = {version.number: version.tags.get(GHOST_OF) for version in case.registry.all_versions()}
    assert tags == {first: None, other: None, ghosts[0]: first, ghosts[1]: first}


def test_a_number_that_the_ledger_knows_as_another_version_is_passed_over(case: Case, registration: Register) -> None:
    wanted = dataclasses.replace(registration("op"), taken=frozenset({"1", "2", "4"}))
    left = case.registry.register(registration("op"))  # what a process that was killed in between has left
    number = case.registry.register(wanted)
    assert (left, number) == ("1", "3")
    assert case.registry.register(wanted) == number
    assert [version.number for version in case.registry.all_versions()] == [number]
    assert case.registry.mark_ghosts() == {}
    assert case.registry.register(dataclasses.replace(registration("next"), taken=wanted.taken)) == "5"


def test_every_version_is_listed_with_its_operation_its_tags_and_where_its_files_are(
    case: Case, registration: Register
) -> None:
    numbers = [case.registry.register(registration(f"op{number}")) for number in range(12)]
    versions = case.registry.all_versions()
    assert [version.number for version in versions] == numbers
    assert [version.tags[OPERATION] for version in versions] == [f"op{number}" for number in range(12)]
    assert {version.tags["partition"] for version in versions} == {"2013-01-06T00:00:00"}
    assert all(":/" in version.source for version in versions)


def test_what_is_sealed_is_the_complete_folder_and_comes_back_as_it_was(
    case: Case, registration: Register, tmp_path: Path
) -> None:
    keys = StaticKeys(new_private_key())
    changed = dataclasses.replace(
        registration("op"), files={"sbom.cdx.json": b"{}"}, seal=lambda folder: sign_folder(folder, keys)
    )
    version = case.registry.register(changed)
    file = case.registry.fetch(version, tmp_path / "out")
    assert file == tmp_path / "out" / "model.skops"
    assert (tmp_path / "out" / "sbom.cdx.json").read_bytes() == b"{}"
    signature = read_signature(tmp_path / "out", keys)
    (tmp_path / "out" / "stray").write_text("x")
    assert read_signature(case.registry.fetch(version, tmp_path / "out").parent, keys) == signature


@pytest.mark.parametrize("source", ["s3://somebody-else/m", "file:/etc", "/etc", "models:/other/1"])
def test_a_version_whose_files_are_said_to_be_elsewhere_is_not_read(
    case: Case, registration: Register, tmp_path: Path, source: str
) -> None:
    case.registry.register(registration("op"))
    moved = case.move(source)
    with pytest.raises(RegistryError, match=f"artefacts at {source} are not read: they must lie below"):
        case.registry.fetch(moved, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_deleted_version_is_gone_and_so_is_its_alias(case: Case, registration: Register, tmp_path: Path) -> None:
    first, second = (case.registry.register(registration(name)) for name in ("op1", "op2"))
    case.delete(second)
    assert [version.number for version in case.registry.all_versions()] == [first]
    with pytest.raises(VersionGoneError, match="has no version 2"):
        case.registry.fetch(second, tmp_path / "out")
    with pytest.raises(VersionGoneError, match="has no version 2"):
        case.registry.set_alias("champion", second)
    assert case.registry.register(registration("op3")) == "3"


@pytest.mark.parametrize("number", ["0", "01", "latest", "1/../2", "-1"])
def test_a_version_by_another_name_than_its_number_is_refused(
    case: Case, registration: Register, tmp_path: Path, number: str
) -> None:
    case.registry.register(registration("op"))
    with pytest.raises(RegistryError, match="versions are the decimal numbers"):
        case.registry.fetch(number, tmp_path / "out")
    with pytest.raises(RegistryError, match="versions are the decimal numbers"):
        case.registry.set_alias("champion", number)


def test_a_model_by_a_name_that_mlflow_would_take_is_refused(mlflow_store: tuple[str, str]) -> None:
    for name in ("<img src=x>", "a" * 300, "../other", "A b"):
        with pytest.raises(RegistryError, match="no model may be called"):
            MlflowRegistry(mlflow_store[0], name)


def test_a_place_that_was_declared_is_the_only_one_that_is_read(
    mlflow_store: tuple[str, str], fresh_name: str, registration: Register, tmp_path: Path
) -> None:
    number = MlflowRegistry(mlflow_store[0], fresh_name, artifact_location=mlflow_store[1]).register(registration("op"))
    allowed = MlflowRegistry(mlflow_store[0], fresh_name, artefact_prefixes=("s3://company", mlflow_store[1]))
    assert allowed.fetch(number, tmp_path / "out").exists()
    refused = MlflowRegistry(mlflow_store[0], fresh_name, artefact_prefixes=("s3://company",))
    with pytest.raises(RegistryError, match="they must lie below s3://company"):
        refused.fetch(number, tmp_path / "out")


def test_the_file_of_a_version_is_the_very_file_that_was_judged(
    case: Case, registration: Register, model_file: tuple[Path, str], tmp_path: Path
) -> None:
    version = case.registry.register(registration("op"))
    fetched = case.registry.fetch(version, tmp_path / "models" / "d")
    assert fetched == tmp_path / "models" / "d" / "model.skops"
    assert file_digest(fetched) == model_file[1]
    assert load_model(fetched, model_file[1]).predict([[3.0]]) == pytest.approx([6.0])
    assert case.registry.fetch(version, tmp_path / "models" / "d") == fetched


class Own(LinearRegression):
    """A user's own estimator."""


def test_a_model_of_own_types_is_registered_where_they_are_named(
    case: Case, registration: Register, tmp_path: Path
) -> None:
    names = (f"{Own.__module__}.Own",)
    file = tmp_path / "own.skops"
    digest = save_model(Own().fit([[1.0], [2.0]], [2.0, 4.0]), file, names)
    unnamed = dataclasses.replace(registration("own"), model_file=file, digest=digest)
    with pytest.raises(RegistryError, match=r"Own; declare .* in train\.own_types"):
        case.registry.register(unnamed)
    version = case.registry.register(dataclasses.replace(unnamed, own_types=names))
    fetched = case.registry.fetch(version, tmp_path / "models" / "own")
    assert load_model(fetched, digest, names).predict([[3.0]]) == pytest.approx([6.0])


def test_a_changed_model_file_is_refused_and_makes_no_version(
    case: Case, registration: Register, tmp_path: Path
) -> None:
    good = registration("op")
    changed = tmp_path / "model.skops"
    changed.write_bytes(good.model_file.read_bytes() + b"\0")
    with pytest.raises(RegistryError, match=r"was changed: its digest is"):
        case.registry.register(dataclasses.replace(good, model_file=changed))
    assert case.registry.register(good) == "1"


def test_a_version_that_is_not_there_is_a_registry_error(case: Case, registration: Register, tmp_path: Path) -> None:
    with pytest.raises(RegistryError):
        case.registry.fetch("1", tmp_path)
    case.registry.register(registration("op"))
    with pytest.raises(RegistryError, match="99"):
        case.registry.fetch("99", tmp_path)


def test_there_are_no_aliases_before_the_first_version(case: Case) -> None:
    assert case.registry.aliases() == {}


def test_aliases_move_and_vanish_as_told(case: Case, registration: Register) -> None:
    first, second = (case.registry.register(registration(name)) for name in ("op1", "op2"))
    case.registry.set_alias("champion", first)
    case.registry.set_alias("challenger", second)
    assert case.registry.aliases() == {"champion": first, "challenger": second}
    case.registry.set_alias("champion", second)
    case.registry.set_alias("challenger", None)
    case.registry.set_alias("challenger", None)
    assert case.registry.aliases() == {"champion": second}


def test_an_alias_to_a_version_that_is_not_there_is_a_registry_error(case: Case, registration: Register) -> None:
    case.registry.register(registration("op"))
    with pytest.raises(RegistryError):
        case.registry.set_alias("champion", "99")
    assert case.registry.aliases() == {}


def test_a_person_is_told_where_the_model_is_or_that_there_is_no_page(case: Case) -> None:
    url = case.registry.describe()["url"]
    assert url is None or url.startswith("http://127.0.0.1")


def test_a_version_whose_model_file_was_deleted_is_a_registry_error(
    mlflow_store: tuple[str, str], fresh_name: str, registration: Register, tmp_path: Path
) -> None:
    registry = MlflowRegistry(mlflow_store[0], fresh_name, artifact_location=(tmp_path / "kept").as_uri())
    version = registry.register(registration("op"))
    for file in (tmp_path / "kept").rglob("model.skops"):
        file.unlink()
    with pytest.raises(RegistryError, match=fresh_name):
        registry.fetch(version, tmp_path / "out")


def test_a_server_that_is_down_is_a_registry_error_worth_another_attempt(
    fresh_name: str, registration: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"MLflow at http://127\.0\.0\.1:9 could not") as caught:
        MlflowRegistry("http://127.0.0.1:9", fresh_name).register(registration("op"))
    assert caught.value.retryable


def test_a_version_keeps_its_metrics_its_data_digests_and_its_requirements(
    mlflow_store: tuple[str, str], fresh_name: str, registration: Register
) -> None:
    from mlflow import MlflowClient

    registry = MlflowRegistry(mlflow_store[0], fresh_name, artifact_location=mlflow_store[1])
    version = registry.register(registration("op"))
    client = MlflowClient(tracking_uri=mlflow_store[0], registry_uri=mlflow_store[0])
    made = client.get_model_version(fresh_name, version)
    run = client.get_run(made.run_id)
    assert run.data.metrics["holdout_mae"] == 1.5
    assert run.data.params["candidate"] == "line"
    assert run.info.status == "FINISHED"
    assert made.tags["partition"] == "2013-01-06T00:00:00"
    assert {file.path for file in client.list_artifacts(made.run_id)} >= {"datasets.json"}
