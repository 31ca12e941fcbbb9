"""The checks of a declaration beyond its own keys, in one list for the command line and the Dag factory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.core.declaration.user_function import require_function
from airflow_mlops.core.errors import DeclarationError

if TYPE_CHECKING:
    from airflow_mlops.core.declaration.loop import Loop


def check_declaration(loop: Loop, root: Path, *, at_parse: bool = False, file: str | None = None) -> None:
    """Raise DeclarationError if the loop does not fit the files and packages that it refers to.

    Parameters
    ----------
    loop : Loop
        The declaration, itself valid.
    root : Path
        Project folder, where relative paths start.
    at_parse : bool, default False
        Whether to make only the checks that are cheap enough for the parse of a Dag file.
    file : str, optional
        File of the declaration, for errors about one of its keys.

    Raises
    ------
    DeclarationError
        For the first check that fails, with file, line and key where there are any.
    """
    for check in CHECKS:
        if at_parse and check not in CHECKS_AT_PARSE:
            continue
        try:
            check(loop, root)
        except DeclarationError as error:
            if error.file is not None or file is None:
                raise
            raise DeclarationError(error.message, file=file, line=error.line, key=error.key) from None


def check_policy(loop: Loop, root: Path) -> None:
    """Raise DeclarationError if the policy cannot be read, or wants an approval that the rollout does not declare."""
    from airflow_mlops.core.rollout.promotion_policy import read_policy

    if "approval" in read_policy(root).of(loop.tier) and loop.rollout.approval != "human":
        raise DeclarationError(
            f"is {loop.rollout.approval!r}, and the policy asks for an approval of tier {loop.tier}; make it human",
            key="rollout.approval",
        )


def check_contract(loop: Loop, root: Path) -> None:
    """Raise DeclarationError if the contract cannot be read, or differs from the loop in key, time or label."""
    from airflow_mlops.core.declaration.contract import load_contract

    load_contract(loop.data, root)


def check_functions(loop: Loop, root: Path) -> None:
    """Raise DeclarationError if a function of the declaration does not exist."""
    require_function(loop.train.function, root)
    if loop.data.features is not None:
        require_function(loop.data.features, root, key="data.features")
    for index, metric in enumerate(loop.evaluate.metrics):
        require_function(metric.function, root, key=f"evaluate.metrics[{index}].function")


def check_extras(loop: Loop, _root: Path) -> None:
    """Raise DeclarationError if the declaration needs an optional package that is not installed."""
    if "concept" in loop.watch.checks:
        from airflow_mlops.core.watch.checks.river_adwin import require_river

        require_river()
    if loop.watch.drift is not None and loop.watch.drift.engine == "evidently":
        from airflow_mlops.core.watch.drift.evidently_extra import require_evidently

        require_evidently()


def check_suite(loop: Loop, root: Path) -> None:
    """Raise DeclarationError if Great Expectations does not accept the expectation suite."""
    if loop.data.expectations:
        from airflow_mlops.core.validation.gx_validator import check_suite_file

        check_suite_file(root / loop.data.expectations)


CHECKS: tuple[Callable[[Loop, Path], None], ...] = (
    check_policy,
    check_contract,
    check_functions,
    check_extras,
    check_suite,
)
"""Every check, in the order in which faults are reported."""
CHECKS_AT_PARSE = frozenset({check_functions, check_extras})
"""The checks that every parse of a Dag file makes: they import no library and read no data file."""
