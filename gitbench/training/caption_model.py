"""GIT as an mmengine model: pixels are normalised on the device, `mode` chooses loss, captions or likelihood."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel

from gitbench.data.image_processor import CLIP_MEAN, CLIP_STD
from gitbench.models.cache import Memory
from gitbench.models.git import GIT
from gitbench.models.init import initialise
from gitbench.models.packed import PackedTexts
from gitbench.models.trie import Trie
from gitbench.registry import MODELS, VARIANTS
from gitbench.training.adaptation import adapt
from gitbench.training.device import on_device
from gitbench.training.frozen import FrozenEncoder

Prefixes = Sequence[Sequence[Sequence[int]]]  # of each image, for each text to be generated: the ids it starts with


@MODELS.register_module()
class ImagePreprocessor(BaseDataPreprocessor):
    """Move a batch to the device and turn uint8 pixels (N,3,H,W) into CLIP-normalised floats.

    Batches without pixels have those of `resident`: an image set's, uint8 (n, H, W, 3) on the device.
    """

    def __init__(self) -> None:
        super().__init__(non_blocking=True)
        self.resident: dict[str, torch.Tensor] = {}
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        data = self.cast_data(data)
        images = data["images"] if "images" in data else self._resident(data["image_set"], data["indices"])
        return {**data, "images": self.normalised(images)}

    def _resident(self, image_set: str, indices: Sequence[int]) -> torch.Tensor:
        held = self.resident[image_set]
        return held.index_select(0, on_device(held.device, indices)).movedim(-1, -3).contiguous()

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Return uint8 pixels (N,3,H,W) as an image encoder reads them, float32, on this device."""
        return (images.to(self.device, non_blocking=True).float() - self.mean) / self.std


