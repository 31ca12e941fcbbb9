"""Workbooks of Excel as a test needs them, cell by cell."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import Any
from xml.sax.saxutils import escape

MAIN = "http" + "://schemas.openxmlformats.org/spreadsheetml/2006/main"
PACKAGE = "http" + "://schemas.openxmlformats.org/package/2006"
OFFICE = "http" + "://schemas.openxmlformats.org/officeDocument/2006/relationships"
EPOCH = datetime.fromisoformat("1899-12-30")
DATE_STYLE, TIME_STYLE = 1, 2


def workbook(sheets: Mapping[str, Sequence[Sequence[Any]]], *, merged: Sequence[str] = ()) -> bytes:
    """Return a workbook with some sheets, each given by its rows; a cell that is None is left out."""
    content = io.BytesIO()
    names = list(sheets)
    targets = [f"worksheets/sheet{number}.xml" for number in range(1, len(names) + 1)]
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", f'<Types xmlns="{PACKAGE}/content-types"/>')
        archive.writestr("_rels/.rels", _relations([("officeDocument", "xl/workbook.xml")]))
        listed = "".join(
            f'<sheet name="{escape(name)}" sheetId="{number}" r:id="rId{number}"/>'
            for number, name in enumerate(names, 1)
        )
        archive.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>{listed}</sheets></workbook>'
        )
        relations = [*(("worksheet", target) for target in targets), ("styles", "styles.xml")]
        archive.writestr("xl/_rels/workbook.xml.rels", _relations(relations))
        formats = "".join(f'<xf numFmtId="{number}" applyNumberFormat="1"/>' for number in (0, 14, 22))
        archive.writestr(
            "xl/styles.xml", f'<styleSheet xmlns="{MAIN}"><cellXfs count="3">{formats}</cellXfs></styleSheet>'
        )
        for target, rows in zip(targets, sheets.values(), strict=True):
            archive.writestr(f"xl/{target}", _sheet(rows, merged))
    return content.getvalue()


def _relations(targets: Sequence[tuple[str, str]]) -> str:
    entries = "".join(
        f'<Relationship Id="rId{number}" Type="{OFFICE}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets, 1)
    )
    return f'<Relationships xmlns="{PACKAGE}/relationships">{entries}</Relationships>'


def _sheet(rows: Sequence[Sequence[Any]], merged: Sequence[str]) -> str:
    lines = ""
    for number, row in enumerate(rows, 1):
        cells = "".join(_cell(f"{chr(ord('A') + place)}{number}", value) for place, value in enumerate(row))
        lines += f'<row r="{number}">{cells}</row>'
    ranges = "".join(f'<mergeCell ref="{cells}"/>' for cells in merged)
    merges = f"<mergeCells>{ranges}</mergeCells>" if merged else ""
    return f'<worksheet xmlns="{MAIN}"><sheetData>{lines}</sheetData>{merges}</worksheet>'


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f'<c r="{name}" t="b"><v>{int(value)}</v></c>'
    if isinstance(value, date):
        moment = value if isinstance(value, datetime) else datetime.combine(value, time.min)
        style = TIME_STYLE if isinstance(value, datetime) else DATE_STYLE
        return f'<c r="{name}" s="{style}"><v>{(moment - EPOCH).total_seconds() / 86_400!r}</v></c>'
    if isinstance(value, str):
        return f'<c r="{name}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'
    return f'<c r="{name}"><v>{value!r}</v></c>'
