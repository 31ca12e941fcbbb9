"""A picture is valid whatever the columns and the classes are called, and shows the numbers of the holdout."""

from __future__ import annotations

from functools import partial
from xml.etree import ElementTree

import numpy as np
import pytest

from airflow_mlops.core.evaluation.evaluation_pictures import calibration, draw, draw_curves, draw_importance, roc

NAMES = ["plain", "$\\frac$", "a\x00b", "_under", "<b>bold</b>", "名前"]
SHOWN = ["plain", "$\\frac$", "a\\x00b", "_under", "<b>bold</b>", "名前"]


def texts(picture: bytes) -> list[str]:
    """Return the texts of a picture."""
    return [element.text or "" for element in ElementTree.fromstring(picture).iter() if element.tag.endswith("text")]


def test_features_are_drawn_by_their_names_the_most_important_first() -> None:
    rises = {name: 1.0 / (1 + place) for place, name in enumerate(NAMES)}
    picture = draw(lambda axes: draw_importance(axes, rises, "mae"))
    assert [text for text in texts(picture) if text in SHOWN] == SHOWN
    assert picture == draw(lambda axes: draw_importance(axes, rises, "mae"))


@pytest.mark.parametrize("curve", [roc, calibration])
def test_classes_are_drawn_by_their_names(curve: object) -> None:
    random = np.random.default_rng(0)
    chances = {f"class {name}": (random.random(90) < 0.5, random.random(90)) for name in NAMES}
    picture = draw(partial(draw_curves, chances=chances, curve=curve, words=("across", "up")))
    assert [text for text in texts(picture) if text.startswith("class ")] == [f"class {name}" for name in SHOWN]


def test_a_curve_of_a_perfect_model_goes_through_the_corner() -> None:
    is_class = np.array([True, False] * 50)
    across, up = roc(is_class, is_class.astype(float))
    assert (0.0, 1.0) in set(zip(across.tolist(), up.tolist(), strict=True))
    mean, share = calibration(is_class, np.where(is_class, 0.9, 0.1))
    assert (mean.round(6).tolist(), share.tolist()) == ([0.1, 0.9], [0.0, 1.0])