@MODELS.register_module()
class CaptionModel(BaseModel):
    """The registry's model: variants named by `type`, their values in full, initial values from `init_seed` alone.

    Each axis that the config names becomes a spec in `variants`, axis -> spec; the model, its hooks and the optimizer read
    what concerns them. `variants` must hold encoder, decoder and vision.

    Batches are those of `caption_collate`, after `ImagePreprocessor`: images (N,3,H,W), of films (N,F,3,H,W), tokens
    (N,K,T), texts (the same, packed), image_ids; request_prefixes; and for a frozen encoder, which reuses features,
    image_set and indices.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        pad_id: int,
        bos_id: int,
        eos_id: int,
        label_smoothing: float,
        init_seed: int,
        generation: dict[str, Any],
        data_preprocessor: dict[str, Any],
        num_frames: int = 0,
        **variants: dict[str, Any],
    ) -> None:
        super().__init__(data_preprocessor=MODELS.build(data_preprocessor))
        self.generation = dict(generation)
        self.texts: dict[str, Any] = {}  # of a finished run: its `task`, and the `max_tokens` of a text
        self.vocabulary: Trie | None = None  # closed, of tasks that have one: given by ClosedVocabularyHook
        self.variants: dict[str, Any] = {axis: VARIANTS.build(values) for axis, values in variants.items()}
        self.git = GIT(
            encoder=self.variants["encoder"],
            decoder=self.variants["decoder"],
            vision=self.variants["vision"],
            vocab_size=vocab_size,
            pad_id=pad_id,
            bos_id=bos_id,
            eos_id=eos_id,
            label_smoothing=label_smoothing,
            num_frames=num_frames,
            tied="start" not in self.variants or self.variants["start"].tied,
        )
        if "encoder_training" in self.variants and self.variants["encoder_training"].frozen:
            self.git.encoder = FrozenEncoder(self.git.encoder.spec)
        initialise(self.git, init_seed)
        if "adaptation" in self.variants:
            adapt(self.git, self.variants["adaptation"], init_seed)

    def forward(  # type: ignore[override]
        self,
        images: torch.Tensor,
        tokens: torch.Tensor,
        texts: PackedTexts,
        image_ids: list[str],
        mode: str,
        image_set: str | None = None,
        indices: Sequence[int] = (),
        request_prefixes: Prefixes | None = None,
        **_: Any,
    ) -> Any:
        n, k, t = tokens.shape
        known: AbstractContextManager[None] = nullcontext()
        if isinstance(self.git.encoder, FrozenEncoder) and not self.git.vision.blind:  # a blind model shows it nothing
            frames = images.shape[1] if images.dim() == 5 else 1
            numbers = [index * frames + frame for index in indices for frame in range(frames)]
            known = self.git.encoder.known(image_set, numbers)
        with known:
            memory = self.git.image_memory(images)
        self.git.embedding.check_length(t - 1)
        if mode == "loss":
            return {"loss": self.git.packed_loss(memory, texts)}
        nll, count = (x.view(n, k).tolist() for x in self.git.packed_nll(memory, texts, n * k))
        if mode == "likelihood":
            return [
                {"image_id": image_id, "nll": math.fsum(a), "tokens": sum(b)}
                for image_id, a, b in zip(image_ids, nll, count, strict=True)
            ]
        prefixes = request_prefixes or [[[self.git.bos_id]]] * n
        outputs = predict(self.git, memory, nll, count, prefixes, self.generation, self.vocabulary)
        return [
            {"image_id": image_id, "outputs": each} for image_id, each in zip(image_ids, outputs, strict=True)
        ]  # mmengine wants one result an image

    def val_step(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """Likelihood of the references only: validation follows the loss, captions are generated once, at the end."""
        return self._run_forward(self.data_preprocessor(data, False), mode="likelihood")


def predict(
    git: GIT,
    memory: Memory,
    nll: list[list[float]],
    count: list[list[int]],
    prefixes: Prefixes,
    generation: Mapping[str, Any],
    vocabulary: Trie | None = None,
) -> list[list[dict[str, Any]]]:
    """Return likelihood, generated ids and their score of every request, image by image.

    `nll`, `count`: of each image's texts, in nats, and how many tokens they have. A request's likelihood is that of its own
    text, and of all the image's texts where there is one request. With a `vocabulary` each is also generated within that.
    """
    written = _write(git, memory, prefixes, **generation)
    closed: Iterator[dict[str, Any]] | None = None
    if vocabulary is not None:  # its score is the log-probability of the entry
        closed = _write(git, memory, prefixes, **{**generation, "length_penalty": 0.0, "vocabulary": vocabulary})
    results = []
    for row, asked in enumerate(prefixes):
        outputs = []
        for place in range(len(asked)):
            texts = slice(None) if len(asked) == 1 else slice(place, place + 1)
            output = next(written) | {"nll": math.fsum(nll[row][texts]), "tokens": sum(count[row][texts])}
            if closed is not None:
                output |= {f"closed_{name}": value for name, value in next(closed).items()}
            outputs.append(output)
        results.append(outputs)
    return results


def _write(git: GIT, memory: Memory, prefixes: Prefixes, **options: Any) -> Iterator[dict[str, Any]]:
    """Yield ids (without what was given) and score of every prefix of every image, in order."""
    flat = [ids for of_image in prefixes for ids in of_image]
    longest, device = max(map(len, flat)), memory[0][0].device
    if longest > 1 or len(flat) != len(prefixes):
        padded = [[*ids, *[git.pad_id] * (longest - len(ids))] for ids in flat]
        owners = [row for row, of_image in enumerate(prefixes) for _ in of_image]
        options["prefix"] = torch.tensor(padded, device=device)
        options["image_index"] = torch.tensor(owners, device=device)
    sequences, scores = git.write(memory, len(prefixes), **options)
    for ids, sequence, score in zip(flat, sequences.tolist(), scores.tolist(), strict=True):
        yield {"ids": sequence[len(ids) :], "score": score}
