"""Turn the errors of pydantic into one DeclarationError with place, value and the nearest valid key."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ValidationError

from airflow_mlops.core.errors import DeclarationError


def refuse_templates(value: Any, path: tuple[str | int, ...] = ()) -> None:
    """Raise DeclarationError if a string below ``value`` holds a Jinja template.

    The Airflow UI shows rendered fields, so a template could print a secret there.

    Raises
    ------
    DeclarationError
        Naming the dotted path of the string.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            refuse_templates(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            refuse_templates(item, (*path, index))
    elif isinstance(value, str) and re.search(r"\{\{|\{%", value):
        raise DeclarationError(
            f"holds a template: {value!r}; a declaration is never rendered, write the value", key=format_path(path)
        )


def format_path(path: tuple[str | int, ...]) -> str:
    """Return the dotted form of a path: ``gates[1].at_most``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def declaration_error(error: ValidationError, model: type[BaseModel]) -> DeclarationError:
    """Return the first fault of a validation of ``model``, with its path, its value and the nearest valid key."""
    # A misspelt key is two faults: name the unknown key, for the missing one follows from it.
    first = min(
        (_without_union(fault, model) for fault in error.errors()), key=lambda fault: fault["type"] != "extra_forbidden"
    )
    unknown_key = first["type"] == "extra_forbidden"
    path, keys = resolve_path(first["loc"], model, unknown_key=unknown_key)
    value = repr(first["input"])
    value = value if len(value) <= 80 else value[:77] + "..."
    if unknown_key:
        message = f"unknown key (value {value}); {suggest_name(str(path[-1]), keys)}"
    elif first["type"] == "missing":
        message = "is required and missing"
    else:
        message = f"{first['msg'].removeprefix('Value error, ')} (value {value})"
    return DeclarationError(message, key=format_path(path))


def _without_union(fault: Any, model: type[BaseModel]) -> dict[str, Any]:
    """Return a fault of a tagged union as a misspelt key, a missing key or an unknown value of its tag."""
    if fault["type"] not in ("union_tag_not_found", "union_tag_invalid"):
        return dict(fault)
    loc, fields, tag = fault["loc"], fault["input"], fault["ctx"]["discriminator"].strip("'")
    if fault["type"] == "union_tag_invalid":
        valid = [name.strip(" '") for name in fault["ctx"]["expected_tags"].split(",")]
        message = f"no such {tag}; {suggest_name(str(fields[tag]), valid, kind=f'{tag}s')}"
        return {"type": "value_error", "loc": (*loc, tag), "input": fields[tag], "msg": message}
    unknown = [key for key in fields if len(resolve_path((*loc, key), model, unknown_key=False)[0]) == len(loc)]
    if unknown:
        return {"type": "extra_forbidden", "loc": (*loc, unknown[0]), "input": fields[unknown[0]]}
    return {"type": "missing", "loc": (*loc, tag), "input": fields}


def suggest_name(word: str, valid: list[str], *, kind: str = "keys") -> str:
    """Return a hint with the valid name nearest to ``word``, or with all of them if none is near.

    >>> suggest_name("lable", ["label", "key"]), suggest_name("x", ["label", "key"])
    ("did you mean 'label'?", 'valid keys: key, label')
    """
    import difflib  # only needed once something is wrong

    close = difflib.get_close_matches(word, valid, n=1)
    return f"did you mean {close[0]!r}?" if close else f"valid {kind}: {', '.join(sorted(valid))}"


def resolve_path(
    loc: tuple[str | int, ...], model: type[BaseModel], *, unknown_key: bool
) -> tuple[tuple[str | int, ...], list[str]]:
    """Return ``loc`` without pydantic's own union tags, and the valid keys beside its last part."""
    path: list[str | int] = []
    models: list[type[BaseModel]] = [model]
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
            keys, models = list(names), nested_models(names[part])
        elif unknown_key and position == len(loc) - 1:
            path.append(part)
            keys = list(names)
    return tuple(path), keys


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    """Return the values that the tag ``kind`` of ``model`` may have; empty without such a field."""
    from typing import get_args

    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def nested_models(annotation: Any) -> list[type[BaseModel]]:
    """Return the pydantic models within an annotation."""
    from typing import get_args

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in nested_models(argument)]
