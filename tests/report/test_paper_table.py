"""The paper's numbers and ours: marked, under their own data, and honest where nothing is known."""

import dataclasses

import pytest

from gitbench.report.paper import figure_4, paper_rows
from gitbench.report.paper_table import NOT_OBTAINED, figure_places, paper_numbers, paper_tables


def test_both_halves_name_their_data_and_a_digitised_value_is_marked(grid):
    figure, standard = paper_tables(grid.plan, grid.frame, grid.metric)
    for table in (figure, standard):
        assert table.paper_data and "scenes" not in table.paper_data
        assert all(len(row) == len(table.paper_columns) + len(table.here_columns) for row in table.rows)
    assert len(figure.rows) == 9 and "read off Figure 4" in figure.paper_data
    assert {row[5] for row in figure.rows} == {arm.label for arm in grid.plan.arms}
    assert standard.rows[0][:2] == ("GIT_B", "131.4 points (seen in print)") and "Karpathy test" in standard.paper_data


def test_grid_is_matched_by_rank_and_differences_are_those_of_the_figure(grid):
    plan, places = grid.plan, figure_places(grid.plan)
    assert places["small_least"] == ("Base", "4M") and places["large_some"] == ("Huge", "14M")
    assert places["base"] == ("Large", "0.8B")
    saturates, gains = plan.claims[:2]
    assert paper_numbers(plan, saturates).startswith("\N{MINUS SIGN}1.6 points CIDEr on COCO")  # 132.0 - 133.6
    assert paper_numbers(plan, gains).startswith("+4.2 points CIDEr on COCO")  # (144.8 - 142.2) - (132.0 - 133.6)
    assert all(paper_numbers(plan, claim).endswith("read off the figure") for claim in plan.claims)


def test_a_trend_has_the_figures_rise(grid):
    plan = grid.plan
    along = ("large_least", "large_some", "large_all")
    trend = dataclasses.replace(
        plan.claims[0], kind="trend", treatment="large_all", reference="large_least", along=along
    )
    values = figure_4().query("benchmark == 'COCO' and size == 'Huge'")["value"].to_numpy()
    theirs = paper_numbers(plan, trend)
    assert theirs.startswith(f"{values[-1] - values[0]:+.1f} points CIDEr on COCO (")
    assert all(f"{value:.1f}" in theirs for value in values)


def test_what_was_not_obtained_is_said_to_be_so_and_other_tasks_get_their_own_benchmark(view):
    assert paper_numbers(view.plan, view.plan.claims[0]) == NOT_OBTAINED
    assert len(paper_tables(view.plan, view.frame, view.metric)) == 1
    (standard,) = paper_tables(dataclasses.replace(view.plan, task="vqa", data="scenes-vqa"), view.frame, view.metric)
    assert (
        standard.rows[0][:2] == ("GIT_B", "72.72 percent (seen in print)") and "VQAv2, test-dev" in standard.paper_data
    )


def test_gains_that_table_1_prints_follow_from_its_values():
    rows = paper_rows().query("table == 'Table 1'").set_index("id")
    gains = rows[rows["model"].str.endswith("gain over prior SOTA")]
    assert len(gains) == 28
    for identity, row in gains.iterrows():
        value = float(rows.loc[identity.removesuffix("-gain"), "value"])
        prior = float(rows.loc[identity.rsplit("-", 2)[0] + "-prior_sota", "value"])
        assert value - prior == pytest.approx(float(row["value"]), abs=0.051), identity
