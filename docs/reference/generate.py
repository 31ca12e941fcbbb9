"""Write the pages of this folder from the code, so that they cannot say anything else: ``make docs``."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import json
import os
import pkgutil
import re
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops.core.evaluation.known_metrics import Metric
    from airflow_mlops.core.ledger.details import Details

HERE = Path(__file__).resolve().parent
HOUSE = HERE.parents[1]
NOTE = "<!-- Written by `make docs` from the code; a change here is lost. -->\n"

# Where a user writes each section of a loop, in that order.
SECTIONS = {
    "Loop": "",
    "Data": "data",
    "ParquetSource": "data.source",
    "OrcSource": "data.source",
    "CsvSource": "data.source",
    "JsonSource": "data.source",
    "XlsxSource": "data.source",
    "DeltaSource": "data.source",
    "IcebergSource": "data.source",
    "SqlSource": "data.source",
    "HttpSource": "data.source",
    "Pages": "data.source.pages",
    "FeastSource": "data.source",
    "Limits": "data.limits",
    "Checks": "data.checks",
    "Labels": "data.labels",
    "Retention": "data.retention",
    "Train": "train",
    "InWorker": "train.runs_on",
    "InInterpreter": "train.runs_on",
    "OnSageMaker": "train.runs_on",
    "Sample": "train.sample",
    "FitLimits": "train.limits",
    "EarlyStopping": "train.early_stopping",
    "Threshold": "train.threshold",
    "MistakeCosts": "train.threshold.costs",
    "Search": "train.search",
    "OptunaSearch": "train.search.optuna",
    "NumberRange": "train.search.optuna.spaces.*.*",
    "CategoricalValues": "train.search.optuna.spaces.*.*",
    "Gate": "gates[]",
    "Evaluate": "evaluate",
    "UserMetric": "evaluate.metrics[]",
    "Robustness": "evaluate.robustness",
    "Score": "score",
    "TransformOnSageMaker": "score.runs_on",
    "Rollout": "rollout",
    "RolloutStage": "rollout.stages[]",
    "OnlineMetric": "rollout.metrics[]",
    "Watch": "watch",
    "Drift": "watch.drift",
    "Performance": "watch.performance",
    "Retrain": "retrain",
    "Clock": "retrain.policy",
    "Regret": "retrain.policy",
    "Alarm": "retrain.alarm",
    "Resources": "resources",
    "StageResources": "resources.*",
    "Notify": "notify",
    "WebhookNotifier": "notify.*[]",
    "SmtpNotifier": "notify.*[]",
}
CONTRACT_SECTIONS = {"Contract": "", "Column": "columns.*"}
LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minItems": "at least {} of them",
    "pattern": "matches `{}`",
}


def pages() -> dict[str, str]:
    """Return the content of every page of this folder by its file name."""
    from airflow_mlops.cli.loop_commands import loop_schema

    return {
        "loop.schema.json": json.dumps(loop_schema(), indent=2) + "\n",
        "loop.md": loop_page(loop_schema()),
        "contract.schema.json": json.dumps(contract_schema(), indent=2) + "\n",
        "contract.md": contract_page(contract_schema()),
        "bad-input.md": bad_input_page(),
        "operators.md": operators_page(),
        "ledger.md": ledger_page(),
        "errors.md": errors_page(),
        "metrics.md": metrics_page(),
        "loop-metrics.md": loop_metrics_page(),
        "models.md": models_page(),
        "cli.md": cli_page(),
    }


def loop_page(schema: dict[str, Any]) -> str:
    """Return the page of the declaration, a table for each section."""
    known = {"Loop": schema, **schema["$defs"]}
    return "\n".join(
        [
            "# The declaration\n",
            NOTE,
            "One loop is one YAML file, or one `Loop(...)` in Python with the same fields. For an editor that "
            "completes and checks while you type, start the file with a line that names "
            "[loop.schema.json](loop.schema.json), as `include/loops/flight_air_time.yaml` does.\n",
            "Refused with file, line, key, value and the nearest valid key: unknown keys, wrong types (nothing is "
            "converted), `{{` or `{%`, YAML aliases, anchors and tags, a key that stands twice, files over 256 kB.\n",
            *sections(known, SECTIONS, "The loop"),
        ]
    )


def contract_schema() -> dict[str, Any]:
    """Return the JSON schema of contracts, for editors."""
    from airflow_mlops.core.declaration.contract import Contract

    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Contract of a data set",
        **Contract.model_json_schema(by_alias=True),
    }


def contract_page(schema: dict[str, Any]) -> str:
    """Return the page of the contract: what it declares of the whole, and of each column."""
    from airflow_mlops.core.declaration import contract

    example = textwrap.dedent(re.split(r"\n\n", inspect.getdoc(contract) or "")[1])
    return "\n".join(
        [
            "# The contract\n",
            NOTE,
            "A contract says which columns a data set has, what they are, and who may see them. It is a YAML file that "
            "the declaration names as `data.contract`; `airflow-mlops contract suggest` drafts one from files. An "
            "editor checks it by [contract.schema.json](contract.schema.json). It is read as strictly as "
            "[a declaration](loop.md), and [bad input](bad-input.md) says what it does to what arrives.\n",
            f"```yaml\n{example}\n```\n",
            *sections({"Contract": schema, **schema["$defs"]}, CONTRACT_SECTIONS, "The data set"),
        ]
    )


def sections(known: dict[str, Any], paths: dict[str, str], whole: str) -> list[str]:
    """Return a heading, a sentence and a table for each section of a declaration.

    Raises
    ------
    KeyError
        If there is a section that ``paths`` does not name.
    """
    unsaid = sorted(set(known) - set(paths))
    if unsaid:
        raise KeyError(f"{', '.join(unsaid)}: a section of the declaration that SECTIONS of this script does not name")
    parts = []
    for name, path in paths.items():
        parts += [f"## {heading(path, known[name]) or whole}\n", f"{first_sentence(known[name]['description'])}\n"]
        parts.append(table(("key", "type", "default", "limits", "meaning"), field_rows(path, known[name])))
    return parts


def heading(path: str, model: dict[str, Any]) -> str:
    """Return the heading of a section; kinds of one section are told apart."""
    kind = model["properties"].get("kind", {}).get("const")
    return f"`{path}` of kind `{kind}`" if kind else f"`{path}`" if path else ""


def field_rows(path: str, model: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each key of one section."""
    required = set(model.get("required", ()))
    return [
        (
            f"`{f'{path}.' if path else ''}{name}`",
            type_of(field),
            "required" if name in required else default_of(field),
            "; ".join(limits_of(field)),
            literal(field.get("description", "")),
        )
        for name, field in model["properties"].items()
    ]


