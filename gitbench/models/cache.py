"""What a new text token may see while a caption is generated: keys and values in slots, and a mask over them.

Slots are filled from left to right: image tokens, prefix tokens, then one slot per beam and step. Where prefixes differ
in length, the slots of their pads are seen by nobody. Nothing is ever moved when beams change places: each beam carries
the list of the slots that its own history wrote (`visible`), and a beam that takes over another's history takes over
its list. The image and the prefix stand there once per image, not once per beam. With cross-attention the slots hold
text only, and the image stands beside them, unmasked and uncopied.

N images, B beams, h heads, d head width, C slots allocated.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Memory = list[tuple[Tensor, Tensor]]  # per layer: keys and values of the image tokens, (N or 1, h, S, d)

STEPS_AHEAD = 24  # steps for which slots are allocated at a time
MASK_ALIGNMENT = 8  # numbers to which fused attention wants the rows of a mask laid out; it copies a mask that is not


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what attention adds to its scores, (..., K) of a type: 0 where `visible` (..., K) is true, else -inf.

    Torch makes the same of a boolean mask, in each layer again.
    """
    width = visible.shape[-1]
    rows = visible.new_zeros(*visible.shape[:-1], -(-width // MASK_ALIGNMENT) * MASK_ALIGNMENT, dtype=dtype)
    return rows[..., :width].masked_fill_(~visible, -torch.inf)


class Cache:
    """Slots of every layer, (N, h, C, d), who sees them, (N, B, slots in use), and the image if it is no slot."""

    def __init__(self, memory: Memory, rows: int, room: int, *, image_in_slots: bool) -> None:
        """Start with the image's keys and values (N or 1 rows) for `rows` images and room for `room` more slots.

        They fill the first slots, or stay as they are in `image`.
        """
        self.image: Memory = [] if image_in_slots else memory
        if not image_in_slots:
            memory = [(k[:, :, :0], v[:, :, :0]) for k, v in memory]
        self.used = memory[0][0].shape[2]
        self.layers: list[tuple[Tensor, Tensor]] = [
            (self._padded(k.expand(rows, -1, -1, -1), room), self._padded(v.expand(rows, -1, -1, -1), room))
            for k, v in memory
        ]
        self.visible = torch.ones(rows, 1, self.used, dtype=torch.bool, device=memory[0][0].device)
        self._mask: Tensor | None = None

    @staticmethod
    def _padded(x: Tensor, room: int) -> Tensor:
        rows, heads, used, width = x.shape
        buffer = x.new_empty(rows, heads, used + room, width)
        buffer[:, :, :used] = x
        return buffer

    def begin(self, mask: Tensor) -> None:
        """Announce new tokens: `mask` (N or 1, Q, used + Q) says what each of them sees, True = seen."""
        new = mask.shape[1]
        if self.used + new > self.layers[0][0].shape[2]:
            room = STEPS_AHEAD * new
            self.layers = [
                (self._padded(k[:, :, : self.used], room), self._padded(v[:, :, : self.used], room))
                for k, v in self.layers
            ]
        self._mask = additive(mask, self.layers[0][0].dtype)[:, None]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store the new tokens' keys and values and attend: (N, h, Q, d) each, returns (N, h, Q, d)."""
        keys, values = self.layers[layer]
        end = self.used + q.shape[2]
        keys[:, :, self.used : end], values[:, :, self.used : end] = k, v
        return F.scaled_dot_product_attention(q, keys[:, :, :end], values[:, :, :end], attn_mask=self._mask)

    def end(self, visible: Tensor) -> None:
        """The new tokens are in place; `visible` (N, B, slots) is what each beam sees from now on."""
        self.used, self.visible = visible.shape[2], visible

    def keep(self, rows: Tensor) -> None:
        """Drop all images but `rows` (indices)."""
        self.layers = [(k[rows], v[rows]) for k, v in self.layers]
        self.image = [(k[rows], v[rows]) if len(k) > 1 else (k, v) for k, v in self.image]  # one row serves all
        self.visible = self.visible[rows]
