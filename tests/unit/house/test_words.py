"""The words of the code: docstrings that say what is returned or done, and names from the field."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ("plugins", "include", "dags", "benchmarks", "tests")
OPENINGS = re.compile(r"(Let|Say|Tell|What|Whatever|Whoever|Return what|Return whatever|Yield what|How it|That) ")
VARIABLES = {"said", "found", "asked", "told", "theirs", "ours"}
IN_BENCH_JSON = {"ours"}  # beside "peer", a column of build/bench.json
RETIRED = {
    "answering",
    "ask_again",
    "bring_about",
    "bring_effects",
    "common_ground",
    "dependent_columns",
    "disturbed_rows",
    "end_rollout",
    "first_that_agrees",
    "held_versions",
    "how_it_misses",
    "instead",
    "kept_state",
    "key_spool",
    "lay_ground",
    "lift",
    "look_at_stage",
    "model_forms",
    "next_look",
    "next_move",
    "prove_version",
    "run_stage",
    "sagemaker_place",
    "sagemaker_seen",
    "sagemaker_told",
    "test_score",
    "text_feed",
    "tidy_lake",
    "told",
    "within_limits",
    "worth_of",
    "Lane",
    "Move",
    "Told",
    "WakeTrainingOperator",
}


def python_files(*folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


def documented(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the docstring of everything that has one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def bound(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of every variable and parameter that is bound."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def defined(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of every function and class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name


def place(file: Path, line: int, text: str) -> str:
    return f"{file.relative_to(ROOT)}:{line}: {text}"


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    return {file: ast.parse(file.read_text("utf-8")) for file in python_files(*PACKAGE)}


def test_a_docstring_opens_with_what_is_returned_or_done(trees: dict[Path, ast.Module]) -> None:
    riddles = [
        place(file, line, text.splitlines()[0])
        for file, tree in trees.items()
        for line, text in documented(tree)
        if OPENINGS.match(text)
    ]
    assert not riddles, "\n".join(riddles)


def test_a_variable_is_named_after_the_thing_that_it_holds(trees: dict[Path, ast.Module]) -> None:
    participles = [
        place(file, line, name)
        for file, tree in trees.items()
        for line, name in bound(tree)
        if name in VARIABLES - (IN_BENCH_JSON if file.is_relative_to(ROOT / "benchmarks") else set())
    ]
    assert not participles, "\n".join(participles)


def test_no_name_is_one_that_the_field_has_another_word_for(trees: dict[Path, ast.Module]) -> None:
    retired = [
        place(file, line, name) for file, tree in trees.items() for line, name in defined(tree) if name in RETIRED
    ]
    retired += [place(file, 1, file.stem) for file in trees if file.stem in RETIRED]
    assert not retired, "\n".join(retired)
