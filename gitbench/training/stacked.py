"""Several replicates of one arm as one model: stacked parameters, batched products, one optimizer.

A small model cannot fill a GPU: its step is a long queue of small operations. R replicates of an arm have the same
operations, so here each is done once for all R: every parameter gets a leading dimension R, `torch.func.vmap` turns the
model's own forward pass into batched products, and AdamW, which works element by element, steps through the stacks.
Gradients are clipped for each replicate by its own norm, and weight decay follows the unstacked shapes.

Each replicate keeps its own model and optimizer, whose tensors are views of the stacks: what validates, captions, saves
or resumes a run alone does the same here. Each sees its own batches and draws its own dropout masks (`stacked_ops.py`),
so its numbers are those of its run alone within float rounding: products of other shapes add in another order. Over 20
steps losses agree to 1e-12 in float64 and to 2e-6 (relatively) in float32. Parameters agree as well, but for the biases
of keys: their true gradient is 0, and AdamW divides the rounding noise in its place by that noise's own size.

The host's work for a stack of any size is about twice that for one model (vmap's), so that two replicates gain nothing
where the host is the limit, and more do. Nothing here has been run on a GPU yet.

R replicates, N images, M texts of T tokens, Q tokens in the longest row of texts, P predicted tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from gitbench.errors import GitbenchError
from gitbench.models.git import GIT
from gitbench.models.packed import PackedTexts
from gitbench.training.frozen import FrozenEncoder
from gitbench.training.model import CaptionModel
from gitbench.training.optimizer import DeviceOptimWrapper
from gitbench.training.stacked_ops import Replicates


class _Loss(nn.Module):
    """The loss of a GIT as one call, which says when it turns from the images to the texts."""

    def __init__(self, git: GIT) -> None:
        super().__init__()
        self.git = git

    def forward(self, replicates: Replicates, images: Tensor, texts: PackedTexts) -> Tensor:
        memory = self.git.image_memory(images)
        replicates.in_text = True
        return self.git.packed_loss(memory, texts)


class Stack:
    """Models of one arm and their optimizer wrappers, trained together; they stay usable one by one at any moment.

    Until `close`, their parameters and optimizer states are views of the stacks and must not be moved or replaced.
    Errors: GitbenchError for models that cannot share a stack.
    """

    def __init__(self, models: Sequence[CaptionModel], optimizers: Sequence[DeviceOptimWrapper]) -> None:
        check_alike(models, optimizers)
        self.models, self.optimizers = list(models), list(optimizers)
        self.loss = _Loss(self.models[0].git)
        named = [dict(model.git.named_parameters()) for model in self.models]
        self.device = next(iter(named[0].values())).device
        self.parameters = {
            name: torch.stack([one[name].detach() for one in named]).requires_grad_(parameter.requires_grad)
            for name, parameter in named[0].items()
        }
        for r, one in enumerate(named):
            for name, stacked in self.parameters.items():
                one[name].data = stacked.detach()[r]
        self.optimizer = self._optimizer(named)
        clip = self.optimizers[0].clip_grad_kwargs or {}
        self.max_norm: float | None = clip.get("max_norm")

    def __len__(self) -> int:
        return len(self.models)

    def step(self, batches: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> Tensor:
        """Take one optimizer step with a batch of `caption_collate` and a dropout seed for each; return the losses (R,).

        Rates are those that the replicates' own optimizers stand at.
        """
        with self.optimizers[0].optim_context(self.models[0]):
            losses = self.losses(batches, seeds)
        losses.sum().backward()
        self._clip()
        for group, own in zip(self.optimizer.param_groups, self._groups(0), strict=True):
            group["lr"] = own["lr"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return losses.detach()

    def losses(self, batches: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> Tensor:
        """Return the training losses (R,), with gradient, of one batch for each replicate."""
        prepared = [
            model.data_preprocessor(dict(batch), True) for model, batch in zip(self.models, batches, strict=True)
        ]
        texts = [batch["texts"] for batch in prepared]
        for model, batch in zip(self.models, prepared, strict=True):
            model.git.embedding.check_length(batch["tokens"].shape[-1] - 1)
            if not len(batch["texts"].targets):
                raise GitbenchError("a batch predicts no token: correct the data's texts")
        lengths = [one.tokens.shape[1] for one in texts]
        counts = [len(one.targets) for one in texts]
        images = torch.stack([batch["images"] for batch in prepared])
        with Replicates(self.device, lengths, counts, seeds) as replicates:

            def loss(parameters: dict[str, Tensor], pictures: Tensor, packed: tuple[Tensor, ...]) -> Tensor:
                own = {f"git.{name}": value for name, value in parameters.items()}
                return functional_call(self.loss, own, (replicates, pictures, PackedTexts(*packed)))

            self.models[0].train()
            return vmap(loss)(self.parameters, images, tuple(stacked_texts(texts, self.models[0].git.pad_id)))

    def close(self) -> None:
        """Give every model and optimizer tensors of its own again."""
        for model, wrapper in zip(self.models, self.optimizers, strict=True):
            for parameter in model.git.parameters():
                parameter.data = parameter.detach().clone()
            for state in wrapper.optimizer.state.values():
                state.update({name: value.clone() for name, value in state.items()})

    def _groups(self, replicate: int) -> list[dict[str, Any]]:
        """The groups of a replicate's optimizer that train anything: mmengine adds one of its own that does not."""
        groups = self.optimizers[replicate].optimizer.param_groups
        return [group for group in groups if any(parameter.requires_grad for parameter in group["params"])]

    def _optimizer(self, named: list[dict[str, nn.Parameter]]) -> torch.optim.AdamW:
        """Build AdamW over the stacks, in the groups and states of the replicates' own, whose states become views."""
        names = {id(parameter): name for name, parameter in named[0].items()}
        groups = [
            {
                "params": [self.parameters[names[id(parameter)]] for parameter in group["params"]],
                **{key: group[key] for key in ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize")},
            }
            for group in self._groups(0)
        ]
        optimizer = torch.optim.AdamW(groups, fused=True)
        states = [wrapper.optimizer.state for wrapper in self.optimizers]
        for name, stacked in self.parameters.items():
            if not stacked.requires_grad:
                continue
            own = [states[r][one[name]] for r, one in enumerate(named)]
            step = own[0].get("step", torch.zeros((), device=self.device)).clone()
            state = {"step": step}
            for moment in ("exp_avg", "exp_avg_sq"):
                state[moment] = torch.stack(
                    [s[moment] if moment in s else torch.zeros_like(p) for s, p in zip(own, stacked, strict=True)]
                ).detach()
            optimizer.state[stacked] = state
            for r, one in enumerate(own):
                one.update({key: value if key == "step" else value[r] for key, value in state.items()})
        return optimizer

    def _clip(self) -> None:
        """Scale each replicate's gradients down to `max_norm`, as `torch.nn.utils.clip_grad_norm_` does for one."""
        if not self.max_norm:
            return
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        of_tensors = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients])
        norms = torch.linalg.vector_norm(of_tensors, dim=0)
        for wrapper, norm in zip(self.optimizers, norms, strict=True):
            wrapper.norms[:] = [norm]  # for the log
        factors = (self.max_norm / (norms + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))


