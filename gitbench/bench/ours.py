"""gitbench's model as it trains and captions: one image stream for all captions of an image, packed texts, its optimizer.

A run does more in a step (it normalises pixels, clips gradients, calls hooks); of the peers neither is timed.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from gitbench.bench.program import LR, PAD, Batch, Program
from gitbench.bench.workloads import STEPS
from gitbench.models.git import GIT
from gitbench.models.packed import pack
from gitbench.training.frozen import FrozenEncoder
from gitbench.training.optimizer import parameter_groups

IMAGE_SET = "bench"  # to a frozen encoder all images of a batch are of one set


class Gitbench(Program):
    """The model of this package; a frozen encoder keeps its features, as in a run."""

    name = "gitbench"

    def __init__(self, model: GIT) -> None:
        self.git = copy.deepcopy(model)
        self.model = nn.ModuleDict({"git": self.git})  # names the parameters as a run does, for the optimizer's groups
        self.smoothing = self.git.label_smoothing
        self.frozen: FrozenEncoder | None = None

    def inputs(self, batch: Batch) -> dict[str, Any]:
        """The texts stay on the host: packing and moving them is part of our step, as it is in a run."""
        return {"images": batch.images, "tokens": batch.texts.cpu(), "need_predict": batch.predicted.cpu()}

    def loss(self, inputs: dict[str, Any]) -> Tensor:
        images = inputs["images"]
        packed = pack(inputs["tokens"], inputs["need_predict"], len(images), PAD)
        texts = packed.with_tensors(part.to(images.device, non_blocking=True) for part in packed.tensors)
        with self._known(images):
            memory = self.git.image_memory(images)
        return self.git.packed_loss(memory, texts)

    def _known(self, images: Tensor) -> AbstractContextManager[None]:
        """As in a run, images go through a frozen encoder once."""
        if self.frozen is None:
            return nullcontext()
        key = (IMAGE_SET, torch.float32)
        if key not in self.frozen.features:
            made = self.frozen.encode(images)
            self.frozen.features[key] = made.numpy() if images.device.type == "cpu" else made
        return self.frozen.known(IMAGE_SET, range(len(images)))

    def logits(self, batch: Batch) -> Tensor:
        return self.git.logits(batch.images, batch.texts)

    def first_weight(self, frozen: bool) -> Tensor:
        return self.git.projection[0].weight if frozen else self.git.encoder.patch_embed.proj.weight  # type: ignore[return-value]

    def start_training(self, frozen: bool = False) -> None:
        if frozen and self.frozen is None:
            self.frozen = FrozenEncoder(self.git.encoder.spec).to(self.git.head_bias.device)
            self.frozen.load_state_dict(self.git.encoder.state_dict())
            self.git.encoder = self.frozen
        self.model.train()
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, LR, LR, 0.01), fused=True)

    def forget_features(self) -> None:
        """Let the next step encode its images again."""
        assert self.frozen is not None
        self.frozen.features.clear()

    def generate(self, images: Tensor, beams: int) -> Tensor:
        # max_length counts [CLS] and the last token, which is weighed but not written (the official rule)
        sequences, _ = self.git.generate(images, beam_size=beams, greedy=beams == 1, max_length=STEPS + 1)
        return sequences[:, 1:]
