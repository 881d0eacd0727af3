"""The few operations that several replicates cannot share in one call, for models trained under `torch.func.vmap`.

vmap turns one model's forward pass into that of R stacked ones: matrix products become batched products, everything
else works on tensors with a leading R. What remains is here, as a mode that meets these calls on their way to torch:

* Dropout, and attention with dropout: each replicate draws its masks from a generator of its own, seeded as in its run
  alone, by the same calls on tensors of the same shapes. So the masks are those of the run alone.
* Attention without dropout: one call for all replicates, which stand beside the images of a batch.
* The patch convolution, whose patches do not overlap: a batched product (torch has a slow grouped convolution for it).
* The loss: a mean over each replicate's own number of predicted tokens.

R replicates, N images, Q text tokens a row (padded to the longest of all replicates; `lengths` are their own), P
predicted tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Call = Callable[..., Tensor]


class _Apart(torch.autograd.Function):
    """Run `call(*stacked)` on whole stacks (R, ...) from inside vmap, recorded by autograd as plain operations."""

    generate_vmap_rule = False

    @staticmethod
    def forward(call: Call, *tensors: Tensor) -> Tensor:
        raise RuntimeError("called outside vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        raise RuntimeError("called outside vmap")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], call: Call, *tensors: Tensor) -> tuple[Tensor, int]:
        size = info.batch_size
        stacked = [
            tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(tensors, in_dims[1:], strict=True)
        ]
        return call(*stacked), 0


class Replicates(TorchFunctionMode):
    """The mode; `lengths` and `counts` are Q and P of each replicate in the coming batch, `seeds` their dropout's.

    Set `in_text` once the image is through: from then on rows are texts, of which each replicate has its own length.
    """

    def __init__(
        self, device: torch.device, lengths: Sequence[int], counts: Sequence[int], seeds: Sequence[int]
    ) -> None:
        super().__init__()
        self.lengths, self.counts = lengths, counts
        self.longest = max(lengths)
        self.ragged = min(lengths) < self.longest
        self.in_text = False
        self._random = _Generators(device, seeds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._random.restore()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        own = self._own.get(func)
        return func(*args, **(kwargs or {})) if own is None else own(self, *args, **(kwargs or {}))

    def _dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return x

        def call(stack: Tensor) -> Tensor:
            return self._stack([self._drawn(r, F.dropout, self._text(r, one), p) for r, one in enumerate(stack)], 1)

        return _Apart.apply(call, x)

    def _attention(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, **options: Any
    ) -> Tensor:
        given = (q, k, v) if attn_mask is None else (q, k, v, attn_mask)

        def at_once(*stacks: Tensor) -> Tensor:
            size = stacks[0].shape[0]
            if len(stacks) > 3:  # a mask of one row serves all images
                stacks = (*stacks[:3], stacks[3].expand(-1, stacks[0].shape[1], -1, -1, -1))
            flat_q, flat_k, flat_v, *masks = (stack.flatten(0, 1) for stack in stacks)
            mask = masks[0] if masks else None
            out = F.scaled_dot_product_attention(flat_q, flat_k, flat_v, attn_mask=mask, **options)
            return out.unflatten(0, (size, -1))

        def apart(*stacks: Tensor) -> Tensor:
            parts = []
            for r in range(len(stacks[0])):
                short = self.longest - self.lengths[r] if self.in_text else 0
                one_q, one_k, one_v, *mask = (stack[r] for stack in stacks)
                if short:
                    one_q = one_q[:, :, :-short]
                    if mask:  # the text's own keys are the last ones; without a mask the image alone is looked at
                        one_k, one_v = one_k[:, :, :-short], one_v[:, :, :-short]
                        mask = [mask[0][..., :-short, :-short]]
                parts.append(
                    self._drawn(
                        r, F.scaled_dot_product_attention, one_q, one_k, one_v, *mask, dropout_p=dropout_p, **options
                    )
                )
            return self._stack(parts, 2)

        return _Apart.apply(apart if dropout_p else at_once, *given)

    def _convolution(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, *others: Any, **options: Any
    ) -> Tensor:
        height, width = weight.shape[-2:]
        if bias is not None or options or others != ((height, width), (0, 0), (1, 1), 1):
            return F.conv2d(x, weight, bias, *others, **options)
        rows, columns = x.shape[-2] // height, x.shape[-1] // width
        x = x[..., : rows * height, : columns * width].unflatten(-1, (columns, width)).unflatten(-3, (rows, height))
        patches = x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(0, 2)  # (N*h*w, C*H*W)
        return (patches @ weight.flatten(1).T).unflatten(0, (-1, rows, columns)).permute(0, 3, 1, 2)

    def _cross_entropy(self, logits: Tensor, targets: Tensor, **options: Any) -> Tensor:
        def call(logit_stack: Tensor, target_stack: Tensor) -> Tensor:
            pairs = zip(logit_stack, target_stack, self.counts, strict=True)
            return torch.stack([F.cross_entropy(one[:n], target[:n], **options) for one, target, n in pairs])

        return _Apart.apply(call, logits, targets)

    _own: dict[Any, Callable[..., Any]] = {
        F.dropout: _dropout,
        F.scaled_dot_product_attention: _attention,
        F.conv2d: _convolution,
        F.cross_entropy: _cross_entropy,
    }

    def _text(self, r: int, rows: Tensor) -> Tensor:
        """Cut a replicate's text (N, Q, D) to its own length."""
        return rows[:, : self.lengths[r]] if self.in_text and self.ragged else rows

    def _stack(self, parts: list[Tensor], dim: int) -> Tensor:
        """Stack tensors of the replicates whose texts lie along `dim`, filled up with zeros."""
        if self.in_text and self.ragged:
            after = 2 * (parts[0].dim() - 1 - dim)
            parts = [F.pad(part, (*[0] * after, 0, self.longest - part.shape[dim])) for part in parts]
        return torch.stack(parts)

    def _drawn(self, r: int, call: Callable[..., Tensor], *args: Any, **options: Any) -> Tensor:
        self._random.switch(r)
        return call(*args, **options)


class _Generators:
    """A random state for each replicate, which take turns in the device's default generator."""

    def __init__(self, device: torch.device, seeds: Sequence[int]) -> None:
        cuda = device.type == "cuda"
        self.generator = torch.cuda.default_generators[device.index or 0] if cuda else torch.default_generator
        self.seeds = seeds
        self.states: list[Tensor] = []  # made when the first mask is drawn: many models have no dropout
        self.before: Tensor | None = None
        self.active: int | None = None

    def switch(self, replicate: int) -> None:
        """Go on with the random numbers of a replicate where it stopped."""
        if self.before is None:
            self.before = self.generator.get_state()
            for seed in self.seeds:
                self.generator.manual_seed(seed)
                self.states.append(self.generator.get_state())
        if replicate == self.active:
            return
        if self.active is not None:
            self.states[self.active] = self.generator.get_state()
        self.generator.set_state(self.states[replicate])
        self.active = replicate

    def restore(self) -> None:
        """Leave the generator as it was found."""
        if self.before is not None:
            self.generator.set_state(self.before)
