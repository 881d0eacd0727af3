"""The decoders: logits, loss, likelihoods, gradients, dropout; texts that see what they may; precisions; small runs of tasks."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from gitbench.gate.exact.constant import pictures
from gitbench.gate.exact.order import runs_of
from gitbench.gate.exact.subject import Place, Small
from gitbench.gate.exact.tiny import ATTENTIONS, DECODER, batch, tiny
from gitbench.gate.exact.values import Values, gradients, summary
from gitbench.models import parameter_counts
from gitbench.models.flops import flops_by_part
from gitbench.models.git import GIT
from gitbench.models.init import initial_value, initialise
from gitbench.models.packed import pack
from gitbench.training.device import autocast

PARTS = ("encoder", "projection", "embedding", "decoder", "head_bias", "temporal")
COUNTED = ("total", "encoder", "decoder", "embedding", "projection", "head", "temporal")
SHOWN = 6  # logits that stand in a reference as they are


def add(values: Values, place: Place) -> None:
    """Add what becomes of texts in tiny models."""
    for attention in ATTENTIONS:
        add_model(values, tiny(attention, place.device), f"{attention}-attention", place.device)
    images, tokens, predicted = batch(place.device, frames=3)
    video = tiny(device=place.device, num_frames=3)
    values.near("films: loss", video.loss(images, tokens, predicted))
    values.tensor("films: logits", video.logits(images, tokens))
    _starts(values)
    _precisions(values, place.device)


def add_model(values: Values, model: GIT, name: str, device: str) -> None:
    """Add what a tiny model makes of two images with two texts each."""
    images, tokens, predicted = batch(device)
    counts = parameter_counts(model)
    values.equal(f"{name}: parameters", {part: counts[part] for part in COUNTED})
    for layer, (keys, seen) in enumerate(model.image_memory(images)):
        values.tensor(f"{name}: keys of the image in layer {layer}", keys)
        values.tensor(f"{name}: values of the image in layer {layer}", seen)
    logits = model.logits(images, tokens)
    values.tensor(f"{name}: logits", logits)
    values.near(f"{name}: some logits", logits[1, 4, :SHOWN])
    _masks(values, model, name, images, tokens)
    loss = model.loss(images, tokens, predicted)
    values.near(f"{name}: loss", loss)
    loss.backward()
    found = gradients(model)
    values.tensors(f"{name}: gradient", {key: each for key, each in found.items() if not key.startswith("encoder.")})
    with values.of("encoder"):
        values.tensors(f"{name}: gradient", {key: each for key, each in found.items() if key.startswith("encoder.")})
    for smoothing in (0.0, 0.3):
        model.label_smoothing = smoothing
        values.near(f"{name}: loss with label smoothing {smoothing}", model.loss(images, tokens, predicted))
    packed = pack(tokens, predicted, len(images), model.pad_id)
    nll, count = model.packed_nll(model.image_memory(images), packed, len(tokens))
    values.near(f"{name}: negative log-likelihoods of texts", nll)
    values.equal(f"{name}: tokens predicted of texts", count.tolist())
    everywhere = pack(tokens, predicted, len(images), model.pad_id, 8, everywhere=True)
    values.near(f"{name}: loss of texts packed for GPUs", model.packed_loss(model.image_memory(images), everywhere))
    _dropout(values, name, device)


def _masks(values: Values, model: GIT, name: str, images: Tensor, tokens: Tensor) -> None:
    """Add how far a change of a token, or of an image, moves the logits of every position of every text."""
    changed = tokens.clone()
    changed[1, 3] = 7 + (changed[1, 3] == 7)
    base, other = model.logits(images, tokens), images.clone()
    other[1] = pictures(*images.shape, name="other")[1].to(images)
    for what, moved in (("token 3 of text 1", model.logits(images, changed)), ("image 1", model.logits(other, tokens))):
        seen = (moved - base).abs().amax(2) > 1e-9
        values.equal(f"{name}: positions that see {what}", ["".join("01"[int(each)] for each in row) for row in seen])


def _dropout(values: Values, name: str, device: str) -> None:
    """Add which dropouts act: on hidden states and on attention, each alone, in training and in evaluation."""
    images, tokens, predicted = batch(device)
    found: dict[str, Any] = {}
    for kind in ("both", "hidden", "attention", "none"):
        model = tiny(name.partition("-")[0], device)
        if kind in ("hidden", "none"):
            model.decoder.spec = dataclasses.replace(DECODER, attention=model.decoder.spec.attention, dropout=0.0)
        for part in model.modules():
            if isinstance(part, torch.nn.Dropout) and kind in ("attention", "none"):
                part.p = 0.0
        losses = [model.loss(images, tokens, predicted).item() for _ in range(2)]
        model.train()
        torch.manual_seed(0)
        losses += [model.loss(images, tokens, predicted).item() for _ in range(2)]
        found[kind] = [abs(one - losses[0]) > 1e-9 for one in losses[1:]]
    rates = sorted({part.p for part in tiny().modules() if isinstance(part, torch.nn.Dropout)})
    values.equal(f"{name}: losses that dropout changes (evaluation, training, training)", {**found, "rates": rates})


def _starts(values: Values) -> None:
    """Add which initial values a model of ours has: those of two seeds, as far as they are constants, and their bounds."""
    model = tiny()
    initialise(model, 1)
    first = {name: each.detach().clone() for name, each in model.named_parameters()}
    initialise(model, 2)
    same = [name for name, each in model.named_parameters() if torch.equal(each, first[name])]
    values.equal("initial values that all seeds share", {name: first[name].unique().tolist() for name in same})
    values.near("initial values: largest", [each.abs().max().item() for each in first.values()], precision="float32")
    draws = [initial_value("embedding.words.weight", (4, 3), torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    values.near("initial values of words by two seeds", torch.stack(draws), precision="float32")


def _precisions(values: Values, device: str) -> None:
    """Add loss and likelihoods in float32, and under autocast to bfloat16, where logits and loss stay float32."""
    model = tiny(device=device).float()
    images, tokens, predicted = batch(device)
    images = images.float()
    values.near("loss in float32", model.loss(images, tokens, predicted), precision="float32")
    packed = pack(tokens, predicted, len(images), model.pad_id)
    with autocast(device, "bfloat16"):
        memory = model.image_memory(images)
        logits, loss = model._predictions(memory, packed), model.packed_loss(memory, packed)
        types = [memory[0][0], model.embedding(tokens), model.head(pictures(1, 24).float().to(device)), logits, loss]
    values.equal("types under bfloat16: memory, embedding, head, logits, loss", [str(each.dtype) for each in types])
    values.near("loss under bfloat16", loss, precision="bfloat16")
    values.near("loss in float16's neighbourhood of zero", logits.float().mean(), logits.abs().max().item(), "bfloat16")


def add_run(values: Values, small: Small, name: str) -> None:
    """Add losses, likelihoods and gradients of a small run's model with its real batches."""
    model = small.model()
    train, test = small.batches("train", 2), small.batches("test", 1)[0]
    given = model.data_preprocessor(test, False)
    images, tokens = given["images"], given["tokens"].flatten(0, 1)
    with torch.no_grad():
        with values.of("encoder"):
            values.tensor(f"{name}: image tokens", model.git.encode(images))
        values.tensor(f"{name}: logits", model.git.logits(images, tokens))
    for number, each in enumerate(train):
        losses = model._run_forward(model.data_preprocessor(each, True), mode="loss")
        values.near(f"{name}: loss of batch {number}", losses["loss"])
    losses["loss"].backward()
    trained = {key for key, each in model.git.named_parameters() if each.requires_grad}
    found = {key: each for key, each in gradients(model.git).items() if key in trained}
    values.equal(f"{name}: trained tensors", len(found))
    for part in PARTS:
        own = [summary(each) for key, each in found.items() if key.partition(".")[0] == part]
        if own:
            values.near(f"{name}: gradient of {part}", [[one[0], one[2]] for one in own], max(one[1] for one in own))
    with torch.no_grad():
        seen = model.val_step(test)
    values.equal(f"{name}: images and tokens of the likelihoods", [[each["image_id"], each["tokens"]] for each in seen])
    values.near(f"{name}: likelihoods of test images", [each["nll"] for each in seen])
    values.near(f"{name}: flops of an image by formula", list(flops_by_part(model.git).values()))


def add_runs(values: Values, place: Place) -> None:
    """Add the small runs of all tasks, of both decoders, and with a frozen encoder."""
    for name, small in runs_of(place).items():
        add_run(values, small, name)
