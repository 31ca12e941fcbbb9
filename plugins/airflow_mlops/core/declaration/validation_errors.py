"""What is wrong with a declaration, as one error that a person can act on."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ValidationError

from airflow_mlops.core.errors import DeclarationError


def refuse_templates(value: Any, path: tuple[str | int, ...] = ()) -> None:
    """Raise :class:`DeclarationError` where a string below ``value`` holds a Jinja template.

    A rendered field is shown in the Airflow UI, so a template could print a secret there.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            refuse_templates(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            refuse_templates(item, (*path, index))
    elif isinstance(value, str) and re.search(r"\{\{|\{%", value):
        raise DeclarationError(
            f"holds a template: {value!r}; a declaration is never rendered, write the value", key=dotted(path)
        )


def dotted(path: tuple[str | int, ...]) -> str:
    """Return a path as people write it: ``gates[1].at_most``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def declaration_error(error: ValidationError, whole: type[BaseModel]) -> DeclarationError:
    """Return the first fault that pydantic found in a ``whole`` as one error: where, which value, the nearest key."""
    # An unknown key says more than the missing one it was a misspelling of.
    first = min(
        (_without_union(fault, whole) for fault in error.errors()), key=lambda fault: fault["type"] != "extra_forbidden"
    )
    unknown_key = first["type"] == "extra_forbidden"
    path, keys = follow(first["loc"], whole, unknown_key=unknown_key)
    shown = repr(first["input"])
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    if unknown_key:
        message = f"unknown key (value {shown}); {nearest(str(path[-1]), keys)}"
    elif first["type"] == "missing":
        message = "is required and missing"
    else:
        message = f"{first['msg'].removeprefix('Value error, ')} (value {shown})"
    return DeclarationError(message, key=dotted(path))


def _without_union(fault: Any, whole: type[BaseModel]) -> dict[str, Any]:
    """Return a fault of a union told apart by ``kind`` as what a person did: a misspelt key, none, or no such kind."""
    if fault["type"] not in ("union_tag_not_found", "union_tag_invalid"):
        return dict(fault)
    loc, given, kind = fault["loc"], fault["input"], fault["ctx"]["discriminator"].strip("'")
    if fault["type"] == "union_tag_invalid":
        valid = [tag.strip(" '") for tag in fault["ctx"]["expected_tags"].split(",")]
        message = f"no such {kind}; {nearest(str(given[kind]), valid, what=f'{kind}s')}"
        return {"type": "value_error", "loc": (*loc, kind), "input": given[kind], "msg": message}
    strange = [key for key in given if len(follow((*loc, key), whole, unknown_key=False)[0]) == len(loc)]
    if strange:
        return {"type": "extra_forbidden", "loc": (*loc, strange[0]), "input": given[strange[0]]}
    return {"type": "missing", "loc": (*loc, kind), "input": given}


def nearest(word: str, valid: list[str], *, what: str = "keys") -> str:
    """Return a hint that names the valid key nearest to ``word``, or all of them."""
    import difflib  # only needed once something is wrong

    close = difflib.get_close_matches(word, valid, n=1)
    return f"did you mean {close[0]!r}?" if close else f"valid {what}: {', '.join(sorted(valid))}"


def follow(
    loc: tuple[str | int, ...], whole: type[BaseModel], *, unknown_key: bool
) -> tuple[tuple[str | int, ...], list[str]]:
    """Return ``loc`` without pydantic's own union tags, and the valid keys where its last part stands."""
    path: list[str | int] = []
    models: list[type[BaseModel]] = [whole]
    keys: list[str] = []
    for position, part in enumerate(loc):
        names = {
            field.alias or name: field.annotation for model in models for name, field in model.model_fields.items()
        }
        tagged = [model for model in models if part in _kinds(model)]
        if isinstance(part, int):
            path.append(part)
        elif tagged and position < len(loc) - 1:
            models = tagged
        elif part in names:
            path.append(part)
            keys, models = list(names), models_in(names[part])
        elif unknown_key and position == len(loc) - 1:
            path.append(part)
            keys = list(names)
    return tuple(path), keys


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    """Return the values of ``kind`` by which a union tells ``model`` from its others."""
    from typing import get_args

    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the declared models that an annotation mentions."""
    from typing import get_args

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]
