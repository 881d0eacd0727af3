"""Replicates at once against one after another: stacked in one process, in several processes, or both.

The same replicates, steps and batches on both sides; "one after another" is one process that trains them as runs do.
On a GPU all processes share the card, on a CPU each has a core, as runs have: what several of them gain over one is the
other cores' work. Processes are started and warmed up before anything is
timed. What a stack computes is compared with each replicate alone first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from gitbench.bench.rows import Row
from gitbench.bench.shapes import SHAPES, Shape
from gitbench.bench.timing import once, paired
from gitbench.errors import GitbenchError
from gitbench.runs.machine import cpu_count, gpus
from gitbench.runs.packing import Way
from gitbench.runs.trial import ask, workers

if TYPE_CHECKING:
    from gitbench.training.stepper import Stepper

PEER = "one after another"
REPEATS = 6
TURN = 0.5  # seconds, about, of one timing of a way; longer on slow machines, since it is one step at least
CPU_WAYS = (Way(stack=2), Way(stack=4), Way(processes=2), Way(stack=2, processes=2))
GPU_WAYS = (
    *(Way(stack=n) for n in (2, 4, 8)),
    *(Way(processes=n) for n in (2, 4, 8)),
    *(Way(stack=n, processes=2) for n in (2, 4)),
)
CLOSE = 2e-5  # relative difference of losses in float32 that is rounding
CLOSE_BF16 = 2e-2


def packing_rows(repeats: int | None, shapes: Sequence[str]) -> list[Row]:
    """Time the ways of this kind of machine for each shape; a way that does not fit the memory has no row."""
    cards = gpus()
    rows = []
    for name in shapes:
        ways = [way for way in (GPU_WAYS if cards else CPU_WAYS) if cards or way.processes <= cpu_count()]
        checked = _check(SHAPES[name], max(way.stack for way in ways))
        count = max(way.processes for way in ways)
        with workers(count + 1, partial(stepper_of, name), cards) as connections:
            alone = connections[-1]
            _prepare([alone], 1)
            for way in ways:
                row = _row(name, way, connections[: way.processes], alone, repeats or REPEATS, checked)
                if row is not None:
                    rows.append(row)
    return rows


def _row(
    shape: str, way: Way, packed: Sequence[Connection], alone: Connection, repeats: int, checked: str
) -> Row | None:
    if None in ask(packed, "prepare", way.stack):
        return None
    together = way.stack * way.processes
    single, _ = once(partial(_train, [alone], 1), None)
    turns = max(1, round(TURN / max(1e-6, single * together)))
    times = paired(partial(_train, packed, turns), partial(_train, [alone], turns * together), repeats=repeats)
    ask(packed, "prepare", 0)
    cores = "" if gpus() else f"; each process has one thread, so that one after another leaves {cpu_count() - 1} idle"
    return Row(
        work=f"replicates: {way}",
        shape=shape,
        peer=PEER,
        ours_seconds=tuple(seconds / turns for seconds in times.ours),
        peer_seconds=tuple(seconds / turns for seconds in times.theirs),
        checked=checked,
        device="cuda" if gpus() else "cpu",
        notes=f"a step of each of {together} replicates, 1 caption an image, optimizer included{cores}",
        texts="captions",
        precision="bfloat16" if gpus() else "float32",
    )


def _prepare(connections: Sequence[Connection], replicates: int) -> None:
    if None in ask(connections, "prepare", replicates):
        raise GitbenchError("a process that trains one replicate did not start: see whether memory is free")


def _train(connections: Sequence[Connection], steps: int) -> None:
    """Return when all of them have taken so many steps."""
    if None in ask(connections, "steps", steps):
        raise GitbenchError("a process of the benchmark ended: see whether memory is free, and run it again")


@dataclass(frozen=True, kw_only=True)
class _Replicate:
    """What a stepper needs of one replicate."""

    model: Any
    wrapper: Any
    batches: list[dict[str, Any]]


def stepper_of(shape: str, count: int) -> Stepper:
    """Return the stepper of `count` replicates of a shape; called in a process of its own."""
    from gitbench.training.run import prepare_torch
    from gitbench.training.stepper import Stepper

    prepare_torch()
    made = [_replicate(SHAPES[shape], number) for number in range(count)]
    return Stepper([one.model for one in made], [one.wrapper for one in made], [one.batches for one in made])


def _replicate(shape: Shape, number: int) -> _Replicate:
    import torch

    from gitbench.training.model import CaptionModel
    from gitbench.training.optimizer import EncoderDecoderOptim
    from gitbench.training.stepper import BATCHES

    model = CaptionModel(
        encoder={"type": "encoder/vit_2x64_p8_64", **asdict(shape.encoder)},
        decoder={"type": "decoder/self_2x64", **asdict(shape.decoder)},
        vision={"type": "vision/sighted"},
        vocab_size=shape.vocab_size,
        pad_id=0,
        bos_id=101,
        eos_id=102,
        label_smoothing=0.1,
        init_seed=number,
        generation={},
        data_preprocessor={"type": "ImagePreprocessor"},
    )
    model.to("cuda" if torch.cuda.is_available() else "cpu").train()
    optimizer = {"type": "AdamW", "betas": (0.9, 0.98), "weight_decay": 0.01}
    config = {"type": "DeviceOptimWrapper", "optimizer": optimizer, "clip_grad": {"max_norm": 1.0}}
    wrapper = EncoderDecoderOptim(config, {"lr_encoder": 1e-5, "lr_decoder": 5e-5})(model)
    return _Replicate(model=model, wrapper=wrapper, batches=[_batch(shape, number, b) for b in range(BATCHES)])


def _batch(shape: Shape, replicate: int, number: int) -> dict[str, Any]:
    """A batch as the collate function leaves it: one caption an image, of lengths as real captions have."""
    import torch

    from gitbench.bench.shapes import text_lengths

    generator = torch.Generator().manual_seed(1000 * replicate + number)
    images, side = shape.train_images, shape.encoder.image_size
    lengths = [row[0] for row in text_lengths(shape, "captions", 1, seed=1000 * replicate + number)]
    tokens = torch.zeros(images, 1, max(lengths), dtype=torch.int64)
    need = torch.zeros(tokens.shape, dtype=torch.bool)
    for row, length in enumerate(lengths):
        tokens[row, 0, :length] = torch.randint(103, shape.vocab_size, (length,), generator=generator)
        tokens[row, 0, 0], tokens[row, 0, length - 1] = 101, 102
        need[row, 0, 1:length] = True
    return {
        "images": torch.randint(0, 256, (images, 3, side, side), generator=generator, dtype=torch.uint8),
        "tokens": tokens,
        "need_predict": need,
        "image_ids": [str(row) for row in range(images)],
        "indices": list(range(images)),
        "image_set": None,
    }


def _check(shape: Shape, count: int) -> str:
    """Compare the first loss of stacked replicates with each one's own; returns what was found."""
    import torch

    from gitbench.training.run import prepare_torch
    from gitbench.training.stacked import Stack

    prepare_torch()
    made = [_replicate(shape, number) for number in range(count)]
    alone = []
    for one in made:
        with torch.no_grad(), one.wrapper.optim_context(one.model):
            batch = one.model.data_preprocessor(dict(one.batches[0]), True)
            alone.append(one.model(**batch, mode="loss")["loss"].item())
    stack = Stack([one.model for one in made], [one.wrapper for one in made])
    with torch.no_grad(), made[0].wrapper.optim_context(made[0].model):
        together = stack.losses([one.batches[0] for one in made], [0] * count).tolist()
    worst = max(abs(a - b) / abs(a) for a, b in zip(alone, together, strict=True))
    if not worst <= (CLOSE_BF16 if torch.cuda.is_available() else CLOSE):
        raise GitbenchError(
            f"the stack of the shape '{shape.name}' is wrong: its losses differ by {worst:.2g}, relatively"
        )
    return f"losses of {count} stacked replicates equal each one's own to {worst:.1g}"
