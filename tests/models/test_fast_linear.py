"""Linear layers: the same function whoever multiplies, and gradients too."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers_model import tiny
from torch import nn

from gitbench.models import fast_linear as module
from gitbench.models.fast_linear import LARGE, Linear, linear


def parts(shape: tuple[int, ...], out: int = 520, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    x, w, b = (torch.randn(size, generator=generator, dtype=dtype) for size in (shape, (out, shape[-1]), (out,)))
    return x, w / shape[-1] ** 0.5, b


def spied(monkeypatch) -> list[tuple[int, ...]]:
    """Record the shapes that oneDNN multiplies."""
    seen: list[tuple[int, ...]] = []
    plain = module._ONEDNN
    if plain is None:
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(module, "_ONEDNN", lambda x, *rest: (seen.append(tuple(x.shape)), plain(x, *rest))[1])
    return seen


@pytest.mark.parametrize("shape", [(1, 520), (3, 520), (40, 520), (2, 7, 520), (2, 3, 4, 520)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_values_and_gradients_are_torchs(shape, with_bias, monkeypatch):
    seen = spied(monkeypatch)
    x, w, b = (part.requires_grad_() for part in parts(shape))
    bias = b if with_bias else None
    inputs = (x, w, b) if with_bias else (x, w)
    ours, theirs = linear(x, w, bias), F.linear(x, w, bias)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    probe = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2))
    for a, e in zip(torch.autograd.grad(ours, inputs, probe), torch.autograd.grad(theirs, inputs, probe), strict=True):
        torch.testing.assert_close(a, e, atol=1e-4, rtol=1e-5)
    assert seen == [shape, (*shape[:-1], 520)]  # forward, and the gradient of x


def test_what_is_not_contiguous_and_slices_of_weights(monkeypatch):
    seen = spied(monkeypatch)
    x, w, b = parts((6, 520), out=1100)
    turned = x.t().contiguous().t()
    torch.testing.assert_close(linear(turned, w[540:], b[540:]), F.linear(x, w[540:], b[540:]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(linear(x[::2], w), F.linear(x[::2], w), atol=1e-5, rtol=1e-5)
    assert len(seen) == 2


def test_everything_else_stays_with_torch(monkeypatch):
    seen = spied(monkeypatch)
    small = parts((4, 64))
    assert small[1].numel() < LARGE and torch.equal(linear(*small), F.linear(*small))
    double = parts((4, 520), dtype=torch.float64)
    assert torch.equal(linear(*double), F.linear(*double))
    nothing = parts((0, 520))
    assert linear(*nothing).shape == (0, 520)
    x, w, b = parts((4, 520))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, w, b).dtype == torch.bfloat16
    assert not seen


def test_a_model_has_no_other_linear_layers():
    model = tiny()
    assert {type(part) for part in model.modules() if isinstance(part, nn.Linear)} == {Linear}