def type_of(field: dict[str, Any]) -> str:
    """Return the type of a key in words."""
    if "anyOf" in field or "oneOf" in field:
        kinds = [type_of(one) for one in field.get("anyOf", field.get("oneOf")) if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        path = {**SECTIONS, **CONTRACT_SECTIONS}[name]
        # Kinds of one section have headings of their own, which end with the kind.
        kind = re.fullmatch(r"(\w+)(?:Source|Values|Notifier)|In(Worker|Interpreter)|(?:Transform)?On(SageMaker)", name)
        of_kind = f" of kind {next(filter(None, kind.groups())).lower()}" if kind else ""
        return f"[{name}](#{re.sub(r'[^a-z_ -]', '', (path + of_kind).lower()).replace(' ', '-')})"
    if "const" in field or "enum" in field:
        return " or ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if "type" not in field:
        return "text"
    if field["type"] == "array":
        return f"list of {type_of(field['items'])}"
    if isinstance(field.get("additionalProperties"), dict):
        inner = type_of(field["additionalProperties"])
        return f"{inner} of each name" if inner.startswith("a ") else f"a {inner} for each name"
    words = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    return words.get(field["type"], str(field["type"]))


def default_of(field: dict[str, Any]) -> str:
    """Return the default of a key as YAML would write it; a section's defaults stand in its own table."""
    default = field.get("default")
    if isinstance(default, dict):
        return "those of its keys"
    if isinstance(default, list) and default and isinstance(default[0], dict):
        kept = [{key: value for key, value in one.items() if value} for one in default]
        return f"`{', '.join(json.dumps(one).replace(chr(34), '') for one in kept)}`"
    return (
        "none"
        if default is None or default == []
        else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    )


def limits_of(field: dict[str, Any]) -> list[str]:
    """Return the limits of a key, a phrase each."""
    found = [
        words.format(str(field[key]).replace("|", "\\|").removesuffix(".0"))
        for key, words in LIMITS.items()
        if key in field
    ]
    inner = [*field.get("anyOf", ()), *([field["items"]] if "items" in field else [])]
    return found + [limit for one in inner for limit in limits_of(one)]


def find_tests() -> None:
    """Make the tests importable, of which some pages are written."""
    if str(HOUSE) not in sys.path:
        sys.path.append(str(HOUSE))


def bad_input_page() -> str:
    """Return the page of bad input: the cases that ``tests/bad_input`` goes through, with the outcome of each."""
    find_tests()
    from tests.bad_input.cases import GROUPS
    from tests.bad_input.cases_of_labels import LABELS

    parts = [
        "# Bad input\n",
        NOTE,
        "What arrives, what becomes of it, and the words in which you will read it. Each line is a test in "
        "`tests/bad_input`, from a file on disk or a row in PostgreSQL to the ledger and the quarantine.\n",
        "| outcome | means |\n|---|---|\n"
        "| published | every row goes on; words are warnings in the record of the publication |\n"
        "| quarantined | the rows at fault are in quarantine with every reason, the others are published; more of them "
        "than `data.tolerance` and the partition is refused |\n"
        "| refused | nothing goes on; the ledger's record `partition_refused` says why, and the next partition is "
        "ingested as if nothing had been |\n"
        "| declaration error | nothing is read at all; the error names file, line and key |\n"
        "| not ready | nothing is there yet, so the run is skipped and nothing is recorded |\n"
        "| left out | single labels of a delivery do not count, the others do; the ledger's record `labels_arrived` "
        "counts them by their reasons. A delivery that is refused is recorded as the check `labels` |\n",
        "Rows in are rows published, rows in quarantine and rows of forgotten subjects, always. What to do about a "
        "refusal: [fix a refused partition](../how-to/fix-a-refused-partition.md). What a contract can say: "
        "[the contract](contract.md).\n",
    ]
    for name, cases in {**GROUPS, "Labels from a source of their own": LABELS}.items():
        rows = [(in_a_cell(case.line), case.outcome, "<br>".join(map(code, case.words))) for case in cases]
        parts += [f"## {name}\n", table(("what arrives", "what happens", "the words you will see"), rows)]
    parts += [
        "## Not here yet\n",
        "Request bodies (a limit on their size, NaN, missing and extra fields) belong to the gateway, which is not "
        "built yet.\n",
    ]
    return "\n".join(parts)


def code(text: str) -> str:
    """Return text as code in the cell of a table, whatever stands in it."""
    fence = "``" if "`" in text else "`"
    return f"{fence} {text} {fence}".replace("|", "\\|") if fence == "``" else f"`{text}`".replace("|", "\\|")


def in_a_cell(text: str) -> str:
    """Return text in the cell of a table, nothing in it taken for markup."""
    return re.sub(r"([<>|*_\[\]])", r"\\\1", text)


def operators_page() -> str:
    """Return the page of the operators, from their docstrings and signatures."""
    import airflow_mlops
    from airflow_mlops.operators.stage import StageOperator

    operators = [
        getattr(airflow_mlops, name) for name in airflow_mlops.__all__ if name.endswith(("Operator", "Sensor"))
    ]
    parts = [
        "# The operators\n",
        NOTE,
        "Each is a step of the loop that also stands alone in an ordinary Dag; all of them can be imported from "
        "`airflow_mlops`. How to use them: [operators in your own Dag](../how-to/operators-in-your-own-dag.md).\n",
        "## What all of them take\n",
        documented(StageOperator),
        parameters(StageOperator),
    ]
    for operator in operators:
        parts += [f"## {operator.__name__}\n", documented(operator)]
        if "__init__" in vars(operator):
            parts.append(parameters(operator))
    return "\n".join(parts)


def documented(cls: type) -> str:
    """Return the docstring of a class as text, without its parameters."""
    text = re.sub(r"(?m)^:param .*(?:\n {2,}.*)*\n?", "", inspect.cleandoc(cls.__doc__ or ""))
    return literal(re.sub(r"\n{3,}", "\n\n", text).strip()) + "\n"


def parameters(cls: type) -> str:
    """Return the parameters that a class adds, as a table.

    Raises
    ------
    KeyError
        If a parameter is not documented.
    """
    text = inspect.cleandoc(cls.__doc__ or "")
    meaning = {name: " ".join(words.split()) for name, words in re.findall(r":param (\w+): ((?:.|\n +)+)", text)}
    rows = []
    for name, parameter in inspect.signature(vars(cls)["__init__"]).parameters.items():
        if name in ("self", "kwargs"):
            continue
        default = "required" if parameter.default is parameter.empty else f"`{parameter.default!r}`"
        kind = str(parameter.annotation).replace("|", "\\|")
        rows.append((f"`{name}`", f"`{kind}`", default, literal(meaning[name])))
    return table(("parameter", "type", "default", "meaning"), rows)


def ledger_page() -> str:
    """Return the page of the ledger: its table and the kinds of records."""
    from airflow_mlops.core.ledger.kinds import KINDS
    from airflow_mlops.core.ledger.sql_schema import LEDGER
    from airflow_mlops.core.ledger.watch_details import JUDGED

    columns = [(f"`{column.name}`", str(column.type).lower()) for column in LEDGER.columns]
    kinds = [(f"`{kind}`", details.SUMMARY, fields_of(details)) for kind, details in KINDS.items()]
    judged = [(f"`{check}`", added_fields(details)) for check, details in JUDGED.items()]
    return "\n".join(
        [
            "# The ledger\n",
            NOTE,
            f"One append-only table, `{LEDGER.name}`. Its primary key is the model and the sequence number; the "
            "operation is unique within a model. Why it is so: [the ledger](../explanation/the-ledger.md).\n",
            "## Columns\n",
            table(("column", "type"), columns),
            "## Kinds of records\n",
            "Each kind is a dataclass in `core/ledger`; a field that is not required may be absent from the JSON.\n",
            table(("kind", "what it says", "fields"), kinds),
            "## Fields of a judgement\n",
            "A check that states more than `window_judged` has a dataclass of its own, told apart by `check`.\n",
            table(("`check`", "more fields"), judged),
        ]
    )


def fields_of(details: type[Details]) -> str:
    """Return the names of the fields of a kind of record, those that are required in bold."""
    return ", ".join(
        f"`{field.name}`" if has_default(field) else f"**`{field.name}`**" for field in dataclasses.fields(details)
    )


def added_fields(details: type[Details]) -> str:
    """Return the names of the fields that a kind of judgement adds to those of all judgements."""
    common = {field.name for field in dataclasses.fields(details.__mro__[1])}
    return ", ".join(f"`{field.name}`" for field in dataclasses.fields(details) if field.name not in common)


def has_default(field: dataclasses.Field[Any]) -> bool:
    """Return whether a field may be absent."""
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def errors_page() -> str:
    """Return the page of the errors: the tree, and what each means for the task that raised it."""
    from airflow_mlops import core

    for module in pkgutil.walk_packages(core.__path__, f"{core.__name__}."):
        if ".migrations." not in module.name:  # a migration runs on import
            importlib.import_module(module.name)  # an error may be defined beside what raises it
    from airflow_mlops.core.errors import MlopsError, NotReadyError

    lines, rows = [], []

    def walk(cls: type[MlopsError], depth: int) -> None:
        lines.append("    " * depth + cls.__name__)
        row = (f"`{cls.__name__}`", first_sentence(cls.__doc__ or ""), fate_of(cls))
        if row not in rows:
            rows.append(row)
        ours = [below for below in cls.__subclasses__() if below.__module__.startswith("airflow_mlops.core.")]
        for below in sorted(ours, key=lambda one: one.__name__):
            walk(below, depth + 1)

    def fate_of(cls: type[MlopsError]) -> str:
        if issubclass(cls, NotReadyError):
            return "skipped"
        return "fails, and is tried again" if cls.retryable else "fails at once"

    walk(MlopsError, 0)
    return "\n".join(
        [
            "# The errors\n",
            NOTE,
            "Every error that the package raises on purpose is an `MlopsError`. An operator turns it into the fate of "
            "its task: skipped where there is nothing to do yet, failed where trying again would change nothing.\n",
            "```text\n" + "\n".join(lines) + "\n```\n",
            table(("error", "meaning", "the task"), rows),
        ]
    )


def metrics_page() -> str:
    """Return the page of the metrics: unit, direction, interval, and the values that each does not take."""
    from airflow_mlops.core.declaration.evaluate import EXAMPLES, SEVERAL_CLASS_METRICS, row_metrics
    from airflow_mlops.core.evaluation.known_metrics import (
        METRICS,
        METRICS_OF_CLASSES,
        METRICS_OF_QUANTILES,
        built_in_metric,
    )

    classes = {*(metric.name for metric in METRICS_OF_CLASSES), *SEVERAL_CLASS_METRICS}
    by_rows = {*row_metrics("class"), *row_metrics("number"), *EXAMPLES}
    metrics = [*METRICS.values(), *filter(None, map(built_in_metric, EXAMPLES)), *METRICS_OF_QUANTILES.values()]
    rows = [
        (
            f"`{metric.name}`",
            "classes" if metric.name in classes else "numbers",
            metric.unit,
            metric.better,
            interval_of(metric),
            "yes" if metric.name in by_rows else "",
            literal(domain_of(metric.name)),
        )
        for metric in metrics
    ]
    head = ("metric", "of", "unit", "better", "interval", "compares row by row", "does not take")
    return "\n".join(
        [
            "# The metrics\n",
            NOTE,
            "A gate takes all of them, and [measures that are none of rows](../how-to/judge-a-model.md#gates). One "
            "that compares row by row also watches, judges a rollout and chooses among candidates. "
            "`pinball_loss_p90` is that of the quantile 0.9, `pinball_loss_p97_5` that of 0.975, `pinball_loss_p5_p95` "
            "the mean over two; "
            "`mean_tweedie_deviance_1_5` is that of the power 1.5, and any power between 1 and 2 has its own name. "
            "[How models are judged](../explanation/how-models-are-judged.md#metrics) says what each is.\n",
            table(head, rows),
        ]
    )


def models_page() -> str:
    """Return the page of the models: which estimators can be candidates, from the tests that keep each of them."""
    find_tests()
    from tests.unit.core.registry.every_estimator import NOT_IN_A_PIPELINE, NOT_KEPT, every

    rows = [
        model_row(name, cls, kind, kept=name not in NOT_KEPT)
        for kind in ("classifier", "regressor")
        for name, cls in every(kind).items()
    ]
    rows += [model_row(cls.__name__, cls, kind, kept=True) for cls, kind in boosters()]
    steps = [f"`{name}`" for name in every("transformer") if name not in NOT_KEPT]
    return "\n".join(
        [
            "# The models\n",
            NOTE,
            "`tests/unit/core/registry` fits each of them, keeps it as a file, loads it in a fresh process, and "
            "compares the predictions. What a loop cannot use is refused by `airflow-mlops check`, before a fit.\n",
            table(("estimator", "of", "probabilities", "weights of rows", "can be a candidate"), rows),
            "A search of parameters, a pipeline, a vote, a stack and a calibration of them are models as well, as are "
            "[classes of your own](../how-to/own-transformers.md), [an ONNX "
            "graph](../how-to/bring-an-onnx-model.md) and [several quantiles](../how-to/predict-quantiles.md).\n",
            "## Steps of a pipeline\n",
            f"{', '.join(steps)}.\n",
            f"Not kept: {', '.join(f'`{name}`' for name in sorted(NOT_KEPT))}, which skops does not write. "
            "Not before a model of one label:\n",
            table(
                ("transformer", "why"), [(f"`{name}`", f"it {reason}") for name, reason in NOT_IN_A_PIPELINE.items()]
            ),
        ]
    )


def model_row(name: str, cls: type, kind: str, *, kept: bool) -> tuple[str, ...]:
    """Return the row of an estimator: its name, what it predicts, and what it can."""
    from airflow_mlops.core.training.inspect_candidates import refusal_of
    from airflow_mlops.core.training.weighted_fit import weight_parameter
    from tests.unit.core.registry.every_estimator import unfitted

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # classes that scikit-learn will drop are candidates until then
        estimator = unfitted(name, cls)
    classifies = kind == "classifier"
    reason = refusal_of(estimator, classifies=classifies, probability_metrics=())
    return (
        f"`{name}`",
        "classes" if classifies else "numbers",
        "yes" if hasattr(estimator, "predict_proba") else "",
        "" if weight_parameter(estimator) is None else "yes",
        "yes" if kept and reason is None else f"no: {reason or 'skops does not write it'}",
    )


def boosters() -> list[tuple[type, str]]:
    """Return the estimators of the extras of boosted trees, and what they are."""
    from airflow_mlops.core.declaration.user_function import BOOSTERS
    from airflow_mlops.core.registry.trusted_types import TRUSTED_TYPES

    names = [name.rpartition(".") for name in TRUSTED_TYPES if name.partition(".")[0] in BOOSTERS]
    return [
        (getattr(importlib.import_module(module), name), kind)
        for module, _, name in names
        for kind in ("classifier", "regressor")
        if name.lower().endswith(kind)
    ]


def interval_of(metric: Metric) -> str:
    """Return the method of the interval of a metric."""
    if metric.name == "roc_auc":
        return "DeLong"
    if metric.quantile is not None:
        return "order statistics"
    return "normal" if metric.mean_over_rows else "bootstrap" if metric.has_interval else "none"


def domain_of(name: str) -> str:
    """Return the values that a metric does not take, in words."""
    from airflow_mlops.core.declaration.evaluate import metric_parameter
    from airflow_mlops.core.training.row_losses import DOMAINS

    domains = DOMAINS.get((metric_parameter(name) or (name,))[0], ())
    pairs = zip(("labels", "predictions"), domains, strict=False)
    return ", ".join(f"{values} that are {domain[1]}" for values, domain in pairs if domain)


def loop_metrics_page() -> str:
    """Return the page of the metrics that the exporter gives of loops."""
    from airflow_mlops.core.overview.loop_metrics import METRICS

    rows = [
        (f"`{metric.name}`", metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
        for metric in METRICS
    ]
    return "\n".join(
        [
            "# The loops' metrics\n",
            NOTE,
            "What `airflow-mlops exporter` serves and `airflow-mlops metrics` prints, from the ledger alone. A value "
            "that is not known has no sample. Times of partitions are those of their keys, in seconds since 1970 in "
            "UTC. How to use them: [observe loops](../how-to/observe.md).\n",
            table(("metric", "type", "labels", "meaning"), rows),
        ]
    )


def cli_page() -> str:
    """Return the page of the command line: what it says of itself, and the ``--help`` of each command."""
    os.environ["COLUMNS"] = "100"  # argparse folds its help to the width of the terminal
    from airflow_mlops.cli import parser

    whole = parser()
    parts = ["# The command line\n", NOTE, f"```text\n{whole.description}\n```\n"]
    for command in commands_of(whole):
        parts += [f"## {command.prog}\n", f"```text\n{command.format_help()}```\n"]
    return "\n".join(parts)


def commands_of(whole: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Return the commands below a parser that do something, those of groups such as ``contract`` too."""
    found: list[argparse.ArgumentParser] = []
    for action in whole._actions:
        for command in action.choices.values() if isinstance(action.choices, dict) else ():
            found += commands_of(command) or [command]
    return found


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def first_sentence(text: str) -> str:
    """Return the first paragraph of a docstring on one line."""
    return literal(" ".join(inspect.cleandoc(text).split("\n\n")[0].split()))


def literal(text: str) -> str:
    """Return text of a docstring with its literals and references as Markdown writes them."""
    text = re.sub(r":(?:class|func|meth):`~?\.?([^`]+)`", r"`\1`", text)
    return text.replace("``", "`").replace("|", "\\|") if "|" in text else text.replace("``", "`")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        os.environ["AIRFLOW_HOME"] = home  # Airflow makes that folder when it is imported; it shall not be the user's
        for name, content in pages().items():
            (HERE / name).write_text(content, encoding="utf-8")
