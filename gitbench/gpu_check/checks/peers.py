"""Hugging Face's GIT beside this one, GIT-base in low precision: a training step with five captions, and beam search.

The programs and the checks of their results are the speed benchmark's (`gitbench.bench`): first both are found equal in
float32, then both are timed in the precision that the card trains in, each as its users run it: gitbench in strict mode, the
other without. Then the share of the card's own matrix rate that a training step of gitbench reaches.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

import torch

from gitbench.bench.checks import check_texts, check_training
from gitbench.bench.ours import Gitbench
from gitbench.bench.peers import make_peer
from gitbench.bench.program import Program, pictures, shared_model, training_batch
from gitbench.bench.rows import once, paired
from gitbench.bench.workloads import SHAPES, STEPS, Shape, text_lengths
from gitbench.gpu_check.checks.card import matrix_rate
from gitbench.gpu_check.results import NO_CARD, Report
from gitbench.gpu_check.sizes import Setting
from gitbench.gpu_check.steps import finish
from gitbench.models.flops import flops_by_part
from gitbench.training.device import autocast, deterministic, settle

PEER = "hf-fused"  # with the faster of its optimizers
TRAIN, BEAM, SHARE = 4.0, 5.0, 45.0  # times as fast; % of the matrix rate
CAPTIONS = 5
TRAIN_IMAGES, BEAM_IMAGES, ALONE = 16, 16, 64  # of a batch, if they fit; ALONE: of gitbench, for the matrix rate
PAIRS = 5


def check(setting: Setting, report: Report) -> None:
    """Judge the ratios to Hugging Face's program and the share of the matrix rate."""
    settle(setting.compute)
    shape = SHAPES["base" if setting.on_card else "quick"]
    if importlib.util.find_spec("transformers") is None:
        report.not_run("Hugging Face", "transformers is not installed")
    else:
        with report.part("Hugging Face, training"):
            training(setting, report, shape)
        with report.part("Hugging Face, beam search"):
            searching(setting, report, shape)
    if not setting.on_card:
        report.not_run("share of the matrix rate", NO_CARD)
        return
    with report.part("share of the matrix rate"):
        rate(setting, report, shape)


def training(setting: Setting, report: Report, shape: Shape) -> None:
    """Judge the time of a training step, texts all of full length and of the lengths of captions."""
    device, precision = torch.device(setting.device), setting.compute.precision
    ours, theirs = sides(shape, device)
    with usual(setting.device):
        equal = check_training(ours, theirs, training_batch(few(shape), "captions", CAPTIONS, device))
    for texts in ("filled", "captions"):

        def time(images: int, texts: str = texts) -> float:
            batch = training_batch(dataclasses.replace(shape, train_images=images), texts, CAPTIONS, device)
            steps = [partial(step, side, side.inputs(batch), precision, setting.device) for side in (ours, theirs)]
            return ratio(steps[0], theirs_as_usual(steps[1], setting.device))

        found, images = fitting(TRAIN_IMAGES if setting.on_card else shape.train_images, time)
        said = f"{images} images a step, {precision}; before, in float32: {equal}"
        judge_ratio(report, f"training step against Hugging Face, texts {texts}", found, TRAIN, setting.on_card, said)


def searching(setting: Setting, report: Report, shape: Shape) -> None:
    """Judge the time of beam search with four beams."""
    device, precision = torch.device(setting.device), setting.compute.precision
    ours, theirs = sides(shape, device, endless=True)
    images = pictures(shape, few(shape).beam_images, device)
    with usual(setting.device):
        equal = check_texts(ours, theirs, images, *(side.generate(images, 4) for side in (ours, theirs)))
    for side in (ours, theirs):
        side.model.to(getattr(torch, precision))

    def time(count: int) -> float:
        batch = pictures(shape, count, device).to(getattr(torch, precision))
        searches = [partial(search, side, batch, setting.device) for side in (ours, theirs)]
        return ratio(searches[0], theirs_as_usual(searches[1], setting.device))

    found, count = fitting(BEAM_IMAGES if setting.on_card else shape.beam_images, time)
    said = f"{count} images, {STEPS} tokens, {precision}; before, in float32: {equal}"
    judge_ratio(report, "beam search against Hugging Face", found, BEAM, setting.on_card, said)


