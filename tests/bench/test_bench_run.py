"""The benchmark at work: what the checks detect, how pairs are timed, and quick runs from the command line."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from pathlib import Path

import pytest
import torch

from gitbench.bench import child, run
from gitbench.bench import workloads as works
from gitbench.bench.checks import check_texts, check_training
from gitbench.bench.flops import generation_operations, training_operations
from gitbench.bench.ours import Gitbench
from gitbench.bench.peers import make_peer
from gitbench.bench.plan import Task
from gitbench.bench.program import BOS, EOS, NEVER, PAD, pictures, shared_model, training_batch
from gitbench.bench.rows import Row, to_json
from gitbench.bench.shapes import SHAPES, STEPS
from gitbench.bench.timing import paired, pairs_within
from gitbench.cli import main
from gitbench.errors import GitbenchError
from gitbench.files import read_json
from gitbench.models.flops import forward_flops

pytest.importorskip("transformers")
CPU = torch.device("cpu")
SHAPE = dataclasses.replace(SHAPES["quick"], train_images=3, greedy_images=2, beam_images=2)
OFFICIAL = os.environ.get("GITBENCH_OFFICIAL")
PEERS = ["hf", *(["official"] if OFFICIAL else [])]
each_peer = pytest.mark.parametrize("peer", PEERS)


def sides(peer: str, endless: bool = False):
    model = shared_model(SHAPE, CPU, endless=endless)
    return Gitbench(model), make_peer(peer, model, Path(OFFICIAL) if OFFICIAL else None)


@each_peer
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("texts", ["filled", "captions"])
def test_the_same_weights_train_alike(texts, frozen, peer):
    ours, theirs = sides(peer)
    batch = training_batch(SHAPE, texts, 5, CPU)
    found = check_training(ours, theirs, batch, frozen)
    assert "logits" in found and "gradient" in found
    assert ours.git.label_smoothing == 0.1  # timed as gitbench trains
    assert all(parameter.grad is None for parameter in ours.git.parameters())


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("git.encoder.layer.1.attention.self.query.weight", "logits"),
        ("git.image_encoder.vision_model.encoder.layers.0.layer_norm1.bias", "logits"),
        ("output.bias", "logits"),
    ],
)
def test_a_wrong_weight_is_detected_before_anything_is_timed(name, what):
    ours, theirs = sides("hf")
    with torch.no_grad():
        theirs.model.get_parameter(name)[0] += 1.0
    with pytest.raises(GitbenchError, match=f"the {what} of hf and gitbench differ .* nothing is timed"):
        check_training(ours, theirs, training_batch(SHAPE, "captions", 5, CPU))


def test_a_loss_on_other_tokens_is_detected(monkeypatch):
    ours, theirs = sides("hf")
    right = theirs.inputs

    def one_label_less(batch):
        inputs = right(batch)
        inputs["labels"][0, 1] = -100
        return inputs

    monkeypatch.setattr(theirs, "inputs", one_label_less)
    with pytest.raises(GitbenchError, match="the loss of hf"):
        check_training(ours, theirs, training_batch(SHAPE, "captions", 5, CPU))


def test_a_gradient_that_is_cut_off_is_detected():
    ours, theirs = sides("hf")
    theirs.model.git.visual_projection.register_forward_hook(
        lambda module, given, out: out + 0.5 * (out.detach() - out)
    )
    with pytest.raises(GitbenchError, match="the gradient of hf"):
        check_training(ours, theirs, training_batch(SHAPE, "filled", 1, CPU))


@each_peer
@pytest.mark.parametrize("beams", [1, 4])
def test_all_write_the_same_texts_of_the_same_length(beams, peer):
    ours, theirs = sides(peer, endless=True)
    images = pictures(SHAPE, 3, CPU)
    mine, other = ours.generate(images, beams), theirs.generate(images, beams)
    assert mine.shape[1] >= STEPS - 1 and not (mine[:, : STEPS - 1] == EOS).any()
    assert len({tuple(text) for text in mine.tolist()}) > 1  # the picture matters
    assert check_texts(ours, theirs, images, mine, other).startswith("all 3 texts of 19 tokens equal")
    wrong = other.clone()
    wrong[1, 5] = 7 if wrong[1, 5] != 7 else 8
    with pytest.raises(GitbenchError, match="different texts about 1 of 3 images"):
        check_texts(ours, theirs, images, mine, wrong)
    with pytest.raises(GitbenchError, match="tokens and gitbench"):
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
    assert generation_operations(model, 3, 4) == pytest.approx(3 * forward_flops(model, captions=4, tokens=STEPS))
    assert training_operations(model, 2, [11] * 4) == pytest.approx(3 * 2 * forward_flops(model, captions=2, tokens=10))
    short, long = (training_operations(model, 1, [length], frozen=True) for length in (5, 15))
    assert 0 < short < long < training_operations(model, 1, [15])


def test_pairs_alternate_and_are_as_many_as_asked_for(monkeypatch):
    order: list[str] = []
    clock = itertools.count()
    monkeypatch.setattr("gitbench.bench.timing.time.perf_counter", lambda: float(next(clock)))
    times = paired(lambda: order.append("ours"), lambda: order.append("theirs"), CPU, seconds=1.0, repeats=3)
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert times.ours == times.theirs == (1.0, 1.0, 1.0)
    many = paired(lambda: order.append("ours"), lambda: order.append("theirs"), CPU, seconds=8.0)
    assert len(many.ours) == 4  # a pair takes 2 s of this clock
    assert [pairs_within(30.0, pair) for pair in (0.1, 3.0, 15.0, 25.0, 40.0, 200.0)] == [15, 10, 3, 2, 1, 1]


def test_captions_that_are_named_are_the_ones_scored(tmp_path):
    order = {"work": "scoring", "repeats": 1, "images": 64, "captions": "scenes", "out": str(tmp_path / "rows.json")}
    child.main(order)
    rows = read_json(tmp_path / "rows.json")["rows"]
    assert len(rows) == 5 and all(
        row["shape"].endswith("captions, scenes") or "images, scenes" in row["shape"] for row in rows
    )
    with pytest.raises(GitbenchError, match="unknown data set 'scense'"):
        child.main({**order, "captions": "scense"})


def test_a_failing_check_leaves_no_file(tmp_path, monkeypatch):
    """In one process, so that a wrong weight can be planted; the second work fails after the first was measured."""
    right, spoiled = works.make_peer, []

    def make(name, model, official):
        peer = right(name, model, official)
        if spoiled:
            with torch.no_grad():
                peer.model.git.encoder.layer[0].output.dense.weight[0] += 1.0
        return peer

    def measure(task, out, official, repeats, threads, quick, captions):
        order = dict(dataclasses.asdict(task), out=str(out), official=None, repeats=1, threads=1, images=64)
        child.main(order)
        assert out.is_file()
        spoiled.append(task.work)

    monkeypatch.setattr(works, "make_peer", make)
    monkeypatch.setattr(run, "_measure", measure)
    monkeypatch.setitem(SHAPES, "quick", SHAPE)
    out = tmp_path / "out"
    words = ["bench", "--quick", "--works", "greedy,train-1", "--peers", "hf", "--repeats", "1", "--out", str(out)]
    assert main(words) == 2
    assert spoiled == ["greedy"] and not out.exists()
    with pytest.raises(GitbenchError, match="nothing is timed"):
        measure(Task(work="train-5", shape="quick", peers=("hf",)), tmp_path / "rows.json", None, 1, 1, True, None)
    assert list(tmp_path.iterdir()) == []


def test_quick_run_from_the_command_line(tmp_path, capsys):
    """End to end in child processes, set beside a result that was a hundred times as good in one row and poor in another."""
    out, stored = tmp_path / "speed", tmp_path / "stored.json"
    before = [
        Row(peer="hf", shape="quick", ours_seconds=(1.0,), peer_seconds=(ratio,), checked="", device="cpu", **which)
        for which, ratio in (({"work": "greedy"}, 500.0), ({"work": "train-5", "texts": "filled"}, 0.01))
    ]
    stored.write_text(json.dumps({"rows": [to_json(row) for row in before]}))
    words = ["bench", "--quick", "--threads", "1", "--works", "train-5,greedy", "--peers", "hf", "--repeats", "2"]
    assert main([*words, "--out", str(out), "--against", str(stored)]) == 1
    slower = [line for line in capsys.readouterr().out.splitlines() if line.startswith("slower: ")]
    assert len(slower) == 1 and slower[0].startswith("slower: greedy quick against hf") and "was 500" in slower[0]
    values = read_json(out / "bench.json")
    named = [(row["work"], row["shape"], row["texts"], row["peer"]) for row in values["rows"]]
    assert named == [
        ("train-5", "quick", "filled", "hf"),
        ("train-5", "quick", "captions", "hf"),
        ("greedy", "quick", "", "hf"),
    ]
    for row in values["rows"]:
        assert len(row["ours_seconds"]) == 2 and row["checked"] and row["ours_share"] > row["peer_share"] * 0.5 > 0
    assert values["threads"] == 1 and values["versions"]["transformers"] and values["matrix_rate"]["float32"] > 1e8
    assert "Hugging Face" in (out / "bench.md").read_text() and (out / "bench.png").stat().st_size > 1000


def test_a_child_that_cannot_run_is_one_line_and_no_result(tmp_path, capsys):
    checkout, out = tmp_path / "checkout", tmp_path / "out"
    (checkout / "generativeimage2text").mkdir(parents=True)
    words = ["bench", "--quick", "--works", "greedy", "--peers", "official", "--official", str(checkout)]
    assert main([*words, "--threads", "1", "--out", str(out)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "cannot be imported" in lines[0] and "no result was written" in lines[0]
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--works", "trane-5"], "did you mean 'train-5'"),
        (["--shapes", "smal"], "did you mean 'small'"),
        (["--peers", "hugging"], "unknown peer"),
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


def test_rows_of_a_child_are_read_back(tmp_path, monkeypatch):
    made = Row(
        work="greedy", shape="quick", peer="hf", ours_seconds=(1.0,), peer_seconds=(2.0,), checked="", device="cpu"
    )
    monkeypatch.setattr(
        run, "_measure", lambda task, out, *_: out.write_text(json.dumps({"rows": [to_json(made)], "rates": {}}))
    )
    said: list[str] = []
    task = Task(work="greedy", shape="quick", peers=("hf",))
    result = run.run_tasks([task], official=None, repeats=None, threads=1, quick=True, say=said.append)
    assert result.rows == (made,) and "2.00 times as fast" in said[1]
