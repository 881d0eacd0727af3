"""Linear layers, on CPUs with oneDNN's matrix products where these are the faster ones.

torch's own float32 product on CPUs is MKL's. oneDNN, which torch carries along, was faster in every product of a large
weight with activations that was measured (AMD EPYC with AVX-512, 2 threads): by a tenth with hundreds of rows, twice as
fast with 30 rows and less, and slower for weights' gradients and for small weights. The rule is fixed, not timed at run
time: a run's numbers must not depend on how busy a machine is. `torch.backends.mkldnn.set_flags(False)` switches it off.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGE = 512 * 512  # elements of a weight from which on oneDNN is used


def _product() -> Any:
    """oneDNN's linear operation (x, weight, bias, no fused function), or None where this torch has none that works."""
    if not torch.backends.mkldnn.is_available():
        return None
    try:
        operation = torch.ops.mkldnn._linear_pointwise
        one = torch.ones(1, 1)
        return operation if operation(one, one, one[0], "none", [], "").item() == 2 else None
    except (AttributeError, RuntimeError, TypeError):  # torch may change what its compiler uses
        return None


_ONEDNN = _product()


class _LargeLinear(torch.autograd.Function):
    """x W^T + b by oneDNN, and the gradient of x too; that of W by torch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _ONEDNN(x, weight, bias, "none", [], "")

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        return (
            _ONEDNN(gradient, weight.t(), None, "none", [], "") if ctx.needs_input_grad[0] else None,
            rows.t() @ x.reshape(-1, x.shape[-1]) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Do what `torch.nn.functional.linear` does: (..., K), (V, K), (V,) -> (..., V). By oneDNN it has no second derivative."""
    if (
        weight.numel() >= LARGE
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel()
        and _ONEDNN is not None
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
    ):
        return _LargeLinear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """`torch.nn.Linear` by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def speed_up(module: nn.Module) -> None:
    """Make every plain `torch.nn.Linear` in a module one of ours, in place: same parameters, same names."""
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = Linear
