"""What a run would hold on a GPU, counted without one: the real model's steps on tensors that have a size and no content.

An allocator that only counts sees every tensor come and go, in blocks of 512 bytes as torch's own for CUDA. Where CUDA
differs from the meta device it is told so: autocast with its cached copies of weights, fused attention that keeps no
weights of it, and dropout masks of one byte. Captioning looks at its results, so it runs on the CPU with few images.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.checkpoint import checkpoint

from gitbench.models import git, recompute
from gitbench.models.fact_classifier import FactClassifier
from gitbench.models.masked_autoencoder import MaskedAutoencoder
from gitbench.models.packed import PackedTexts
from gitbench.models.pair_encoder import PairEncoder
from gitbench.models.recompute import set_checkpointing
from gitbench.spec import PretrainSpec
from gitbench.variants import AXES

BLOCK = 512  # bytes
# CUDA's autocast: what runs in the lower type, and what in float32. https://docs.pytorch.org/docs/stable/amp.html
LOWER = {F.linear, F.conv2d, torch.conv2d, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm}
FLOAT32 = {F.layer_norm, F.cross_entropy, F.log_softmax, F.softmax, torch.log_softmax, Tensor.log_softmax}


class Allocator(TorchDispatchMode):
    """Counts the bytes of the tensors of a device that are alive: `now`, and the most so far, `peak`."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.now, self.peak = device, 0, 0
        self.sizes: dict[int, int] = {}

    def watch(self, tensor: Any) -> None:
        """Count a tensor's storage from now until it is gone."""
        if not isinstance(tensor, Tensor) or tensor.device.type != self.device:
            return
        storage = tensor.untyped_storage()
        key, size = storage._cdata, -(-storage.nbytes() // BLOCK) * BLOCK
        if key not in self.sizes:
            self.sizes[key] = size
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in tree_iter(out):
            self.watch(each)
        return out


class Cuda(TorchFunctionMode):
    """Does what CUDA does otherwise than the meta device, with products in `dtype`."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.copies: dict[int, Tensor] = {}  # of weights, which autocast keeps until the forward pass is over

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if func is F.dropout:
            chance, training = (*args, kwargs.get("p"), kwargs.get("training"))[1:3]
            return torch.ops.aten.native_dropout(args[0], chance, True)[0] if training and chance else args[0]
        wanted = self.dtype if func in LOWER else torch.float32 if func in FLOAT32 else None
        if wanted is not None and self.dtype != torch.float32:
            args = tuple(self._cast(each, wanted) for each in args)
        return func(*args, **kwargs)

    def _cast(self, value: Any, dtype: torch.dtype) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == dtype:
            return value
        if not (value.is_leaf and value.requires_grad):
            return value.to(dtype)
        if id(value) not in self.copies:
            self.copies[id(value)] = value.to(dtype)
        return self.copies[id(value)]

    def _attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
    ) -> Tensor:
        q, k, v = (self._cast(each, self.dtype) for each in (q, k, v))
        if attn_mask is None and self.dtype != torch.float32:
            return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, dropout_p, is_causal)[0]
        bias = attn_mask
        if bias is not None:
            if bias.dtype == torch.bool:
                bias = torch.zeros_like(bias, dtype=q.dtype).masked_fill(~bias, -torch.inf)
            bias = F.pad(bias, (0, -bias.shape[-1] % 16))[..., : k.shape[2]].expand(*q.shape[:3], k.shape[2])
        kept = torch.is_grad_enabled() and q.requires_grad
        return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, bias, kept, dropout_p, is_causal)[0]

    def __exit__(self, *error: Any) -> None:
        self.copies.clear()
        super().__exit__(*error)


def training_peak(config: Any, text_tokens: int, dtype: torch.dtype) -> int:
    """Return the bytes held at the fullest moment of a training step of a run's config, AdamW's moments among them."""
    model, memory = _git(config, "meta")
    frozen, batch = config["model"]["encoder_training"]["frozen"], config["train_dataloader"]["batch_size"]
    images = min(batch, config["compute"]["micro_batch"] or batch)
    if frozen:
        model.encoder.requires_grad_(False)
        model.encoder.forward = torch.no_grad()(model.encoder.forward)

    def loss(pixels: Tensor) -> Tensor:
        return model.packed_loss(model.image_memory(pixels), _texts(images, text_tokens, "meta", everywhere=True))

    size = config["train_dataloader"]["dataset"]["data_spec"]["image_size"]
    frames = [config["model"]["num_frames"]] if config["model"]["num_frames"] else []
    again = functools.partial(checkpoint, context_fn=lambda: (contextlib.nullcontext(), Cuda(dtype)))
    if config["compute"]["checkpointing"]:
        set_checkpointing(model)
    with mock.patch.object(recompute, "checkpoint", again):
        return _peak_of_steps(memory, model, (images, *frames, 3, size, size), loss, dtype, 2 if images < batch else 1)


def pretraining_peak(config: Any, dtype: torch.dtype) -> int:
    """Return the bytes held at the fullest moment of a step of the encoder's pre-training, without the run's own model."""
    recipe, encoder = PretrainSpec(**config["model"]["encoder_init"]["recipe"]), _spec("encoder", config)
    texts, patches = recipe.max_tokens + 2, (encoder.image_size // encoder.patch) ** 2
    made: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], torch.dtype]] = {
        "contrastive": (
            lambda: PairEncoder(encoder, recipe, recipe.vocab_size, texts, 1), (recipe.batch_images, texts), torch.long
        ),
        "masked": (lambda: MaskedAutoencoder(encoder, recipe), (recipe.batch_images, patches), torch.float32),
        "supervised": (lambda: FactClassifier(encoder, 64), (recipe.batch_images, 64), torch.float32),
    }  # fmt: skip
    build, shape, kind = made[recipe.objective]
    memory = Allocator("meta")
    with torch.device("meta"):
        module = build()
    targets = torch.zeros(shape, dtype=kind, device="meta")
    pixels = (recipe.batch_images, 3, encoder.image_size, encoder.image_size)
    with mock.patch.object(torch, "autocast", lambda *_, **__: contextlib.nullcontext()):  # which knows no meta device
        return _peak_of_steps(memory, module, pixels, lambda images: module(images, targets), dtype)


def captioning_peak(config: Any, text_tokens: int, images: int) -> int:
    """Return the bytes held on the CPU at the fullest moment of captioning so many images, likelihoods first."""
    torch.manual_seed(0)
    model, memory = _git(config, "cpu")
    size = config["train_dataloader"]["dataset"]["data_spec"]["image_size"]
    with torch.no_grad(), memory:
        of_images = model.eval().image_memory(torch.randn(images, 3, size, size))
        model.packed_nll(of_images, _texts(images, text_tokens, "cpu"), images)
        model.write(of_images, images, **config["model"]["generation"])
    return memory.peak


def _peak_of_steps(
    memory: Allocator,
    module: nn.Module,
    shape: tuple[int, ...],
    loss_of: Callable[[Tensor], Tensor],
    dtype: torch.dtype,
    parts: int = 1,
) -> int:
    """Take a step of training, in so many parts of that shape; return the most bytes held.

    A second step would be as the first: the moments are there.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        memory.watch(tensor.data)
    trained = [each for each in module.parameters() if each.requires_grad]
    with memory:
        moments = [torch.zeros_like(each) for each in trained for _ in range(2)]
        for _ in range(parts):
            pixels = torch.zeros(shape, dtype=torch.uint8, device="meta")
            images = (pixels.float() - 1) / 2
            with Cuda(dtype):
                loss = loss_of(images)
            loss.backward()
            del pixels, images
        nn.utils.clip_grad_norm_(trained, 1.0, foreach=False)
    del moments
    return memory.peak


def _git(config: Any, device: str) -> tuple[git.GIT, Allocator]:
    """Return the model of a config, with values of no meaning, and the allocator that counts it."""
    model, memory = config["model"], Allocator(device)
    with mock.patch.object(git, "initialise", lambda *_: None), torch.device(device):
        built = git.GIT(
            encoder=_spec("encoder", config),
            decoder=_spec("decoder", config),
            vision=_spec("vision", config),
            vocab_size=model["vocab_size"],
            num_frames=model["num_frames"],
            pad_id=0,
            bos_id=1,
            eos_id=2,
        )
    for tensor in (*built.parameters(), *built.buffers()):
        memory.watch(tensor.data)
    return built, memory


def _spec(axis: str, config: Any) -> Any:
    values = {name: value for name, value in config["model"][axis].items() if name != "type"}
    return AXES[axis].spec(**values)


def _texts(images: int, tokens: int, device: str, everywhere: bool = False) -> PackedTexts:
    """Return one text of so many tokens an image, all of which predict something; `everywhere`: see `models.packed.pack`."""

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.long, device=device)

    visible = torch.ones(images, tokens, tokens, dtype=torch.bool, device=device)
    every, places = zeros(images * tokens), None if everywhere else torch.arange(images * tokens, device=device)
    return PackedTexts(
        zeros(images, tokens), zeros(images, tokens), visible, places, every, None if everywhere else every
    )
