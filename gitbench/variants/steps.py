"""How long a run is trained: "all" the profile's iterations, "none": its start as it is, tested like all others, or "equal_time":
as many iterations as take the operations of training everything for all of them, counted by formula (`gitbench.flops`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from gitbench.axis import Axis, Planning, Touches, with_variant
from gitbench.flops import equal_iterations
from gitbench.formats import plural
from gitbench.spec import RunSpec

EQUAL_TIME = "equal_time"


@dataclass(frozen=True, kw_only=True)
class StepsSpec:
    """How many iterations of training: None is the profile's own number, or as many as cost the same (`equal_time`)."""

    iterations: int | None = None
    equal_time: bool = False


def _apply(run: RunSpec, steps: StepsSpec, planning: Planning) -> RunSpec:
    """Set the run's number of iterations."""
    run = with_variant(run, "steps", StepsSpec())  # the number decides, whichever variant it comes from
    if steps.equal_time:
        iterations = equal_iterations(run)
        warmup = round(run.train.warmup * iterations / run.train.iterations)  # the same share of the schedule
        return dataclasses.replace(run, train=dataclasses.replace(run.train, iterations=iterations, warmup=warmup))
    if steps.iterations is None:
        return run
    train = dataclasses.replace(run.train, iterations=steps.iterations, warmup=min(run.train.warmup, steps.iterations))
    return dataclasses.replace(run, train=train)


def _label(run: RunSpec, name: str) -> str:
    if name == EQUAL_TIME:
        return "equal time"
    count = run.train.iterations
    return plural(count, "iteration") if count else "as it starts, not trained"


AXIS = Axis(
    name="steps",
    spec=StepsSpec,
    doc="how long a run is trained",
    default="all",
    variants={"all": StepsSpec(), "none": StepsSpec(iterations=0), EQUAL_TIME: StepsSpec(equal_time=True)},
    label=_label,
    apply=_apply,
    in_model=False,
    touches=Touches(
        config=(
            "train_cfg.max_iters",
            "train_cfg.val_interval",
            "param_scheduler.*",
            "default_hooks.logger.interval",
            "custom_hooks.*.interval",
        )
    ),
)
