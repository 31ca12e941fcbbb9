"""Draft the files of a model from the columns of one data file: contract, suite, declaration, training, Dag, test."""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_mlops.core.data.drafting.learn_columns import LearnedTable, require_column, require_one_kind
from airflow_mlops.core.data.drafting.partition_cut import ENOUGH_ROWS, TimeCut, choose_every, cut_by_time
from airflow_mlops.core.data.drafting.suggest_contract import (
    ContractDraft,
    draft_contract,
    key_yaml,
    quote_yaml,
    replace_unprintable,
)
from airflow_mlops.core.declaration.key_columns import key_columns
from airflow_mlops.core.declaration.loop import MODEL_NAME
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.scaffold.feature_columns import FeatureColumns
from airflow_mlops.core.scaffold.label_kind import LabelKind, infer_label_kind
from airflow_mlops.core.scaffold.new_files import fill_template
from airflow_mlops.core.scaffold.new_project import PACKAGES
from airflow_mlops.core.validation.suggest_suite import draft_suite

CUT_KINDS = ("csv", "parquet", "orc", "xlsx")
"""Kinds of files of which one may hold all partitions."""
WINDOW = 8
LEAF, SMALL_LEAF = 20, 5
"""Rows of a leaf: the default of scikit-learn, and fewer where a trial on one partition would grow no tree."""
MIN_ROWS = 100
"""Rows that a verdict needs by default; fewer where a partition has fewer."""


@dataclass(frozen=True)
class Choices:
    """The choices of a person about a new model; None is left to the values of the file.

    Parameters
    ----------
    model : str
        Name of the model.
    label : str
        Column to predict.
    owner : str
        Owner of the Dags.
    key, time : str, optional
        Columns with these roles; a key of several columns has commas between them.
    every : str, optional
        Cron expression that cuts the rows into partitions.
    tests : bool
        Whether a test of the model is written.
    """

    model: str
    label: str
    owner: str
    key: str | None = None
    time: str | None = None
    every: str | None = None
    tests: bool = True


@dataclass(frozen=True)
class ModelDraft:
    """The texts of a model's files by their paths in the project, and a sentence for each guess.

    ``packages`` are files that the others need and that other models have as well.
    """

    texts: dict[str, str]
    remarks: tuple[str, ...]
    packages: Mapping[str, str]


def require_model_name(model: str) -> None:
    """Raise DeclarationError unless a text can be the name of a model."""
    if re.fullmatch(MODEL_NAME, model) is None:
        raise DeclarationError(
            f"{model!r} is no name of a model: small letters, digits, _ and -, at most 63, and a letter or digit first"
        )


def require_file_to_cut(file: Path) -> str:
    """Return the kind of a file that holds the rows of all partitions.

    Raises
    ------
    DeclarationError
        If there is no such file, or its kind is not read here.
    """
    if not file.exists():
        raise DeclarationError("does not exist; name the file with the rows after --from", file=str(file))
    if not file.is_file():
        raise DeclarationError("is no file; name one file with the rows of all partitions", file=str(file))
    kind = require_one_kind([file])
    if kind not in CUT_KINDS:
        raise DeclarationError(
            f"is of the kind {kind}, which is not cut by time; give one of {', '.join(CUT_KINDS)}", file=str(file)
        )
    return kind


def model_paths(model: str, *, tests: bool = True) -> dict[str, str]:
    """Return the paths of a model's files in the project, by what they are."""
    paths = {
        "contract": f"include/contracts/{model}.yaml",
        "suite": f"include/expectations/{model}.yaml",
        "loop": f"include/loops/{model}.yaml",
        "training": f"include/training/{module_name(model)}.py",
        "dag": f"dags/{model}.py",
    }
    return {**paths, "test": f"tests/test_{module_name(model)}.py"} if tests else paths


def module_name(model: str) -> str:
    """Return the name of a model's module.

    >>> module_name("sales-north"), module_name("2nd"), module_name("class")
    ('sales_north', 'model_2nd', 'model_class')
    """
    name = model.replace("-", "_")
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"model_{name}"