def check_alike(models: Sequence[CaptionModel], optimizers: Sequence[DeviceOptimWrapper]) -> None:
    """Raise a one-line error where models and optimizers cannot be stacked."""
    if not models or len(models) != len(optimizers):
        raise GitbenchError(
            f"{len(models)} models and {len(optimizers)} optimizers: a stack needs one of each a replicate"
        )
    shapes = [{name: value.shape for name, value in model.git.named_parameters()} for model in models]
    if any(other != shapes[0] for other in shapes):
        raise GitbenchError("models of different shapes cannot be stacked: train them one by one")
    if any(isinstance(model.git.encoder, FrozenEncoder) for model in models):
        raise GitbenchError("a frozen encoder reuses features and cannot be stacked: train one by one")
    if any(True for _ in models[0].git.buffers()):
        raise GitbenchError("a model with buffers cannot be stacked: train one by one")
    for wrapper in optimizers:
        clip = wrapper.clip_grad_kwargs or {}
        if set(clip) - {"max_norm"} or not isinstance(wrapper.optimizer, torch.optim.AdamW):
            raise GitbenchError("only AdamW with clip_grad=dict(max_norm=...) can be stacked: train one by one")


def stacked_texts(texts: Sequence[PackedTexts], pad_id: int) -> PackedTexts:
    """Stack packed texts of the replicates, filled up to the longest row Q and the most predictions P.

    A filler token sees itself alone and is seen by nobody; what is predicted there is left out of the loss.
    """
    longest = max(one.tokens.shape[1] for one in texts)
    most = max(len(one.targets) for one in texts)
    rows = max(len(one.visible) for one in texts)

    def filled(values: Tensor, size: int, filler: int = 0) -> Tensor:
        return F.pad(values, (0, size - values.shape[-1]), value=filler)

    def visible(one: PackedTexts) -> Tensor:
        short = longest - one.tokens.shape[1]
        seen = F.pad(one.visible, (0, short, 0, short)).expand(rows, -1, -1)
        if not short:
            return seen
        return seen | torch.eye(longest, dtype=torch.bool, device=seen.device)

    def places(one: PackedTexts) -> Tensor:
        row, column = one.places // one.tokens.shape[1], one.places % one.tokens.shape[1]
        return filled(row * longest + column, most)

    return PackedTexts(
        tokens=torch.stack([filled(one.tokens, longest, pad_id) for one in texts]),
        positions=torch.stack([filled(one.positions, longest) for one in texts]),
        visible=torch.stack([visible(one) for one in texts]),
        places=torch.stack([places(one) for one in texts]),
        targets=torch.stack([filled(one.targets, most) for one in texts]),
        owners=torch.stack([filled(one.owners, most) for one in texts]),
    )
