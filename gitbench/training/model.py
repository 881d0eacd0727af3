"""GIT as an mmengine model: pixels are normalised on the device, `mode` chooses loss, captions or likelihood."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel

from gitbench.data.transforms import CLIP_MEAN, CLIP_STD
from gitbench.models.cache import Memory
from gitbench.models.git import GIT
from gitbench.models.init import initialise
from gitbench.models.packed import PackedTexts, pack
from gitbench.models.trie import Trie
from gitbench.registry import MODELS, VARIANTS
from gitbench.spec import ContrastiveSpec
from gitbench.training.frozen import FrozenEncoder
from gitbench.variants.decoder_init import DecoderInitSpec
from gitbench.variants.encoder_init import EncoderInitSpec
from gitbench.variants.encoder_training import EncoderTrainingSpec


@MODELS.register_module()
class ImagePreprocessor(BaseDataPreprocessor):
    """Pack a batch's texts, move it to the device and turn uint8 pixels (N,3,H,W) into CLIP-normalised floats."""

    def __init__(self, pad_id: int = 0) -> None:
        super().__init__(non_blocking=True)
        self.pad_id = pad_id
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        if "tokens" in data:  # pre-training shows images alone
            n, k, t = data["tokens"].shape
            texts = pack(data["tokens"].view(n * k, t), data["need_predict"].view(n * k, t), n, self.pad_id)
            if self.device.type == "cuda":  # copies from memory that is not pinned wait for all the device has to do
                texts = PackedTexts(*(part.pin_memory() for part in texts))
            data = {**data, "texts": texts}
        data = self.cast_data(data)
        return {**data, "images": (data["images"].float() - self.mean) / self.std}


@MODELS.register_module()
class CaptionModel(BaseModel):
    """The registry's model: variants named by `type`, their values in full, initial values from `init_seed` alone.

    Batches are those of `caption_collate`: images (N,3,H,W) uint8, of films (N,F,3,H,W), tokens (N,K,T), need_predict
    (N,K,T), image_ids; request_prefixes, for each image the ids given for each text to be generated; and for a frozen
    encoder, which reuses features if `feature_cache`, image_set and indices. `encoder_init` and `decoder_init`
    are kept for the hooks of these names, which have the data and the tokenizer that they need.
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
        decoder_init: dict[str, Any] | None = None,
        feature_cache: bool = True,
        num_frames: int = 0,
    ) -> None:
        super().__init__(data_preprocessor=MODELS.build({**data_preprocessor, "pad_id": pad_id}))
        self.generation = dict(generation)
        self.vocabulary: Trie | None = None  # closed, of tasks that have one: given by ClosedVocabularyHook
        self.git = GIT(
            encoder=VARIANTS.build(dict(encoder)),
            decoder=VARIANTS.build(dict(decoder)),
            vision=VARIANTS.build(dict(vision)),
            vocab_size=vocab_size,
            pad_id=pad_id,
            bos_id=bos_id,
            eos_id=eos_id,
            label_smoothing=label_smoothing,
            num_frames=num_frames,
        )
        training = VARIANTS.build(dict(encoder_training)) if encoder_training else EncoderTrainingSpec()
        if training.frozen:
            self.git.encoder = FrozenEncoder(self.git.encoder.spec, reuse=feature_cache)
        self.encoder_init = _encoder_init(encoder_init)
        self.decoder_init = VARIANTS.build(dict(decoder_init)) if decoder_init else DecoderInitSpec()
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
        request_prefixes: Sequence[Sequence[Sequence[int]]] | None = None,
        texts: PackedTexts | None = None,
        **_: Any,
    ) -> Any:
        n, k, t = tokens.shape
        with self._known(images, image_set, indices):
            if mode == "tensor":
                return self.git.logits(images, tokens[:, 0])
            memory = self.git.image_memory(images)
        self.git.embedding.check_length(t - 1)
        if texts is None:  # a batch that did not come through the preprocessor
            texts = self.git.packed(tokens.view(n * k, t), need_predict.view(n * k, t), n)
        if mode == "loss":
            return {"loss": self.git.packed_loss(memory, texts)}
        nll, count = (x.view(n, k).tolist() for x in self.git.packed_nll(memory, texts, n * k))
        if mode == "likelihood":
            return [
                {"image_id": image_id, "nll": math.fsum(a), "tokens": sum(b)}
                for image_id, a, b in zip(image_ids, nll, count, strict=True)
            ]
        return self._predict(memory, image_ids, nll, count, request_prefixes)

    def _known(
        self, images: torch.Tensor, image_set: str | None, indices: Sequence[int]
    ) -> AbstractContextManager[None]:
        """Tell a frozen encoder which images it is shown, frame by frame; the blind see none of them."""
        if isinstance(self.git.encoder, FrozenEncoder) and not self.git.vision.blind:
            frames = images.shape[1] if images.dim() == 5 else 1
            numbers = [index * frames + frame for index in indices for frame in range(frames)]
            return self.git.encoder.known(image_set, numbers)
        return nullcontext()

    def _predict(
        self,
        memory: Memory,
        image_ids: list[str],
        nll: list[list[float]],
        count: list[list[int]],
        request_prefixes: Sequence[Sequence[Sequence[int]]] | None,
    ) -> list[dict[str, Any]]:
        """Likelihood and generated ids of every request, image by image (mmengine wants one result an image).

        A request's likelihood is that of its own text, and of all the image's texts where there is one request.
        """
        prefixes = request_prefixes or [[[self.git.bos_id]]] * len(image_ids)
        written = self._write(memory, prefixes, **self.generation)
        closed: Iterator[dict[str, Any]] | None = None
        if self.vocabulary is not None:  # its score is the log-probability of the entry
            options = {**self.generation, "length_penalty": 0.0, "vocabulary": self.vocabulary}
            closed = self._write(memory, prefixes, **options)
        results = []
        for row, image_id in enumerate(image_ids):
            outputs = []
            for place in range(len(prefixes[row])):
                texts = slice(None) if len(prefixes[row]) == 1 else slice(place, place + 1)
                output = next(written) | {"nll": math.fsum(nll[row][texts]), "tokens": sum(count[row][texts])}
                if closed is not None:
                    output |= {f"closed_{name}": value for name, value in next(closed).items()}
                outputs.append(output)
            results.append({"image_id": image_id, "outputs": outputs})
        return results

    def _write(
        self, memory: Memory, prefixes: Sequence[Sequence[Sequence[int]]], **options: Any
    ) -> Iterator[dict[str, Any]]:
        """Yield ids (without what was given) and score of every prefix of every image, in order."""
        flat = [ids for of_image in prefixes for ids in of_image]
        given: dict[str, Any] = {}
        if max(map(len, flat)) > 1 or len(flat) != len(prefixes):
            longest, device = max(map(len, flat)), memory[0][0].device
            padded = [[*ids, *[self.git.pad_id] * (longest - len(ids))] for ids in flat]
            owners = [row for row, of_image in enumerate(prefixes) for _ in of_image]
            given = {
                "prefix": torch.tensor(padded, device=device),
                "image_index": torch.tensor(owners, device=device),
            }
        sequences, scores = self.git.write(memory, len(prefixes), **given, **options)
        for ids, sequence, score in zip(flat, sequences.tolist(), scores.tolist(), strict=True):
            yield {"ids": sequence[len(ids) :], "score": score}

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
