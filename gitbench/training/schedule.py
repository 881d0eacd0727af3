"""Learning-rate schedule: linear warm-up, then cosine to exactly 0 (the paper, p. 6: "cosine decay to 0").

mmengine's own pair of LinearLR and CosineAnnealingLR repeats the peak and never reaches 0.
"""

from __future__ import annotations

import math

from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from gitbench.registry import PARAM_SCHEDULERS


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Return the factor of the peak rate at `step` (0-based): (step+1)/(warmup+1) at first, 1 at `warmup`, 0 at `total`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if step >= total:
        return 0.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(_ParamScheduler):
    """`warmup_cosine` as an mmengine scheduler, in closed form: its value depends on the step alone."""

    def __init__(self, optimizer, warmup: int, total: int, **kwargs):  # type: ignore[no-untyped-def]
        self.warmup = warmup
        self.total = total
        super().__init__(optimizer, "lr", **kwargs)

    def _get_value(self) -> list[float]:
        factor = warmup_cosine(self.last_step, self.warmup, self.total)
        return [base * factor for base in self.base_values]
