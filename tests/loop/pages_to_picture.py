"""The pictures of the pages in docs/images: which page each shows, how much of it, and what must be seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

WIDTH = 1280
"""Pixels of every picture from left to right."""
LARGEST = 200_000
"""Bytes that a picture may have."""
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots" / "docs"
IMAGES = Path(__file__).parents[2] / "docs" / "images"


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes
    ----------
    name : str
        Stem of its file.
    path : str
        Of the page below the address of Airflow; ``{approval}`` is the open question, ``{week}`` a partition of the
        loop ``parcel_hours`` that alarmed.
    shows : tuple of str
        Texts of which each must be within the picture.
    height : int
        Pixels from top to bottom.
    section : str, optional
        Id of the heading that is scrolled to the top.
    frame : bool
        Whether the page stands in the frame of the Airflow UI.
    """

    name: str
    path: str
    shows: tuple[str, ...]
    height: int
    scheme: Literal["light", "dark"] = "light"
    section: str | None = None
    frame: bool = False


MODELS = "/airflow-mlops/models"
PICTURES = (
    Picture(
        "models-page",
        "/plugin/mlops_models",
        (
            "5 of 5 models, those that need a person first.",
            "heat_demand",
            "tram_delay",
            "parcel_hours",
            "basket_value",
            "grocery_demand",
        ),
        height=920,
        frame=True,
    ),
    Picture(
        "model-page",
        "/dags/parcel_hours_watch/plugin/mlops_dag",
        ("Pause the rollout", "canary 25 %", "What needs a person", "mae of served predictions"),
        height=1130,
        frame=True,
    ),
    Picture(
        "model-page-dark",
        f"{MODELS}/parcel_hours",
        ("canary 25 %", "mae of served predictions", "How far each column moved"),
        height=1080,
        scheme="dark",
    ),
    Picture(
        "rollout-page",
        f"{MODELS}/parcel_hours",
        ("Version 3 is at canary with 25 % of the keys.", "passes below", "shadow_100, label"),
        height=760,
        section="rollout",
    ),
    Picture(
        "rollback-page",
        f"{MODELS}/grocery_demand",
        ("took version 2 back: shadow_100: worse", "version 2 entered shadow with 100 % of the keys"),
        height=520,
        section="timeline",
    ),
    Picture("approval-page", "{approval}", ("Gates of version 1", "Approve version 1", "Reject version 1"), height=760),
    Picture(
        "quarantine-page",
        f"{MODELS}/tram_delay/quarantine",
        ("6 rows, by the rule that they break", "stop: is not unique", "Release rows"),
        height=500,
    ),
    Picture(
        "histogram-page",
        f"{MODELS}/parcel_hours/histogram?partition={{week}}&column=distance",
        ("which alarms", "Grey: reference, 2,800 rows; blue: this partition, 700 rows."),
        height=580,
    ),
    Picture(
        "report-page",
        "/airflow-mlops/reports/parcel_hours/{week}",
        ("What it came to", "performance", "Jensen–Shannon"),
        height=1022,
    ),
)
