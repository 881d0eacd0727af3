"""The benchmark's arithmetic and files: paired ratios, exact intervals, targets, regression check, report. No torch."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import subprocess
import sys

import pytest

from gitbench.bench.plan import make_tasks
from gitbench.bench.regression import regressions, stored_rows
from gitbench.bench.report import markdown, write_report
from gitbench.bench.rows import Row, from_json, median_interval, to_json
from gitbench.bench.run import Result
from gitbench.bench.shapes import CAPTION_LENGTHS, SHAPES, for_gpu, text_lengths
from gitbench.bench.targets import reached, target_of
from gitbench.errors import GitbenchError


def row(ours=(1.0, 2.0, 1.0), theirs=(4.0, 6.0, 5.0), **options) -> Row:
    given = {"work": "train-5", "shape": "base", "peer": "hf", "checked": "logits equal", "device": "cpu", **options}
    return Row(ours_seconds=tuple(ours), peer_seconds=tuple(theirs), **given)


def result(*rows: Row) -> Result:
    made = {"git_revision": "0123456789abcdef", "git_dirty": False, "python": "3.11", "cpu": "a processor"}
    made |= {"cpu_count": 2, "gpus": [], "machine": "cpu2", "platform": "Linux", "started": "2026-01-01T00:00:00Z"}
    return Result(rows=rows, rates={"float32": 1.5e11}, threads=2, made=made, versions={"torch": "2.15"})


def test_a_ratio_is_the_median_of_pairs_not_the_ratio_of_medians():
    measured = row((1.0, 2.0, 1.0), (4.0, 6.0, 5.0))
    assert measured.ratios == (4.0, 3.0, 5.0) and measured.ratio == 4.0 and measured.range == (3.0, 5.0)
    busy = row((1.0, 10.0, 1.0), (4.0, 40.0, 4.0))  # a busy moment that struck both changes nothing
    assert busy.ratio == 4.0 and busy.range == (4.0, 4.0)


@pytest.mark.parametrize("theirs", [(), (1.0,), (1.0, 0.0), (1.0, -1.0), (1.0, math.nan), (1.0, math.inf)])
def test_times_that_are_no_pairs_of_seconds_are_refused(theirs):
    with pytest.raises(ValueError):
        row((1.0, 1.0), theirs)
    with pytest.raises(ValueError):
        row((), ())


@pytest.mark.parametrize(
    ("n", "left_out", "level"),
    [  # by hand: 1 - 2 * P(Binomial(n, 1/2) <= left_out)
        (1, 0, 0.0),
        (2, 0, 0.5),
        (3, 0, 0.75),
        (5, 0, 1 - 2 / 32),
        (6, 0, 1 - 2 / 64),
        (8, 0, 1 - 2 / 256),
        (9, 1, 1 - 2 * (1 + 9) / 512),
        (12, 2, 1 - 2 * (1 + 12 + 66) / 4096),
    ],
)
def test_interval_of_a_median_against_hand_computed_order_statistics(n, left_out, level):
    found = median_interval([float(value) for value in range(n, 0, -1)])
    assert (found.low, found.high) == (1.0 + left_out, n - left_out) and found.level == pytest.approx(level, abs=1e-12)


def test_interval_covers_the_true_median_as_often_as_it_says():
    """Exact, over all patterns of lying below or above the median, for the largest number of pairs that is usual."""
    n = 12
    found = median_interval([float(i) for i in range(n)])
    inside = 0
    for above in itertools.product((0, 1), repeat=n):
        values = sorted(1.0 if side else -1.0 for side in above)  # the true median is 0
        low, high = values[int(found.low)], values[int(found.high)]
        inside += low < 0 < high
    assert inside / 2**n == pytest.approx(found.level, abs=1e-12) and found.level >= 0.95


def test_rows_survive_json_and_damage_is_said():
    before = row(notes="n", texts="filled", ours_share=0.5, ours_gib=1.5)
    values = json.loads(json.dumps(to_json(before)))
    assert values["ratio"] == 4.0 and values["interval"]["level"] == 0.75
    assert from_json(values) == before
    with pytest.raises(GitbenchError, match="not a row"):
        from_json({**values, "peer_seconds": [1.0]})
    with pytest.raises(GitbenchError, match="not a row"):
        from_json({"work": "train-5"})


def test_targets_are_those_of_the_work_shape_peer_and_device():
    assert target_of(row()) == 4.0 and reached(row()) is True
    assert reached(row((1.0,), (3.99,))) is False
    assert target_of(row(work="train-1")) == 1.4 and target_of(row(work="train-1", shape="small")) is None
    assert target_of(row(peer="hf-fused")) is None and target_of(row(shape="quick")) is None
    assert target_of(row(work="score-cider", shape="5000 images, drawn")) == 9.0
    assert target_of(row(work="score-cider", shape="200 images, drawn")) is None
    assert target_of(row(device="cuda")) is None and target_of(row(device="cuda", precision="bfloat16")) == 4.0


def test_regression_check_finds_a_planted_slowdown_and_only_that():
    stored = [row(), row(work="beam-4", theirs=(9.0, 18.0, 9.0))]
    same = [row((1.0, 1.0, 1.0), (4.0, 3.9, 4.2)), stored[1]]
    assert regressions(same, stored) == []
    slower = row((1.0, 1.0, 1.0), (3.5, 3.0, 3.59))  # all below 90 % of 4
    (line,) = regressions([slower, stored[1]], stored)
    assert "train-5 base" in line and "was 4.00" in line
    noisy = row((1.0, 1.0, 1.0), (2.0, 2.0, 3.7))  # the interval reaches above 90 %
    assert regressions([noisy], stored) == []


def test_a_regression_check_that_compares_nothing_is_no_success(tmp_path):
    with pytest.raises(GitbenchError, match="none of the rows"):
        regressions([row(shape="quick")], [row()])
    with pytest.raises(GitbenchError, match="does not exist"):
        stored_rows(tmp_path / "absent.json")
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(GitbenchError, match="no result of gitbench bench"):
        stored_rows(tmp_path / "other.json")


def test_report_holds_every_row_target_and_interval(tmp_path):
    rows = (
        row(texts="filled", ours_share=0.61, peer_share=0.15),
        row((1.0, 1.0), (2.0, 2.5), peer="official"),
        row((1.0,), (20.0,), work="beam-4", peer="official", notes="too long for a second time"),
        row((2.0,), (1.0,), work="score-all", shape="5000 images, drawn", peer="pycocoevalcap"),
    )
    folder = write_report(result(*rows), tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == [
        "bench.json",
        "bench.md",
        "bench.pdf",
        "bench.png",
        "bench.svg",
    ]
    assert stored_rows(folder / "bench.json") == list(rows)
    text = (folder / "bench.md").read_text()
    assert (
        "| training step, 5 captions per image, base, filled | Hugging Face | 4 | 4.00 (3.00 to 5.00, 75 %) | reached |"
        in text
    )
    assert (
        "| training step, 5 captions per image, base | official code | 4 | 2.25 (2.00 to 2.50, 50 %) | **not reached** |"
        in text
    )
    assert "20.00 (one pair)" in text and "61 % / 15 %" in text and "150 GFLOP/s" in text and "2 threads" in text
    svg = (folder / "bench.svg").read_text()
    assert "must reach" in svg and "Hugging Face" in svg and "official code" in svg and "0.50" in svg


def test_report_of_a_gpu_shows_memory_and_the_share_asked_for():
    fast = row(device="cuda", precision="bfloat16", ours_share=0.5, peer_share=0.2, ours_gib=10.0, peer_gib=20.0)
    text = markdown(result(fast, dataclasses.replace(fast, precision="float32")))
    assert "the matrix rate | 45 % | 50 % | reached" in text and "10.00 / 20.00" in text
    assert text.count("the matrix rate |") == 1  # float32 is not asked


def test_a_gpu_must_reach_its_ratio_with_the_best_way_to_pack_replicates():
    slow, fast = (
        row((1.0,), (ratio,), work=f"replicates: {n} processes", shape="small", device="cuda")
        for n, ratio in ((2, 1.5), (4, 3.5))
    )
    text = markdown(result(slow, fast))
    assert "| 3 | 3.50 (one pair) | reached |" in text and "1.50 (one pair) | reached" not in text
    assert "**not reached**" in markdown(result(slow))
    assert "## Must reach" not in markdown(result(dataclasses.replace(fast, device="cpu")))


def test_lengths_are_those_of_real_captions_cut_and_seeded():
    assert sum(CAPTION_LENGTHS.values()) == 40_000
    mean = sum(length * count for length, count in CAPTION_LENGTHS.items()) / 40_000
    assert mean == pytest.approx(12.30, abs=0.01)
    shape = dataclasses.replace(SHAPES["base"], train_images=2000)
    drawn = [length for image in text_lengths(shape, "captions", 5) for length in image]
    assert len(drawn) == 10_000 and sum(drawn) / len(drawn) == pytest.approx(mean + 2, abs=0.2)
    assert text_lengths(shape, "captions", 5) == text_lengths(shape, "captions", 5)
    assert max(max(image) for image in text_lengths(SHAPES["small"], "captions", 5)) == SHAPES["small"].text
    assert text_lengths(SHAPES["base"], "filled", 2) == [[40, 40]] * 4


@pytest.mark.parametrize(
    ("gib", "factor"), [(4.0, 1), (11.9, 1), (23.6, 2), (40.0, 4), (79.1, 4), (80.0, 8), (139.8, 8)]
)
def test_batches_grow_with_the_memory_of_a_gpu(gib, factor):
    grown = for_gpu(SHAPES["base"], gib)
    assert (grown.train_images, grown.greedy_images, grown.beam_images) == (4 * factor, 2 * factor, 8 * factor)
    assert dataclasses.replace(grown, train_images=4, greedy_images=2, beam_images=8) == SHAPES["base"]


def test_tasks_are_one_process_a_work_and_shape_with_the_peers_it_knows():
    tasks = make_tasks(["train-1", "frozen-5", "scoring"], ["small", "base"], ["hf", "official"])
    assert [(task.work, task.shape, task.peers) for task in tasks] == [
        ("train-1", "small", ("hf", "official")),
        ("train-1", "base", ("hf", "official")),
        ("frozen-5", "small", ("hf",)),
        ("frozen-5", "base", ("hf",)),
        ("scoring", "", ()),
    ]
    with pytest.raises(GitbenchError, match="did you mean 'train-5'"):
        make_tasks(["train5"], ["small"], ["hf"])
    with pytest.raises(GitbenchError, match="none of official"):
        make_tasks(["frozen-5"], ["small"], ["official"])
    assert [(task.work, task.shape) for task in make_tasks(["packing"], ["small", "base"], [])] == [
        ("packing", "small")
    ]
    with pytest.raises(GitbenchError, match="leave a device room"):
        make_tasks(["packing"], ["base"], ["hf"])


def test_planning_reporting_and_comparing_need_no_torch():
    names = ("plan", "shapes", "rows", "run", "report", "regression", "targets")
    code = "import sys, gitbench.commands.bench; " + "; ".join(f"import gitbench.bench.{name}" for name in names)
    code += "; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