def draft_model(table: LearnedTable, file: Path, root: Path, choices: Choices) -> ModelDraft:
    """Return the files of a model that the rows of one file pass.

    Parameters
    ----------
    table : LearnedTable
        The columns of the file.
    file : Path
        The file, which holds the rows of all partitions and stays where it is.
    root : Path
        Project folder.

    Raises
    ------
    DeclarationError
        If a chosen column cannot have its role, a role is left open, or no column is left for the model.
    """
    model = choices.model
    require_model_name(model)
    label = require_column(table, choices.label)
    kind = infer_label_kind(label)
    contract = draft_contract(table, [file], name=model, key=choices.key, time=choices.time)
    for role, columns in {"key": key_columns(contract.key), "time": (contract.time,)}.items():
        if label.name in columns:
            raise DeclarationError(f"{label.name!r} is the label and the {role}; say another with --{role}", key=role)
    time = table.columns[contract.time]
    cut = cut_by_time(time, table.rows, choices.every or choose_every(time, table.rows))
    features = FeatureColumns.of(table, contract, {*key_columns(contract.key), time.name, label.name})
    # A label beyond the range of the past is news for the watch, and no bad row.
    hidden = {*contract.personal, label.name}
    remarks = (*contract_remarks(contract), *kind.remarks, *cut_remarks(cut), *features.remarks)
    texts = {
        "contract": contract.text,
        "suite": draft_suite(table, [file], key=contract.key, hidden=hidden, names=contract.names),
        "loop": loop_text(contract, kind, cut, remarks, choices=choices, source=source_yaml(file, root, contract)),
        "training": training_text(model, kind, features, few_rows=cut.rows < ENOUGH_ROWS),
        "dag": fill_template("dag.py.txt", model=model),
        "test": fill_template("test.py.txt", model=model),
    }
    paths = model_paths(model, tests=choices.tests)
    return ModelDraft({path: texts[part] for part, path in paths.items()}, remarks, PACKAGES)


def contract_remarks(contract: ContractDraft) -> list[str]:
    """Return the remarks of a contract that the declaration does not settle."""
    settled = ("data.source needs", "data.every:")
    return [remark for remark in contract.remarks if not remark.startswith(settled)]


def cut_remarks(cut: TimeCut) -> list[str]:
    """Return a remark on the partitions of a file."""
    remarks = [f"every: {cut.every!r} makes {cut.partitions:,} partitions of about {cut.rows:,} rows"]
    if cut.partitions < 3:
        remarks.append(
            "a training needs two partitions, and a watch a third: say a finer --every, or a file of a longer time"
        )
    return remarks


def source_yaml(file: Path, root: Path, contract: ContractDraft) -> str:
    """Return the source of the rows as YAML, with a path relative to the project where the file lies in it."""
    path = file.absolute()
    uri = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
    fields = {"uri": uri, **contract.source}
    written = "".join(f", {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items())
    return f"{{kind: {require_one_kind([file])}{written}}}"


def loop_text(
    contract: ContractDraft, kind: LabelKind, cut: TimeCut, remarks: Sequence[str], *, choices: Choices, source: str
) -> str:
    """Return the declaration of a loop as YAML."""
    names = contract.names
    min_rows = max(2, min(MIN_ROWS, cut.rows // 2))
    listed = ", ".join(quote_yaml(name, always=True) for name in kind.classes)
    head = ["# A draft: read every line before it is used. What it is not sure of:"]
    head += [f"# * {replace_unprintable(remark)}" for remark in remarks]
    return fill_template(
        "loop.yaml.txt",
        unsure="\n".join(head),
        model=quote_yaml(choices.model),
        name=choices.model,
        owner=quote_yaml(choices.owner),
        source=source,
        every=cut.every,
        partitions=f"{cut.partitions:,} partitions",
        rows=f"{cut.rows:,}",
        first=cut.first[:10],
        key=key_yaml([names[part] for part in key_columns(contract.key)]),
        time=quote_yaml(names[contract.time]),
        label=quote_yaml(names[choices.label]),
        classes=f"\n  classes: [{listed}]" if listed else "",
        module=module_name(choices.model),
        window=str(max(1, min(WINDOW, cut.partitions - 2))),
        metric=kind.metric,
        min_rows=str(min_rows),
    )


def training_text(model: str, kind: LabelKind, features: FeatureColumns, *, few_rows: bool) -> str:
    """Return the module of the training function, with smaller leaves where a partition has few rows."""
    number = kind.kind == "number"
    return fill_template(
        "training.py.txt",
        model=model,
        boosting="HistGradientBoostingRegressor" if number else "HistGradientBoostingClassifier",
        # Probabilities of small leaves are too sure of themselves.
        leaf=str(SMALL_LEAF if few_rows and number else LEAF),
        linear="Ridge" if number else "LogisticRegression",
        linear_model="Ridge()" if number else "LogisticRegression(max_iter=1000)",
        categories=list_literal(features.categories),
        numbers=list_literal(features.numbers),
    )


def list_literal(names: Sequence[str]) -> str:
    """Return texts as a list of Python, on one line where it is short.

    >>> list_literal(["shop", "price"])
    '["shop", "price"]'
    """
    quoted = [json.dumps(name, ensure_ascii=False) for name in names]
    line = f"[{', '.join(quoted)}]"
    return line if len(line) < 100 else "[\n" + "".join(f"    {name},\n" for name in quoted) + "]"
