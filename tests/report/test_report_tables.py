"""Tables: what is in a cell, what is bold, plain CSV numbers, sound Markdown."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from helpers_report import FAR, floor_of, judged, view_of

from gitbench.report import tables
from gitbench.report.latex_table import table_text
from gitbench.report.templates import code, pipe, render
from gitbench.report.view import View


def test_csv_is_plain_numbers_in_full_precision(made):
    text = (made.out / "table.csv").read_text()
    table = pd.read_csv(io.StringIO(text)).set_index("arm")
    assert list(table.index) == ["blind", "small", "base", "large", "ceiling"]
    frame = made.study.frame
    own = frame[(frame["arm"] == "large") & (frame["metric"] == "CIDEr")]["value"]
    assert table.loc["large", "CIDEr"] == own.mean()
    assert table.loc["large", "CIDEr_sd"] == pytest.approx(own.std(ddof=1), rel=1e-12)
    half = 2.7764451 * own.std(ddof=1) / np.sqrt(5)
    assert table.loc["large", "CIDEr_high"] - table.loc["large", "CIDEr"] == pytest.approx(half, rel=1e-6)
    assert table.loc["large", "decoder_parameters"] == 3_400_000 and table.loc["small", "n"] == 4
    assert table.loc["ceiling", "CIDEr"] == 150.0 and pd.isna(table.loc["ceiling", "n"])
    assert not re.search(r'"\d+,\d', text)


def test_components_of_a_score_stand_in_the_csv_only(tmp_path):
    view = view_of(tmp_path)
    component = view.frame[view.frame["metric"] == "BLEU-4"].assign(metric="SceneF1-objects")
    view.study.frame = pd.concat([view.frame, component], ignore_index=True)
    view = View.of(view.study, view.verdicts)
    assert view.scores == ["CIDEr", "BLEU-4", "test_nll"] and view.more_scores == ["SceneF1-objects"]
    assert "SceneF1-objects_low" in view.table
    assert "SceneF1-objects" not in render("table.md.j2", view=view, plan=view.plan) + table_text(view)


def test_bold_only_above_the_noise(tmp_path):
    study, _ = judged(tmp_path / "close")
    assert tables.best_arms(study.frame, study.plan) == {}  # base and large cannot be told apart
    view = view_of(tmp_path / "far", means=FAR)
    assert view.best == {"CIDEr": "large", "BLEU-4": "large", "test_nll": "large"}
    assert [row["arm"] for row in view.rows if view.cell(row, "test_nll").bold] == ["large"]
    assert "CIDEr" not in tables.best_arms(view.frame, view.plan, {"CIDEr": floor_of(sd=30.0, mde=70.0)})
    view = view_of(tmp_path / "one seed", means=FAR, replicates=1)
    assert view.best == {}
    cell = view.cell(view.rows[3], "CIDEr")
    assert cell.half is None and not cell.bold


def test_overridden_arm_is_marked_and_others_drop_their_overridden_runs(tmp_path):
    whole = tuple(("large", replicate) for replicate in range(5))
    view = view_of(tmp_path, overridden=(*whole, ("base", 0)))
    table = view.table.set_index("arm")
    assert table.loc["large", "overridden"] and not table.loc["base", "overridden"]
    assert table.loc["base", "n"] == 4 and table.loc["large", "n"] == 5
    assert "| 4 x 256\N{DAGGER} | `large` |" in render("table.md.j2", view=view, plan=view.plan)
    assert "4 x 256$^\\dagger$" in table_text(view) and "$^\\dagger$ changed by --cfg-options" in table_text(view)


def test_markdown_tables_are_rectangular(made):
    text = (made.out / "table.md").read_text()
    blocks = [[line for line in block.splitlines() if line.startswith("|")] for block in text.split("\n\n")]
    assert sum(map(bool, blocks)) == 5
    for lines in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) <= 1
    assert "a larger decoder shows no improvement" in text and "| SUPPORTED: Seen: EQUIVALENT; " in text
    assert "| not obtainable |" in text and "131.4 points (seen in print)" in text and "dagger" not in text


def test_cells_and_code_are_escaped():
    assert pipe("a | b\\c\nd") == "a \\| b\\\\c d"
    assert str(code("run `a < b`, <i>")) == "run <code>a &lt; b</code>, &lt;i&gt;"


@pytest.mark.parametrize(
    "name, value, text",
    [
        ("parameters", 1_234_567, "1.23 M"),
        ("parameters", 960, "960"),
        ("parameters", 999_700, "1000 k"),
        ("flops_per_image", 3.1e9, "3.1 G"),
        ("peak_memory_bytes", 8.12e8, "812 MB"),
        ("train_images_per_second", 145.4, "145"),
        ("seconds", 63.04, "63.0"),
    ],
)
def test_costs_for_people(name, value, text):
    assert tables.cost_text(value, name) == text
