"""The benchmark at work: what the checks detect, how pairs are timed, and quick runs from the command line."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from gitbench.bench import scoring
from gitbench.bench.checks import check_texts, check_training
from gitbench.bench.ours import Gitbench
from gitbench.bench.peers import make_peer
from gitbench.bench.program import BOS, EOS, NEVER, PAD, pictures, shared_model, training_batch
from gitbench.bench.rows import Row, to_json
from gitbench.bench.run import measure_here, measure_in_child
from gitbench.bench.workloads import SHAPES, STEPS, Task, text_lengths
from gitbench.cli import main
from gitbench.errors import GitbenchError
from gitbench.files import read_json

pytest.importorskip("transformers")
CPU = torch.device("cpu")
SHAPE = dataclasses.replace(SHAPES["quick"], train_images=3, greedy_images=2, beam_images=2)
OFFICIAL = os.environ.get("GITBENCH_OFFICIAL")
each_peer = pytest.mark.parametrize("peer", ["hf", *(["official"] if OFFICIAL else [])])


def sides(peer: str, endless: bool = False):
    model = shared_model(SHAPE, CPU, endless=endless)
    return Gitbench(model), make_peer(peer, model, Path(OFFICIAL) if OFFICIAL else None)


@each_peer
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("texts", ["filled", "captions"])
def test_the_same_weights_train_alike(texts, frozen, peer):
    ours, theirs = sides(peer)
    found = check_training(ours, theirs, training_batch(SHAPE, texts, 5, CPU), frozen)
    assert "logits" in found and "gradient" in found
    assert ours.git.label_smoothing == 0.1  # timed as gitbench trains
    assert all(parameter.grad is None for parameter in ours.git.parameters())


def wrong_weight(theirs, name):
    with torch.no_grad():
        theirs.model.get_parameter(name)[0] += 1.0


def one_label_less(theirs):
    right = theirs.inputs

    def inputs(batch):
        found = right(batch)
        found["labels"][0, 1] = -100
        return found

    theirs.inputs = inputs


def cut_gradient(theirs):
    theirs.model.git.visual_projection.register_forward_hook(
        lambda module, given, out: out + 0.5 * (out.detach() - out)
    )


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda peer: wrong_weight(peer, "git.encoder.layer.1.attention.self.query.weight"), "logits"),
        (lambda peer: wrong_weight(peer, "git.image_encoder.vision_model.encoder.layers.0.layer_norm1.bias"), "logits"),
        (lambda peer: wrong_weight(peer, "output.bias"), "logits"),
        (one_label_less, "loss"),
        (cut_gradient, "gradient"),
    ],
)
def test_a_difference_is_detected_before_anything_is_timed(spoil, what):
    ours, theirs = sides("hf")
    spoil(theirs)
    with pytest.raises(GitbenchError, match=f"the {what} of hf"):
        check_training(ours, theirs, training_batch(SHAPE, "captions", 5, CPU))


@each_peer
@pytest.mark.parametrize("beams", [1, 4])
def test_all_write_the_same_texts_of_the_same_length(beams, peer):
    ours, theirs = sides(peer, endless=True)
    images = pictures(SHAPE, 3, CPU)
    mine, other = ours.generate(images, beams), theirs.generate(images, beams)
    assert mine.shape[1] >= STEPS - 1 and not (mine[:, : STEPS - 1] == EOS).any()
    assert len({tuple(text) for text in mine.tolist()}) > 1  # the picture matters
    assert "all 3 texts" in check_texts(ours, theirs, images, mine, other)
    wrong = other.clone()
    wrong[1, 5] = 7 if wrong[1, 5] != 7 else 8
    with pytest.raises(GitbenchError, match="1 of 3 images"):
        check_texts(ours, theirs, images, mine, wrong)
    with pytest.raises(GitbenchError, match="9 tokens"):
        check_texts(ours, theirs, images, mine, other[:, :9])


def test_batches_hold_texts_of_their_lengths():
    batch, lengths = training_batch(SHAPE, "captions", 5, CPU), text_lengths(SHAPE, "captions", 5)
    assert len(batch.images) == 3 and len(batch.repeated_images) == 15
    for ids, need, length in zip(batch.texts.tolist(), batch.predicted.tolist(), lengths, strict=True):
        assert ids[0] == BOS and ids[length - 1] == EOS and ids[length:] == [PAD] * (len(ids) - length)
        assert need == [0 < place < length for place in range(len(ids))]
    assert max(lengths) == batch.texts.shape[1]  # padded to the longest only
    assert shared_model(SHAPE, CPU, endless=True).head_bias[EOS] == torch.tensor(NEVER)


def test_the_frozen_encoder_of_a_step_is_run_once():
    ours, _ = sides("hf")
    ours.start_training(frozen=True)
    before = ours.git.encoder.patch_embed.proj.weight.clone()
    inputs = ours.inputs(training_batch(SHAPE, "captions", 5, CPU))
    calls = []
    ours.git.encoder.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    ours.step(inputs), ours.step(inputs)
    assert len(calls) == SHAPE.train_images  # one by one, in the first step
    ours.forget_features()
    ours.step(inputs)
    assert len(calls) == 2 * SHAPE.train_images
    assert torch.equal(ours.git.encoder.patch_embed.proj.weight, before)


@pytest.mark.parametrize(
    ("ours", "theirs", "difference"),
    [([0.5], [0.5 + 1e-8], "1e-08"), ([0.5], [np.nan], "nan"), ([3], [4], "1:"), ([0.5, 1.0], [0.5], "inf")],
)
def test_scores_that_differ_are_not_timed(ours, theirs, difference):
    assert "5.0e-10" in scoring.check("score-x", [np.array([0.5])], [np.array([0.5 + 5e-10])])
    with pytest.raises(GitbenchError, match=f"score-x differs .* by {difference}"):
        scoring.check("score-x", [np.array(ours)], [np.array(theirs)])


def test_rows_of_a_task_hold_checked_pairs_of_both_kinds_of_texts(monkeypatch):
    monkeypatch.setitem(SHAPES, "quick", SHAPE)
    rows = measure_here(Task(workload="frozen-5", shape="quick", peers=("hf",), repeats=2))
    assert [(row.workload, row.texts, row.peer, row.device) for row in rows] == [
        ("frozen-5", "filled", "hf", "cpu"),
        ("frozen-5", "captions", "hf", "cpu"),
    ]
    assert all(len(row.ours_seconds) == 2 and row.checked and "fills the cache" in row.notes for row in rows)


def test_quick_run_from_the_command_line(tmp_path, capsys):
    """In a child process, set beside a result that was a hundred times as good in one row and poor in another."""
    out, stored = tmp_path / "speed", tmp_path / "stored.json"
    options = {"shape": "200 images, scenes", "peer": "pycocoevalcap", "checked": "", "device": "cpu"}
    before = [
        Row(workload=name, ours_seconds=(1.0,), peer_seconds=(ratio,), **options)
        for name, ratio in (("score-cider", 1000.0), ("score-bleu", 0.01))
    ]
    stored.write_text(json.dumps({"rows": [to_json(row) for row in before]}))
    words = ["bench", "--quick", "--threads", "1", "--workloads", "scoring", "--peers", "hf", "--repeats", "2"]
    assert main([*words, "--out", str(out), "--against", str(stored)]) == 1
    slower = [line for line in capsys.readouterr().out.splitlines() if line.startswith("slower: ")]
    assert len(slower) == 1 and slower[0].startswith("slower: score-cider 200 images") and "was 1000" in slower[0]
    values = read_json(out / "bench.json")
    assert [row["workload"] for row in values["rows"]] == list(scoring.SCORES)
    for row in values["rows"]:
        assert (row["peer"], row["device"]) == ("pycocoevalcap", "cpu") and row["shape"].endswith("images, scenes")
        assert len(row["ours_seconds"]) == len(row["peer_seconds"]) == 2
        assert float(row["checked"].rpartition(" ")[2]) <= 1e-9  # the largest difference
    assert values["threads"] == 1 and values["versions"]["transformers"]


def test_a_child_that_cannot_run_is_one_line_and_no_result(tmp_path):
    with pytest.raises(GitbenchError, match="^scoring: [^\n]*at least one reference[^\n]*no result was written$"):
        measure_in_child(Task(workload="scoring", images=0))
    with pytest.raises(GitbenchError, match="holds no generativeimage2text"):
        make_peer("official", shared_model(SHAPE, CPU), tmp_path)
