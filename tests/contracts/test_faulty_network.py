"""Writes through a bad network: each is done once and whole, or is refused in a sentence and done by a later attempt.

Each kind of request that a write makes is disturbed in an attempt of its own, until an attempt passes undisturbed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from airflow_mlops.core.data.delta_snapshots import DeltaPartitions
from airflow_mlops.core.errors import MlopsError, RegistryError
from airflow_mlops.core.ledger.evidence_files import EvidenceFiles
from airflow_mlops.core.ports.registry import GHOST_OF, OPERATION
from airflow_mlops.core.registry.mlflow_registry import MlflowRegistry
from airflow_mlops.core.registry.model_file import file_digest
from tests.contracts.conftest import Register
from tests.faulty_network import IMPATIENT, MLFLOW, Network, faulty_network, lake_in

KEYS = ("2013-01-06T00:00:00", "2013-01-13T00:00:00")
MOST_ATTEMPTS = 100
FAULTS = {
    "refused": None,
    "unavailable before": None,
    "unavailable after": 1,  # the client asks again by itself, and it is carried out twice
    "slow": 1,
    "cut": None,
    "stale": None,
}
"""Each fault, and how many requests of an attempt have it; None for all of a kind."""


@pytest.fixture(scope="module")
def network(mlflow_server: str) -> Iterator[Network]:
    with faulty_network(mlflow_server) as opened:
        yield opened


@pytest.fixture(params=FAULTS)
def faulty(request: pytest.FixtureRequest, network: Network, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """Return a network that disturbs one kind of request after the other by one of the faults."""
    for name, value in IMPATIENT.items():
        monkeypatch.setenv(name, value)
    network.begin_sweep(request.param, FAULTS[request.param])
    yield network
    network.end_sweep()


def persist(network: Network, action: Callable[[], object]) -> list[Exception]:
    """Attempt an action until it is not disturbed, and return the errors of the attempts before."""
    errors: list[Exception] = []
    for _ in range(MOST_ATTEMPTS):
        network.begin_attempt("write")
        error = error_of(action)
        disturbed = network.end_attempt()
        if not disturbed:
            assert error is None, f"fails although nothing is disturbed: {error}"
            assert network.tried()
            return errors
        errors += [] if error is None else [error]
    raise AssertionError(f"disturbed in more than {MOST_ATTEMPTS} attempts")


def error_of(action: Callable[[], object]) -> Exception | None:
    """Return the error of an action, None if it succeeds."""
    try:
        action()
    except Exception as error:
        return error
    return None


def require_retried(network: Network, error: Exception) -> None:
    """Raise AssertionError if Airflow would not try again; who was given an old answer cannot know that it is old."""
    assert not isinstance(error, MlopsError) or error.retryable or network.fault() == "stale", error


def test_a_version_is_registered_once_and_whole(
    faulty: Network, fresh_name: str, registration: Register, tmp_path: Path
) -> None:
    url = faulty.urls()[MLFLOW]

    def register() -> None:
        registry = MlflowRegistry(url, fresh_name)
        number = registry.register(registration("op"))
        assert file_digest(registry.fetch(number, tmp_path / "attempt")) == registration("op").digest

    for error in persist(faulty, register):
        assert isinstance(error, RegistryError)
        assert error.retryable
        assert str(error).startswith(f"{fresh_name}: MLflow")
    registry = MlflowRegistry(url, fresh_name)
    (version,) = [version for version in registry.all_versions() if GHOST_OF not in version.tags]
    assert version.tags[OPERATION] == "op"
    assert registry.register(registration("op")) == version.number
    assert file_digest(registry.fetch(version.number, tmp_path / "out")) == registration("op").digest


def test_an_alias_points_where_it_was_set_last(faulty: Network, fresh_name: str, registration: Register) -> None:
    url = faulty.urls()[MLFLOW]
    numbers = [MlflowRegistry(url, fresh_name).register(registration(name)) for name in ("op1", "op2")]

    def move() -> None:
        registry = MlflowRegistry(url, fresh_name)
        for number in numbers:
            registry.set_alias("champion", number)
        registry.set_alias("candidate", numbers[0])
        registry.set_alias("candidate", None)
        assert registry.aliases().keys() <= {"champion", "candidate"}

    for error in persist(faulty, move):
        assert isinstance(error, RegistryError)
        assert error.retryable
    assert MlflowRegistry(url, fresh_name).aliases() == {"champion": numbers[1]}


def test_evidence_is_what_its_name_says(faulty: Network, fresh_name: str) -> None:
    document = {"metrics": [0.5, None, "ü"], "of": fresh_name}

    def keep() -> None:
        store = EvidenceFiles(lake_in(faulty) / fresh_name)
        assert store.get(store.put(document)) == document

    for error in persist(faulty, keep):
        require_retried(faulty, error)
    store = EvidenceFiles(lake_in(faulty) / fresh_name)
    assert store.get(store.put(document)) == document


def test_a_partition_is_published_whole_and_earlier_versions_stay(faulty: Network, fresh_name: str) -> None:
    folder = lake_in(faulty) / fresh_name
    rows = [pa.table({"x": list(range(number, number + 50))}) for number in range(3)]
    first = DeltaPartitions(folder).write(KEYS[0], rows[0])
    versions: list[int] = []

    def publish() -> None:
        table = DeltaPartitions(folder)
        versions.append(table.write(KEYS[0], rows[1]))
        assert table.read(KEYS[0], version=versions[-1]).equals(rows[1])
        table.write(KEYS[1], rows[2])

    for error in persist(faulty, publish):
        require_retried(faulty, error)
    table = DeltaPartitions(folder)
    for version, expected in ((first, rows[0]), *((version, rows[1]) for version in versions), (None, rows[1])):
        assert table.read(KEYS[0], version=version).equals(expected)
    assert table.read(KEYS[1]).equals(rows[2])
    assert table.partitions() == list(KEYS)
