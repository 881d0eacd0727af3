"""Figures: what stands on which axis, what is named at the edge, and that nothing leaves its frame."""

import dataclasses

import numpy as np
import pytest
from helpers_report import BETTER, view_of
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gitbench.report.figures import TALLEST, caption_sheet, curve_figure, curve_splits, forest_figure, prediction_figure
from gitbench.report.page import LOSSES
from gitbench.report.paper import figure_4
from gitbench.report.samples import Sample, SampleCaption
from gitbench.report.score_figures import cost_figure, interaction_figure, scale_figure, score_figure, yardstick_lines
from gitbench.report.style import COLUMN, TEXT, legend_columns, legend_label, nth_style, style


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
    assert score_figure(grid) is None
    (axes,) = interaction_figure(grid).axes
    assert "training images" in axes.get_xlabel()
    sizes = (
        "2 layers \N{MULTIPLICATION SIGN} 64",
        "4 layers \N{MULTIPLICATION SIGN} 96",
        "6 layers \N{MULTIPLICATION SIGN} 128",
    )
    assert axes.get_legend_handles_labels()[1] == [f"ViT, {size}" for size in sizes]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["300", "600", "6,400"]


def test_arms_that_are_only_names_are_not_joined_by_a_line(view):
    alike = view.frame[~view.frame["metric"].isin(["decoder_parameters", "training_images"])]
    assert len(joined(score_figure(view))) == 1
    assert not joined(score_figure(dataclasses.replace(view, frame=alike)))


def test_no_two_of_six_arms_look_alike_without_colour():
    looks = [nth_style(index)[1:] for index in range(6)]
    assert len({str(nth_style(index)) for index in range(36)}) == 36
    assert len({marker for marker, _ in looks}) == 6 and len({str(dashes) for _, dashes in looks}) == 6


def test_a_second_axis_without_amounts_is_drawn_by_its_levels(grid):
    frame = grid.frame[grid.frame["metric"] != "training_images"]
    (axes,) = interaction_figure(dataclasses.replace(grid, frame=frame)).axes
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks == ["300 images", "600 images", "6,400 images"] and axes.get_xlabel() == "amount"
    assert len(axes.get_legend_handles_labels()[1]) == 3 and interaction_figure(grid) is not None


def within(figure):
    """Tell whether every text of a figure lies inside it."""
    FigureCanvasAgg(figure).draw()
    width, height = figure.get_size_inches() * figure.dpi
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    boxes = [text.get_window_extent() for text in texts]
    return all(box.x0 >= 0 and box.x1 <= width and box.y0 >= -1 and box.y1 <= height + 1 for box in boxes)


def test_the_forest_shows_every_claim_with_seeds_interval_and_margin(view, tmp_path):
    long = dataclasses.replace(view.verdicts[0].claim, name="long", says="Words about a claim go on and on. " * 4)
    nll = dataclasses.replace(view.verdicts[0].claim, name="nll", metric="test_nll")
    verdicts = [view.verdicts[0], *(dataclasses.replace(view.verdicts[0], claim=claim) for claim in (long, nll))]
    verdicts[2] = dataclasses.replace(verdicts[2], likelihood=None)
    with style(COLUMN):
        figure = forest_figure(dataclasses.replace(view, verdicts=tuple(verdicts)), COLUMN)
        assert figure.get_figwidth() == COLUMN and within(figure)
    assert [axes.get_xlabel().split(" in ")[1] for axes in figure.axes] == ["CIDEr (points)", "test NLL (nat/token)"]
    (first, second) = figure.axes
    beside = view.verdicts[0].likelihood.differences
    assert sum(tuple(line.get_xdata()) == beside for line in second.lines) == 2
    seeds = [line for line in first.lines if tuple(line.get_xdata()) == view.verdicts[0].differences]
    assert len(seeds) == 2 and len(first.collections) >= 2  # two claims: margin bands and error bars
    said = [text.get_text() for text in first.texts]
    assert said[0] == view.verdicts[0].claim.says and any("n = 5" in line for line in said)
    assert forest_figure(dataclasses.replace(view, verdicts=())) is None
    free = view_of(tmp_path, claims=(BETTER,), replicates=3)
    assert "fill" not in str([type(each) for each in forest_figure(free).axes[0].collections]).lower()


def test_curves_have_a_band_over_seeds_and_a_panel_for_each_level(view, grid):
    with style(COLUMN):
        panels, levels = curve_figure(view, COLUMN).axes, curve_figure(grid, COLUMN).axes
        once = view.curves[(view.curves["split"] == "train") | (view.curves["iteration"] == 600)]
        (alone,) = curve_figure(dataclasses.replace(view, curves=once)).axes
    assert [axes.get_title("left") for axes in (*panels, alone)] == ["training", "validation", "training"]
    assert len(panels[0].lines) == len(panels[0].collections) == len(view.arms)
    assert [axes.get_title("left") for axes in levels] == [
        f"{amount} images: validation" for amount in ("300", "600", "6,400")
    ]
    assert all(len(axes.lines) == 3 for axes in levels)


