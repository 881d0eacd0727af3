"""GIT as an mmengine model: pixels are normalised on the device, `mode` chooses loss, captions or likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel

from gitbench.data.transforms import CLIP_MEAN, CLIP_STD
from gitbench.models.git import GIT
from gitbench.models.init import initialise
from gitbench.registry import MODELS, VARIANTS
from gitbench.spec import ContrastiveSpec, EncoderInitSpec, EncoderTrainingSpec
from gitbench.training.frozen import FrozenEncoder


@MODELS.register_module()
class ImagePreprocessor(BaseDataPreprocessor):
    """Move a batch to the device and turn uint8 pixels (N,3,H,W) into CLIP-normalised floats."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        data = self.cast_data(data)
        return {**data, "images": (data["images"].float() - self.mean) / self.std}


@MODELS.register_module()
class CaptionModel(BaseModel):
    """The registry's model: variants named by `type`, their values in full, initial values from `init_seed` alone.

    Batches are those of `caption_collate`: images (N,3,H,W) uint8, tokens (N,K,T), need_predict (N,K,T), image_ids,
    and for a frozen encoder, which reuses features if `feature_cache`, image_set and indices. `encoder_init` is kept for
    `EncoderInitHook`, which has the data that pre-training needs.
    """

    def __init__(
        self,
        *,
        encoder: dict[str, Any],
        decoder: dict[str, Any],
        vision: dict[str, Any],
        vocab_size: int,
        pad_id: int,
        bos_id: int,
        eos_id: int,
        label_smoothing: float,
        init_seed: int,
        generation: dict[str, Any],
        data_preprocessor: dict[str, Any],
        encoder_training: dict[str, Any] | None = None,
        encoder_init: dict[str, Any] | None = None,
        feature_cache: bool = True,
    ) -> None:
        super().__init__(data_preprocessor=MODELS.build(dict(data_preprocessor)))
        self.generation = dict(generation)
        self.git = GIT(
            encoder=VARIANTS.build(dict(encoder)),
            decoder=VARIANTS.build(dict(decoder)),
            vision=VARIANTS.build(dict(vision)),
            vocab_size=vocab_size,
            pad_id=pad_id,
            bos_id=bos_id,
            eos_id=eos_id,
            label_smoothing=label_smoothing,
        )
        training = VARIANTS.build(dict(encoder_training)) if encoder_training else EncoderTrainingSpec()
        if training.frozen:
            self.git.encoder = FrozenEncoder(self.git.encoder.spec, reuse=feature_cache)
        self.encoder_init = _encoder_init(encoder_init)
        initialise(self.git, init_seed)

    def forward(  # type: ignore[override]
        self,
        images: torch.Tensor,
        tokens: torch.Tensor,
        need_predict: torch.Tensor,
        image_ids: list[str],
        mode: str = "tensor",
        image_set: str | None = None,
        indices: Sequence[int] = (),
        **_: Any,
    ) -> Any:
        with self._known(image_set, indices):
            return self._forward(images, tokens, need_predict, image_ids, mode)

    def _known(self, image_set: str | None, indices: Sequence[int]) -> AbstractContextManager[None]:
        """Tell a frozen encoder which images it is shown; the blind see none of them."""
        if isinstance(self.git.encoder, FrozenEncoder) and not self.git.vision.blind:
            return self.git.encoder.known(image_set, indices)
        return nullcontext()

    def _forward(
        self, images: torch.Tensor, tokens: torch.Tensor, need_predict: torch.Tensor, image_ids: list[str], mode: str
    ) -> Any:
        n, k, t = tokens.shape
        flat, predicted = tokens.view(n * k, t), need_predict.view(n * k, t)
        if mode == "loss":
            return {"loss": self.git.loss(images, flat, predicted)}
        if mode == "tensor":
            return self.git.logits(images, tokens[:, 0])
        nll, count = self.git.token_nll(images, flat, predicted)
        likelihood = [
            {"image_id": image_id, "nll": a.item(), "tokens": int(b)}
            for image_id, a, b in zip(image_ids, nll.view(n, k).sum(1), count.view(n, k).sum(1), strict=True)
        ]
        if mode == "likelihood":
            return likelihood
        sequences, scores = self.git.generate(images, **self.generation)
        return [
            {**item, "ids": ids, "score": score}
            for item, ids, score in zip(likelihood, sequences.tolist(), scores.tolist(), strict=True)
        ]

    def val_step(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """Likelihood of the references only: validation follows the loss, captions are generated once, at the end."""
        return self._run_forward(self.data_preprocessor(data, False), mode="likelihood")


def _encoder_init(values: dict[str, Any] | None) -> EncoderInitSpec:
    """Build the spec, whose recipe a config holds as a plain dict."""
    if not values:
        return EncoderInitSpec()
    recipe = values.get("recipe")
    spec = VARIANTS.build({**values, "recipe": ContrastiveSpec(**recipe) if recipe else None})
    assert isinstance(spec, EncoderInitSpec)
    return spec
