"""What the benchmark must reach: ratios on 2 CPU cores unless said, judged by the median of a row. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from gitbench.bench.rows import Row

SCORES = {"score-cider": 9.0, "score-bleu": 5.0, "score-rouge": 5.0}  # 5,000 images, against pycocoevalcap
GPU_SHARE = 0.45  # of the measured matrix rate: GIT-base, bf16, 5 captions an image, necessary operations only


@dataclass(frozen=True, kw_only=True)
class Target:
    """A ratio that rows of this work, peer and device must reach, in the shapes named."""

    work: str
    peer: str
    shapes: tuple[str, ...]
    ratio: float
    device: str = "cpu"


BOTH = ("small", "base")
TARGETS = (
    Target(work="train-5", peer="hf", shapes=BOTH, ratio=4.0),
    Target(work="train-5", peer="official", shapes=BOTH, ratio=4.0),
    Target(work="train-1", peer="hf", shapes=("base",), ratio=1.4),
    Target(work="train-1", peer="official", shapes=("base",), ratio=1.2),
    Target(work="beam-4", peer="hf", shapes=("base",), ratio=3.5),
    Target(work="beam-4", peer="official", shapes=("base",), ratio=15.0),
    Target(work="greedy", peer="hf", shapes=BOTH, ratio=1.2),
    Target(work="greedy", peer="official", shapes=BOTH, ratio=4.0),
    Target(work="frozen-5", peer="hf", shapes=BOTH, ratio=5.0),
    Target(work="train-5", peer="hf", shapes=("base",), ratio=4.0, device="cuda"),
    Target(work="beam-4", peer="hf", shapes=("base",), ratio=5.0, device="cuda"),
)


def target_of(row: Row) -> float | None:
    """Return the ratio that a row must reach; None where nothing is asked of it."""
    if row.work in SCORES:
        return SCORES[row.work] if row.shape.startswith("5000 ") else None
    if row.device == "cuda" and not row.precision.startswith("bfloat16"):
        return None
    for target in TARGETS:
        if (row.work, row.peer, row.device) == (target.work, target.peer, target.device) and row.shape in target.shapes:
            return target.ratio
    return None


def reached(row: Row) -> bool | None:
    """Tell whether a row's median ratio reaches its target; None where there is none."""
    target = target_of(row)
    return None if target is None else row.ratio >= target
