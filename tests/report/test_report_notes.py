"""A report says what to know before believing its scores: captions that are alike, few images, images too few for a margin."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from helpers_report import view_of
from helpers_runs import CLAIM, make_work_dir, run_key

from gitbench.report.latex_table import table_text
from gitbench.report.notes import study_notes
from gitbench.report.page import page
from gitbench.report.templates import render
from gitbench.report.view import View
from gitbench.study.interim import judge
from gitbench.study.store import Study


def test_notes_name_the_runs_they_are_about_and_leave_the_blind_out(tmp_path):
    work = make_work_dir(tmp_path, replicates=2, claims=(CLAIM,))
    path = work / "runs" / run_key("small", 1) / "predictions.jsonl"
    rows = [json.loads(line) | {"caption": "a ring"} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = Study.open(work, "decoder_size.cpu.scenes")
    view = View.of(study, judge(study))
    few, alike = view.notes
    assert alike.startswith('small seed 1: the same caption for all 12 images ("a ring")')
    assert few.startswith("all runs: CIDEr of 12 images is not comparable")
    for line in (f"\nMind: {alike}.\n", f"\nMind: {few}.\n"):
        assert line in render("table.md.j2", view=view, plan=view.plan)
    assert "Mind: all runs: CIDEr of 12 images" in page(view, {})


def test_a_report_of_a_part_says_which_runs_are_there(tmp_path):
    work = make_work_dir(tmp_path, replicates=3)
    assert not any("part of the study" in note for note in study_notes(Study.open(work, "decoder_size.cpu.scenes"), ()))
    for seed in (1, 2):
        (work / "runs" / run_key("small", seed) / "record.json").unlink()
    first, *_ = study_notes(Study.open(work, "decoder_size.cpu.scenes"), ())
    assert first.startswith("this is a report of a part of the study: finished are ")
    assert "small 1 of 3" in first and "base 3 of 3" in first


def test_two_metrics_that_contradict_each_other_are_flagged_wherever_the_word_stands(tmp_path):
    view = view_of(tmp_path, better_loss={"large": 40.0})
    (verdict,) = view.verdicts
    assert (verdict.word, verdict.likelihood.word) == ("SUPPORTED", "REFUTED")
    flag = "larger-no-better is SUPPORTED by CIDEr and REFUTED by likelihood"
    assert view.notes[-1] == flag and "CIDEr and the likelihood CONTRADICT each other" in view.answer
    texts = {"page": page(view, {}), "md": render("table.md.j2", view=view, plan=view.plan), "tex": table_text(view)}
    for name, text in texts.items():
        text = " ".join(text.replace("\N{NO-BREAK SPACE}", " ").split())
        assert "By likelihood REFUTED (test NLL" in text and "CONTRADICT each other" in text, name
        assert name == "tex" or f"Mind: {flag}." in text
    lines = dict(view.details[0].lines)
    assert lines["by likelihood"].startswith("REFUTED: Seen: BETTER") and "CONTRADICT" in lines["the two metrics"]
    assert lines["by likelihood, Holm, 1 claim"] == "nothing to adjust for: the only claim"


def test_a_study_on_several_kinds_of_machine_says_so_and_in_which_precision_its_gpus_trained(tmp_path):
    work = make_work_dir(tmp_path, replicates=2)
    cards = {0: ("NVIDIA A10G", "a10g", "bfloat16"), 1: ("Tesla T4", "tesla-t4", "float16")}

    def told(chosen: tuple[int, int], **more: int) -> tuple[list[str], str]:
        for path in work.glob("runs/*/record.json"):
            record = json.loads(path.read_text())
            device, machine, precision = cards[chosen[record["spec"]["replicate"]]]
            record["cost"] |= {"device": device, "machine": machine}
            record["spec"]["compute"] = {"device": "cuda", "precision": precision, **more}
            path.write_text(json.dumps(record))
        study = Study.open(work, "decoder_size.cpu.scenes")
        return [note for note in study_notes(study, ()) if "kinds" in note], page(View.of(study, judge(study)), {})

    notes, text = told((0, 0))
    assert notes == [] and "NVIDIA A10G, a10g, trained in bfloat16" in text and "GPUs a run" not in text
    assert "trained in bfloat16, 2 GPUs a run" in told((0, 0), world_size=2)[1]
    notes, text = told((0, 1))
    (note,) = notes
    assert note.startswith("made on machines of 2 kinds (4 runs on a10g, 4 runs on tesla-t4): what arms cost is a mean")
    assert "trained in bfloat16, trained in float16" in text and "made on machines of 2 kinds" in text


def test_a_study_whose_encoder_starts_from_nothing_says_so(tmp_path):
    work = make_work_dir(tmp_path, replicates=2)
    study = Study.open(work, "decoder_size.cpu.scenes")
    assert not any("from nothing" in line for line in study_notes(study, ()))
    path = work / "runs" / run_key("base", 0) / "record.json"
    record = json.loads(path.read_text())
    record["spec"]["variants"]["encoder_init"] = {"source": "random"}
    path.write_text(json.dumps(record))
    first, *_ = study_notes(Study.open(work, "decoder_size.cpu.scenes"), ())
    assert first.startswith("the image encoder starts from nothing (random values), not from pre-training")


@pytest.mark.parametrize(
    ("axis", "of_large", "of_base", "said"),
    [
        ("encoder_init", {"source": "random"}, {}, True),  # one pre-training against none
        ("encoder_init", {"objective": "masked"}, {}, True),
        ("encoder", {"layers": 6}, {}, True),  # another size is another pre-training
        ("encoder_init", {"source": "random"}, {"source": "random"}, False),
        ("decoder", {"layers": 6}, {}, False),  # all on one encoder
    ],
)
def test_a_claim_across_encoders_is_said_of_these_encoders(axis, of_large, of_base, said, tmp_path):
    work = make_work_dir(tmp_path, replicates=3)
    for arm, change in (("large", of_large), ("base", of_base)):
        for replicate in range(3):
            path = work / "runs" / run_key(arm, replicate) / "record.json"
            record = json.loads(path.read_text())
            record["spec"]["variants"][axis].update(change)
            path.write_text(json.dumps(record))
    study = Study.open(work, "decoder_size.cpu.scenes")
    view = View.of(study, judge(study))
    line = dict(view.details[0].lines)["it is about"]
    assert ("other seeds of captioners on these encoders (each was pre-trained once) and other" in line) == said
    notes = [note for note in view.notes if "much another pre-training would change is in no interval" in note]
    assert [note.split(":")[0] for note in notes] == ["larger-no-better"] * said


def test_images_too_few_for_the_margin_are_named(tmp_path):
    narrow = CLAIM | {"margin": 0.5, "margin_unit": "metric", "margin_reason": "any"}
    work = make_work_dir(tmp_path, replicates=3, claims=(narrow,))
    for replicate in range(3):  # what the larger decoder gains differs from image to image
        path = work / "runs" / run_key("large", replicate) / "per_image.parquet"
        table = pd.read_parquet(path)
        table.assign(CIDEr=table["CIDEr"] + np.resize([8.0, -8.0], len(table))).to_parquet(path)
    study = Study.open(work, "decoder_size.cpu.scenes")
    *_, last = study_notes(study, judge(study))
    assert last.startswith("12 test images are too few for the margin of larger-no-better")
