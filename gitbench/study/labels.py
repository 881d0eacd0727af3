"""What an arm is called in tables and figures: computed from what it varies, never typed twice."""

from __future__ import annotations

from pathlib import Path

from gitbench.spec import Arm, RunSpec


def arm_label(spec: RunSpec, arm: Arm) -> str:
    """Return the label of an arm, computed from what it varies."""
    if arm.role == "floor":
        return "never sees the image"
    return ", ".join(_label(axis, name, spec) for axis, name in arm.variants.items())


def _label(axis: str, name: str, spec: RunSpec) -> str:
    if axis == "decoder":
        one = spec.decoder
        size = f"{_layers(one.layers)} × {one.width}"
        wide = f", feed-forward {one.ffn}" if one.ffn != 4 * one.width else ""
        return size + (", cross-attention" if one.attention == "cross" else "") + wide
    if axis == "encoder":
        return f"ViT, {_layers(spec.encoder.layers)} × {spec.encoder.width}"
    if axis == "amount":
        return "all images" if spec.data.train_images is None else f"{spec.data.train_images:,} images"
    if axis == "encoder_training":
        ratio = spec.train.lr_decoder / spec.train.lr_encoder
        return "encoder frozen" if spec.encoder_training.frozen else f"encoder trained, rates 1:{ratio:g}"
    if axis == "encoder_init":
        init = spec.encoder_init
        if init.source == "contrastive" and init.recipe is not None:
            return f"contrastive pre-training, {init.recipe.iterations:,} × {init.recipe.batch_images} images"
        return "random values" if init.source == "random" else f"weights of {init.path}"
    if axis == "decoder_init":
        start = spec.decoder_init
        return "random values" if start.source == "random" else f"BERT weights ({_bert_name(start.path)})"
    return name


def _bert_name(source: str | None) -> str:
    """A folder's own name, since where it lies is nobody's business; else the name as it was given."""
    return Path(source).name if source and Path(source).is_absolute() else str(source)


def _layers(count: int) -> str:
    return f"{count} layer{'s' * (count != 1)}"
