"""The differences between the declarations of two states of a project, field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_mlops.core.declaration.loop import Loop

LONGEST = 120
"""Most characters of a value that is shown; a longer one is cut."""


@dataclass(frozen=True)
class DeclarationChange:
    """A declared field of a model that differs.

    ``key`` is its path in the YAML file, such as ``retrain.policy.regret`` or ``gates[0].at_most``, and empty where the
    whole declaration was added or removed; ``before`` and ``after`` are JSON values, None where there is none.
    """

    model: str
    key: str
    before: Any
    after: Any


def declaration_changes(before: Mapping[str, Loop], after: Mapping[str, Loop]) -> list[DeclarationChange]:
    """Return the differences between the declarations of two states, by model; defaults count as declared."""
    changes = []
    for model in sorted({*before, *after}):
        if model not in before or model not in after:
            changes.append(
                DeclarationChange(model, "", *(model if model in each else None for each in (before, after)))
            )
            continue
        old, new = (dict(_fields("", each[model].to_dict())) for each in (before, after))
        keys = [*old, *(key for key in new if key not in old)]
        changes += [
            DeclarationChange(model, key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)
        ]
    return changes


def describe_changes(changes: list[DeclarationChange], *, markdown: bool) -> list[str]:
    """Return the lines that say what was changed: a table in Markdown, or text.

    >>> describe_changes([DeclarationChange("bakery", "train.window", 8, "all")], markdown=False)
    ['bakery: train.window was 8, and is "all"']
    >>> describe_changes([], markdown=True)
    ['No declaration is changed.']
    """
    if not changes:
        return ["No declaration is changed."]
    if not markdown:
        return [_sentence(change) for change in changes]
    return ["| model | declared | before | after |", "|---|---|---|---|", *map(_table_row, changes)]


def _sentence(change: DeclarationChange) -> str:
    if not change.key:
        return f"{change.model}: {'removed' if change.after is None else 'added'}"
    was = "was not declared" if change.before is None else f"was {_short(change.before)}"
    now = "is no more" if change.after is None else f"is {_short(change.after)}"
    return f"{change.model}: {change.key} {was}, and {now}"


def _table_row(change: DeclarationChange) -> str:
    key = f"`{change.key}`" if change.key else "the whole loop"
    return f"| {change.model} | {key} | {_cell(change.before)} | {_cell(change.after)} |"


def _cell(value: Any) -> str:
    """Return a value as a cell of a table in Markdown, which nothing in it can leave."""
    return "-" if value is None else f"`{_short(value).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _fields(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of each field that holds no others."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _fields(f"{path}.{name}" if path else str(name), inner)
    elif isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
        for place, inner in enumerate(value):
            yield from _fields(f"{path}[{place}]", inner)
    else:
        yield path, value
