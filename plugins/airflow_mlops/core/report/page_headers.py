"""HTTP headers of a kept page, whoever serves it: the browser gives it no origin and no network."""

from __future__ import annotations

from airflow_mlops.core.report.kept_reports import Engine

LOCKED = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
POLICIES: dict[Engine, str] = {
    "own": f"sandbox; {LOCKED}",
    "evidently": f"sandbox allow-scripts; {LOCKED}; script-src 'unsafe-inline'; font-src data:",
}
"""Content security policy of a page, by its engine."""
HEADERS = {
    "Content-Security-Policy": POLICIES["own"],
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}
"""Headers of every response, errors too; a page has the policy of its engine."""
