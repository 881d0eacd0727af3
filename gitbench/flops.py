"""The floating-point operations of GIT by formula, forward and of a training step, from sizes alone. No torch.

Counted: matrix products (two operations per multiply-add), those of attention included, with causal attention at the
half that is needed. Not counted: norms, activations, softmax, embeddings, position resizing, the optimizer. An image passes
each self-attention layer once, however many captions it has, and the last one makes only keys and values; with
cross-attention every layer does only that.

A backward pass costs a product as much as the forward pass for the gradient of what it was given, where something before it is
trained, and as much again for that of its weight, where this is trained; attention, which has no weights, twice as much.
Trained whole, that is twice the forward pass. A gradient that reaches a part is counted for the whole of it.

s tokens an image, k captions of T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gitbench.variants.adaptation import AdaptationSpec
    from gitbench.variants.decoder import DecoderSpec
    from gitbench.variants.encoder import EncoderSpec

TOKENS = 20  # of a caption


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the forward pass of an image: operations with weights, those of attention, and layers they are shared among.

    `adapted` are the operations that an adapter of rank 1 adds in the part.
    """

    weights: float
    attention: float = 0.0
    layers: int = 1
    adapted: float = 0.0

    @property
    def forward(self) -> float:
        """All operations of the part's forward pass."""
        return self.weights + self.attention


def forward_parts(
    vit: EncoderSpec, text: DecoderSpec, vocabulary: int, captions: int = 1, tokens: int = TOKENS, frames: int = 1
) -> dict[str, Part]:
    """Return the parts in order: patches, encoder, projection, image_stream, text_stream, head (all k*T positions).

    frames: of a film, which the encoder sees one by one and the decoder end to end.
    """
    patches, w, d = (vit.image_size // vit.patch) ** 2, vit.width, text.width
    s, texts, layers = frames * (1 + patches), captions * tokens, text.layers
    block = 2 * s * (4 * w**2 + 2 * w * int(w * vit.mlp_ratio))
    token = 2 * (4 * d**2 + 2 * d * text.ffn)
    seen = s + (tokens + 1) / 2
    # an adapter of rank 1 beside a product from a to b numbers costs 2 (a + b) a token: 8 d beside q, k and v, 4 d at the output
    if text.attention == "cross":
        token += 4 * d**2  # the queries to the image, and what is made of the answer
        image = Part(weights=layers * s * 4 * d**2, layers=layers, adapted=layers * s * 6 * d)
        of_text = 20 * d
    else:
        whole = layers - 1
        image = Part(
            weights=whole * s * token + s * 4 * d**2,
            attention=whole * 4 * s**2 * d,
            layers=layers,
            adapted=s * (whole * 12 + 8) * d,
        )
        of_text = 12 * d
    return {
        "patches": Part(weights=2 * frames * patches * 3 * vit.patch**2 * w),
        "encoder": Part(
            weights=vit.layers * block,
            attention=vit.layers * 4 * s * (1 + patches) * w,
            layers=vit.layers,
            adapted=vit.layers * s * 12 * w,
        ),
        "projection": Part(weights=2 * s * w * d),
        "image_stream": image,
        "text_stream": Part(
            weights=layers * texts * token,
            attention=layers * texts * 4 * seen * d,
            layers=layers,
            adapted=layers * texts * of_text,
        ),
        "head": Part(weights=2 * texts * d * vocabulary),
    }


def step_flops(parts: Mapping[str, Part], adaptation: AdaptationSpec, *, frozen: bool, kept: bool) -> float:
    """Return the operations of a training step per image, forward and backward.

    frozen: the encoder is, wholly; kept: what it makes of an image is kept, so that no step computes it.
    """
    total = 0.0
    for name, part in parts.items():
        vision = name in ("patches", "encoder")
        if frozen and vision:
            total += 0.0 if kept else part.forward
            continue
        trained, reached = _backward(name, part.layers, adaptation, frozen)
        total += part.forward + reached * (part.weights + 2 * part.attention) + trained * part.weights
        total += 3 * adaptation.rank * part.adapted
    return total


def _backward(name: str, layers: int, adaptation: AdaptationSpec, frozen: bool) -> tuple[float, float]:
    """Return the shares of a part whose weights are trained, and through which a gradient goes."""
    trains, vision = adaptation.trains, name in ("patches", "encoder")
    if trains == "everything":
        return 1.0, 0.0 if frozen and name == "projection" else 1.0  # nothing before it is trained
    if trains == "encoder":
        return float(vision), 1.0
    if trains == "layers":
        last = min(adaptation.layers, layers) / layers
        if vision:
            return (0.0, 0.0) if name == "patches" else (last, last)
        return (last if name.endswith("_stream") else 0.0), 1.0
    return 0.0, 0.0 if name == "patches" else 1.0  # vectors and adapters, everywhere behind the patches


def equal_iterations(run: Any) -> int:
    """Return how many iterations of a run (`RunSpec`) cost what training everything costs in the iterations that it has.

    Of a frozen encoder's images, each is encoded once where it can be kept: without crops, in a known number.
    """
    vit, text, adaptation = (run.variants[axis] for axis in ("encoder", "decoder", "adaptation"))
    frozen, images = run.variants["encoder_training"].frozen, run.data.train_images
    kept = frozen and run.data.crop_scale is None and images is not None
    frames = max(1, run.task.frames)
    parts = forward_parts(vit, text, run.text.vocab_size, run.train.captions_per_image, frames=frames)
    whole = 3 * sum(part.forward for part in parts.values())
    budget = run.train.iterations * run.train.batch_images * whole
    if kept:
        budget -= images * (parts["patches"].forward + parts["encoder"].forward)
    step = run.train.batch_images * step_flops(parts, adaptation, frozen=frozen, kept=kept)
    return max(1, round(budget / step))