def rate(setting: Setting, report: Report, shape: Shape) -> None:
    """Judge the share of the matrix rate that training steps of gitbench reach."""
    device, precision = torch.device(setting.device), setting.compute.precision
    ours = Gitbench(shared_model(shape, device))
    ours.start_training()

    def time(images: int) -> float:
        one = dataclasses.replace(shape, train_images=images)
        batch = ours.inputs(training_batch(one, "filled", CAPTIONS, device))
        take = partial(step, ours, batch, precision, setting.device)
        take(), take()
        seconds = statistics.median(once(take) for _ in range(2 * PAIRS))
        return operations(ours, one) / seconds

    reached, images = fitting(ALONE, time)
    whole = matrix_rate(precision)
    told = f"{reached / 1e12:.0f} of {whole / 1e12:.0f} TFLOP/s, {images} images of {CAPTIONS} texts, {precision}"
    report.at_least("share of the matrix rate", round(100 * reached / whole, 1), SHARE, "%", told)


def operations(ours: Gitbench, shape: Shape) -> float:
    """Return the operations of a training step with texts of full length: forward, and twice that backward."""
    tokens = text_lengths(shape, "filled", CAPTIONS)[0] - 1  # the last id is predicted and not read
    return 3 * shape.train_images * sum(flops_by_part(ours.git, captions=CAPTIONS, tokens=tokens).values())


def sides(shape: Shape, device: torch.device, endless: bool = False) -> tuple[Gitbench, Program]:
    """Return both programs with the same weights."""
    model = shared_model(shape, device, endless=endless)
    return Gitbench(model), make_peer(PEER, model)


def few(shape: Shape) -> Shape:
    """Return a shape with two images a batch: enough to find two programs equal in float32."""
    return dataclasses.replace(shape, train_images=2, beam_images=2)


def step(side: Program, inputs: dict, precision: str, device: str) -> None:
    """Take a training step in a precision and wait for it."""
    with autocast(device, precision):
        loss = side.loss(inputs)
    loss.backward()
    side.optimizer.step()
    side.optimizer.zero_grad()
    finish(device)


def search(side: Program, images: torch.Tensor, device: str) -> None:
    """Write texts with four beams and wait for them."""
    side.generate(images, 4)
    finish(device)


def usual(device: str) -> AbstractContextManager[None]:
    """Return the context in which torch has its own settings, as users of other programs have them."""
    return torchs_own() if device == "cuda" else contextlib.nullcontext()


def theirs_as_usual(call: Callable[[], None], device: str) -> Callable[[], None]:
    """Return a call that is done in the context `usual`."""

    def called() -> None:
        with usual(device):
            call()

    return called


@contextlib.contextmanager
def torchs_own() -> Iterator[None]:
    """Let torch use algorithms that are not deterministic, and cuDNN's attention, while the block runs; TF32 stays off."""
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    torch.backends.cuda.enable_cudnn_sdp(True)
    try:
        yield
    finally:
        deterministic()


def ratio(ours: Callable[[], None], theirs: Callable[[], None]) -> float:
    """Return how many times as fast we are: the median of paired times after two of each that do not count."""
    paired(ours, theirs, repeats=2)
    times = paired(ours, theirs, repeats=PAIRS)
    return statistics.median(b / a for a, b in zip(times.ours, times.theirs, strict=True))


def fitting(images: int, measure: Callable[[int], float]) -> tuple[float, int]:
    """Return what is measured, with the largest batch that fits on the card: so many images, a half, a quarter, ..."""
    while True:
        try:
            return measure(images), images
        except torch.OutOfMemoryError:
            if images == 1:
                raise
        torch.cuda.empty_cache()
        images //= 2


def judge_ratio(report: Report, what: str, found: float, least: float, on_card: bool, said: str) -> None:
    """Judge a ratio; of a CPU it is no more than a figure."""
    if on_card:
        report.at_least(what, round(found, 2), least, "times as fast", said)
    else:
        report.figure(what, round(found, 2), "times as fast", said)
