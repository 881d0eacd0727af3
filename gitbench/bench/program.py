"""One of the programs that are compared: what it must be able to do, its inputs, and the weights that all of them share.

N images, k captions an image, M = N*k texts of T ids, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gitbench.bench.workloads import Shape, text_lengths
from gitbench.models.git import GIT

BOS, EOS, PAD = 101, 102, 0
LR = 1e-5
NEVER = -1e4  # bias of [SEP] where texts are generated: all programs write the same number of tokens


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A training batch: images (N,3,H,W) normalised, and k texts of each, in image order."""

    images: Tensor
    texts: Tensor  # (M, T) int64, padded right
    predicted: Tensor  # (M, T) bool: which of their ids are to be predicted
    captions: int  # k

    @property
    def repeated_images(self) -> Tensor:
        """An image for each text, (M, 3, H, W): what a program wants that knows pairs of image and text only."""
        return self.images.repeat_interleave(self.captions, 0) if self.captions > 1 else self.images


class Program(ABC):
    """A model of one implementation, on one device. What prepares inputs is never timed, `step` and `generate` are."""

    name: str
    smoothing: float  # label smoothing of the loss it is trained with
    model: nn.Module
    encoder: nn.Module  # the image encoder, a part of the model
    optimizer: torch.optim.Optimizer
    fused: bool | None = None  # of its AdamW; None: torch's default

    @abstractmethod
    def inputs(self, batch: Batch) -> dict[str, Any]:
        """A training batch as this program takes it."""

    @abstractmethod
    def loss(self, inputs: dict[str, Any]) -> Tensor:
        """The scalar that it minimises."""

    @abstractmethod
    def logits(self, batch: Batch) -> Tensor:
        """Next-token logits at all text positions, (M, T, V)."""

    @abstractmethod
    def first_weight(self, frozen: bool) -> Tensor:
        """The first parameter that is trained, whose gradient is compared: all others contribute to it."""

    @abstractmethod
    def generate(self, images: Tensor, beams: int) -> Tensor:
        """Write texts by beam search, or greedily with one beam: ids after [CLS], (N, at least STEPS - 1)."""

    def start_training(self, frozen: bool = False) -> None:
        """Go into training mode, the encoder frozen or not, and make the optimizer."""
        self.model.train()
        if frozen:
            self.encoder.requires_grad_(False).eval()
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=LR, fused=self.fused)

    def step(self, inputs: dict[str, Any]) -> None:
        """Take one optimizer step: forward, backward, update."""
        self.loss(inputs).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def shared_model(shape: Shape, device: torch.device, *, endless: bool = False) -> GIT:
    """Return the model whose weights every program gets, in eval mode.

    Its values are random, but so large that every part shows in the output and the next token depends on the picture:
    with small ones a wrong weight might stay hidden. With `endless`, [SEP] is never written.
    """
    model = GIT(
        encoder=shape.encoder,
        decoder=shape.decoder,
        vocab_size=shape.vocab_size,
        pad_id=PAD,
        bos_id=BOS,
        eos_id=EOS,
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            fan_in = value.shape[-1] if value.dim() == 2 else value[0].numel() if value.dim() == 4 else 100
            scale = 0.5 if name.startswith("embedding.") and value.dim() == 2 else fan_in**-0.5
            value.copy_(torch.randn(value.shape, generator=generator) * scale)
            if "norm" in name and name.endswith("weight") or name == "projection.1.weight":
                value.add_(1)
        model.embedding.words.weight.mul_(4 * shape.decoder.width**-0.5)  # logits that tell tokens apart
        model.embedding.positions.weight.mul_(3)
        model.get_parameter("projection.1.weight").mul_(2)
        if endless:
            model.head_bias[EOS] = NEVER
    return model.to(device).eval()


def pictures(shape: Shape, count: int, device: torch.device) -> Tensor:
    """Random normalised images (count, 3, H, W)."""
    size = shape.encoder.image_size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1)).to(device)


def training_batch(shape: Shape, texts: str, captions: int, device: torch.device) -> Batch:
    """Random images with random texts, of the lengths that `texts` names."""
    lengths = torch.tensor(text_lengths(shape, texts, captions))[:, None]
    longest = int(lengths.max())
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(EOS + 1, shape.vocab_size, (len(lengths), longest), generator=generator)
    places = torch.arange(longest)
    ids[:, 0] = BOS
    ids[places == lengths - 1] = EOS
    ids[places >= lengths] = PAD
    predicted = (places > 0) & (places < lengths)
    images = pictures(shape, shape.train_images, device)
    return Batch(images=images, texts=ids.to(device), predicted=predicted.to(device), captions=captions)
