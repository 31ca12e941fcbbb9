"""Checks of the declared loops: they can be read, and what they refer to, packages of extras too, is there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.doctor.diagnosis import OK, WRONG, Finding, Surroundings


def check_loops(surroundings: Surroundings) -> Iterator[Finding]:
    """Yield each declaration that cannot be read, or that needs what is not there, or that they are sound."""
    from airflow_mlops.core.check_declaration import check_declaration

    for fault in surroundings.broken:
        yield Finding("loops", WRONG, fault, remedy_of(fault, fault.partition(":")[0]))
    for model, loop in surroundings.loops.items():
        try:
            check_declaration(loop, surroundings.root)
        except DeclarationError as error:
            yield Finding("loops", WRONG, f"{model}: {error}", remedy_of(str(error), model))
            continue
        yield Finding("loops", OK, f"{model} is well declared, and what it needs is installed")
    if not surroundings.loops and not surroundings.broken:
        yield Finding("loops", OK, f"no loop is declared below {surroundings.root}")


def remedy_of(fault: str, subject: str) -> str:
    """Return the command that installs the extra which a fault names, or that shows the fault of a declaration.

    >>> remedy_of("Evidently is not installed; install airflow-mlops[evidently]", "toy")
    "pip install 'airflow-mlops[evidently]'"
    """
    extra = re.search(r"airflow-mlops\[\w+\]", fault)
    return f"pip install '{extra[0]}'" if extra else f"airflow-mlops check {subject}"