def test_score_against_cost_shows_the_costs_that_differ(view, grid):
    with style(COLUMN):
        figure = cost_figure(view, COLUMN)
        assert len(figure.axes) == 2 and within(figure)
    only = cost_figure(grid).axes  # no FLOPs in that frame
    assert [axes.get_xlabel().split()[-1] for axes in only] == ["run"] and len(
        only[0].get_legend_handles_labels()[1]
    ) == 3
    alike = view.frame.copy()
    alike.loc[alike["metric"].isin(["seconds", "flops_per_image"]), "value"] = 40.0
    assert cost_figure(dataclasses.replace(view, frame=alike)) is None


@pytest.mark.parametrize("words", [3, 60])
def test_predictions_are_readable_in_a_column_and_stay_on_a_page(view, words):
    texts = ("a red circle", "a red circle", "word " * words, "")
    captions = tuple(SampleCaption(arm=f"arm{at}", text=text, score=1.0) for at, text in enumerate(texts))
    image = np.zeros((64, 64, 3), np.uint8)
    samples = [Sample(image_id=f"i{at}", image=image, references=("a circle",), captions=captions) for at in range(9)]
    titles = {f"arm{at}": f"the arm no. {at}" for at in range(4)}
    with style(COLUMN):
        figure = prediction_figure(samples, titles)
        assert figure.get_figwidth() == COLUMN and figure.get_figheight() <= TALLEST and within(figure)
    said = [text.get_text() for text in figure.texts]
    assert min(text.get_fontsize() for text in figure.texts) >= 7
    assert said.count("the arm no. 0; the arm no. 1:") == len(figure.axes) == said.count("(empty)  [1]")


def test_a_sheet_shows_each_image_with_what_is_said_of_it_and_a_reference():
    image = np.zeros((64, 64, 3), np.uint8)
    texts = [f"{'word ' * at}end" for at in range(1, 11)]
    samples = [
        Sample(
            image_id=text,
            image=image,
            references=("a circle",),
            captions=(SampleCaption(arm="a", text=text, score=1.0),),
        )
        for text in texts
    ]
    with style(TEXT):
        figure = caption_sheet(samples, TEXT)
        assert within(figure) and len(figure.axes) == 10 and figure.get_figheight() <= TALLEST
    said = [text.get_text() for text in figure.texts]
    assert said.count("a circle") == 10 and min(text.get_fontsize() for text in figure.texts) >= 7


@pytest.mark.parametrize("ceiling, drawn", [(110.0, True), (295.0, False)])
def test_a_ceiling_far_above_is_named_at_the_edge(view, ceiling, drawn):
    frame = view.frame.copy()
    frame.loc[(frame["role"] == "ceiling") & (frame["metric"] == "CIDEr"), "value"] = ceiling
    axes = Figure().add_subplot()
    yardstick_lines(axes, dataclasses.replace(view, frame=frame))
    assert (ceiling in [line.get_ydata()[0] for line in axes.lines]) is drawn
    said = [text.get_text() for text in axes.texts if "ceiling" in text.get_text()]
    assert len(said) == 1 and ("off the axis" in said[0]) is not drawn


@pytest.mark.parametrize("width", [COLUMN, TEXT])
@pytest.mark.parametrize(
    "labels",
    [["self_2x96", "cross_2x96", "cross_2x96_matched"], ["matched_least"] * 10, ["one word after another " * 5]],
)
def test_legends_stay_within_their_figure(width, labels):
    with style(width):
        figure = Figure(figsize=(width, 2), layout="constrained")
        axes = figure.add_subplot()
        labels = [legend_label(label, width) for label in labels]
        for label in labels:
            axes.plot([0, 1], marker="o", label=label)
        legend = figure.legend(loc="outside upper center", ncols=legend_columns(labels, width))
        FigureCanvasAgg(figure).draw()
        box = legend.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    assert box.x0 >= 0 and box.x1 <= width


def test_the_losses_a_page_names_are_those_that_are_drawn(view, grid):
    for study, words in ((view, {"training", "validation"}), (grid, {"validation"})):
        with style(COLUMN):
            drawn = {axes.get_title(loc="left").split(": ")[-1] for axes in curve_figure(study).axes}
        assert drawn == words == {LOSSES[split].split(" ")[0] for split in curve_splits(study)}
