"""Check events of OpenLineage against the classes of its Python client, which are generated from its JSON schemas.

The client does not ship the schemas themselves. Its classes have their fields, which of them are required, their types,
and the address of the schema, by which the class of a facet is info. Our own facet is also checked against the JSON
schema that the package ships.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import types
import typing
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import jsonschema
import openlineage.client.generated
from openlineage.client.event_v2 import RunEvent
from openlineage.client.generated.base import BaseFacet

from airflow_mlops.operators import openlineage_facets

OUR_SCHEMA = Path(openlineage_facets.__file__).with_name("mlops_loop_run_facet.json")
ADDED = {"_producer", "_schemaURL", "_deleted"}
OUR_FACETS = frozenset(
    {"schema", "version", "subset", "dataQualityAssertions", "inputStatistics", "outputStatistics", "mlops_loop"}
)
"""Facets that this package makes, which have no field beside those of their class; Airflow's provider adds some."""


def check_event(event: dict[str, Any]) -> None:
    """Check an event as it was received: fields, types, identifiers, times, and every facet by its own class."""
    _check(RunEvent, event, "event", exactly=True)
    UUID(event["run"]["runId"])
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    datasets = [*event["inputs"], *event["outputs"]]
    groups = [dataset.get(name) or {} for dataset in datasets for name in ("facets", "inputFacets", "outputFacets")]
    for facets in (event["run"]["facets"], event["job"]["facets"], *groups):
        for name, facet in facets.items():
            check_facet(name, facet)


def check_facet(name: str, facet: dict[str, Any]) -> None:
    """Check one facet against the class of its schema, and ours against its JSON schema as well."""
    assert facet["_producer"]
    kind = facet_classes().get(facet["_schemaURL"])
    if name == openlineage_facets.RUN_FACET:
        schema = json.loads(OUR_SCHEMA.read_text(encoding="utf-8"))
        assert facet["_schemaURL"].partition("#")[0] == schema["$id"]
        jsonschema.validate({name: facet}, schema)
        kind = openlineage_facets.MlopsLoopRunFacet
    if kind is not None:
        _check(kind, facet, name, exactly=name in OUR_FACETS)
    else:
        # Facets of Airflow's provider have no schema of their own, and state the one of all facets.
        assert name.startswith("airflow"), name


def facet_classes() -> dict[str, type]:
    """Return the client's classes of facets by the address of their schema."""
    package = openlineage.client.generated
    modules = [
        importlib.import_module(f"{package.__name__}.{info.name}") for info in pkgutil.iter_modules(package.__path__)
    ]
    classes = [kind for module in modules for kind in vars(module).values() if isinstance(kind, type)]
    return {
        kind._get_schema(): kind
        for kind in classes
        if issubclass(kind, BaseFacet) and kind.__module__ != BaseFacet.__module__
    }


def _check(kind: type, values: Any, where: str, *, exactly: bool) -> None:
    """Check the fields of a class, and the fields of those, in JSON values."""
    assert isinstance(values, dict), f"{where}: {values!r} is no object"
    fields = {field.name: field for field in attrs.fields(kind)}
    unknown = set(values) - set(fields) - ADDED
    assert not (exactly and unknown), f"{where}: {kind.__name__} has no {sorted(unknown)}"
    missing = [name for name, field in fields.items() if field.default is attrs.NOTHING and name not in values]
    assert not missing, f"{where}: {kind.__name__} lacks {missing}"
    types_of_fields = typing.get_type_hints(kind)
    for name, value in values.items():
        if name in fields:
            assert _has_type(types_of_fields[name], value, f"{where}.{name}", exactly), f"{where}.{name}: {value!r}"


def _has_type(wanted: Any, value: Any, where: str, exactly: bool) -> bool:
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(option, value, where, exactly) for option in arguments)
    if origin is list:
        return isinstance(value, list) and all(_has_type(arguments[0], item, where, exactly) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            isinstance(name, str)
            and (_is_facet(arguments[1]) or _has_type(arguments[1], item, f"{where}.{name}", exactly))
            for name, item in value.items()
        )
    if attrs.has(wanted):
        _check(wanted, value, where, exactly=exactly)
        return True
    if issubclass(wanted, Enum):
        return value in {member.value for member in wanted}
    if wanted in (int, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, wanted)


def _fits(option: Any, value: Any, where: str, exactly: bool) -> bool:
    try:
        return _has_type(option, value, where, exactly)
    except AssertionError:
        return False


def _is_facet(kind: Any) -> bool:
    """Return whether a class is one of facets, each of which is checked by its own class."""
    return isinstance(kind, type) and issubclass(kind, BaseFacet)
