"""How a task becomes rows: build both programs with the same weights, check their results, warm up, time.

A workload of a shape is done by gitbench and by one peer at a time, on the same inputs, in float32.
"""

from __future__ import annotations

import gc
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from gitbench.bench.checks import check_texts, check_training
from gitbench.bench.ours import Gitbench
from gitbench.bench.peers import make_peer
from gitbench.bench.program import Program, pictures, shared_model, training_batch
from gitbench.bench.rows import Call, Row, Times, once, paired
from gitbench.bench.workloads import SHAPES, STEPS, TEXTS, WORKLOADS, Task
from gitbench.models.git import GIT

LONG = 20.0  # seconds of a row from which on the check, which runs the same, is warm-up enough
Measured = tuple[Times, str, list[str]]  # times, what was found equal, notes


def measure(task: Task) -> list[Row]:
    """Return the rows of a task, one for each peer and kind of texts."""
    torch.set_num_threads(task.threads)
    torch.backends.cudnn.allow_tf32 = False  # else a GPU rounds float32 convolutions to TF32
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    for texts, peer in product(TEXTS if WORKLOADS[task.workload].captions else ("",), task.peers):
        times, checked, notes = _train(task, peer, texts, device) if texts else _caption(task, peer, device)
        rows.append(
            Row(
                workload=task.workload,
                shape=task.shape,
                peer=peer,
                ours_seconds=times.ours,
                peer_seconds=times.theirs,
                checked=checked,
                device=device.type,
                notes="; ".join(notes),
                texts=texts,
            )
        )
        gc.collect()
    return rows


def _train(task: Task, peer: str, texts: str, device: torch.device) -> Measured:
    workload, shape = WORKLOADS[task.workload], SHAPES[task.shape]
    ours, theirs = _programs(task, peer, shared_model(shape, device))
    batch = training_batch(shape, texts, workload.captions, device)
    checked = check_training(ours, theirs, batch, workload.frozen)
    steps = [partial(_finish, device, partial(side.step, side.inputs(batch))) for side in (ours, theirs)]
    notes = [f"{shape.train_images} images a step"]
    if workload.frozen:  # the check has filled the cache: this is what the first pass costs
        ours.forget_features()
        notes.append(f"our first pass, which fills the cache, {once(steps[0]):.3g} s")
    return _times(task, *steps), checked, notes


def _caption(task: Task, peer: str, device: torch.device) -> Measured:
    shape, beams = SHAPES[task.shape], WORKLOADS[task.workload].beams
    sides = _programs(task, peer, shared_model(shape, device, endless=True))
    images = pictures(shape, shape.greedy_images if beams == 1 else shape.beam_images, device)
    written: dict[str, Tensor] = {}

    def write(side: Program) -> None:
        written[side.name] = side.generate(images, beams)

    searches = [partial(_finish, device, partial(write, side)) for side in sides]
    searches[0]()
    first = paired(*searches, repeats=1)
    checked = check_texts(*sides, images, *(written[side.name] for side in sides))
    notes = [f"{STEPS} decoder steps each ([SEP] is never written), batch {len(images)}"]
    if first.theirs[0] > 2 * shape.seconds and not task.repeats:
        return first, checked, [*notes, "too long for a second time: timed in the run that was checked"]
    return _times(task, *searches), checked, notes


def _programs(task: Task, peer: str, model: GIT) -> tuple[Gitbench, Program]:
    return Gitbench(model), make_peer(peer, model, Path(task.official) if task.official else None)


def _finish(device: torch.device, call: Call) -> None:
    """Call, and wait until a GPU has done it."""
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _times(task: Task, ours: Call, theirs: Call) -> Times:
    """Warm up and time two programs whose results were found equal, ours first."""
    seconds = SHAPES[task.shape].seconds
    if seconds < LONG:
        ours(), theirs()
    return paired(ours, theirs, seconds=seconds, repeats=task.repeats)
