"""The checks of a declaration beyond its own keys, in one list for the command line and the Dag factory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.declaration.own_types import require_own_type
from airflow_mlops.core.declaration.train import InInterpreter
from airflow_mlops.core.declaration.user_function import load_function, require_function
from airflow_mlops.core.declaration.validation_errors import suggest_name
from airflow_mlops.core.errors import DeclarationError, TrainingError

if TYPE_CHECKING:
    from airflow_mlops.core.declaration.contract import Column, Contract
    from airflow_mlops.core.declaration.loop import Loop


def check_declaration(
    loop: Loop, root: Path, *, at_parse: bool = False, candidates: bool = False, file: str | None = None
) -> None:
    """Raise DeclarationError if the loop does not fit the files and packages that it refers to.

    Parameters
    ----------
    loop : Loop
        The declaration, itself valid.
    root : Path
        Project folder, where relative paths start.
    at_parse : bool, default False
        Whether to make only the checks that are cheap enough for the parse of a Dag file.
    candidates : bool, default False
        Whether to call the training function, too, and look at the candidates that it gives.
    file : str, optional
        File of the declaration, for errors about one of its keys.

    Raises
    ------
    DeclarationError
        For the first check that fails, with file, line and key where there are any.
    """
    for check in (*CHECKS, check_candidates) if candidates else CHECKS:
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


def check_columns(loop: Loop, root: Path) -> None:
    """Raise DeclarationError if a column of the declaration or the suite is not in the contract, or of a wrong type.

    Without a contract nothing is known about columns before the first partition.
    """
    from airflow_mlops.core.declaration.contract import load_contract
    from airflow_mlops.core.evaluation.evaluation_context import declared_columns

    contract = load_contract(loop.data, root)
    if contract is None:
        return
    columns = sorted(contract.columns)
    label = contract.columns.get(loop.data.label)
    if label is not None and loop.data.classes is not None:
        _require_class_type(loop, label)
    elif label is not None and not is_label_type(label.source_type, classifies=loop.classifies):
        kind = "0 and 1, as int, float or bool" if loop.classifies else "numbers: int, float or decimal"
        raise DeclarationError(
            f"{loop.data.label!r} is of type {label.type} in {loop.data.contract}, and the gates need labels of {kind}"
            f"{'; name its classes in data.classes' if loop.classifies else ''}",
            key="data.label",
        )
    _require_weight_column(loop.train.weight, contract, str(loop.data.contract))
    _require_sample_column(loop, contract)
    # The user's function may make columns that the contract does not have.
    if loop.data.features is None:
        for name in declared_columns(loop):
            if name not in columns and name != loop.data.label:
                raise DeclarationError(
                    f"the gates and the evaluation slice by {name!r}, which the contract {loop.data.contract} does not "
                    f"have; {suggest_name(name, columns)}",
                    key="evaluate" if name in (*loop.evaluate.slices, *loop.evaluate.groups) else "gates",
                )
    if loop.data.expectations:
        types = {name: column.stored_type for name, column in contract.stored.items()}
        check_suite_columns(root / loop.data.expectations, str(loop.data.contract), types)


def _require_column(name: str, contract: Contract, file: str, *, key: str) -> None:
    """Raise DeclarationError unless the contract has a column."""
    if name not in contract.columns:
        hint = suggest_name(name, sorted(contract.columns))
        raise DeclarationError(f"the contract {file} has no column {name!r}; {hint}", key=key)


def _require_sample_column(loop: Loop, contract: Contract) -> None:
    """Raise DeclarationError unless the contract has the declared column by which rows are sampled."""
    sample = loop.train.sample
    if sample is not None and sample.by is not None:
        _require_column(sample.by, contract, str(loop.data.contract), key="train.sample.by")


def _require_weight_column(weight: str | None, contract: Contract, file: str) -> None:
    """Raise DeclarationError unless the contract has the declared column of weights, and it holds numbers."""
    if weight is None:
        return
    _require_column(weight, contract, file, key="train.weight")
    column = contract.columns[weight]
    if not is_label_type(column.source_type, classifies=False):
        raise DeclarationError(
            f"{weight!r} is of type {column.type} in {file}, and a weight is a number: int, float or decimal",
            key="train.weight",
        )


def _require_class_type(loop: Loop, label: Column) -> None:
    """Raise DeclarationError unless the declared classes are of the type of the label in the contract."""
    import pyarrow as pa

    kind, classes = label.source_type, loop.data.classes or ()
    wanted = str if pa.types.is_string(kind) else int if pa.types.is_integer(kind) else None
    if wanted is None:
        raise DeclarationError(
            f"classes are text or integers, and {loop.data.label!r} is of type {label.type} in {loop.data.contract}; "
            "declare its type as text, category or int, or leave classes out",
            key="data.classes",
        )
    odd = next((name for name in classes if not isinstance(name, wanted)), None)
    if odd is not None:
        raise DeclarationError(
            f"{odd!r} is no value of {loop.data.label!r}, which is of type {label.type} in {loop.data.contract}; "
            f"write {'text, in quotes where it looks like a number' if wanted is str else 'integers'}",
            key="data.classes",
        )


def check_suite_columns(file: Path, contract: str, types: dict[str, Any]) -> None:
    """Raise DeclarationError if an expectation reads a column that the contract lacks, or a limit has another type."""
    from airflow_mlops.core.validation.suite import columns_read, read_suite
    from airflow_mlops.core.validation.typed_limits import typed_limits

    columns = sorted(types)
    for index, expectation in enumerate(read_suite(file)):
        for name in columns_read([expectation]) or ():
            if name not in columns:
                raise DeclarationError(
                    f"{expectation.type} reads {name!r}, which the contract {contract} does not have; "
                    f"{suggest_name(name, columns)}",
                    file=str(file),
                    key=f"expectations[{index}].kwargs.column",
                )
        try:
            typed_limits(expectation, types.get(str(expectation.kwargs.get("column"))))
        except DeclarationError as error:
            raise DeclarationError(error.message, file=str(file), key=f"expectations[{index}].kwargs") from None


def is_label_type(kind: Any, *, classifies: bool) -> bool:
    """Return whether values of a type can be labels for the metrics of the gates."""
    import pyarrow as pa

    if pa.types.is_boolean(kind):
        return classifies
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or (pa.types.is_decimal(kind) and not classifies)
    )


def check_notifiers(loop: Loop, root: Path) -> None:
    """Raise DeclarationError if a notifier does not exist or cannot be imported."""
    references = {f"notify[{index}]": reference for index, reference in enumerate(loop.callbacks)}
    if loop.notify_by_kind is not None:
        references = dict(loop.notify_by_kind.references())
    for key, reference in references.items():
        require_function(reference, root, key=key)
        try:
            load_function(reference, root)
        except TrainingError as error:
            raise DeclarationError(str(error), key=key) from None


def check_functions(loop: Loop, root: Path) -> None:
    """Raise DeclarationError if a function of the declaration does not exist."""
    require_function(loop.train.function, root)
    for index, reference in enumerate(loop.train.own_types):
        require_own_type(reference, root, key=f"train.own_types[{index}]")
    if loop.data.features is not None:
        require_function(loop.data.features, root, key="data.features")
    for index, metric in enumerate(loop.evaluate.metrics):
        require_function(metric.function, root, key=f"evaluate.metrics[{index}].function")


def check_candidates(loop: Loop, root: Path) -> None:
    """Raise DeclarationError if a candidate cannot be judged by the declared metrics, or kept; calls the function."""
    from airflow_mlops.core.training.assemble import describe_candidates
    from airflow_mlops.core.training.inspect_candidates import describe_refusals

    try:
        refused = describe_candidates(loop, root)["refused"]
    except TrainingError as error:
        raise DeclarationError(str(error), key="train.function") from None
    if refused:
        raise DeclarationError(describe_refusals(loop.train.function, refused), key="train.function")


def _check_source_extras(loop: Loop) -> None:
    kinds = {loop.data.source.kind, *([loop.data.labels.source.kind] if loop.data.labels else [])}
    if "iceberg" in kinds:
        from airflow_mlops.core.sources.iceberg_source import require_pyiceberg

        require_pyiceberg()
    if "xlsx" in kinds:
        from airflow_mlops.core.sources.xlsx_rows import require_calamine

        require_calamine()


def check_extras(loop: Loop, _root: Path) -> None:
    """Raise DeclarationError if the declaration needs an optional package that is not installed."""
    _check_source_extras(loop)
    if loop.engine == "spark":
        from airflow_mlops.core.engines.spark_cluster import require_pyspark

        require_pyspark()
    if loop.train.search.optuna is not None and not isinstance(loop.train.runs_on, InInterpreter):
        from airflow_mlops.core.training.optuna_extra import require_optuna

        require_optuna()
    if "concept" in loop.watch.checks:
        from airflow_mlops.core.watch.checks.river_adwin import require_river

        require_river()
    if loop.watch.drift is not None and loop.watch.drift.engine == "evidently":
        from airflow_mlops.core.watch.drift.evidently_extra import require_evidently

        require_evidently()


def check_dialect(loop: Loop, root: Path) -> None:
    """Raise DeclarationError if a CSV source declares a sign or an encoding that is none."""
    from airflow_mlops.core.data.labels.open_labels import data_of_labels
    from airflow_mlops.core.declaration.data import CsvSource
    from airflow_mlops.core.sources.source_factory import csv_dialect

    for data in (loop.data, *([data_of_labels(loop)] if loop.data.labels else [])):
        if isinstance(data.source, CsvSource):
            csv_dialect(data.source, data, root)


def check_suite(loop: Loop, root: Path) -> None:
    """Raise DeclarationError if Great Expectations, or the database of engine sql, cannot judge by the suite."""
    if loop.data.expectations:
        from airflow_mlops.core.validation.gx_validator import check_suite_file

        check_suite_file(root / loop.data.expectations)
        if loop.engine == "sql":
            from airflow_mlops.core.validation.sql_expectations import require_supported
            from airflow_mlops.core.validation.suite import read_suite_with_lines

            path = root / loop.data.expectations
            require_supported(read_suite_with_lines(path), file=str(path))


CHECKS: tuple[Callable[[Loop, Path], None], ...] = (
    check_policy,
    check_contract,
    check_functions,
    check_extras,
    check_dialect,
    check_suite,
    check_columns,
    check_notifiers,
)
"""Every check, in the order in which faults are reported."""
CHECKS_AT_PARSE = frozenset({check_functions, check_extras})
"""The checks that every parse of a Dag file makes: they import no library and read no data file."""
