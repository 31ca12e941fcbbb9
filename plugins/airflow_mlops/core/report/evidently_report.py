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
from airflow_mlops.core.report.report_numbers import told
from airflow_mlops.core.report.report_page import html_section
from airflow_mlops.core.training.window import pin_scored
from airflow_mlops.core.watch.drift.ask_evidently import NUMBERS_ONLY, asked, quietly, snapshot_of
from airflow_mlops.core.watch.drift.evidently_extra import require_evidently
from airflow_mlops.core.watch.drift.evidently_rows import (
    OTHER,
    ComparableColumn,
    comparable,
    reference_features,
    safe_name,
    window_features,
)
from airflow_mlops.core.workspace import Workspace

METHODS = {"number": ("wasserstein", 0.1), "category": ("jensenshannon", 0.1)}
"""Method and threshold by the kind of a column, where none is declared: left to itself Evidently goes by row counts."""
STYLE = """<style>
.legend { font: 15px/1.5 system-ui, sans-serif; padding: 0 1rem; } .legend table { border-collapse: collapse; }
.legend td, .legend th { border: 1px solid #d5dde5; padding: .2rem .5rem; text-align: left; }
</style>"""


def evidently_report(workspace: Workspace, partition: str) -> str:
    """Return Evidently's page as HTML; it runs Evidently's own scripts, and is to be opened in a sandbox.

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
    champion, pin = scored_by(workspace, partition)
    shown = shown_columns(reference_features(workspace, champion), window_features(workspace, pin))
    if not shown.columns:
        raise NotReadyError(f"no column of partition {partition} can be compared: {shown.left_out}")
    declared = workspace.loop.watch.drift
    methods = {alias: method_for(declared, column.kind) for alias, column in shown.columns.items()}
    page = drawn(shown, methods)
    section = legend(f"{workspace.loop.model}, partition {partition}: inputs by Evidently", shown, methods)
    before, body, after = page.partition("<body>")
    assert body, "Evidently's page has no body"
    return f'{before}{body}\n{STYLE}<div class="legend">{html_section(section)}</div>\n{after}'


@dataclass(frozen=True)
class ShownColumns:
    """What Evidently is shown: columns by their safe names, what these stand for, and why others are left out."""

    columns: dict[str, ComparableColumn]
    names: dict[str, str]
    left_out: dict[str, str]
    rows: str


def shown_columns(reference: pd.DataFrame, window: pd.DataFrame) -> ShownColumns:
    """Return the columns of both sides that can be compared, in order of their names."""
    shown = ShownColumns({}, {}, {}, f"{len(window):,} rows against {len(reference):,}")
    for number, name in enumerate(sorted({str(name) for name in (*reference, *window)}), start=1):
        both = name in reference and name in window
        found = comparable(reference[name], window[name]) if both else "is not on both sides"
        if isinstance(found, str):
            shown.left_out[name] = found
        else:
            alias = safe_name("c", number, name)
            shown.columns[alias], shown.names[alias] = found, name
    return shown


def drawn(shown: ShownColumns, methods: Mapping[str, tuple[str, float]]) -> str:
    """Return Evidently's own page of the columns; one at which it raises is left out of them.

    Raises
    ------
    DataError
        If it cannot draw the others either.
    """
    try:
        return _html(shown, methods)
    except Exception as error:  # a library may raise anything
        said = {alias: asked(column, *methods[alias]) for alias, column in shown.columns.items()}
        refused = {alias: why for alias, why in said.items() if isinstance(why, str)}
        if not refused or len(refused) == len(said):
            raise DataError(f"Evidently raised {type(error).__name__}: {str(error)[:300]}") from error
    for alias, why in refused.items():
        shown.left_out[shown.names.pop(alias)] = why
        del shown.columns[alias]
    return drawn(shown, methods)


def _html(shown: ShownColumns, methods: Mapping[str, tuple[str, float]]) -> str:
    with quietly():
        return str(snapshot_of(shown.columns, methods).get_html_str(as_iframe=False))


def drawn_from(workspace: Workspace, partition: str) -> dict[str, Any]:
    """Return what Evidently's page is drawn from: of the same it would be the same; see :func:`evidently_report`."""
    require_evidently()
    champion, pin = scored_by(workspace, partition)
    methods = {kind: method_for(workspace.loop.watch.drift, kind) for kind in METHODS}
    return {
        "window": pin.to_dict(), "champion": champion.details.window.to_dict(), "methods": methods,
        "features": workspace.loop.data.features, "evidently": version("evidently"),
    }  # fmt: skip


def scored_by(workspace: Workspace, partition: str) -> tuple[Version, PinnedPartition]:
    """Return the champion that scored a partition, and the snapshot that it scored.

    Raises
    ------
    NotReadyError
        If none did.
    """
    state = workspace.state()
    scored = state.require_scored(partition)
    return state.versions[scored.champion], pin_scored(state, partition)


def method_for(declared: Drift | None, kind: str) -> tuple[str, float]:
    """Return the method and the threshold for columns of a kind: those declared, where they know of that kind."""
    if declared is None or declared.method is None or declared.threshold is None:
        return METHODS[kind]
    if kind == "category" and declared.method in NUMBERS_ONLY:
        return METHODS[kind]
    return declared.method, declared.threshold


def legend(title: str, shown: ShownColumns, methods: Mapping[str, tuple[str, float]]) -> Section:
    """Return what the names on Evidently's page stand for, and which columns are not on it."""
    lines = [(alias, name, methods[alias][0], told(methods[alias][1])) for alias, name in shown.names.items()]
    values = [
        (shown.names[alias], name, value)
        for alias, column in shown.columns.items()
        for name, value in column.values.items()
    ]
    tables = [Table(("on this page", "column", "method", "threshold"), tuple(lines))]
    texts = [f"{shown.rows}. Columns and categories go by safe names on this page; these are what they stand for."]
    if values:
        tables.append(Table(("column", "on this page", "category"), tuple(values)))
        texts.append(f"Categories beyond the most frequent of a column are counted as {OTHER!r}.")
    if shown.left_out:
        tables.append(Table(("not compared", "because it"), tuple(sorted(shown.left_out.items()))))
    return Section(title, tuple(texts), tuple(tables))
