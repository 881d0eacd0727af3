"""Tables: what is in a cell, what is bold, plain CSV numbers, sound Markdown."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from helpers_runs import make_work_dir

from gitbench.judge import judge_study
from gitbench.report import tables
from gitbench.report.latex import table_text
from gitbench.study.records import build_frame, load_study


def load(tmp_path, **options):
    work_dir = make_work_dir(tmp_path, records_only=True, **options)
    study = load_study(work_dir, "decoder_size", "cpu", "scenes")
    frame = build_frame(work_dir, [study])
    return frame, study, judge_study(study, frame, "grammar")


def test_csv_is_plain_numbers_in_full_precision(tmp_path):
    frame, study, _ = load(tmp_path)
    text = tables.csv_text(frame, study)
    table = pd.read_csv(io.StringIO(text)).set_index("arm")
    assert list(table.index) == ["blind", "small", "base", "large", "ceiling"]
    own = frame[(frame["arm"] == "large") & (frame["metric"] == "CIDEr")]["value"]
    assert table.loc["large", "CIDEr"] == own.mean()
    assert table.loc["large", "CIDEr_sd"] == pytest.approx(own.std(ddof=1), rel=1e-12)
    half = 2.7764451 * own.std(ddof=1) / np.sqrt(5)
    assert table.loc["large", "CIDEr_high"] - table.loc["large", "CIDEr"] == pytest.approx(half, rel=1e-6)
    assert table.loc["large", "decoder_parameters"] == 3_400_000
    assert table.loc["ceiling", "CIDEr"] == 180.0 and pd.isna(table.loc["ceiling", "n"])
    assert not re.search(r'"\d+,\d', text)


def test_components_of_a_score_stand_in_the_csv_only(tmp_path):
    frame, study, verdicts = load(tmp_path)
    component = frame[frame["metric"] == "BLEU-4"].assign(metric="SceneF1-objects")
    frame = pd.concat([frame, component], ignore_index=True)
    assert tables.headline_names(frame) == ["CIDEr", "BLEU-4", "test_nll"]
    assert "SceneF1-objects_low" in tables.csv_text(frame, study)
    assert "SceneF1-objects" not in tables.markdown_text(frame, study, verdicts)
    assert "SceneF1-objects" not in table_text(frame, study, verdicts)


def test_bold_only_above_the_noise(tmp_path):
    frame, study, _ = load(tmp_path / "close")
    assert tables.best_arms(frame, study) == {}  # base and large cannot be told apart
    frame, study, _ = load(tmp_path / "far", means={"blind": 21.0, "small": 60.0, "base": 80.0, "large": 100.0})
    assert tables.best_arms(frame, study) == {"CIDEr": "large", "BLEU-4": "large", "test_nll": "large"}
    bold = [row["arm"] for row in tables.score_cells(frame, study) if row["cells"]["test_nll"]["bold"]]
    assert bold == ["large"]


def test_nothing_is_bold_with_one_seed(tmp_path):
    frame, study, _ = load(tmp_path, means={"blind": 21.0, "small": 60.0, "base": 80.0, "large": 100.0}, replicates=1)
    assert tables.best_arms(frame, study) == {}
    cells = tables.score_cells(frame, study)[3]["cells"]
    assert cells["CIDEr"]["half"] is None and not cells["CIDEr"]["bold"]


def test_overridden_arm_is_marked_and_others_drop_their_overridden_runs(tmp_path):
    whole = tuple(("large", replicate) for replicate in range(5))
    frame, study, verdicts = load(tmp_path, overridden=(*whole, ("base", 0)))
    table = tables.summarise(frame, study).set_index("arm")
    assert table.loc["large", "overridden"] and not table.loc["base", "overridden"]
    assert table.loc["base", "n"] == 4 and table.loc["large", "n"] == 5
    assert "large\N{DAGGER}" in tables.markdown_text(frame, study, verdicts)


def test_markdown_tables_are_rectangular(tmp_path):
    frame, study, verdicts = load(tmp_path)
    text = tables.markdown_text(frame, study, verdicts)
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) <= 1
    assert (
        "a larger decoder shows no improvement" in text and "| SUPPORTED: large (" in text and "95 % interval" in text
    )


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
    assert tables.cost_text(name, value) == text
