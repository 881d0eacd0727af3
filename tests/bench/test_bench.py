"""The benchmark's arithmetic and files: paired ratios, exact intervals, targets, regression check, report. No torch."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from gitbench.bench.report import write_report
from gitbench.bench.rows import Row, from_json, median_interval, paired, pairs_within, regressions, stored_rows, to_json
from gitbench.bench.run import run_tasks
from gitbench.bench.workloads import CAPTION_LENGTHS, SHAPES, Task, make_tasks, text_lengths
from gitbench.errors import GitbenchError

STORED = Path(__file__).parents[2] / "reports/results/speed/cpu2/bench.json"


def row(ours=(1.0, 2.0, 1.0), theirs=(4.0, 6.0, 5.0), **options) -> Row:
    given = {"workload": "train-5", "shape": "base", "peer": "hf", "checked": "logits equal", "device": "cpu"}
    return Row(ours_seconds=tuple(ours), peer_seconds=tuple(theirs), **{**given, **options})


def test_a_ratio_is_the_median_of_pairs_not_the_ratio_of_medians():
    measured = row((1.0, 2.0, 1.0), (4.0, 6.0, 5.0))
    assert measured.ratios == (4.0, 3.0, 5.0) and measured.ratio == 4.0
    busy = row((1.0, 10.0, 1.0), (4.0, 40.0, 4.0))  # a busy moment that struck both changes nothing
    assert busy.ratios == (4.0, 4.0, 4.0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [((), ()), ((1.0,), ()), *(((1.0, 1.0), (1.0, bad)) for bad in (0.0, -1.0, math.nan, math.inf))],
)
def test_times_that_are_no_pairs_of_seconds_are_refused(ours, theirs):
    with pytest.raises(ValueError):
        row(ours, theirs)


@pytest.mark.parametrize(
    ("n", "left_out", "level"),
    [  # by hand: 1 - 2 * P(Binomial(n, 1/2) <= left_out)
        (1, 0, 0.0),
        (3, 0, 0.75),
        (6, 0, 1 - 2 / 64),
        (8, 0, 1 - 2 / 256),
        (9, 1, 1 - 2 * (1 + 9) / 512),
        (12, 2, 1 - 2 * (1 + 12 + 66) / 4096),
    ],
)
def test_interval_of_a_median_against_hand_computed_order_statistics(n, left_out, level):
    found = median_interval([float(value) for value in range(n, 0, -1)])
    assert (found.low, found.high) == (1.0 + left_out, n - left_out) and found.level == pytest.approx(level, abs=1e-12)


def test_rows_survive_json_and_damage_is_said():
    before = row(notes="n", texts="filled")
    values = json.loads(json.dumps(to_json(before)))
    assert values["workload"] == "train-5" and values["ratio"] == 4.0 and values["interval"]["level"] == 0.75
    assert from_json({**values, "precision": "float32", "ours_share": 0.5}) == before  # as older versions wrote
    for damaged in ({**values, "peer_seconds": [1.0]}, {"workload": "train-5"}, {**values, "peer_seconds": None}):
        with pytest.raises(GitbenchError, match="not a row"):
            from_json(damaged)


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({}, 4.0),
        ({"workload": "train-1"}, 1.4),
        ({"workload": "train-1", "shape": "small"}, None),
        ({"peer": "hf-fused"}, None),
        ({"workload": "score-cider", "shape": "5000 images, scenes"}, 9.0),
        ({"workload": "score-cider", "shape": "200 images, scenes"}, None),
        ({"device": "cuda"}, None),
    ],
)
def test_targets_are_those_of_the_workload_shape_peer_and_device(options, target):
    assert row(**options).target == target


def test_pairs_alternate_and_are_as_many_as_asked_for():
    order: list[str] = []
    times = paired(lambda: order.append("ours"), lambda: order.append("theirs"), seconds=1.0, repeats=3)
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert len(times.ours) == len(times.theirs) == 3 and min(*times.ours, *times.theirs) > 0
    assert [pairs_within(30.0, pair) for pair in (0.1, 3.0, 15.0, 25.0, 40.0, 200.0)] == [15, 10, 3, 2, 1, 1]


def test_regression_check_finds_a_planted_slowdown_and_only_that(tmp_path):
    stored = [row(), row(workload="beam-4", theirs=(9.0, 18.0, 9.0))]
    assert regressions([row((1.0, 1.0, 1.0), (4.0, 3.9, 4.2)), stored[1]], stored) == []
    slower = row((1.0, 1.0, 1.0), (3.5, 3.0, 3.59))  # all below 90 % of 4
    (line,) = regressions([slower, stored[1]], stored)
    assert "train-5 base" in line and "was 4.00" in line
    assert regressions([row((1.0, 1.0, 1.0), (2.0, 2.0, 3.7))], stored) == []  # the interval reaches above 90 %
    with pytest.raises(GitbenchError, match="none of the rows"):  # comparing nothing is no success
        regressions([row(shape="quick")], [row()])
    with pytest.raises(GitbenchError, match="does not exist"):
        stored_rows(tmp_path / "absent.json")
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(GitbenchError, match="no result of gitbench bench"):
        stored_rows(tmp_path / "other.json")


@pytest.mark.skipif(not STORED.is_file(), reason="results are part of a clone")
def test_the_stored_result_can_be_compared_with():
    stored = stored_rows(STORED)
    assert len(stored) > 30 and {row.workload for row in stored} >= {"train-1", "train-5", "beam-4", "score-cider"}
    assert regressions(stored, stored) == []


def test_report_holds_every_row_target_and_interval(tmp_path):
    rows = [
        row(texts="filled"),
        row((1.0, 1.0), (2.0, 2.5), peer="official"),
        row((1.0,), (20.0,), workload="beam-4", peer="official", notes="too long for a second time"),
        row((2.0,), (1.0,), workload="score-all", shape="5000 images, scenes", peer="pycocoevalcap"),
    ]
    _, made = run_tasks([Task(workload="greedy", threads=2)], lambda task: [])
    folder = write_report(rows, made, tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == [
        f"bench.{end}" for end in ("json", "md", "pdf", "png", "svg")
    ]
    assert stored_rows(folder / "bench.json") == rows
    text = (folder / "bench.md").read_text()
    first, second = (
        line for line in text.splitlines() if line.startswith("| training step, 5 captions per image, base")
    )
    assert "filled | Hugging Face | 4.00 (3.00 to 5.00, 75 %) | 4: reached |" in first
    assert "| official code | 2.25 (2.00 to 2.50, 50 %) | 4: **not reached** |" in second
    assert "20.00 (one pair)" in text and "2 threads" in text
    svg = (folder / "bench.svg").read_text()
    assert all(word in svg for word in ("must reach", "Hugging Face", "official code", "0.50"))


def test_lengths_are_those_of_real_captions_cut_and_seeded():
    mean = sum(length * count for length, count in CAPTION_LENGTHS.items()) / sum(CAPTION_LENGTHS.values())
    assert mean == pytest.approx(12.30, abs=0.01)
    shape = dataclasses.replace(SHAPES["base"], train_images=2000)
    drawn = text_lengths(shape, "captions", 5)
    assert len(drawn) == 10_000 and sum(drawn) / len(drawn) == pytest.approx(mean + 2, abs=0.2)
    assert text_lengths(shape, "captions", 5) == text_lengths(shape, "captions", 5)
    assert max(text_lengths(SHAPES["small"], "captions", 5)) == SHAPES["small"].text
    assert text_lengths(SHAPES["base"], "filled", 2) == [40] * 8


def test_tasks_are_one_process_a_workload_and_shape_with_the_peers_it_knows():
    tasks = make_tasks(
        ["train-1", "frozen-5", "scoring"], ["small", "base"], ["hf", "official"], threads=2, official="x"
    )
    assert [(task.workload, task.shape, task.peers, task.threads) for task in tasks] == [
        ("train-1", "small", ("hf", "official"), 2),
        ("train-1", "base", ("hf", "official"), 2),
        ("frozen-5", "small", ("hf",), 2),
        ("frozen-5", "base", ("hf",), 2),
        ("scoring", "", (), 1),
    ]
    with pytest.raises(GitbenchError, match="none of official"):
        make_tasks(["frozen-5"], ["small"], ["official"], official="x")
