"""The paper's row stands beside an evaluation where data, split and sizes are the paper's, and nowhere else."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from gitbench.data.image_processor import official_processor, square_processor
from gitbench.plan import PlannedEvaluation
from gitbench.report.paper_row import circumstances, drift, paper_rows_of
from gitbench.spec import TaskSpec

ENCODERS = {"base": (12, 768, 16), "large": (24, 1024, 14), "small": (4, 96, 8)}
SCORES = {"CIDEr": {"value": 126.0}, "BLEU-4": {"value": 39.0}, "VQA": {"value": 18.0}}


def planned(size: str = "base", **changes: Any) -> PlannedEvaluation:
    layers, width, patch = ENCODERS[size]
    encoder = {"layers": layers, "width": width, "patch": patch, "image_size": 224}
    decoder = {"layers": 6, "width": 768, "attention": "self", "max_positions": 1024}
    plan = PlannedEvaluation(
        content="c0ffee",
        model={"encoder": encoder, "decoder": decoder, "vocab_size": 30522},
        tokenizer="words",
        rule=dataclasses.asdict(official_processor({}, 224)),
        search={"beam_size": 4, "length_penalty": 0.6, "max_length": 1024},
        max_tokens=40,
        task=TaskSpec(),
        data="coco_karpathy:data/coco",
        data_fingerprint="f00d",
        batch=1,
    )
    return dataclasses.replace(plan, **changes)


def test_cocos_row_stands_beside_the_base_model_with_the_difference():
    (row,) = paper_rows_of(planned(), SCORES)
    assert (row.model, row.metric, row.theirs, row.ours) == ("GIT_B", "CIDEr", 131.4, 126.0)
    assert row.difference == pytest.approx(-5.4) and "README" in row.source
    assert "126" in drift() and "README" in drift()


def test_models_of_one_size_are_all_shown():
    rows = paper_rows_of(planned("large"), SCORES)
    assert {row.model for row in rows if row.metric == "CIDEr"} == {"GIT_L", "GIT_L_R"}
    assert {row.table for row in rows} == {
        "COCO Karpathy, cross-entropy", "COCO Karpathy, CIDEr optimisation (SCST)",
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "data/coco"},
        {"data": "coco_karpathy:data/coco?split=80/10/10"},
        {"data": "vqav2:data", "task": TaskSpec(name="vqa")},
        {"split": "val"},
        {"limit": 100},
        {"task": TaskSpec(name="vqa")},
        {"model": planned().model | {"vocab_size": 30000}},
        {"model": planned().model | {"decoder": planned().model["decoder"] | {"layers": 12}}},
    ],
)
def test_anything_else_has_no_row(changes):
    assert paper_rows_of(planned(**changes), SCORES) == []
    assert paper_rows_of(planned("small"), SCORES) == []


def test_other_sets_have_theirs():
    (row,) = paper_rows_of(planned(data="textcaps:x"), SCORES)
    assert (row.theirs, row.metric) == (64.9, "CIDEr")
    (row,) = paper_rows_of(planned(data="textvqa:x", task=TaskSpec(name="vqa")), SCORES)
    assert (row.theirs, row.metric) == (18.81, "VQA")


def test_what_differs_from_the_official_code_is_named():
    assert {each.what for each in circumstances(planned()) if not each.same} == set()
    other = planned(
        rule=dataclasses.asdict(square_processor(224)),
        cleans_up=False,
        search={"beam_size": 1, "length_penalty": 0.6, "max_length": 20},
        batch=64,
    )
    assert {each.what for each in circumstances(other) if not each.same} == {
        "photographs", "decoding", "search", "images at a time",
    }  # fmt: skip
