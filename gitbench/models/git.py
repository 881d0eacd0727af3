"""GIT: image encoder, projection, text decoder (Wang et al. 2022, Figure 2), with the official code's numbers.

The image goes through the encoder once, and its keys and values in the decoder are made once, however many captions it
has; see `decoder.py` and, for cross-attention, `cross_attention.py`. Loss is the official one: next-token prediction on
the predicted part only, label smoothing 0.1, and the vocabulary projection is made for those positions only.

N images, F frames, M texts of T tokens (M = N*k), S image tokens, D decoder width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gitbench.errors import GitbenchError, lookup
from gitbench.models.cache import Memory
from gitbench.models.cross_attention import CrossAttentionDecoder
from gitbench.models.decoder import Decoder, SelfAttentionDecoder, TextEmbedding
from gitbench.models.encoder import ImageEncoder
from gitbench.models.fast_linear import linear, speed_up
from gitbench.models.generate import search
from gitbench.models.init import initialise
from gitbench.models.packed import PackedTexts, end_to_end, pack
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec
from gitbench.variants.vision import VisionSpec

DECODERS: dict[str, type[Decoder]] = {"self": SelfAttentionDecoder, "cross": CrossAttentionDecoder}


def build_decoder(spec: DecoderSpec) -> Decoder:
    """Build the decoder that `spec.attention` names; an unknown name raises an error that offers the nearest."""
    kind = lookup("decoder attention", spec.attention, DECODERS)
    if spec.width % spec.heads:
        raise GitbenchError(
            f"decoder width {spec.width} is not a multiple of its {spec.heads} heads: change one of them"
        )
    if spec.layers < 1:
        raise GitbenchError(f"a decoder of {spec.layers} layers cannot be built: use at least 1")
    return kind(spec)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Return images (..., H, W) blurred by a Gaussian of `sigma` > 0 pixels, which at the edges is cut off and rescaled."""

    def spread(size: int) -> Tensor:
        place = torch.arange(size, device=images.device, dtype=torch.float64)
        weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
        return (weights / weights.sum(1, keepdim=True)).to(images.dtype)

    height, width = images.shape[-2:]
    return spread(height) @ images @ spread(width).T


