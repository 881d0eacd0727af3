"""Image encoders: ViTs of CLIP's shape. "vit_b16" and "vit_l14" are the paper's (Table 11), "vit_h14" is larger than any of
OpenAI's; the others are for 64 to 128 px. Any other is named by its size: vit_12x768_p16_64 has 12 layers 768 wide, patches of
16 pixels and images of 64.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gitbench.axis import Axis, Touches
from gitbench.formats import plural
from gitbench.spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """A CLIP-shaped ViT (official `CLIP/model.py`): norm before the blocks, QuickGELU, all tokens kept."""

    width: int
    layers: int
    heads: int
    patch: int
    image_size: int  # pixels; the grid that the position embedding is made for
    mlp_ratio: float = 4.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Layers, width and patch, which weights must have; a position table for other images is resized."""
        return self.layers, self.width, self.patch


def vit(width: int, layers: int, patch: int, image_size: int) -> EncoderSpec:
    """Return a ViT whose heads are 64 wide as CLIP's (80 in a ViT-H), 32 wide below width 192."""
    return EncoderSpec(width=width, layers=layers, heads=width // _head(width), patch=patch, image_size=image_size)


def _head(width: int) -> int:
    return {1280: 80}.get(width, 64 if width >= 192 else 32)


def spelt(name: str) -> EncoderSpec | None:
    """Return the ViT that a name such as vit_12x768_p16_64 spells out; None where it does not, or there can be none."""
    found = re.fullmatch(r"vit_([1-9]\d*)x([1-9]\d*)_p([1-9]\d*)_([1-9]\d*)", name)
    if found is None:
        return None
    layers, width, patch, size = map(int, found.groups())
    return vit(width, layers, patch, size) if width % _head(width) == 0 and size % patch == 0 else None


def name_of(shape: tuple[int, int, int], image_size: int) -> str:
    """Return the variant of that shape (layers, width, patch) for images of so many pixels."""
    layers, width, patch = shape
    wanted = vit(width, layers, patch, image_size)
    return next(
        (name for name, spec in AXIS.variants.items() if spec == wanted), f"vit_{layers}x{width}_p{patch}_{image_size}"
    )


def _label(run: RunSpec, name: str) -> str:
    one: EncoderSpec = run.variants["encoder"]
    return f"ViT, {plural(one.layers, 'layer')} \N{MULTIPLICATION SIGN} {one.width}"


AXIS = Axis(
    name="encoder",
    spec=EncoderSpec,
    doc="the image encoder: layers x width, patch, pixels",
    label=_label,
    named=spelt,
    # weights are of one size: each encoder starts from its own, by the same recipe or from the same source
    touches=Touches(
        config=("model.encoder.*", *(f"model.encoder_init.{name}" for name in ("content", "path", "version"))),
        shapes=("encoder.*", "projection.0.weight"),
    ),
)
for _size in ("1x64_p8_64", "2x64_p8_64", "3x64_p8_64", "4x96_p8_64", "6x128_p8_64"):
    AXIS.add(f"vit_{_size}", spelt(f"vit_{_size}"))
for _size in ("4x192_p16_128", "8x384_p16_128", "12x512_p16_128"):
    AXIS.add(f"vit_{_size}", spelt(f"vit_{_size}"))
AXIS.add("vit_b16", vit(768, 12, 16, 224))
AXIS.add("vit_l14", vit(1024, 24, 14, 224))
AXIS.add("vit_h14", vit(1280, 32, 14, 224))
