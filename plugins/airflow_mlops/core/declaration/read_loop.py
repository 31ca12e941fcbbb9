"""Read a loop strictly from a YAML file, with the line of every key.

Refused: files over 256 kB, aliases and anchors, tags, more than 20 levels, duplicate keys, templates,
unknown keys, wrong types. Scalars follow YAML 1.2: ``no`` is the text "no" and ``12:30:45`` is a text too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.validation_errors import format_path, refuse_templates
from airflow_mlops.core.errors import DeclarationError

MAX_BYTES = 256_000
MAX_DEPTH = 20

# libyaml parses several times faster than the loader in Python, but not every installation of PyYAML has it.
_YamlLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Python refuses to parse integers of more than 4300 digits, and no declaration needs a hundred.
_INTEGER = re.compile(r"[-+]?[0-9]{1,100}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}

Lines = dict[tuple[str | int, ...], int]


def read_loop(path: str | Path) -> Loop:
    """Return the loop declared in the YAML file at ``path``.

    Raises
    ------
    DeclarationError
        For the first fault, with file, line, key, value and the nearest valid key.
    """
    data, lines = read_strict_yaml(path)
    if not isinstance(data, dict):
        raise DeclarationError("must be a mapping that starts with `model:`", file=str(path), line=1)
    try:
        return Loop(**data)
    except DeclarationError as error:
        line = line_of(lines, error.key or "")
        raise DeclarationError(error.message, file=str(path), line=line, key=error.key) from None


def line_of(lines: Lines, key: str) -> int:
    """Return the line of the dotted ``key``, or of the nearest enclosing key in the file."""
    enclosing = [
        path
        for path in lines
        if key == format_path(path) or key.startswith((f"{format_path(path)}.", f"{format_path(path)}["))
    ]
    return lines[max(enclosing, key=len, default=())]


def read_strict_yaml(path: str | Path) -> tuple[Any, Lines]:
    """Return the content of a YAML file and the line of every path in it, counted from 1.

    Raises
    ------
    DeclarationError
        If the file is missing, too large, not YAML, or uses aliases, anchors, tags, templates or a key twice.
    """
    file = Path(path)
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise DeclarationError(f"cannot be read: {error.strerror}", file=str(path)) from None
    if len(raw) > MAX_BYTES:
        raise DeclarationError(f"has {len(raw):,} bytes; the limit is {MAX_BYTES:,}", file=str(path))
    try:
        text = raw.decode("utf-8")
        refuse_indirection(text, str(path))
        node = yaml.compose(text, Loader=_YamlLoader)
    except UnicodeDecodeError as error:
        raise DeclarationError(f"is not UTF-8 at byte {error.start}", file=str(path)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise DeclarationError(f"is no YAML: {problem}", file=str(path), line=mark.line + 1 if mark else None) from None
    lines: Lines = {}
    content = None if node is None else construct(node, (), lines, str(path))
    try:
        refuse_templates(content)
    except DeclarationError as error:
        raise DeclarationError(
            error.message, file=str(path), line=line_of(lines, error.key or ""), key=error.key
        ) from None
    return content, lines


def refuse_indirection(text: str, file: str) -> None:
    """Raise DeclarationError if the text uses aliases, anchors, tags or more than ``MAX_DEPTH`` levels.

    It reads the stream of events before any node is composed, because aliases expand without bound.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_YamlLoader):
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        line = event.start_mark.line + 1 if event.start_mark else None
        if anchor:
            raise DeclarationError(f"uses the alias or anchor {anchor!r}; write the value out", file=file, line=line)
        if tag:
            raise DeclarationError(f"uses the tag {tag!r}; plain values only", file=file, line=line)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise DeclarationError(f"is nested deeper than {MAX_DEPTH} levels", file=file, line=line)


def construct(node: Any, path: tuple[str | int, ...], lines: Lines, file: str) -> Any:
    """Return a composed node as plain Python values, and enter the line of each path into ``lines``."""
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return parse_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [construct(item, (*path, index), lines, file) for index, item in enumerate(node.value)]
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        if key in mapping:
            raise DeclarationError(
                "stands here a second time",
                file=file,
                line=key_node.start_mark.line + 1,
                key=format_path((*path, key)),
            )
        lines[(*path, key)] = key_node.start_mark.line + 1
        mapping[key] = construct(value_node, (*path, key), lines, file)
    return mapping


def parse_scalar(node: Any) -> str | int | float | bool | None:
    """Return the value of a scalar by the core schema of YAML 1.2."""
    text = str(node.value)
    if node.style:
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
