"""Check a suite against Great Expectations itself before any data is there: its names and their arguments."""

from __future__ import annotations

from pathlib import Path

from airflow_mlops.core.declaration.validation_errors import suggest_name
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.validation.gx_validator import Fault, implemented, library
from airflow_mlops.core.validation.suite import read_lined_suite


def check_suite_file(path: str | Path) -> int:
    """Return how many expectations a YAML file holds, once Great Expectations knows each and takes its arguments.

    Raises
    ------
    DeclarationError
        Naming the file, the line and the expectation, and the nearest one that there is.
    """
    expectations = read_lined_suite(path)
    library()
    from great_expectations.expectations import core
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    known = list_registered_expectation_implementations()
    assert core is not None  # importing it is what fills the registry
    for number, (expectation, line) in enumerate(expectations):
        where = f"expectations[{number}]"
        if expectation.type not in known:
            close = suggest_name(expectation.type, known)
            raise DeclarationError(
                f"{expectation.type} is no expectation"
                + (f"; {close}" if close.startswith("did you mean") else " of Great Expectations"),
                file=str(path),
                line=line,
                key=f"{where}.type",
            )
        built = implemented(expectation, number)
        if isinstance(built, Fault):
            words = " ".join(built.message.split())[:300]
            raise DeclarationError(f"{expectation.type}: {words}", file=str(path), line=line, key=f"{where}.kwargs")
    return len(expectations)
