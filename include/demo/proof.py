"""The proof of the demo's last champions: reproduction, model card and ML Test Score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_mlops.core.governance.ml_test_score.ml_test_score import ml_test_score
from airflow_mlops.core.governance.model_card import model_card
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.report.page_html import as_html
from airflow_mlops.core.workspace import Workspace


def prove_champion(workspace: Workspace, build: Path) -> dict[str, Any]:
    """Reproduce the champion, write its card into ``build``, and return the verdict and the score of the loop."""
    champion = workspace.state().champion
    assert champion is not None, f"{workspace.loop.model} has no champion"
    reproduction = reproduce_version(workspace, champion.number)
    page = build / f"{workspace.loop.model}-card.html"
    page.write_text(as_html(model_card(workspace, champion.number)), encoding="utf-8")
    score = ml_test_score(workspace)
    sections = {section.lower(): score.sum_of(section) for section in score.sections}
    return {
        "champion": champion.number,
        "reproduced": reproduction.verdict,
        "rows": reproduction.rows,
        "score": sections,
    }


def print_proof(model: str, proof: dict[str, Any]) -> None:
    """Print the proof of a loop in a line."""
    points = ", ".join(f"{section} {points:g}" for section, points in proof["score"].items())
    print(
        f"{model}: version {proof['champion']} made again is {proof['reproduced']} on {proof['rows']:,} rows; "
        f"ML Test Score {min(proof['score'].values()):g} of 7 ({points})"
    )
