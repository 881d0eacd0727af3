"""Text decoders by attention, depth and width: "self_6x768" is the official one (6 layers, hidden 768, 12 heads).

Heads are 64 wide as in the official code, 32 wide below 192; the feed-forward part is four times the width.
"""

from __future__ import annotations

from gitbench.spec import DecoderSpec
from gitbench.variants import add


def decoder(attention: str, layers: int, width: int, dropout: float = 0.1, max_positions: int = 1024) -> DecoderSpec:
    """Return the spec of a decoder with the standard head and feed-forward sizes for its width."""
    head = 64 if width >= 192 else 32
    return DecoderSpec(
        attention=attention,  # type: ignore[arg-type]
        layers=layers,
        width=width,
        heads=width // head,
        ffn=4 * width,
        dropout=dropout,
        max_positions=max_positions,
    )


# Small decoders carry 64 positions: longer than any caption of the small profiles, and no dead weight in the counts.
# They see each image about once, where dropout only costs (LOG.md, 2026-11-24), so they have none.
SMALL = ((1, 64), (2, 64), (2, 96), (2, 128), (4, 128), (4, 192))
MEDIUM = ((1, 192), (2, 384), (4, 384), (6, 384), (6, 512), (12, 384), (12, 512))
PAPER = tuple((layers, width) for width in (768, 1024) for layers in (6, 12, 24))

for _layers, _width in SMALL:
    add("decoder", f"self_{_layers}x{_width}", decoder("self", _layers, _width, dropout=0.0, max_positions=64))
for _layers, _width in MEDIUM:
    add("decoder", f"self_{_layers}x{_width}", decoder("self", _layers, _width, max_positions=64))
for _layers, _width in PAPER:
    add("decoder", f"self_{_layers}x{_width}", decoder("self", _layers, _width))
