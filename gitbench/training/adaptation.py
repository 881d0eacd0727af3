"""What of a checkpoint is trained (axis `adaptation`): which tensors have gradients, and adapters beside some of them.

Adapters are those of the `peft` library (the extra gitbench[lora]), which puts a layer of its own in the place of an adapted one:
the tensors of this are then named `qkv.base_layer.weight`. `plain_name` has the name as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gitbench.errors import GitbenchError, installing
from gitbench.models.git import GIT
from gitbench.models.init import initialise
from gitbench.variants.adaptation import AdaptationSpec

# Whole names of layers: queries, keys and values, and attention's output.
ADAPTED = r"encoder\.blocks\.\d+\.attn\.(qkv|proj)|decoder\.layers\.\d+\.(qkv|out|cross_q|cross_kv|cross_out)"
SCALE = 2  # alpha, as a multiple of the rank
_BASE = ".base_layer."


def adapt(git: GIT, spec: AdaptationSpec, seed: int) -> None:
    """Leave gradients to what is trained of a model, and give it adapters, whose values follow from `seed`, where it has some.

    Errors: GitbenchError where `peft` is missing.
    """
    if spec.trains == "everything":
        return
    if spec.trains == "adapters":
        _add_adapters(git, spec.rank, seed)
        return
    if spec.trains == "layers":
        last = (git.encoder.blocks[-spec.layers :], git.decoder.layers[-spec.layers :])
        trained = {id(parameter) for part in last for layer in part for parameter in layer.parameters()}
    elif spec.trains == "encoder":
        trained = {id(parameter) for parameter in git.encoder.parameters()}
    else:
        trained = {id(parameter) for parameter in git.parameters() if parameter.ndim == 1}
    for parameter in git.parameters():
        parameter.requires_grad_(id(parameter) in trained)


def _add_adapters(git: GIT, rank: int, seed: int) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise GitbenchError(f"adapters need the package {error.name}: {installing('gitbench[lora]')}") from None
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=ADAPTED), git)

    def draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
        if "lora_A" not in name:
            return None  # B is zero
        return (2 * torch.rand(shape, generator=generator) - 1) * shape[-1] ** -0.5  # as peft draws it

    initialise(git, seed, draw)


def plain_name(name: str) -> str:
    """Return the name that a tensor has in a model without adapters."""
    return name.replace(_BASE, ".")


def load_plain(git: GIT, state: Mapping[str, Tensor]) -> None:
    """Load the tensors of a plain model into one that may have adapters, which keep theirs."""
    own = {plain_name(name): name for name in git.state_dict()}
    found = git.load_state_dict({own.get(name, name): tensor for name, tensor in state.items()}, strict=False)
    wrong = [*found.unexpected_keys, *(name for name in found.missing_keys if ".lora_" not in name)]
    if wrong:
        raise RuntimeError(f"tensors that do not fit: {', '.join(wrong)}")


def merge(git: GIT) -> tuple[int, int]:
    """Add the adapters of a model to its weights, in place, and take them out.

    Returns the bytes of all parameters as it was trained, and of those that were, which is what has to be stored beside the
    checkpoint from which it started.
    """
    sizes = [(each.numel() * each.element_size(), each.requires_grad) for each in git.parameters()]
    for name, layer in [*git.named_modules()]:
        if hasattr(layer, "base_layer"):
            adapter: Any = layer
            adapter.merge()
            owner, _, own = name.rpartition(".")
            setattr(git.get_submodule(owner), own, adapter.get_base_layer())
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)
