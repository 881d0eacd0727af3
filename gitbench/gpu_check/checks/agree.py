"""GPU against CPU, the same weights and inputs in float32: logits, loss, gradients, captions; and the loss in low precision.

Weights and images are those of the speed benchmark: random, but so large that every part of the model shows in its output.
"""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor

from gitbench.bench.program import Batch, pictures, shared_model, training_batch
from gitbench.bench.workloads import Shape
from gitbench.gpu_check.results import Report
from gitbench.gpu_check.sizes import CROSS, Setting
from gitbench.models.git import GIT
from gitbench.training.device import autocast, settle
from gitbench.variants import resolve

FLOAT32 = 1e-4  # of the largest value: what float32 may differ by
# Of the loss: what low precision may change. On CPUs it was 0.0002 at most; 0.003 and more where no image was shown, or
# weights were rounded to 8 bits.
LOW = 1e-3
SMALL = 1e-3  # of the largest gradient: tensors below it are compared with that, for theirs may be rounding alone
IMAGES, CAPTIONED, CAPTIONS = 4, 8, 5
LENGTH = 24  # of texts that are written
CPU = torch.device("cpu")


def check(setting: Setting, report: Report) -> None:
    """Judge whether card and CPU agree, for both kinds of attention."""
    settle(setting.compute)
    for name in (setting.profile.variants["decoder"], CROSS[setting.profile.name]):
        with report.part(name):
            here = shared_model(shape_of(setting, name), CPU)
            there = copy.deepcopy(here).to(setting.device)
            compare(report, name, here, there, setting)


def shape_of(setting: Setting, decoder: str | None = None) -> Shape:
    """Return the shape of a model of the profile's sizes, without dropout, and of a batch for it."""
    profile = setting.profile
    spec = resolve("decoder", decoder or profile.variants["decoder"])
    return Shape(
        name="gpu-check",
        encoder=resolve("encoder", profile.variants["encoder"]),
        decoder=dataclasses.replace(spec, dropout=0.0),
        vocab_size=profile.text.vocab_size,
        text=LENGTH,
        train_images=IMAGES,
        greedy_images=CAPTIONED,
        beam_images=CAPTIONED,
        seconds=0.0,
    )


def compare(report: Report, name: str, here: GIT, there: GIT, setting: Setting) -> None:
    """Judge a model on the CPU, `here`, against the same one on the card, `there`."""
    device = torch.device(setting.device)
    shape = shape_of(setting)
    batches = [training_batch(shape, "captions", CAPTIONS, place) for place in (CPU, device)]
    real = batches[0].texts != 0
    with torch.no_grad():
        one, other = (
            model.logits(batch.images, batch.texts).cpu()[real]
            for model, batch in zip((here, there), batches, strict=True)
        )
    report.at_most(f"{name}: logits", apart(one, other), FLOAT32, "of the largest")
    losses, gradients = zip(*map(loss_and_gradients, (here, there), batches), strict=True)
    report.at_most(f"{name}: loss", apart(losses[0], losses[1]), FLOAT32, "of it")
    tensor, furthest = furthest_gradient(gradients[0], gradients[1])
    report.at_most(f"{name}: gradients", furthest, FLOAT32, "of the tensor's largest", f"furthest: {tensor}")
    images = pictures(shape, CAPTIONED, CPU)
    texts = [model.generate(images.to(place), max_length=LENGTH) for model, place in ((here, CPU), (there, device))]
    same = torch.equal(texts[0][0], texts[1][0].cpu())
    report.judge(f"{name}: texts of beam search", same, "the same ids")
    report.at_most(f"{name}: their scores", apart(texts[0][1], texts[1][1].cpu()), FLOAT32, "of the largest")
    precision = setting.compute.precision
    with torch.no_grad(), autocast(device.type, precision):
        low = loss_of(there, batches[1]).float().cpu()
    report.at_most(f"{name}: loss in {precision}", apart(losses[0], low), LOW, "of it")


def loss_of(model: GIT, batch: Batch) -> Tensor:
    """Return the loss of a batch, without dropout."""
    return model.loss(batch.images, batch.texts, batch.predicted)


def loss_and_gradients(model: GIT, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of a batch and the gradients of all parameters, on the CPU."""
    model.zero_grad()
    loss = loss_of(model, batch)
    loss.backward()
    gradients = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
    return loss.detach().cpu(), gradients


def furthest_gradient(one: dict[str, Tensor], other: dict[str, Tensor]) -> tuple[str, float]:
    """Return the tensor whose gradients differ most, and by how much of its largest; infinite if one has no gradient."""
    if one.keys() != other.keys():
        return sorted(one.keys() ^ other.keys())[0], float("inf")
    least = SMALL * max(gradient.abs().max().item() for gradient in one.values())
    found = {name: apart(gradient, other[name], least) for name, gradient in one.items()}
    return max(found.items(), key=lambda item: item[1])


def apart(right: Tensor, found: Tensor, least: float = 1e-30) -> float:
    """Return how far two tensors are apart, as a share of the largest value of the first, or of `least` if that is more.

    It is infinite for other shapes, and where one is no number.
    """
    if right.shape != found.shape:
        return float("inf")
    gap = ((found.double() - right.double()).abs().max() / max(right.abs().max().item(), least)).item()
    return gap if gap == gap else float("inf")
