"""The PyTorch data set: one item is one image with all its captions, as uint8 pixels and token lists.

N images, k captions each, T tokens, S image side.

* In training an item's number is a *sample number* 0, 1, 2, ... without end. Its epoch is number // n; the image, the
  captions and the crop are functions of (seed, number) alone. So nothing depends on workers, on how many items were
  drawn before, or on a resume.
* All random streams are keyed by purpose, so that switching augmentation on does not change the order of images.
* Images come from a memory map that every run of a study shares (`cache.decoded_split`); tokens are encoded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from gitbench.data import limit_of, open_source
from gitbench.data.base import Example
from gitbench.data.cache import EncodedCaptions, decoded_split, encoded_split
from gitbench.data.stream import Stream
from gitbench.data.tokenizer import CaptionTokenizer
from gitbench.data.transforms import random_crop, stored_size
from gitbench.seeding import derive_seed
from gitbench.spec import DataSpec, TextSpec


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the order of images in an epoch: int64 (count,).

    Sorted raw generator output: numpy promises the bits of PCG64 for ever, not the result of `shuffle`.
    """
    keys = np.random.PCG64(derive_seed("order", seed, epoch)).random_raw(count)
    return np.argsort(keys, kind="stable")


class CaptionDataset(Dataset):
    """A split for training (endless sample numbers) or evaluation (item k is image k).

    captions_per_image: captions of an item; None takes all. Where an image has more, a random choice of them in
    training and the first ones in evaluation; where it has fewer, they are repeated.
    Raises GitbenchError where the data are unusable.
    """

    def __init__(
        self,
        data: str,
        split: str,
        data_spec: DataSpec,
        text_spec: TextSpec,
        tokenizer: CaptionTokenizer,
        seed: int,
        captions_per_image: int | None,
        train: bool,
    ):
        self.source = open_source(data, split, limit_of(data_spec, split))
        self.data_spec, self.seed, self.train = data_spec, seed, train
        self.captions_per_image = captions_per_image
        self.bos_id, self.eos_id, self.pad_id = tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id
        self.crop_scale = data_spec.crop_scale if train else None
        self.store_size = stored_size(data_spec.image_size, self.crop_scale)
        self.encoded: EncodedCaptions = encoded_split(self.source, tokenizer, text_spec.max_tokens)
        self._images: np.ndarray | None = decoded_split(self.source, self.store_size)
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Return the number of images; training numbers may go beyond it."""
        return len(self.source)

    def __getstate__(self) -> dict[str, Any]:
        # a memory map would be pickled as its content when workers are spawned: they open it again
        return {**self.__dict__, "_images": None, "_order": None}

    @property
    def images(self) -> np.ndarray:
        """All stored images: uint8 (n, store_size, store_size, 3)."""
        if self._images is None:
            self._images = decoded_split(self.source, self.store_size)
        return self._images

    def index_of(self, number: int) -> int:
        """Return the image of a sample number."""
        if not self.train:
            return number
        epoch, position = divmod(number, len(self))
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, permutation(self.seed, epoch, len(self)))
        return int(self._order[1][position])

    def example(self, index: int) -> Example:
        """Return the texts of an image, for scoring."""
        return self.source.example(index)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return image (3, S, S) uint8, tokens (lists with [CLS] and [SEP]), image_id, index."""
        if not self.train and not 0 <= number < len(self):
            raise IndexError(number)  # ends a plain loop over the data set
        index = self.index_of(number)
        pixels = self.images[index]
        if self.crop_scale is not None:
            stream = Stream("crop", self.seed, number)
            pixels = random_crop(pixels, self.data_spec.image_size, self.crop_scale, stream)
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
        payloads = self._chosen(self.encoded.of(index), number)
        tokens = [[self.bos_id, *payload, self.eos_id] for payload in payloads]
        return {"image": image, "tokens": tokens, "image_id": self.source.image_id(index), "index": index,
                "pad_id": self.pad_id}  # fmt: skip

    def _chosen(self, payloads: list[list[int]], number: int) -> list[list[int]]:
        wanted = self.captions_per_image
        if wanted is None or len(payloads) == wanted:
            return payloads
        if len(payloads) < wanted:
            return [payloads[place % len(payloads)] for place in range(wanted)]
        if self.train:
            payloads = Stream("captions", self.seed, number).shuffled(payloads)
        return payloads[:wanted]


def collate(batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack items: images uint8 (N, 3, S, S), tokens int64 (N, k, T) padded right, need_predict bool (N, k, T).

    T is the longest caption of the batch. `need_predict` is False on [CLS] and on padding and True on the payload and
    [SEP], as the official code marks what counts in the loss. Images with fewer captions than the batch's most get
    rows of padding, which predict nothing.
    """
    most = max(len(item["tokens"]) for item in batch)
    longest = max(len(tokens) for item in batch for tokens in item["tokens"])
    tokens = np.full((len(batch), most, longest), batch[0]["pad_id"], dtype=np.int64)
    need_predict = np.zeros(tokens.shape, dtype=bool)
    for row, item in enumerate(batch):
        for column, ids in enumerate(item["tokens"]):
            tokens[row, column, : len(ids)] = ids
            need_predict[row, column, 1 : len(ids)] = True
    return {
        "images": torch.stack([item["image"] for item in batch]).contiguous(),
        "tokens": torch.from_numpy(tokens),
        "need_predict": torch.from_numpy(need_predict),
        "image_ids": [item["image_id"] for item in batch],
        "indices": [item["index"] for item in batch],
    }
