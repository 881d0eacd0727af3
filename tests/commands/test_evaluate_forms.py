"""A run's test numbers, and those of `gitbench evaluate` of its folder, its weights and both exports: one and the same."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pandas as pd
import pytest
from helpers_evaluate import all_evaluated, evaluated, forms_of, table
from helpers_study import make_study, run_of, tiny_ablation

from gitbench.launch.scheduling import launch
from gitbench.metrics import CaptionScorer
from gitbench.study.store import Study
from gitbench.training.caption import load_captioner
from gitbench.training.frozen import FrozenEncoder

pytestmark = pytest.mark.usefixtures("as_before")
OF_TRAINING = ("train_nll", "val_nll")  # no numbers of the test


def check(run: Path, images: int, place: Path) -> None:
    """Evaluate all forms of a run's model: captions, scores of the search, likelihoods and scores are the run's, every bit."""
    record = json.loads((run / "record.json").read_text())
    scores = {"gitbench run": {name: each for name, each in record["metrics"].items() if name not in OF_TRAINING}}
    forms = forms_of(run, place)
    words = ("--data", "scenes", "--limit", str(images))
    # one METEOR for three: weights alone have the key of their run, and are refused beside it
    together = all_evaluated(place / "work", *(forms[form] for form in ("run", "huggingface", "official")), *words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gitbench.metrics.CaptionScorer", functools.partial(CaptionScorer, meteor=False))
        alone = evaluated(place / "work", forms["model.pth"], *words)
    for form, found in zip(("run", "huggingface", "official"), together, strict=True):
        assert (found.folder / "predictions.jsonl").read_bytes() == (run / "predictions.jsonl").read_bytes(), form
        scores[form] = found.record["metrics"]
        assert scores[form] == scores["gitbench run"], form
        tables = (pd.read_parquet(each / "per_image.parquet") for each in (found.folder, run))
        pd.testing.assert_frame_equal(*tables)
    assert (alone.folder / "predictions.jsonl").read_bytes() == (run / "predictions.jsonl").read_bytes()
    scores["model.pth"] = alone.record["metrics"]
    assert scores["model.pth"] == {name: each for name, each in scores["gitbench run"].items() if name != "METEOR"}
    print("\n" + table(scores))


def test_a_captioner_scores_the_same_in_every_form(trained: Study, tmp_path: Path) -> None:
    run = next(each for each in trained.plan.runs if each.arm == "base")
    check(trained.folder(run.run_key).path, 32, tmp_path)


def test_so_does_a_model_of_questions_whose_encoder_was_frozen(tmp_path: Path) -> None:
    """On CPUs a frozen encoder sees each image by itself, which may give other last digits than a batch: each form knows."""
    study = make_study(tmp_path / "study", tiny_ablation("encoder_training", "frozen", "trained"), task_name="vqa")
    assert launch(study, plain=True).failed == ()
    run = run_of(study, "base").folder
    check(run, 6, tmp_path)
    for form in (run, tmp_path / "huggingface", tmp_path / "official"):
        loaded = load_captioner(form)
        assert isinstance(loaded.git.encoder, FrozenEncoder), form
        assert (loaded.task, loaded.max_tokens, loaded.generation["beam_size"]) == ("vqa", 40, 2), form
