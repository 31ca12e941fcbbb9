"""Pictures hold their numbers at the right places, name them for everybody, and let no text become markup."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.charts.bin_chart import bin_chart
from airflow_mlops.core.charts.boundary_chart import LookPoint, boundary_chart
from airflow_mlops.core.charts.cost_chart import CostPoint, FitBar, cost_chart
from airflow_mlops.core.charts.distance_strip import Strip, distance_strips
from airflow_mlops.core.charts.gate_chart import gate_chart
from airflow_mlops.core.charts.heat_map import HeatCell, heat_map
from airflow_mlops.core.charts.loop_drawing import LoopNode, loop_drawing
from airflow_mlops.core.charts.metric_chart import ChartMark, MetricPoint, metric_chart
from airflow_mlops.core.charts.sparkline import sparkline
from airflow_mlops.core.charts.svg import Scale

SVG = ""  # within a page of HTML elements of SVG need no namespace, whose name would look like an address
FINITE = st.floats(-1e12, 1e12)
HOSTILE = '"><script>alert(1)</script>'


def gate(**changes: object) -> dict[str, object]:
    """Return a gate report as JSON values."""
    fields = {"gate": "mae at most 5", "verdict": "pass", "value": 4.25, "limit": 5.0, "reason": "fits", "rows": 100}
    return {**fields, "low": 4.1, "high": 4.4, **changes}


DRAWN: dict[str, Callable[[str], str]] = {
    "sparkline": lambda text: sparkline([1.0, 2.0], name=text),
    "metric": lambda text: metric_chart(
        [MetricPoint(text, 1.0, href=text)], [ChartMark("retrain", text, text, text)], metric=text
    ),
    "heat": lambda text: heat_map([text], [text], {(text, text): HeatCell(0.5, href=text)}),
    "gates": lambda text: gate_chart([gate(gate=text, reason=text)]),
    "bins": lambda text: bin_chart([text], [1.0], [1.0], column=text),
    "boundary": lambda text: boundary_chart([LookPoint(0.5, 1.0, 2.0, 2.0, "pass", text)], name=text),
    "cost": lambda text: cost_chart([CostPoint(text, 0.5, (FitBar(2.0, True, text, text),))], limit=1.0),
    "strips": lambda text: distance_strips([Strip(text, 0.8, (0.1, 0.95))], label=text),
    "loop": lambda text: loop_drawing([LoopNode(text, "good", text, text)]),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_hostile_text_stays_text(name: str) -> None:
    picture = DRAWN[name](HOSTILE)
    assert "<script" not in picture
    tree = ET.fromstring(picture)
    assert {element.tag.removeprefix(SVG) for element in tree.iter()}.isdisjoint({"script", "foreignObject", "style"})


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_has_a_name_for_people_who_do_not_see_it(name: str) -> None:
    tree = ET.fromstring(DRAWN[name]("x"))
    assert (tree.get("role"), bool(tree.get("aria-label"))) == ("group", True)


def test_without_any_value_there_is_no_picture() -> None:
    assert sparkline([None, None], name="mae") == ""
    assert metric_chart([MetricPoint("2013", None)], [], metric="mae") == ""
    assert heat_map([], ["2013"], {}) == ""
    assert gate_chart([gate(value=None)]) == ""
    assert bin_chart([], [], [], column="x") == ""
    assert boundary_chart([], name="canary") == ""
    assert cost_chart([CostPoint("2013"), CostPoint("2014")], limit=1.0) == ""
    assert distance_strips([], label="x") == ""


def test_a_window_stands_among_those_of_its_reference_on_one_scale() -> None:
    strips = [Strip("temperature", 0.8, (0.1, 0.95)), Strip("wind", 0.4, (0.02, 0.03), alarm=True)]
    tree = ET.fromstring(distance_strips(strips, label="moved"))
    usual = [float(circle.get("cx", "nan")) for circle in tree.iter(f"{SVG}circle")]
    marks = [(float(rect.get("x", "nan")) + 2, rect.get("class")) for rect in tree.iter(f"{SVG}rect")]
    assert [css for _, css in marks] == ["dot", "bad"]
    (hidden, _), (seen, _) = marks
    assert usual[0] < hidden < usual[1]
    assert max(usual[2:]) < seen < hidden
    assert "temperature: 0.8; 2 reference windows up to 0.95" in [title.text for title in tree.iter(f"{SVG}title")]


@given(low=FINITE, width=st.floats(1e-6, 1e12), values=st.lists(FINITE, min_size=1, max_size=20))
def test_a_scale_keeps_the_order_of_values_and_its_ticks_inside(low: float, width: float, values: list[float]) -> None:
    scale = Scale.over([low, low + width, *values], 0.0, 100.0)
    places = [scale.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0.0 <= place <= 100.0 for place in places)
    assert all(
        scale.low - 1e-6 * abs(scale.low) <= tick <= scale.high + 1e-6 * abs(scale.high) for tick in scale.ticks()
    )


def test_a_value_that_alarmed_is_marked_and_a_gap_stays_a_gap() -> None:
    tree = ET.fromstring(sparkline([1.0, 2.0, None, 3.0, 4.0], name="mae", alarms=[False, True]))
    assert len(tree.findall(f"{SVG}polyline")) == 2
    assert [circle.get("class") for circle in tree.findall(f"{SVG}circle")] == ["bad"]


def test_a_mark_stands_at_its_partition_and_one_of_another_partition_is_left_out() -> None:
    points = [MetricPoint("a", 1.0), MetricPoint("b", 2.0)]
    marks = [ChartMark("promoted", "b", "version 2"), ChartMark("rolled back", "z", "version 1")]
    tree = ET.fromstring(metric_chart(points, marks, metric="mae"))
    signs = [text for text in tree.iter(f"{SVG}text") if text.text in ("▲", "▼")]
    dots = [float(circle.get("cx", "nan")) for circle in tree.iter(f"{SVG}circle")]
    assert [(text.text, float(text.get("x", "nan"))) for text in signs] == [("▲", max(dots))]


def test_a_gate_beyond_its_limit_lies_beyond_it_and_an_interval_of_other_units_is_not_drawn() -> None:
    failed = ET.fromstring(gate_chart([gate(verdict="fail", value=6.0, low=5.5, high=6.5)]))
    (dot,) = failed.iter(f"{SVG}circle")
    limit = next(line for line in failed.iter(f"{SVG}line") if line.get("class") == "limit")
    assert float(dot.get("cx", "nan")) > float(limit.get("x1", "nan"))
    assert len(list(failed.iter(f"{SVG}rect"))) == 1
    compared = ET.fromstring(gate_chart([gate(value=-0.93, low=-5.8, high=-5.5, limit=0.1)]))
    assert len(list(compared.iter(f"{SVG}rect"))) == 0


def test_the_looks_of_an_analysis_lie_between_their_boundaries() -> None:
    looks = [LookPoint(0.2, -1.0, 4.0, 4.0, "inconclusive", "a"), LookPoint(0.6, -3.0, 2.2, 2.2, "pass", "b")]
    tree = ET.fromstring(boundary_chart(looks, name="canary"))
    first, second = (float(circle.get("cy", "nan")) for circle in tree.iter(f"{SVG}circle"))
    passes = next(line for line in tree.iter(f"{SVG}polyline") if line.get("class") == "good-line")
    edges = [float(pair.split(",")[1]) for pair in passes.get("points", "").split()]
    assert first < edges[1]  # above the line: not passed yet
    assert second > edges[2]  # below it: passed


def test_regret_beyond_the_cost_of_a_promotion_is_marked_and_the_longest_fit_is_the_highest_bar() -> None:
    fits = [(FitBar(1.0, True, "version 1"),), (FitBar(4.0, False, "refused"),), (FitBar(None, False, "failed"),)]
    points = [CostPoint(str(place), 0.4 * place, fits[place]) for place in range(3)]
    tree = ET.fromstring(cost_chart(points, limit=0.5))
    dots = [(dot.get("class"), float(dot.get("cy") or 0)) for dot in tree.iter("circle")]
    assert [class_ for class_, _ in dots] == ["dot", "dot", "bad"]
    assert [y for _, y in dots] == sorted((y for _, y in dots), reverse=True)
    (limit,) = [float(mark.get("y1") or 0) for mark in tree.iter("line") if mark.get("class") == "limit"]
    assert dots[1][1] > limit > dots[2][1]
    bars = [(bar.get("class"), float(bar.get("height") or 0)) for bar in tree.iter("rect")]
    assert [class_ for class_, _ in bars] == ["dot", "bad", "bad"]
    assert bars[0][1] == pytest.approx(bars[1][1] / 4, abs=0.2)
    assert 0 < bars[2][1] < bars[0][1]
    titles = [title.text for title in tree.iter("title")]
    assert "2: 0.8, more than a promotion costs" in titles
    assert "1: refused" in titles


def test_without_regret_the_picture_of_fits_is_lower_and_holds_them_still() -> None:
    bars = (FitBar(2.0, True, "version 1"),)
    both = ET.fromstring(cost_chart([CostPoint("1", 0.5, bars)]))
    alone = ET.fromstring(cost_chart([CostPoint("1", None, bars)]))
    assert float(alone.get("height") or 0) < float(both.get("height") or 0) / 1.5
    (bar,) = alone.iter("rect")
    assert 0 < float(bar.get("y") or 0) < float(alone.get("height") or 0) - float(bar.get("height") or 0)
    assert "Regret was not measured." in [text.text for text in alone.iter("text")]
