"""Which works there are, and which of them a command asks for. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gitbench.errors import GitbenchError, unknown_name

PEERS = ("hf", "hf-fused", "official")


@dataclass(frozen=True, kw_only=True)
class Work:
    """A training step with so many captions an image (the encoder frozen or not), captioning, or what needs no peer."""

    name: str
    doc: str
    captions: int = 0  # of a training step; 0: no training
    frozen: bool = False
    beams: int = 0  # of captioning; 0: no captioning
    peers: tuple[str, ...] = ("hf", "official")


WORKS = {
    work.name: work
    for work in (
        Work(
            name="train-1",
            doc="training step, 1 caption per image",
            captions=1,
            peers=("hf", "hf-fused", "official"),
        ),
        Work(name="train-5", doc="training step, 5 captions per image", captions=5),
        Work(
            name="frozen-5",
            doc="training with frozen encoder, 5 captions per image",
            captions=5,
            frozen=True,
            peers=("hf",),
        ),
        Work(name="greedy", doc="greedy captioning, 20 tokens", beams=1),
        Work(name="beam-4", doc="beam-4 captioning, 20 tokens", beams=4),
        Work(name="scoring", doc="scores of tokenised captions", peers=()),
    )
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one child process measures; `shape` is empty for scoring."""

    work: str
    shape: str
    peers: tuple[str, ...]


def make_tasks(works: Sequence[str], shapes: Sequence[str], peers: Sequence[str]) -> list[Task]:
    """Return the tasks of a benchmark run; a name that does not exist is an error that offers the nearest."""
    tasks = []
    for name in works:
        if name not in WORKS:
            raise unknown_name("benchmark work", name, WORKS)
    for name in works:
        if name == "scoring":
            tasks.append(Task(work=name, shape="", peers=()))
            continue
        chosen = tuple(peer for peer in WORKS[name].peers if peer in peers)
        if chosen:
            tasks += [Task(work=name, shape=shape, peers=chosen) for shape in shapes]
    if not tasks:
        raise GitbenchError(f"none of {', '.join(peers)} does any of {', '.join(works)}: name other --works or --peers")
    return tasks
