"""AdamW with encoder and decoder rates apart, training in a precision, and the schedule of the rates.

mmengine's default constructor makes one group per tensor (300 groups, 2.6 times slower a step), lets a substring key
switch off the exemption of norms and biases from weight decay, and refuses the tied head. This one makes four groups.
Its pair of LinearLR and CosineAnnealingLR repeats the peak and never reaches 0.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from torch import nn

from gitbench.errors import GitbenchError
from gitbench.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, PARAM_SCHEDULERS
from gitbench.training.device import autocast, scaler

ENCODER_PREFIX = "git.encoder."


@OPTIM_WRAPPERS.register_module()
class DeviceOptimWrapper(OptimWrapper):
    """OptimWrapper whose forward pass runs in a precision (of `spec.Compute`); in float16 with a scaled loss.

    A step whose gradients overflow float16 is left out and the scale halved, as usual; nothing waits for the device to know
    it. The norms of clipped gradients stay on the device, in `norms`, until `LazyInfoHook` takes them.
    """

    def __init__(self, *args: Any, precision: str = "float32", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.precision = precision
        self.norms: list[torch.Tensor] = []
        self.scaler = scaler(self.optimizer.param_groups[0]["params"][0].device.type, precision)

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        super().backward(self.scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        self.scaler.unscale_(self.optimizer)
        if self.clip_grad_kwargs:
            self._clip_grad()
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state, and the scaler's where there is one."""
        return super().state_dict() | ({"scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        state = dict(state_dict)
        if "scaler" in state:
            self.scaler.load_state_dict(state.pop("scaler"))
        super().load_state_dict(state)

    def _clip_grad(self) -> None:
        params = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        if params:
            self.norms[:] = [self.clip_func(params, **self.clip_grad_kwargs)]  # mmengine's float() waits for the step

    @contextlib.contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        device = next(model.parameters()).device.type
        with super().optim_context(model), autocast(device, self.precision):
            yield


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class EncoderDecoderOptim:
    """Build the optimizer wrapper: `paramwise_cfg` holds `lr_encoder` and `lr_decoder`.

    Everything outside the image encoder (projection, text embedding, decoder layers, head) is the decoder's side.
    Norms, biases and other one-dimensional tensors are not decayed.
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, float]) -> None:
        self.wrapper_cfg, self.rates = optim_wrapper_cfg, paramwise_cfg

    def __call__(self, model: nn.Module) -> OptimWrapper:
        options = dict(self.wrapper_cfg["optimizer"])
        kind = options.pop("type")
        if kind != "AdamW":
            raise GitbenchError(f"optimizer type '{kind}' is not supported: use AdamW")
        own: Any = model.module if is_model_wrapper(model) else model  # a wrapper's names begin with "module."
        groups = parameter_groups(own, **self.rates, weight_decay=options["weight_decay"])
        optimizer = torch.optim.AdamW(groups, fused=True, **options)
        return OPTIM_WRAPPERS.build({**self.wrapper_cfg, "optimizer": optimizer})


def parameter_groups(
    model: nn.Module, lr_encoder: float, lr_decoder: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Split trainable parameters into (encoder, decoder) x (decayed, not decayed); tied tensors count once.

    A frozen encoder has no group.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith(ENCODER_PREFIX), parameter.ndim > 1), []).append(parameter)
    return [
        dict(
            params=parameters,
            lr=lr_encoder if encoder else lr_decoder,
            weight_decay=weight_decay if decayed else 0.0,
            name=f"{'encoder' if encoder else 'decoder'}{'' if decayed else '_no_decay'}",
        )
        for (encoder, decayed), parameters in groups.items()
    ]


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Return the factor of the peak rate at `step` (0-based): (step+1)/(warmup+1) at first, 1 at `warmup`, 0 at `total`.

    The paper, p. 6: "cosine decay to 0".
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if step >= total:
        return 0.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(_ParamScheduler):
    """`warmup_cosine` as an mmengine scheduler, in closed form: its value depends on the step alone.

    On a GPU rates are rounded to float32, as which a CUDA graph reads them there.
    """

    def __init__(self, optimizer, warmup: int, total: int, **kwargs):  # type: ignore[no-untyped-def]
        self.warmup = warmup
        self.total = total
        super().__init__(optimizer, "lr", **kwargs)

    @property
    def rounded(self) -> bool:
        """Whether rates are rounded."""
        return self.optimizer.param_groups[0]["params"][0].is_cuda

    def _get_value(self) -> list[float]:
        factor = warmup_cosine(self.last_step, self.warmup, self.total)
        rates = [base * factor for base in self.base_values]
        return torch.tensor(rates).tolist() if self.rounded else rates