class GIT(nn.Module):
    """The model. Its parameters start at `initialise(self, 0)`; call `initialise` again for another seed.

    `num_frames` > 0 adds a temporal embedding (zero at the start) to all tokens of each frame of a video, after the
    encoder's final norm. Ids default to BERT's. With `vision.blind` the pixels are replaced by zeros (the mean pixel),
    with `vision.blur` each image by its `blurred`. The head's weight is the word embedding, unless the model is not `tied`.
    """

    def __init__(
        self,
        *,
        encoder: EncoderSpec,
        decoder: DecoderSpec,
        vocab_size: int,
        vision: VisionSpec = VisionSpec(),  # noqa: B008 (frozen)
        num_frames: int = 0,
        pad_id: int = 0,
        bos_id: int = 101,
        eos_id: int = 102,
        label_smoothing: float = 0.1,
        tied: bool = True,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise GitbenchError(f"label_smoothing {label_smoothing} is out of range: use a value from 0 to below 1")
        if not 0 <= vision.blur < math.inf:
            raise GitbenchError(f"a blur of {vision.blur} pixels is no width of a Gaussian: use 0 or more")
        if not all(0 <= i < vocab_size for i in (pad_id, bos_id, eos_id)):
            raise GitbenchError(
                f"pad_id {pad_id}, bos_id {bos_id} or eos_id {eos_id} lies outside the vocabulary of {vocab_size}: "
                "pass the tokenizer's ids"
            )
        self.vision, self.vocab_size, self.num_frames = vision, vocab_size, num_frames
        self.pad_id, self.bos_id, self.eos_id, self.label_smoothing = pad_id, bos_id, eos_id, label_smoothing
        self.encoder = ImageEncoder(encoder)
        self.temporal = nn.Parameter(torch.zeros(num_frames, encoder.width)) if num_frames else None
        self.projection = nn.Sequential(nn.Linear(encoder.width, decoder.width), nn.LayerNorm(decoder.width, eps=1e-5))
        self.embedding = TextEmbedding(decoder, vocab_size)
        self.decoder = build_decoder(decoder)
        self.head_weight = None if tied else nn.Parameter(torch.zeros(vocab_size, decoder.width))
        self.head_bias = nn.Parameter(torch.zeros(vocab_size))
        speed_up(self)
        initialise(self, 0)

    # -- image -------------------------------------------------------------------------------------------------------

    def encode(self, images: Tensor) -> Tensor:
        """Encode and project images (N,3,H,W) or videos (N,F,3,H,W) to (N, S, D); frames are joined in order.

        A blind model returns one row for all images. A video with fewer frames than `num_frames` uses the first
        temporal embeddings, as the official code does; one with more is an error (the official code drops frames).
        """
        if images.dim() not in (4, 5) or images.shape[-3] != 3:
            raise GitbenchError(f"images of shape {tuple(images.shape)}: pass (N,3,H,W), or (N,F,3,H,W) for video")
        if self.vision.blind:
            images = torch.zeros_like(images[:1])  # all blind images are equal: one pass serves them all
        elif self.vision.blur:
            images = blurred(images, self.vision.blur)
        if images.dim() == 4:
            return self.projection(self.encoder(images))
        frames = images.shape[1]
        if self.num_frames and frames > self.num_frames:
            raise GitbenchError(
                f"a video of {frames} frames for a model of {self.num_frames}: sample at most {self.num_frames} frames"
            )
        tokens = self.encoder(images.flatten(0, 1)).unflatten(0, (-1, frames))
        if self.temporal is not None:
            tokens = tokens + self.temporal[:frames, None]
        return self.projection(tokens.flatten(1, 2))

    def image_memory(self, images: Tensor) -> Memory:
        """Keys and values of the image tokens in every decoder layer, rows N (1 if blind): all that texts need."""
        return self.decoder.image_memory(self.encode(images))

    # -- text --------------------------------------------------------------------------------------------------------

    def head(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits of hidden states (..., D) -> (..., V): the word embedding or a weight of its own, and a bias."""
        weight = self.embedding.words.weight if self.head_weight is None else self.head_weight
        return linear(hidden, weight, self.head_bias)

    def logits(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Next-token logits (M, T, V) at every position of `tokens` (M, T) int64; M = N*k texts in image order, k each."""
        (count, length), rows = tokens.shape, images.shape[0]
        if not count or not rows or count % rows:
            raise GitbenchError(f"{count} texts cannot be shared out to {rows} images: pass as many for each image")
        positions, visible = end_to_end(length, count // rows, tokens.device)
        self.embedding.check_length(length)
        text = self.embedding(tokens.reshape(rows, -1), positions)
        return self.head(self.decoder.text(text, self.image_memory(images), visible).reshape(count, length, -1))

    def loss(self, images: Tensor, tokens: Tensor, need_predict: Tensor) -> Tensor:
        """Return the official loss, a scalar: KL(smoothed target || model) in nats, mean over predicted tokens.

        tokens (M, T), right-padded, M = N*k texts in image order; need_predict (M, T) marks the tokens to be predicted
        (not [CLS], not a prefix). The smoothed target gives 1 - eps to the token and eps / (V - 1) to every other one.
        No target is an error.
        """
        self.embedding.check_length(tokens.shape[1] - 1)
        texts = pack(tokens, need_predict, images.shape[0], self.pad_id)
        return self.packed_loss(self.image_memory(images), texts)

    def packed_loss(self, memory: Memory, texts: PackedTexts) -> Tensor:
        """Return `loss` of packed texts and their images' memory."""
        if not len(texts.targets):
            raise GitbenchError(
                "no token of the batch is to be predicted: need_predict is all false, or true only on [PAD]"
            )
        eps, others = self.label_smoothing, self.vocab_size - 1
        # torch spreads its smoothing over all V classes, the target included; this factor makes both alike
        smoothing = eps * self.vocab_size / others
        loss = F.cross_entropy(self._predictions(memory, texts), texts.targets, label_smoothing=smoothing)
        return loss - (-(1 - eps) * math.log(1 - eps) - eps * math.log(eps / others) if eps else 0.0)

    def packed_nll(self, memory: Memory, texts: PackedTexts, count: int) -> tuple[Tensor, Tensor]:
        """Return the negative log-likelihood (M,) in nats of each of `count` = M packed texts, summed over its predicted
        tokens, and how many these are (M,).
        """
        nll = F.cross_entropy(self._predictions(memory, texts), texts.targets, reduction="none")
        assert texts.owners is not None, "packed for the loss alone"
        tokens = torch.zeros(count, dtype=torch.long, device=nll.device)
        return (
            nll.new_zeros(count).index_add_(0, texts.owners, nll),
            tokens.index_add_(0, texts.owners, torch.ones_like(texts.owners)),
        )

    def _predictions(self, memory: Memory, texts: PackedTexts) -> Tensor:
        """Logits (P, V), at least float32, of the tokens that have a target; the vocabulary is looked at nowhere else."""
        text = self.embedding(texts.tokens, texts.positions)
        hidden = self.decoder.text(text, memory, texts.visible).flatten(0, 1)
        logits = self.head(hidden if texts.places is None else hidden.index_select(0, texts.places))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    @torch.no_grad()
    def generate(
        self,
        images: Tensor,
        prefix: Tensor | None = None,
        *,
        image_index: Tensor | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        """Write a text per prefix, without dropout: (sequences (M, L) int64, scores (M,)).

        `options` are those of `gitbench.models.generate.search`: beam_size, length_penalty, max_length, greedy,
        vocabulary.

        `prefix` (M, P) holds ids that start with [CLS], of any lengths, padded at the end; without it every text starts
        with [CLS] alone. Text i belongs to image `image_index[i]`; without an index, the M = N texts stand in image
        order. With a `vocabulary` every text is one of its entries, and length_penalty 0 makes the score log p of it.

        Sequences start with [CLS] and the prefix, without pads, and are filled up with [SEP]; each ends in at least one.
        """
        if images.shape[0] == 0 or (image_index is not None and not image_index.numel()):
            raise GitbenchError("there is nothing to generate: pass at least one image and one text to write")
        was_training = self.training
        self.eval()
        try:
            memory = self.image_memory(images)
            return self.write(memory, images.shape[0], prefix, image_index=image_index, **options)
        finally:
            self.train(was_training)

    @torch.no_grad()
    def write(
        self,
        memory: Memory,
        images: int,
        prefix: Tensor | None = None,
        *,
        image_index: Tensor | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        """Do what `generate` does, with the memory of so many images, made in eval mode; the model must be in it too."""
        count = images if image_index is None else image_index.numel()
        device = memory[0][0].device
        if prefix is not None and (prefix.dim() != 2 or prefix.shape[0] != count or not prefix.shape[1]):
            per = "image" if image_index is None else "entry of image_index"
            raise GitbenchError(
                f"prefix of shape {tuple(prefix.shape)}: pass one row of ids, starting with [CLS], per {per} ({count})"
            )
        if image_index is not None:
            if image_index.dim() != 1 or not 0 <= int(image_index.min()) <= int(image_index.max()) < images:
                raise GitbenchError(
                    f"image_index must hold one number from 0 to {images - 1} for each of the {count} texts"
                )
            if not torch.equal(image_index, torch.arange(images, device=device)):  # one row serves all texts
                memory = [(k[image_index], v[image_index]) if len(k) > 1 else (k, v) for k, v in memory]
        if prefix is None:
            rows = 1 if self.vision.blind else count  # a blind model says the same about every image
            prefix = torch.full((rows, 1), self.bos_id, device=device)
        sequences, scores = search(self, memory, prefix, **options)
        return sequences.expand(count, -1).clone(), scores.expand(count).clone()
