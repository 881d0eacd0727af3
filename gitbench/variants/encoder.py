"""Image encoders: ViTs of CLIP's shape. "vit_b16" and "vit_l14" are the paper's (Table 11); the others are for 64 to 128 px."""

from __future__ import annotations

from gitbench.spec import EncoderSpec
from gitbench.variants import add


def vit(width: int, layers: int, patch: int, image_size: int) -> EncoderSpec:
    """Return a ViT whose heads are 64 wide as CLIP's, 32 wide below width 192."""
    return EncoderSpec(
        width=width, layers=layers, heads=width // (64 if width >= 192 else 32), patch=patch, image_size=image_size
    )


for _layers, _width in ((1, 64), (2, 64), (3, 64), (4, 96), (6, 128)):
    add("encoder", f"vit_{_layers}x{_width}_p8_64", vit(_width, _layers, 8, 64))
for _layers, _width in ((4, 192), (8, 384), (12, 512)):
    add("encoder", f"vit_{_layers}x{_width}_p16_128", vit(_width, _layers, 16, 128))
add("encoder", "vit_s16", vit(384, 12, 16, 224))
add("encoder", "vit_b16", vit(768, 12, 16, 224))
add("encoder", "vit_l14", vit(1024, 24, 14, 224))
