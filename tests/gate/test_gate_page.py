"""The page of a check and its pictures."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers_gate import finding, fine, made_check, red, stale, unmeasured

from gitbench.gate.page import page
from gitbench.gate.pictures import curves_figure, ratios_figure, seeds_figure
from gitbench.report.style import COLUMN, PAGE, PALETTE

STEPS = list(range(1, 9))
CURVE = {
    "steps": STEPS,
    "value": [3.0] * 6 + [3.5, None],
    "reference": [3.0] * 8,
    "low": [2.9] * 8,
    "high": [3.1] * 8,
}
SEEDS = {
    "test_nll": {
        "reference": [1.0, 1.2],
        "value": [1.1, 1.3],
        "margin": 0.3,
        "difference": -0.1,
        "bound": 0.2,
        "look": 1,
    },
    "CIDEr": {
        "reference": [200.0, 220.0, 210.0],
        "value": [210.0, 230.0],
        "margin": 20.0,
        "difference": 9.0,
        "bound": -3.0,
        "look": 1,
    },
}
RATIOS = {
    "training step": {"pairs": [1.0, 1.01], "estimate": 1.0, "low": 0.98, "high": 1.02, "unit": "s"},
    "captioning": {"pairs": [1.3, 1.32], "estimate": 1.31, "low": 1.26, "high": 1.35, "unit": "tokens/s"},
}
DETAILS = {"curves": {"base": CURVE, "vqa": CURVE}, "seeds": SEEDS, "ratios": RATIOS}
VOID = {"meta", "br", "link", "img", "path", "use", "rect", "line"}


class Tags(HTMLParser):
    """Whether every tag that is opened is closed, in turn; all ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:  # type: ignore[no-untyped-def]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:  # type: ignore[no-untyped-def]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag) -> None:  # type: ignore[no-untyped-def]
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.wrong.append(tag)


def parsed(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    assert not tags.open and not tags.wrong and len(tags.ids) == len(set(tags.ids))
    return tags


def test_a_page_has_its_pictures_and_asks_nothing_of_anywhere() -> None:
    text = page(made_check(red("exact", finding(said="a <script>alert(1)</script>")), fine("speed", details=DETAILS)))
    tags = parsed(text)
    assert text.count("<svg") == 6 and {"curves", "seeds", "ratios", "findings", "references"} <= set(tags.ids)
    assert "<script" not in text and "a &lt;script&gt;" in text
    assert not re.findall(r"(?:src|href)=\"(?!#)[^\"]*", text) and "@import" not in text
    assert set(re.findall(r'href="#([\w-]+)"', text)) <= set(tags.ids)
    assert "1.260 to 1.350" in text


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (fine("exact"), "Nothing left its band"),
        (red("exact"), "This code does not do what the reference did"),
        (stale("exact", finding()), "The gate: reference stale"),
        (unmeasured("exact"), "The gate: could not measure"),
    ],
)
def test_a_page_of_each_status_does_without_pictures(outcome, said) -> None:
    text = page(made_check(outcome))
    parsed(text)
    assert f"<h1>{said}</h1>" in text and "<svg" not in text and 'id="curves"' not in text


def test_more_findings_than_ten_are_folded() -> None:
    text = page(made_check(red("exact", *(finding(quantity=f"loss {n}") for n in range(14)))))
    parsed(text)
    assert "<summary>4 more</summary>" in text and "loss 13" in text


@pytest.mark.parametrize(
    "details", [{}, {"curves": {}}, {"curves": {"base": {}}}, {"seeds": {"CIDEr": {}}}, {"ratios": {"a": {}}}]
)
def test_what_is_absent_from_details_is_no_error(details) -> None:
    parsed(page(made_check(fine("exact", details=details))))


@pytest.mark.parametrize("width", [PAGE, COLUMN])
def test_steps_outside_of_the_band_are_marked(width) -> None:
    for value, outside in ((CURVE["value"], [7]), ([3.05] * 8, [])):
        figure = curves_figure({"base": {**CURVE, "value": value}}, width)
        lower = figure.axes[1]
        marks = next(line for line in lower.lines if line.get_marker() == "x")
        assert list(marks.get_xdata()) == outside
    assert list(np.round(lower.lines[1].get_ydata(), 6)) == [0.5] * 8


def test_a_training_that_ends_early_is_drawn_as_far_as_it_came() -> None:
    figure = curves_figure({"base": {**CURVE, "steps": [1, 2], "value": [3.0, 3.0]}}, PAGE)
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [2, 2]


def test_a_band_without_width_is_left_by_any_difference() -> None:
    exact = {**CURVE, "low": [3.0] * 8, "high": [3.0] * 8}
    lower = curves_figure({"base": exact}, PAGE).axes[1]
    marks = next(line for line in lower.lines if line.get_marker() == "x")
    assert list(marks.get_xdata()) == [7]


def test_differences_are_drawn_so_that_right_is_better() -> None:
    likelihood, cider = seeds_figure(SEEDS, PAGE).axes
    points = [next(line for line in axes.lines if line.get_marker() == "o") for axes in (likelihood, cider)]
    assert np.allclose(points[0].get_xdata(), -0.1) and np.allclose(points[1].get_xdata(), 10)
    for axes, margin, bound, mean in ((likelihood, -0.3, -0.2, -0.1), (cider, -20, 3, 9)):
        assert any(line.get_marker() == "o" and list(line.get_xdata()) == [mean] for line in axes.lines)
        assert any(list(line.get_xdata()) == [margin] * 2 for line in axes.lines)
        assert any(line.get_marker() == "|" and list(line.get_xdata()) == [bound] for line in axes.lines)


def test_a_ratio_whose_whole_interval_lies_beyond_is_red() -> None:
    axes = ratios_figure(RATIOS, PAGE).axes[0]
    estimates = {line.get_xdata()[0]: line.get_color() for line in axes.lines if line.get_marker() == "o"}
    assert estimates == {1.0: PALETTE[0], 1.31: PALETTE[1]}
    assert axes.get_xlim()[1] > 1.35 and math.isfinite(axes.get_xlim()[0])
