"""Texts without padding: the texts of an image laid end to end in one row, each only as far as it predicts.

A batch of captions padded to its longest one is a third padding. Here an image's texts follow each other directly, each
as far as its last token that predicts something: nothing earlier sees the rest. Packing is done on the host, where a
batch is made, so that no shape depends on what the device would have to be waited for.

N rows, k texts a row, M = N*k texts of T tokens, Q the longest row, P predicted tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from gitbench.errors import GitbenchError

IGNORED = -100  # a target that does not count: torch's own number


class PackedTexts(NamedTuple):
    """Texts in rows, and what they predict. (A tuple, so that mmengine moves it to a device like any other data.)"""

    tokens: Tensor  # (N, Q) ids, padded at the end of a row
    positions: Tensor  # (N, Q) where each stands in its own text
    visible: Tensor  # (N or 1, Q, Q) which tokens of its row each one sees: its own text's past, itself included
    places: Tensor | None  # (P,) which of the N*Q tokens predict something; None: all of them
    targets: (
        Tensor  # (P,) the ids to be predicted; where places is None (N*Q,), and IGNORED where a token predicts nothing
    )
    owners: Tensor | None  # (P,) the texts, 0 to M-1, that they belong to; None where places is

    @property
    def predicted(self) -> Tensor:
        """How many tokens predict something, as a tensor on the device."""
        return (self.targets != IGNORED).sum()

    @property
    def tensors(self) -> list[Tensor]:
        """Its parts, without those that are None."""
        return [part for part in self if part is not None]

    def with_tensors(self, tensors: Iterable[Tensor]) -> PackedTexts:
        """Return the same with other `tensors`."""
        made = iter(tensors)
        return PackedTexts(*(part if part is None else next(made) for part in self))  # type: ignore[arg-type]

    def rows(self, start: int, stop: int) -> PackedTexts:
        """Return rows `start` to before `stop` of them, for the loss alone: without owners."""
        length, visible = self.tokens.shape[1], self.visible
        first, end = start * length, stop * length
        places, targets = None, self.targets[first:end]
        if self.places is not None:
            inside = (self.places >= first) & (self.places < end)
            places, targets = self.places[inside] - first, self.targets[inside]
        return PackedTexts(
            tokens=self.tokens[start:stop],
            positions=self.positions[start:stop],
            visible=visible if len(visible) == 1 else visible[start:stop],
            places=places,
            targets=targets,
            owners=None,
        )


def pack(
    tokens: Tensor, need_predict: Tensor, rows: int, pad_id: int, multiple: int = 1, everywhere: bool = False
) -> PackedTexts:
    """Pack M texts (M, T), of which row i holds k = M / rows, from i * k on; Q is filled up to a multiple.

    `need_predict` (M, T) marks the tokens to be predicted; a marked `pad_id` is not, as in the official loss. With
    `everywhere` each token has a target, if an ignored one: then all shapes follow from Q, and nothing is picked out, whose
    gradient takes a sort on a GPU. It serves the loss alone.
    """
    count, width = tokens.shape
    if need_predict.shape != tokens.shape or width < 2:
        raise GitbenchError(
            f"tokens {tuple(tokens.shape)} and need_predict {tuple(need_predict.shape)} must agree, with T >= 2"
        )
    if not count or not rows or count % rows:
        raise GitbenchError(f"{count} texts cannot be shared out to {rows} images: pass as many for each image")
    given, targets = tokens[:, :-1], tokens[:, 1:]
    predicted = need_predict[:, 1:].bool() & (targets != pad_id)
    position = torch.arange(width - 1, device=tokens.device)
    lengths = (predicted * (position + 1)).amax(1).view(rows, -1)
    ends = lengths.cumsum(1)
    longest = -(-max(1, int(ends[:, -1].max())) // multiple) * multiple
    first = (ends - lengths + longest * torch.arange(rows, device=tokens.device)[:, None]).view(-1, 1)
    place = first + position  # of every token, (M, T - 1), if it is kept
    kept = position < lengths.view(-1, 1)
    owner = torch.arange(count, device=tokens.device)[:, None].expand_as(given)

    def laid_out(values: Tensor, filler: int) -> Tensor:
        row = values.new_full((rows * longest,), filler)
        row[place[kept]] = values[kept]
        return row.view(rows, longest)

    causal = torch.ones(1, longest, longest, dtype=torch.bool, device=tokens.device).tril()
    if count > rows:
        owners = laid_out(owner, -1)  # pads see pads, and nobody sees them
        causal = causal & (owners[:, :, None] == owners[:, None])
    return PackedTexts(
        tokens=laid_out(given, pad_id),
        positions=laid_out(position.expand_as(given), 0),
        visible=causal,
        places=None if everywhere else place[predicted],
        targets=laid_out(targets.where(predicted, IGNORED), IGNORED).view(-1) if everywhere else targets[predicted],
        owners=None if everywhere else owner[predicted],
    )


def end_to_end(length: int, texts: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions (1, Q) and `visible` (1, Q, Q) of rows with `texts` texts of `length` tokens each, Q = texts * length."""
    position = torch.arange(length, device=device).repeat(texts)
    owner = torch.arange(texts, device=device).repeat_interleave(length)
    causal = torch.ones(len(owner), len(owner), dtype=torch.bool, device=device).tril()
    return position[None], (causal & (owner[:, None] == owner))[None]
