"""How far each arm got: shares of the way from floor to ceiling, and the gap between training and validation loss."""

import dataclasses

import pandas as pd
import pytest
from helpers_report import view_of
from helpers_runs import GAPS

from gitbench.report.page import page
from gitbench.report.reach import joined, reach_of
from gitbench.report.tables import NONE
from gitbench.report.templates import render


def cells(found, heading: str) -> dict[str, str]:
    """Return arm -> the printed cell of a column."""
    return {arm: row[found.headings.index(heading)] for arm, row in found.rows}


def test_every_arm_has_its_share_of_the_way_and_its_gap(view):
    found, frame = view.reach, view.frame
    assert [arm for arm, _ in found.rows] == ["blind", "small", "base", "large"]
    means = frame[frame["metric"] == "CIDEr"].groupby("arm")["value"].mean()
    shares = cells(found, "CIDEr: way to the ceiling")
    assert (
        shares == {arm: f"{100 * (means[arm] - means['blind']) / (150.0 - means['blind']):.0f} %" for arm in shares}
        and shares["blind"] == "0 %"
    )
    # seeds differ by 0.01 in the gap: its interval is Student's of 0 to 0.04
    gaps = cells(found, "gap (nat/token)")
    assert gaps == {arm: f"{GAPS[arm] + 0.02:.3f} ± 0.020" for arm in GAPS}
    assert found.headings[-1] == "test NLL ↓ (nat/token)" and "training NLL ↓ (nat/token)" in found.headings


def test_scene_f1_stands_there_where_it_was_measured(view):
    f1 = view.frame[view.frame["metric"] == "CIDEr"].assign(metric="SceneF1")
    found = reach_of(pd.concat([view.frame, f1], ignore_index=True), view.plan)
    assert cells(found, "scene F1: way to the ceiling") == cells(found, "CIDEr: way to the ceiling")
    assert not any("scene F1" in heading for heading in view.reach.headings)
    loss = dataclasses.replace(view.plan, claims=(dataclasses.replace(view.plan.claims[0], metric="test_nll"),))
    assert len(reach_of(view.frame, loss).headings) == 4  # the main score stands there once


def test_what_was_not_measured_is_left_out(view):
    frame = view.frame
    old = frame[~frame["metric"].isin(["train_nll", "val_nll"])]
    assert not any("gap" in heading or "training" in heading for heading in reach_of(old, view.plan).headings)
    mixed = frame[(frame["metric"] != "train_nll") | (frame["arm"] != "large")]
    found = reach_of(mixed, view.plan)
    assert cells(found, "gap (nat/token)")["large"] == NONE != cells(found, "gap (nat/token)")["base"]
    unbounded = reach_of(frame[frame["role"] != "ceiling"], view.plan)
    assert not any("way to the ceiling" in heading for heading in unbounded.headings)


def test_changed_runs_count_for_no_gap(tmp_path):
    view = view_of(tmp_path, overridden=(("large", 4),))
    assert cells(view.reach, "gap (nat/token)")["large"].startswith("0.915")


def test_tables_of_several_studies_become_one(view):
    one, plan = view.reach, view.plan
    other = reach_of(view.frame[~view.frame["metric"].isin(["train_nll", "val_nll"])], plan)
    found = joined({("decoder_size", "scenes, cpu"): other, ("decoder_init", "scenes, cpu"): one})
    assert set(found.headings) == set(one.headings) and len(found.rows) == len(one.rows) + len(other.rows)
    assert [row[:2] for row in found.rows[:4]] == [("decoder_size", "scenes, cpu")] * 4
    gap = found.headings.index("gap (nat/token)")
    cidrs = [dict(zip(found.headings, row[3], strict=True))["CIDEr"] for row in found.rows]
    assert [row[3][gap] for row in found.rows[:4]] == [NONE] * 4 and NONE not in [row[3][gap] for row in found.rows[4:]]
    assert cidrs[:4] == cidrs[4:] and NONE not in cidrs


@pytest.mark.parametrize("template", ["page", "table.md.j2"])
def test_it_is_one_table_of_the_report(view, template):
    text = page(view, {}) if template == "page" else render(template, view=view, plan=view.plan)
    text = text.replace("\N{NO-BREAK SPACE}", " ")
    assert text.count("How far each arm got") == 1 and text.count(">54 %<" if template == "page" else "| 54 % |") == 1
    assert (
        "0.920 ± 0.020" in text and "(of all of them, where it has fewer)" in text
    )  # than there are validation images
    assert view.more_scores == []  # what stands there needs no second place
