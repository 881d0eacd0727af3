"""The optimizer: its groups, the rates of a whole schedule, a clipped step and a second one, as a run takes them."""

from __future__ import annotations

from typing import Any

from gitbench.gate.exact.constant import pictures
from gitbench.gate.exact.order import runs_of
from gitbench.gate.exact.subject import Place, Small
from gitbench.gate.exact.values import Values
from gitbench.models.pair_encoder import infonce, sigmoid_loss
from gitbench.registry import PARAM_SCHEDULERS
from gitbench.training.caption_model import CaptionModel

# AdamW divides a gradient by its size: one that is zero but for rounding moves its tensor, too.
DIVIDED = "float64, divided"
MOMENTS = ("exp_avg", "exp_avg_sq")
DECAYED = ("encoder", "decoder")  # groups
# What is taken of the optimizer's groups, as far as this torch has it, and of the schedule.
GROUP = (
    *("lr", "weight_decay", "name", "betas", "eps", "amsgrad", "maximize"),
    *("foreach", "capturable", "differentiable", "fused", "decoupled_weight_decay"),
)
SCHEDULE = ("type", "warmup", "total", "by_epoch")


def add(values: Values, place: Place) -> None:
    """Add what the optimizer makes of gradients: for a run of captions all of it, for the others two steps."""
    small = place.small()
    add_groups(values, small, "caption")
    add_steps(values, small, "caption", parameters=True)
    for name, other in runs_of(place).items():
        if name in ("vqa", "a run of cross-attention", "a run with a frozen encoder"):
            add_steps(values, other, name)
    similarities = 3 * pictures(5, 5, name="similarities")
    values.near("losses of contrastive pre-training", [infonce(similarities).item(), sigmoid_loss(similarities).item()])


def add_groups(values: Values, small: Small, name: str) -> None:
    """Add the groups of parameters, what clips gradients, and the rates of every step."""
    model = small.model()
    wrapper = small.optimizer(model)
    names = {id(each): key for key, each in model.named_parameters()}
    for group in wrapper.param_groups:
        tensors = " ".join(names.get(id(each), "of no parameter") for each in group["params"])
        values.equal(f"{name}: group {group.get('name')}", {**_plain(group), "tensors": tensors})
    values.equal(f"{name}: gradients are clipped at", {"max_norm": small.config.optim_wrapper.clip_grad["max_norm"]})
    values.equal(f"{name}: steps that share a gradient", wrapper._accumulative_counts)
    schedule = small.config.param_scheduler[0]
    values.equal(f"{name}: schedule", {key: schedule[key] for key in SCHEDULE})
    values.near(f"{name}: rates of the schedule, step by step", _rates(small))


def _plain(group: dict[str, Any]) -> dict[str, Any]:
    taken = {name: group[name] for name in GROUP if name in group}
    return {name: list(each) if isinstance(each, tuple) else each for name, each in taken.items()}


def _rates(small: Small) -> list[list[float]]:
    """Return the rates of all groups in every step of a run, and after its last one."""
    wrapper = small.optimizer(small.model())
    options = dict(small.config.param_scheduler[0])
    schedule = PARAM_SCHEDULERS.build({**options, "optimizer": wrapper})
    found = []
    for _ in range(small.config.train_cfg.max_iters + 2):
        found.append([group["lr"] for group in wrapper.param_groups])
        wrapper.step()  # torch warns where a schedule goes on without it
        schedule.step()
    return found


def add_steps(values: Values, small: Small, name: str, parameters: bool = False) -> None:
    """Add losses, norms and parameters of two steps of a small run, with real batches and the rates of its first steps."""
    model = small.model()
    wrapper = small.optimizer(model)
    options = dict(small.config.param_scheduler[0])
    schedule = PARAM_SCHEDULERS.build({**options, "optimizer": wrapper})
    before = {key: each.detach().clone() for key, each in model.git.named_parameters()}
    for number, batch in enumerate(small.batches("train", 2)):
        losses = model.train_step(batch, wrapper)
        schedule.step()
        values.near(f"{name}: loss of step {number}", losses["loss"])
        values.near(f"{name}: norm of the gradient of step {number}", wrapper.norms[-1])
        values.near(f"{name}: rates after step {number}", [group["lr"] for group in wrapper.param_groups])
    moved = {key: each.detach() - before[key] for key, each in model.git.named_parameters()}
    values.equal(f"{name}: tensors that two steps do not move", sum(not each.any() for each in moved.values()))
    if parameters:
        values.tensors(f"{name}: moved by two steps", moved, DIVIDED)
        _moments(values, model, wrapper, name)
    else:
        parts = sorted({key.partition(".")[0] for key in moved})
        sums = [sum(each.abs().sum().item() for key, each in moved.items() if key.startswith(part)) for part in parts]
        values.near(f"{name}: moved by two steps, parts", sums, precision=DIVIDED)


def _moments(values: Values, model: CaptionModel, wrapper: Any, name: str) -> None:
    """Add the optimizer's state of the largest decayed tensor of each side that is trained: of such, the first."""
    names = {id(each): key for key, each in model.git.named_parameters()}
    for group in wrapper.param_groups:
        if group.get("name") not in DECAYED:
            continue
        largest = max(group["params"], key=lambda each: each.numel())
        key, state = names[id(largest)], wrapper.optimizer.state[largest]
        if not state:  # it had no gradient
            continue
        values.equal(f"{name}: steps counted for {key}", float(state["step"]))
        for moment in MOMENTS:
            values.tensor(f"{name}: {moment} of {key}", state[moment])
