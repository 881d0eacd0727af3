"""How a task becomes rows: build both programs with the same weights, check their results, warm up, time.

A workload of a shape is done by gitbench and by one peer at a time, on the same inputs. On a GPU it is also done in bf16
(not yet measured on a GPU); on CPUs without bf16 units that would be slower than float32.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from gitbench.bench.checks import check_texts, check_training
from gitbench.bench.ours import Gitbench
from gitbench.bench.peers import make_peer
from gitbench.bench.program import Program, pictures, shared_model, training_batch
from gitbench.bench.rows import Row
from gitbench.bench.timing import Call, Paired, matrix_rate, once, paired
from gitbench.bench.workloads import SHAPES, STEPS, TEXTS, WORKLOADS, Shape, Task, Workload, for_gpu
from gitbench.models.flops import flops_by_part
from gitbench.models.git import GIT

LONG = 20.0  # seconds of a row from which on the check, which runs the same, is warm-up enough


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the rows of a task have in common."""

    workload: Workload
    shape: Shape
    device: torch.device
    repeats: int | None  # pairs of every row; None: as many as fit into the shape's seconds
    official: Path | None  # a checkout of the official code


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Two programs, ours first, whose results were found equal: one call of each does the workload once."""

    calls: tuple[Call, Call]
    operations: float  # necessary floating-point operations of one call
    found: str  # by the check, in words
    notes: list[str]
    times: Paired | None = None  # where the checked calls took so long that they are not repeated


def measure(task: Task) -> tuple[list[Row], dict[str, float]]:
    """Return the rows of a task, one for each peer, kind of texts and precision, and the matrix rates by precision."""
    torch.set_num_threads(task.threads)
    workload, shape, device = WORKLOADS[task.workload], SHAPES[task.shape], torch.device("cpu")
    precisions = {"float32": torch.float32}
    if torch.cuda.is_available():
        device, precisions["bfloat16"] = torch.device("cuda"), torch.bfloat16
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32 is float32
        shape = for_gpu(shape, torch.cuda.get_device_properties(device).total_memory / 2**30)
    rates = {name: matrix_rate(device, dtype) for name, dtype in precisions.items()}
    setting = Setting(
        workload=workload,
        shape=shape,
        device=device,
        repeats=task.repeats,
        official=Path(task.official) if task.official else None,
    )
    rows = []
    for texts, peer, precision in product(TEXTS if workload.captions else ("",), task.peers, precisions):
        rows.append(_row(setting, peer, texts, precision, rates[precision]))
        gc.collect()
    return rows, rates


def _row(setting: Setting, peer: str, texts: str, precision: str, rate: float) -> Row:
    """Check, warm up and time (unless the times are known already); the check has run all of it once."""
    shape = setting.shape
    if setting.workload.captions:
        checked = _check_training(setting, peer, texts, precision)
    else:
        checked = _check_captioning(setting, peer, precision)
    ours, theirs = checked.calls
    if precision != "float32" or shape.seconds < LONG:
        ours(), theirs()
    times = checked.times or paired(ours, theirs, setting.device, seconds=shape.seconds, repeats=setting.repeats)
    shares = [checked.operations / statistics.median(seconds) / rate for seconds in (times.ours, times.theirs)]
    return Row(
        workload=setting.workload.name,
        shape=shape.name,
        peer=peer,
        ours_seconds=times.ours,
        peer_seconds=times.theirs,
        checked=checked.found,
        device=setting.device.type,
        notes="; ".join(checked.notes),
        texts=texts,
        precision=precision,
        ours_share=shares[0],
        peer_share=shares[1],
    )


def _check_training(setting: Setting, peer: str, texts: str, precision: str) -> Checked:
    workload, shape, device = setting.workload, setting.shape, setting.device
    model = shared_model(shape, device)
    batch = training_batch(shape, texts, workload.captions, device)
    ours, theirs = Gitbench(model), make_peer(peer, model, setting.official)
    found = check_training(ours, theirs, batch, workload.frozen)
    ours.bf16 = theirs.bf16 = precision == "bfloat16"
    calls = (partial(ours.step, ours.inputs(batch)), partial(theirs.step, theirs.inputs(batch)))
    notes = [f"{shape.train_images} images a step"]
    if workload.frozen:  # the check has filled the cache: this is what the first pass costs
        ours.forget_features()
        notes.append(f"our first pass, which fills the cache, {once(calls[0], device):.3g} s")
    operations = training_flops(model, shape.train_images, batch.lengths, workload.frozen)
    return Checked(calls=calls, operations=operations, found=found, notes=notes)


def _check_captioning(setting: Setting, peer: str, precision: str) -> Checked:
    shape, beams = setting.shape, setting.workload.beams
    model = shared_model(shape, setting.device, endless=True)
    count = shape.greedy_images if beams == 1 else shape.beam_images
    images = pictures(shape, count, setting.device)
    sides = (Gitbench(model), make_peer(peer, model, setting.official))
    written: dict[str, Tensor] = {}

    def write(side: Program) -> None:
        written[side.name] = side.generate(images, beams)

    calls = (partial(write, sides[0]), partial(write, sides[1]))
    calls[0]()
    first = paired(*calls, setting.device, repeats=1)
    found = check_texts(*sides, images, *(written[side.name] for side in sides))
    if precision == "bfloat16":
        for side in sides:
            side.model.to(torch.bfloat16)
        images = images.to(torch.bfloat16)
    notes = [f"{STEPS} decoder steps each ([SEP] is never written), batch {count}"]
    long = precision == "float32" and first.theirs[0] > 2 * shape.seconds and not setting.repeats
    if long:
        notes.append("too long for a second time: timed in the run that was checked")
    operations = generation_flops(model, count, beams)
    return Checked(calls=calls, operations=operations, found=found, notes=notes, times=first if long else None)


def training_flops(model: GIT, images: int, lengths: Sequence[int], frozen: bool = False) -> float:
    """Necessary operations of a training step on `images` images with texts of these lengths (ids, [CLS] and [SEP] counted).

    Each image once per layer however many captions it has, text positions only, the vocabulary only where a token is
    predicted; a backward pass costs twice the forward pass. A frozen encoder with kept features costs nothing. A text of
    n ids is read at n - 1 positions, each of which predicts the next.
    """
    image = flops_by_part(model, captions=1, tokens=1)
    of_images = images * (image["projection"] + image["image_stream"] + (0 if frozen else image["encoder"]))
    of_texts = 0.0
    for length in lengths:
        text = flops_by_part(model, captions=1, tokens=length - 1)
        of_texts += text["text_stream"] + text["head"]
    return 3 * (of_images + of_texts)


def generation_flops(model: GIT, images: int, beams: int) -> float:
    """Necessary operations of writing STEPS tokens with so many beams an image."""
    return images * sum(flops_by_part(model, captions=beams, tokens=STEPS).values())
