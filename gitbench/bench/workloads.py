"""The works that are timed, and how one of them becomes rows: build, check, warm up, time.

A work of a shape is done by gitbench and by one peer at a time; both hold the same weights and get the same inputs. On a
GPU each work is also done in bf16, and training steps under torch.compile as well (not yet measured on a GPU).
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gitbench.bench.checks import check_texts, check_training
from gitbench.bench.flops import generation_operations, training_operations
from gitbench.bench.ours import Gitbench
from gitbench.bench.peers import make_peer
from gitbench.bench.plan import Work
from gitbench.bench.program import Contestant, pictures, shared_model, training_batch
from gitbench.bench.rows import Row
from gitbench.bench.shapes import STEPS, TEXTS, Shape, for_gpu
from gitbench.bench.timing import Paired, matrix_rate, paired

COMPILED = " compiled"
LONG = 20.0  # seconds of a row from which on the check, which runs the same, is warm-up enough


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where and how long: the device, its matrix rate by precision, pairs (None: as many as fit the shape's seconds)."""

    device: torch.device
    rates: dict[str, float]
    repeats: int | None
    official: Path | None

    @property
    def precisions(self) -> tuple[str, ...]:
        """In which precisions a work is timed; bf16 is slower than float32 on CPUs without bf16 units."""
        if self.device.type == "cpu":
            return ("float32",)
        return ("float32", "bfloat16", "bfloat16" + COMPILED)


def make_setting(device: torch.device, repeats: int | None, official: Path | None) -> Setting:
    """Measure the device's matrix rate and return the setting."""
    dtypes = {"float32": torch.float32} | ({"bfloat16": torch.bfloat16} if device.type == "cuda" else {})
    rates = {name: matrix_rate(device, dtype) for name, dtype in dtypes.items()}
    return Setting(device=device, rates=rates, repeats=repeats, official=official)


def measure(work: Work, shape: Shape, peers: Sequence[str], setting: Setting) -> list[Row]:
    """Return the rows of a work: for each peer, kind of texts and precision."""
    if setting.device.type == "cuda":
        shape = for_gpu(shape, torch.cuda.get_device_properties(setting.device).total_memory / 2**30)
    rows: list[Row] = []
    for texts in TEXTS if work.captions else ("",):
        for peer in peers:
            for precision in setting.precisions:
                if precision.endswith(COMPILED) and (peer == "official" or not work.captions):
                    continue  # its users have no call for it; and here training alone is compiled
                side = _training if work.captions else _captioning
                rows.append(side(work, shape, peer, texts, precision, setting))
                gc.collect()
    return rows


def _training(work: Work, shape: Shape, peer: str, texts: str, precision: str, setting: Setting) -> Row:
    model = shared_model(shape, setting.device)
    batch = training_batch(shape, texts, work.captions, setting.device)
    ours, theirs = Gitbench(model), make_peer(peer, model, setting.official)
    checked = check_training(ours, theirs, batch, work.frozen)
    for side in (ours, theirs):
        side.bf16 = precision.startswith("bfloat16")
    steps = [_stepper(side, side.inputs(batch)) for side in (ours, theirs)]
    notes = [f"{shape.train_images} images a step"]
    if work.frozen:  # the check has filled the cache: this is what the first pass costs
        ours.forget_features()
        notes.append(f"our first pass, which fills the cache, {_seconds(steps[0], setting.device):.3g} s")
    operations = training_operations(model, shape.train_images, batch.lengths, work.frozen)
    row = _timed(work, shape, peer, precision, setting, (ours, theirs), steps, operations, notes)
    return replace(row, texts=texts, checked=checked)


def _stepper(side: Contestant, inputs: dict) -> Callable[[], object]:
    return lambda: side.step(inputs)


def _captioning(work: Work, shape: Shape, peer: str, texts: str, precision: str, setting: Setting) -> Row:
    model = shared_model(shape, setting.device, endless=True)
    count = shape.greedy_images if work.beams == 1 else shape.beam_images
    images = pictures(shape, count, setting.device)
    ours, theirs = Gitbench(model), make_peer(peer, model, setting.official)
    found: dict[str, Tensor] = {}

    def writer(side: Contestant) -> Callable[[], object]:
        def write() -> None:
            found[side.name] = side.generate(images, work.beams)

        return write

    runs = [writer(side) for side in (ours, theirs)]
    runs[0]()
    first = paired(runs[0], runs[1], setting.device, seconds=0, repeats=1)
    checked = check_texts(ours, theirs, images, found[ours.name], found[theirs.name])
    if precision == "bfloat16":
        for side in (ours, theirs):
            side.model.to(torch.bfloat16)
        images = images.to(torch.bfloat16)
    operations = generation_operations(model, count, work.beams)
    notes = [f"{STEPS} decoder steps each ([SEP] is never written), batch {count}"]
    long = first if precision == "float32" and first.theirs[0] > 2 * shape.seconds and not setting.repeats else None
    if long:
        notes.append("too long for a second time: timed in the run that was checked")
    row = _timed(work, shape, peer, precision, setting, (ours, theirs), runs, operations, notes, long)
    return replace(row, checked=checked)


def _timed(
    work: Work,
    shape: Shape,
    peer: str,
    precision: str,
    setting: Setting,
    sides: tuple[Contestant, Contestant],
    runs: Sequence[Callable[[], object]],
    operations: float,
    notes: list[str],
    times: Paired | None = None,
) -> Row:
    """Warm up, compile where asked, time (unless the times are known already); the check has run all of it once."""
    device, plain = setting.device, precision.removesuffix(COMPILED)
    for side, run in zip(sides, runs, strict=True):
        if precision.endswith(COMPILED):
            side.compile()
            notes.append(f"{side.name}: first call with compilation {_seconds(run, device):.3g} s")
        if precision != "float32" or shape.seconds < LONG:
            run()
    times = times or paired(runs[0], runs[1], device, seconds=shape.seconds, repeats=setting.repeats)
    row = Row(
        work=work.name,
        shape=shape.name,
        peer=peer,
        ours_seconds=times.ours,
        peer_seconds=times.theirs,
        checked="",
        device=device.type,
        notes="; ".join(notes),
        precision=precision,
    )
    shares = [operations / statistics.median(seconds) / setting.rates[plain] for seconds in (times.ours, times.theirs)]
    row = replace(row, ours_share=shares[0], peer_share=shares[1])
    if device.type == "cuda":
        held = [side.held_bytes() for side in sides]
        peaks = [(mine + peak) / 2**30 for mine, peak in zip(held, (times.ours_peak, times.theirs_peak), strict=True)]
        row = replace(row, ours_gib=peaks[0], peer_gib=peaks[1])
    return row


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds of one call, its work on the device finished."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
