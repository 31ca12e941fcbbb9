"""Files that people write, and addresses: anything is read, or refused by the project's own error.

A good file of each kind is broken at random places: other types, other names, text that is code elsewhere. No reading
imports or runs anything, whatever the text says.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_mlops.core.declaration.contract import read_contract
from airflow_mlops.core.declaration.read_loop import read_loop
from airflow_mlops.core.errors import DeclarationError, RolloutError
from airflow_mlops.core.governance.ml_test_score.ml_test_score import read_attestations
from airflow_mlops.core.lineage.dataset_names import file_dataset
from airflow_mlops.core.registry.registry_names import lies_below
from airflow_mlops.core.rollout.promotion_policy import read_policy
from airflow_mlops.core.rollout.targets.gateway.replica_addresses import resolve_replicas, split_http_url
from airflow_mlops.core.validation.suite import read_suite
from airflow_mlops.gateway.settings import read_peers

ROOT = Path(__file__).parents[2]
CANARY = "fuzzed_canary"
"""A module that stands on the path: whoever imports it has run what a file names."""


def below_include(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Return a function that reads a file by the project folder that it is in."""
    return lambda file: read(file.parents[1])


FILES: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "loops/flight_air_time.yaml": ("loop.yaml", read_loop),
    "loops/flight_arrival.yaml": ("loop.yaml", read_loop),
    "contracts/flights_delay.yaml": ("contract.yaml", read_contract),
    "expectations/flights.yaml": ("suite.yaml", read_suite),
    "policy.yaml": ("policy.yaml", below_include(read_policy)),
    "attestations.yaml": ("attestations.yaml", below_include(read_attestations)),
}
"""The files of the project of the demo, by what they are called in a scratch folder and who reads them."""
GOOD = {name: yaml.safe_load((ROOT / "include" / name).read_text(encoding="utf-8")) for name in FILES}

CODE = [
    f"{CANARY}:run",
    f"{CANARY}.x:run",
    f"!!python/object/apply:{CANARY}.run []",
    f"__import__('{CANARY}')",
    f"{{{{ __import__('{CANARY}') }}}}",
    "{% raw %}",
    "${jndi:ldap://127.0.0.1/x}",
    "'; DROP TABLE airflow_mlops_ledger; --",
    "../../../../etc/passwd",
    "file:" + "///etc/passwd",
    "s3://",
    "http://[",
    "http://127.0.0.1:99999",
    "{partition!r}",
    "{partition.__class__}",
    "{start:%n%Q}",
    "\x00",
    "\u202e",
    "a" * 5_000,
    "(a+)+$",
    "@weekly",
    "* * * * *",
    "0 0 30 2 *",
    "0 0 1-31/0 * *",
    "59 23 31 12 7",
    "2013-02-30",
    "9999-12-31",
    "0001-01-01",
    "Europe/../Berlin",
    "1e309",
    ".nan",
    "0x10",
]
NUMBERS = st.one_of(st.integers(-(10**30), 10**30), st.floats(), st.sampled_from([0, -1, 2**63, 1e308]))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20), st.sampled_from(CODE))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.text(max_size=8), st.integers()), inner, max_size=4)
    ),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of everything below a value, and of the value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, item in items for path in places(item, (*at, key)))]


@st.composite
def broken(draw: st.DrawFn) -> tuple[str, Any]:
    """Return the name of a file, and what stands in it after one to three places were changed, removed or renamed."""
    name = draw(st.sampled_from(sorted(FILES)))
    content = copy.deepcopy(GOOD[name])
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(content)))
        if not path:
            content = draw(VALUES) if draw(st.integers(0, 9)) == 0 else content
            continue
        holder = content
        for part in path[:-1]:
            holder = holder[part]
        change = draw(st.sampled_from(["value", "value", "remove", "rename", "add"]))
        if change == "remove":
            del holder[path[-1]]
        elif change == "value" or isinstance(holder, list):
            holder[path[-1]] = draw(VALUES)
        elif change == "rename":
            holder[draw(st.one_of(st.text(max_size=8), st.sampled_from(CODE)))] = holder.pop(path[-1])
        else:
            holder[draw(st.sampled_from(["kind", "uri", "query", "conn_id", "function", "type", "from", "key"]))] = (
                draw(VALUES)
            )
    return name, content


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with the canary on the path of modules."""
    made = tmp_path_factory.mktemp("fuzzed")
    (made / "include").mkdir()
    (made / f"{CANARY}.py").write_text("raise SystemExit('the canary was imported')\n")
    return made


@settings(max_examples=500)
@given(broken())
def test_any_file_of_a_project_is_read_or_refused_by_its_name_and_runs_nothing(
    folder: Path, case: tuple[str, Any]
) -> None:
    name, content = case
    written, read = FILES[name]
    file = folder / "include" / written
    file.write_bytes(yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass"))
    sys.path.insert(0, str(folder))
    sentence = written
    try:
        read(file)
    except DeclarationError as error:
        sentence = str(error)
    finally:
        sys.path.remove(str(folder))
    assert written in sentence
    assert len(sentence) < 3_000
    assert CANARY not in sys.modules


ADDRESSES = st.one_of(
    st.text(max_size=30),
    st.sampled_from(CODE),
    st.builds(
        "{}://{}{}".format,
        st.sampled_from(["http", "https", "s3", "file", "", "javascript"]),
        st.sampled_from(
            ["", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", "[::1]:80", "[::1", "a b", "u:w@[", "\u2100"]
        ),
        st.sampled_from(["", "/", "/a/../b", "/%2e%2e/b", "/%00", "/%zz", "?x=1", "#y", "/\\b"]),
    ),
)


@settings(max_examples=300)
@given(ADDRESSES)
@example("http://[")
@example("http://127.0.0.1:99999")
def test_any_address_is_taken_or_refused_by_its_own_words(address: str) -> None:
    assert lies_below(address, "s3://company/models") == address.startswith("s3://company/models/")
    file_dataset(address, Path("/project"))
    if split_http_url(address) is None:
        with pytest.raises(DeclarationError, match="--peer is "):
            read_peers([address])
    else:
        assert read_peers([address]) == (address.rstrip("/"),)


@pytest.mark.parametrize("address", ["http://[", "http://127.0.0.1:99999", "http://127.0.0.1:x", "http://", "x"])
def test_an_address_of_replicas_that_is_none_is_refused_before_a_name_is_looked_up(address: str) -> None:
    with pytest.raises(RolloutError, match="is no name of replicas"):
        resolve_replicas(address)
