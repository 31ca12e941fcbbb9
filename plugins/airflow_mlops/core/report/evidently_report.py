"""Evidently's page about the inputs of a scored partition, against the training window of its champion.

Evidently writes names of columns and values of categories into a script as they are, so a column called
``<script>…`` would run. It never sees them: columns and categories go by names of letters, digits and underscores, and
what these stand for is a table above Evidently's own page, where every word is text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pandas as pd

from airflow_mlops.core.declaration.watch import Drift
from airflow_mlops.core.errors import DataError, NotReadyError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.report.page_parts import Section, Table
from airflow_mlops.core.report.report_numbers import format_value
from airflow_mlops.core.report.report_page import html_section
from airflow_mlops.core.training.window import pin_scored
from airflow_mlops.core.watch.drift.ask_evidently import NUMBERS_ONLY, run_report, score_column, suppress_warnings
from airflow_mlops.core.watch.drift.evidently_extra import require_evidently
from airflow_mlops.core.watch.drift.evidently_rows import (
    OTHER,
    ComparableColumn,
    comparable_column,
    reference_features,
    safe_name,
    window_features,
)
from airflow_mlops.core.workspace import Workspace

METHODS = {"number": ("wasserstein", 0.1), "category": ("jensenshannon", 0.1)}
"""Method and threshold by the kind of a column, where none is declared; Evidently's own default depends on row counts.
"""
STYLE = """<style>
.legend { font: 15px/1.5 system-ui, sans-serif; padding: 0 1rem; } .legend table { border-collapse: collapse; }
.legend td, .legend th { border: 1px solid #d5dde5; padding: .2rem .5rem; text-align: left; }
</style>"""


def evidently_report(workspace: Workspace, partition: str) -> str:
    """Return Evidently's page as HTML; it runs Evidently's own scripts, so open it in a sandbox.

    Raises
    ------
    DeclarationError
        If Evidently is not installed.
    NotReadyError
        If the partition was not scored, or no column can be compared.
    DataError, TrainingError
        If no row of the training window, or none of the partition, can be read any more, or Evidently raises.
    """
    require_evidently()
    champion, pin = scoring_champion(workspace, partition)
    selection = select_columns(reference_features(workspace, champion), window_features(workspace, pin, champion))
    if not selection.columns:
        raise NotReadyError(f"no column of partition {partition} can be compared: {selection.left_out}")
    declared = workspace.loop.watch.drift
    methods = {alias: method_for(declared, column.kind) for alias, column in selection.columns.items()}
    page = draw_page(selection, methods)
    section = legend(f"{workspace.loop.model}, partition {partition}: inputs by Evidently", selection, methods)
    before, body, after = page.partition("<body>")
    assert body, "Evidently's page has no body"
    return f'{before}{body}\n{STYLE}<div class="legend">{html_section(section)}</div>\n{after}'


@dataclass(frozen=True)
class PageColumns:
    """The columns of Evidently's page by their safe names, the names that these stand for, and the columns left out."""

    columns: dict[str, ComparableColumn]
    names: dict[str, str]
    left_out: dict[str, str]
    rows: str


def select_columns(reference: pd.DataFrame, window: pd.DataFrame) -> PageColumns:
    """Return the columns of both sides that can be compared, in order of their names."""
    selection = PageColumns({}, {}, {}, f"{len(window):,} rows against {len(reference):,}")
    for number, name in enumerate(sorted({str(name) for name in (*reference, *window)}), start=1):
        both = name in reference and name in window
        column = comparable_column(reference[name], window[name]) if both else "is not on both sides"
        if isinstance(column, str):
            selection.left_out[name] = column
        else:
            alias = safe_name("c", number, name)
            selection.columns[alias], selection.names[alias] = column, name
    return selection


def draw_page(selection: PageColumns, methods: Mapping[str, tuple[str, float]]) -> str:
    """Draw Evidently's own page of columns; a column at which it raises is left out of the selection.

    Raises
    ------
    DataError
        If Evidently raises without these columns too.
    """
    try:
        return _render_html(selection, methods)
    except Exception as error:  # a library may raise anything
        scores = {alias: score_column(column, *methods[alias]) for alias, column in selection.columns.items()}
        refused = {alias: reason for alias, reason in scores.items() if isinstance(reason, str)}
        if not refused or len(refused) == len(scores):
            raise DataError(f"Evidently raised {type(error).__name__}: {str(error)[:300]}") from error
    for alias, reason in refused.items():
        selection.left_out[selection.names.pop(alias)] = reason
        del selection.columns[alias]
    return draw_page(selection, methods)


def _render_html(selection: PageColumns, methods: Mapping[str, tuple[str, float]]) -> str:
    with suppress_warnings():
        return str(run_report(selection.columns, methods).get_html_str(as_iframe=False))


def page_inputs(workspace: Workspace, partition: str) -> dict[str, Any]:
    """Return the inputs that determine Evidently's page, as JSON values; see :func:`evidently_report`."""
    require_evidently()
    champion, pin = scoring_champion(workspace, partition)
    methods = {kind: method_for(workspace.loop.watch.drift, kind) for kind in METHODS}
    return {
        "window": pin.to_dict(),
        "champion": champion.details.window.to_dict(),
        "methods": methods,
        "features": workspace.loop.data.features,
        "evidently": version("evidently"),
    }


def scoring_champion(workspace: Workspace, partition: str) -> tuple[Version, PinnedPartition]:
    """Return the champion that scored a partition, and the snapshot that it scored.

    Raises
    ------
    NotReadyError
        If the partition was not scored.
    """
    state = workspace.state()
    scored = state.require_scored(partition)
    return state.versions[scored.champion], pin_scored(state, partition)


def method_for(declared: Drift | None, kind: str) -> tuple[str, float]:
    """Return method and threshold for columns of a kind: the declared ones, where the method takes that kind."""
    if declared is None or declared.method is None or declared.threshold is None:
        return METHODS[kind]
    if kind == "category" and declared.method in NUMBERS_ONLY:
        return METHODS[kind]
    return declared.method, declared.threshold


def legend(title: str, selection: PageColumns, methods: Mapping[str, tuple[str, float]]) -> Section:
    """Return the legend of Evidently's page: the columns that its names stand for, and the columns left out."""
    lines = [
        (alias, name, methods[alias][0], format_value(methods[alias][1])) for alias, name in selection.names.items()
    ]
    values = [
        (selection.names[alias], name, value)
        for alias, column in selection.columns.items()
        for name, value in column.values.items()
    ]
    tables = [Table(("on this page", "column", "method", "threshold"), tuple(lines))]
    texts = [f"{selection.rows}. Columns and categories go by safe names on this page; these are what they stand for."]
    if values:
        tables.append(Table(("column", "on this page", "category"), tuple(values)))
        texts.append(f"Categories beyond the most frequent of a column are counted as {OTHER!r}.")
    if selection.left_out:
        tables.append(Table(("not compared", "because it"), tuple(sorted(selection.left_out.items()))))
    return Section(title, tuple(texts), tuple(tables))
