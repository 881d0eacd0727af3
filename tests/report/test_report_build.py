"""A whole report from fabricated runs: complete, deterministic, honest, atomic; and one number from the raw captions."""

import functools
import hashlib
import json
import math
import operator
import os
import shutil
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from helpers_report import study_of, view_of
from helpers_runs import make_images, run_key

from gitbench.cli import main
from gitbench.commands import report as command
from gitbench.errors import GitbenchError
from gitbench.report import build, write_report
from gitbench.report.results import load_results
from gitbench.report.samples import draw_samples, take_samples
from gitbench.study.interim import judge

FILES = {
    "report.html", "manifest.json", "verdicts.json", "evidence.json", "runs.csv", "table.csv", "table.md", "table.tex",
    "table_column.tex", "numbers.tex",
    *(f"{name}.{kind}" for name in ("forest", "score", "cost", "curves") for kind in ("svg", "pdf", "png")),
}  # fmt: skip
PICTURES = {f"{name}.{kind}" for name in ("predictions", "captions") for kind in ("svg", "pdf", "png")}


def test_every_file_is_there_in_the_manifest_and_the_same_again(made, tmp_path):
    assert {path.name for path in made.out.iterdir()} == FILES | PICTURES
    manifest = json.loads((made.out / "manifest.json").read_text())
    assert set(manifest["files"]) == (FILES | PICTURES) - {"manifest.json"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((made.out / name).read_bytes()).hexdigest() == digest
    assert len(manifest["runs"]) == 19 and manifest["missing_runs"] == [run_key("small", 4)]
    assert not [path for path in made.out.parent.iterdir() if path.name.startswith(".")]
    write_report(made.study, judge(made.study), tmp_path / "again", make_images().get)
    for path in made.out.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_figures_keep_text_as_text_draw_every_seed_and_carry_no_date(made):
    svg, pdf = (made.out / "score.svg").read_text(encoding="utf-8"), (made.out / "score.pdf").read_bytes()
    assert "<text" in svg and "blind floor" in svg and "<dc:date>" not in svg
    assert svg.count("<use ") >= 4 + 5 + 5  # seeds
    assert b"/CreationDate" not in pdf and b"/FontFile2" in pdf and b"/Type3" not in pdf  # TrueType: selectable text


def test_without_images_no_file_holds_a_picture_and_an_old_report_is_replaced(tmp_path):
    study, out = study_of(tmp_path / "work", replicates=3, kind="leave-one-out"), tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text(json.dumps({"files": {"predictions.png": "0"}}))
    (out / "predictions.png").write_text("from an earlier report")
    assert write_report(study, judge(study), out) == out
    assert {path.name for path in out.iterdir()} == FILES
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "<img" not in text and "data:image" not in text and "a green circle on a white ground" in text


def test_captions_cannot_break_the_page_or_the_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_FIGURES", {})  # none of which holds a caption
    study = study_of(tmp_path / "work", replicates=1)
    path = study.folder(run_key("large", 0)).predictions
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["caption"] = "<script>alert(1)</script> $\\frac{1}$ | a\u2028b " + "word " * 2000
    lines[2]["caption"] = ""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = write_report(study, judge(study), tmp_path / "out", make_images().get)
    text = (out / "report.html").read_text(encoding="utf-8")
    assert (
        text.count("<script") == 1
        and "alert(1)</script>" not in text
        and "&lt;script&gt;" in text
        and "(empty)" in text
    )
    assert (out / "predictions.pdf").stat().st_size > 1000


def test_foreign_files_are_never_deleted(made, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(GitbenchError, match="thesis.txt"):
        write_report(made.study, judge(made.study), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    with pytest.raises(GitbenchError, match="is a file"):
        write_report(made.study, judge(made.study), tmp_path / "thesis.txt")


def test_failure_leaves_the_old_report_and_no_litter(made, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text(json.dumps({"files": {"report.html": "0"}}))
    (out / "report.html").write_text("old")

    def fail(*_):
        raise RuntimeError("killed here")

    monkeypatch.setattr(build, "_draw", fail)  # after the tables are written
    with pytest.raises(RuntimeError):
        write_report(made.study, judge(made.study), out)
    assert (out / "report.html").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_no_finished_run_names_the_command(tmp_path):
    everything = tuple((arm, 0) for arm in ("blind", "small", "base", "large"))
    study = study_of(tmp_path / "work", replicates=1, missing=everything)
    with pytest.raises(GitbenchError, match="gitbench run decoder_size --profile cpu"):
        write_report(study, (), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_samples_are_evenly_spaced_not_chosen(tmp_path):
    view = view_of(tmp_path, replicates=1)
    ids = [f"scenes-test-{index}" for index in np.linspace(0, 11, 6).round().astype(int)]
    assert [sample.image_id for sample in view.samples] == ids
    assert [caption.arm for caption in view.samples[0].captions] == ["blind", "small", "base", "large"]
    assert view.samples[0].image is None
    images = make_images()
    samples = take_samples(view.study, view.arms, "CIDEr", images.get)
    assert all(np.array_equal(sample.image, images[sample.image_id]) for sample in samples)


def test_the_sheet_of_captions_is_drawn_by_the_data_alone(tmp_path):
    view, images = view_of(tmp_path, replicates=1), make_images()
    drawn = [draw_samples(view.study, arm, "CIDEr", images.get) for arm in view.arms]
    ids = [[sample.image_id for sample in each] for each in drawn]
    assert all(each == ids[0] for each in ids) and len(set(ids[0])) == 12  # as many as there are
    assert ids[0] != list(images)
    assert [one.captions[0].arm for one in drawn[1]] == ["small"] * 12


def bleu_1(rows):
    """Return BLEU-1 over all captions: clipped words in common, by the brevity penalty of the nearest lengths."""
    common = words = nearest = 0
    for row in rows:
        caption, references = row["caption"].split(), [each.split() for each in row["references"]]
        common += (Counter(caption) & functools.reduce(operator.or_, map(Counter, references))).total()
        words += len(caption)
        nearest += min((abs(len(each) - len(caption)), len(each)) for each in references)[1]
    return common / words * min(1.0, math.exp(1 - nearest / words))


def test_a_published_number_follows_from_the_raw_captions(trained, tmp_path, monkeypatch, capsys):
    work_dir = shutil.copytree(trained.work_dir, tmp_path / "work")  # a report notes a look in its work directory
    monkeypatch.setattr(command, "check_publishable", lambda profile: None)  # a smoke study, which is never published
    monkeypatch.setattr(command, "results_folder", lambda: tmp_path / "results")
    assert main(["publish", "decoder_size", "--profile", "smoke", "--work-dir", str(work_dir)]) == 0
    (out,) = (tmp_path / "results" / "decoder_size").iterdir()
    assert out.name.startswith("smoke-scenes-") and str(out / "report.html") in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == FILES | PICTURES
    assert [result.folder for result in load_results(tmp_path / "results")] == [out]
    table = pd.read_csv(out / "table.csv").set_index("arm")
    replicates = Counter(run.arm for run in trained.plan.runs)
    for arm in ("blind", "base", "large"):
        scores = []
        for run in trained.plan.runs:
            if run.arm == arm:
                path = trained.work_dir / "runs" / run.run_key / "predictions.jsonl"
                scores.append(
                    100 * bleu_1([json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]])
                )
        assert len(scores) == replicates[arm] == table.loc[arm, "n"]
        assert table.loc[arm, "BLEU-1"] == pytest.approx(np.mean(scores), rel=1e-9)


def test_launches_that_end_together_put_one_whole_report_in_place(tmp_path, monkeypatch):
    """Each replaces the folder in two steps, between which there is none."""
    replaced = os.replace

    def slowly(source, target) -> None:
        replaced(source, target)
        time.sleep(0.01)

    monkeypatch.setattr(os, "replace", slowly)
    names, start = ("a", "b", "c", "d"), threading.Barrier(4)

    def replace(name: str) -> None:
        for _ in range(4):
            building = tmp_path / f".{name}.tmp"
            building.mkdir()
            (building / name).touch()
            start.wait()
            build.put_in_place(building, tmp_path / "report")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(replace, names))
    assert [path.name for path in tmp_path.iterdir()] == ["report"] and len(list((tmp_path / "report").iterdir())) == 1
