"""Figures: what stands on which axis, what is named at the edge, and that nothing leaves its frame."""

import dataclasses

import pytest
from helpers_report import BETTER, view_of
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gitbench.report.figures import difference_figure
from gitbench.report.paper import figure_4
from gitbench.report.score_figures import scale_figure, score_figure, yardstick_lines
from gitbench.report.style import COLUMN, PAGE, TEXT, legend_columns, nth_style, style


def joined(figure):
    """Return the solid lines through three points."""
    lines = figure.axes[0].lines
    return [line for line in lines if len(line.get_xdata()) == 3 and line.get_linestyle() == "-"]


def test_figure_4_stands_on_axes_of_its_own(view, grid):
    assert len(figure_4()) == 27 and set(figure_4()["images"]) == {4e6, 14e6, 0.8e9}
    assert scale_figure(view) is None
    with style(COLUMN):  # a phone's: one panel below the other
        tall = scale_figure(grid, COLUMN)
    assert len(tall.axes) == 4 and tall.get_figheight() > 2 * tall.get_figwidth() == 2 * COLUMN
    with style(TEXT):
        figure = scale_figure(grid, TEXT)
    assert len(figure.axes) == 4 and figure.get_figwidth() == TEXT
    assert ["digitised" in axes.get_title("left") for axes in figure.axes] == [False, True, True, True]
    theirs = {tuple(line.get_xdata()) for axes in figure.axes[1:] for line in axes.lines if len(line.get_xdata()) == 3}
    assert theirs == {(4e6, 14e6, 0.8e9)}
    assert max(x for line in figure.axes[0].lines for x in line.get_xdata()) < 1e6  # nothing of theirs on our axis


def test_arms_with_an_amount_are_drawn_over_it_one_line_an_encoder(grid):
    (axes,) = score_figure(grid).axes
    assert "training images" in axes.get_xlabel()
    assert axes.get_legend_handles_labels()[1] == ["vit_2x64_p8_64", "vit_4x96_p8_64", "vit_6x128_p8_64"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["300", "1,500", "8,000"]


def test_arms_that_are_only_names_are_not_joined_by_a_line(view):
    alike = view.frame[~view.frame["metric"].isin(["decoder_parameters", "training_images"])]
    assert len(joined(score_figure(view))) == 1
    assert not joined(score_figure(dataclasses.replace(view, frame=alike)))


def test_no_two_of_six_arms_look_alike_without_colour():
    looks = [nth_style(index)[1:] for index in range(6)]
    assert len({str(nth_style(index)) for index in range(36)}) == 36
    assert len({marker for marker, _ in looks}) == 6 and len({str(dashes) for _, dashes in looks}) == 6


def test_differences_come_in_the_width_that_is_asked_for_and_words_about_a_margin_need_one(view, tmp_path):
    assert difference_figure(view, COLUMN).get_figwidth() == COLUMN
    figure = difference_figure(view)
    assert figure.get_figwidth() == PAGE and "shaded" in figure.axes[0].get_xlabel()
    free = view_of(tmp_path, claims=(BETTER,), replicates=3)
    assert "shaded" not in difference_figure(free).axes[0].get_xlabel()
    assert difference_figure(dataclasses.replace(view, verdicts=())) is None


@pytest.mark.parametrize("ceiling, drawn", [(110.0, True), (295.0, False)])
def test_a_ceiling_far_above_is_named_at_the_edge(view, ceiling, drawn):
    frame = view.frame.copy()
    frame.loc[(frame["role"] == "ceiling") & (frame["metric"] == "CIDEr"), "value"] = ceiling
    axes = Figure().add_subplot()
    yardstick_lines(axes, dataclasses.replace(view, frame=frame))
    assert (ceiling in [line.get_ydata()[0] for line in axes.lines]) is drawn
    said = [text.get_text() for text in axes.texts if "ceiling" in text.get_text()]
    assert len(said) == 1 and ("off the axis" in said[0]) is not drawn


@pytest.mark.parametrize("width", [COLUMN, PAGE])
@pytest.mark.parametrize("labels", [["self_2x96", "cross_2x96", "cross_2x96_matched"], ["matched_least"] * 10])
def test_legends_stay_within_their_figure(width, labels):
    with style(width):
        figure = Figure(figsize=(width, 2), layout="constrained")
        axes = figure.add_subplot()
        for label in labels:
            axes.plot([0, 1], marker="o", label=label)
        legend = figure.legend(loc="outside upper center", ncols=legend_columns(labels, width))
        FigureCanvasAgg(figure).draw()
        box = legend.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    assert box.x0 >= 0 and box.x1 <= width
