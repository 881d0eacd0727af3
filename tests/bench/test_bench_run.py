"""The benchmark at work: what the checks detect, how pairs are timed, and quick runs from the command line."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from gitbench.bench import child, measure, scoring
from gitbench.bench.checks import check_texts, check_training
from gitbench.bench.measure import generation_flops, training_flops
from gitbench.bench.ours import Gitbench
from gitbench.bench.peers import make_peer
from gitbench.bench.program import BOS, EOS, NEVER, PAD, pictures, shared_model, training_batch
from gitbench.bench.rows import Row, to_json
from gitbench.bench.run import run_tasks
from gitbench.bench.timing import paired, pairs_within
from gitbench.bench.workloads import SHAPES, STEPS, Task
from gitbench.cli import main
from gitbench.errors import GitbenchError
from gitbench.files import read_json
from gitbench.metrics.compare import Comparison
from gitbench.models.flops import flops_by_part

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
    batch = training_batch(SHAPE, "captions", 5, CPU)
    assert batch.tokens.shape[:2] == (3, 5) and batch.captions == 5 and len(batch.repeated_images) == 15
    for ids, need, length in zip(batch.texts.tolist(), batch.predicted.tolist(), batch.lengths, strict=True):
        assert ids[0] == BOS and ids[length - 1] == EOS and ids[length:] == [PAD] * (len(ids) - length)
        assert need == [0 < place < length for place in range(len(ids))]
    assert max(batch.lengths) == batch.tokens.shape[-1]  # padded to the longest only
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


def test_operations_are_those_of_the_formulas():
    model = shared_model(SHAPE, CPU)
    written, read = (sum(flops_by_part(model, captions=k, tokens=t).values()) for k, t in ((4, STEPS), (2, 10)))
    assert generation_flops(model, 3, 4) == pytest.approx(3 * written)
    assert training_flops(model, 2, [11] * 4) == pytest.approx(3 * 2 * read)
    short, long = (training_flops(model, 1, [length], frozen=True) for length in (5, 15))
    assert 0 < short < long < training_flops(model, 1, [15])


def test_pairs_alternate_and_are_as_many_as_asked_for():
    order: list[str] = []
    times = paired(lambda: order.append("ours"), lambda: order.append("theirs"), CPU, seconds=1.0, repeats=3)
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert len(times.ours) == len(times.theirs) == 3 and min(*times.ours, *times.theirs) > 0
    assert [pairs_within(30.0, pair) for pair in (0.1, 3.0, 15.0, 25.0, 40.0, 200.0)] == [15, 10, 3, 2, 1, 1]


def test_rows_of_all_scores_on_both_sets_of_captions():
    rows = scoring.scoring_rows(2, images=64)
    assert [(row.workload, row.shape) for row in rows] == [
        (name, f"64 images, {corpus}") for corpus in ("drawn", "scenes") for name in scoring.SCORES
    ]
    for row in rows:
        assert (row.peer, row.device, len(row.ours_seconds), len(row.peer_seconds)) == ("pycocoevalcap", "cpu", 2, 2)
        assert float(row.checked.rpartition(" ")[2]) <= 1e-9


@pytest.mark.parametrize(
    ("ours", "theirs", "difference"),
    [([0.5], [0.5 + 1e-8], "1e-08"), ([0.5], [np.nan], "nan"), ([3], [4], "1:"), ([0.5, 1.0], [0.5], "inf")],
)
def test_scores_that_differ_are_not_timed(ours, theirs, difference):
    assert "5.0e-10" in scoring.check("score-x", [np.array([0.5])], [np.array([0.5 + 5e-10])])
    with pytest.raises(GitbenchError, match=f"score-x differs .* by {difference}"):
        scoring.check("score-x", [np.array(ours)], [np.array(theirs)])


def test_drawn_captions_are_like_peoples():
    """Within a tenth or so of what the head of `scoring` says of 5,000 images; the same whenever they are drawn."""
    corpus = scoring.drawn(1000)
    assert corpus == scoring.drawn(1000) != scoring.drawn(1000, seed=1)
    assert [len(texts) for texts in corpus.references] == [5] * 1000
    comparison = Comparison(corpus.predictions, corpus.references)
    words = comparison.references.words
    assert 10.3 < words.lengths.mean() < 11.3 and 3.3 < words.lengths.std() < 4.2 and words.lengths.min() >= 3
    assert 0.10 < np.bincount(words.ids).max() / len(words.ids) < 0.14
    found = [len(comparison.walk(n).place) / len(words.ids) for n in range(1, 5)]
    np.testing.assert_allclose(found, [0.32, 0.11, 0.044, 0.018], rtol=0.2)


def test_a_failing_check_ends_the_run(monkeypatch):
    """In one process, so that a wrong weight can be planted; the second task fails after the first was measured."""
    right, said = measure.make_peer, []

    def make(name, model, official):
        peer = right(name, model, official)
        if any("greedy quick against" in line for line in said):
            wrong_weight(peer, "output.bias")
        return peer

    monkeypatch.setattr(measure, "make_peer", make)
    monkeypatch.setitem(SHAPES, "quick", SHAPE)
    tasks = [Task(workload=name, shape="quick", peers=("hf",), repeats=1) for name in ("greedy", "train-1")]
    with pytest.raises(GitbenchError, match="nothing is timed"):
        run_tasks(tasks, child.measure_task, said.append)
    assert len(said) == 3


def test_quick_run_from_the_command_line(tmp_path, capsys):
    """End to end in child processes, set beside a result that was a hundred times as good in one row and poor in another."""
    out, stored = tmp_path / "speed", tmp_path / "stored.json"
    before = [
        Row(peer="hf", shape="quick", ours_seconds=(1.0,), peer_seconds=(ratio,), checked="", device="cpu", **which)
        for which, ratio in (({"workload": "greedy"}, 500.0), ({"workload": "train-5", "texts": "filled"}, 0.01))
    ]
    stored.write_text(json.dumps({"rows": [to_json(row) for row in before]}))
    words = ["bench", "--quick", "--threads", "1", "--workloads", "train-5,greedy", "--peers", "hf", "--repeats", "2"]
    assert main([*words, "--out", str(out), "--against", str(stored)]) == 1
    slower = [line for line in capsys.readouterr().out.splitlines() if line.startswith("slower: ")]
    assert len(slower) == 1 and slower[0].startswith("slower: greedy quick against hf") and "was 500" in slower[0]
    values = read_json(out / "bench.json")
    assert [(row["work"], row["shape"], row["texts"], row["peer"]) for row in values["rows"]] == [
        ("train-5", "quick", "filled", "hf"),
        ("train-5", "quick", "captions", "hf"),
        ("greedy", "quick", "", "hf"),
    ]
    for row in values["rows"]:
        assert len(row["ours_seconds"]) == 2 and row["checked"] and row["ours_share"] > 0 < row["peer_share"]
    assert values["threads"] == 1 and values["versions"]["transformers"] and values["matrix_rate"]["float32"] > 0


def test_a_child_that_cannot_run_is_one_line_and_no_result(tmp_path, capsys):
    checkout, out = tmp_path / "checkout", tmp_path / "out"
    (checkout / "generativeimage2text").mkdir(parents=True)
    words = ["bench", "--quick", "--workloads", "greedy", "--peers", "official", "--official", str(checkout)]
    assert main([*words, "--threads", "1", "--out", str(out)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "cannot be imported" in lines[0] and "no result was written" in lines[0]
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workloads", "trane-5"], "did you mean 'train-5'"),
        (["--shapes", "smal"], "did you mean 'small'"),
        (["--peers", "hugging"], "unknown benchmark peer"),
        (["--peers", "official"], "--official PATH"),
        (["--repeats", "0"], "use 1 or more"),
        (["--against", "absent.json"], "absent.json does not exist"),
    ],
)
def test_wrong_words_are_one_line(words, message, capsys, monkeypatch):
    monkeypatch.delenv("GITBENCH_OFFICIAL", raising=False)
    assert main(["bench", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
