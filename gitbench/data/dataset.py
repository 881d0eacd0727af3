"""The PyTorch data set: one item is one image with all its texts, as uint8 pixels and token lists.

N images, k texts each (captions, or questions with answers), T tokens, S image side, F frames of a film.
A text is [CLS] prefix target [SEP], without a mark between the two, and only target and [SEP] are predicted.

In training an item's number is a sample number 0, 1, 2, ... without end. Its epoch is number // n; the image, the
captions and the crop are functions of (seed, number) alone, each with a random stream of its own. So nothing depends on
workers, on how many items were drawn before, on a resume, and the order of images does not depend on the crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from gitbench.data import CAPTIONS, limit_of
from gitbench.data.cache import EncodedCaptions, decoded_split, encoded_split
from gitbench.data.image_processor import random_crop, stored_size
from gitbench.data.random_stream import Stream
from gitbench.data.tasks import TaskSource, open_task
from gitbench.data.tokenizer import CaptionTokenizer
from gitbench.seeding import derive_seed
from gitbench.spec import DataSpec, TaskSpec, TextSpec


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the order of images in an epoch: int64 (count,).

    Sorted raw generator output: numpy promises the bits of PCG64 for ever, not the result of `shuffle`.
    """
    keys = np.random.PCG64(derive_seed("order", seed, epoch)).random_raw(count)
    return np.argsort(keys, kind="stable")


def prefix_ids(tokenizer: CaptionTokenizer, text: str, max_tokens: int) -> list[int]:
    """Return what generation starts from: [CLS] and the tokens of a prefix (a question; "" for none).

    As the official inference: the prefix is cut to `max_tokens`, then to its last `max_tokens` - 2.
    """
    payload = tokenizer.encode(text, max_tokens) if text else []
    return [tokenizer.bos_id, *payload[max(0, len(payload) - max(0, max_tokens - 2)) :]]


class CaptionDataset(Dataset):
    """A split for training (endless sample numbers) or evaluation (item k is image k).

    captions_per_image: texts of an item; None takes all. Where an image has more, a random choice of them in
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
        task: TaskSpec = CAPTIONS,
        pixels: bool = True,
    ):
        self.source: TaskSource = open_task(data, split, limit_of(data_spec, split), task)
        self.data_spec, self.seed, self.train, self.pixels = data_spec, seed, train, pixels
        self.captions_per_image = captions_per_image
        self.tokenizer, self.max_tokens = tokenizer, text_spec.max_tokens
        self.bos_id, self.eos_id, self.pad_id = tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id
        self.crop_scale = data_spec.crop_scale if train else None
        self.store_size = stored_size(data_spec.image_size, self.crop_scale)
        self.encoded: EncodedCaptions = encoded_split(self.source, tokenizer, text_spec.max_tokens)
        self._images: np.ndarray | None = None
        _ = self.images  # what is wrong with them shows here

    def __len__(self) -> int:
        return len(self.source)

    def __getstate__(self) -> dict[str, Any]:
        # a memory map would be pickled as its content when workers are spawned: they open it again
        return {**self.__dict__, "_images": None}

    @property
    def images(self) -> np.ndarray:
        """All stored images: uint8 (n, store_size, store_size, 3), of films (n, F, store_size, store_size, 3)."""
        if self._images is None:
            # as a plain array on the memory map: numpy takes five times as long to index its own kind
            self._images = np.asarray(decoded_split(self.source, self.store_size))
        return self._images

    def index_of(self, number: int) -> int:
        """Return the image of a sample number."""
        if not self.train:
            return number
        epoch, position = divmod(number, len(self))
        return int(permutation(self.seed, epoch, len(self))[position])

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return one image with its texts.

        image (3, S, S) or (F, 3, S, S) uint8, where the data set has `pixels`; tokens (a list of ids a text, with [CLS] and
        [SEP]); prefix_lengths (how many ids of each are given, [CLS] included: 1 for a caption); image_id; index. In
        evaluation also what is to be generated, all of it: request_ids, and request_prefixes (ids that start with [CLS]); in
        training both are empty.
        """
        if not self.train and not 0 <= number < len(self):
            raise IndexError(number)  # ends a plain loop over the data set
        index = self.index_of(number)
        texts = list(zip(self.encoded.of(index), self.encoded.prefixes_of(index), strict=True))
        chosen = self._chosen(texts, number)
        requests = () if self.train else self.source.requests(index)
        return {
            **({"image": self._image(index, number)} if self.pixels else {}),
            "tokens": [[self.bos_id, *payload, self.eos_id] for payload, _ in chosen],
            "prefix_lengths": [1 + given for _, given in chosen],
            "image_id": self.source.image_id(index),
            "index": index,
            "pad_id": self.pad_id,
            "request_ids": [request.request_id for request in requests],
            "request_prefixes": [prefix_ids(self.tokenizer, one.prefix, self.max_tokens) for one in requests],
        }

    def _image(self, index: int, number: int) -> torch.Tensor:
        pixels = self.images[index]
        if self.crop_scale is not None:
            # the same crop out of every frame of a film
            size, frames = self.data_spec.image_size, pixels if pixels.ndim == 4 else pixels[None]
            cuts = [random_crop(one, size, self.crop_scale, Stream("crop", self.seed, number)) for one in frames]
            pixels = np.stack(cuts) if pixels.ndim == 4 else cuts[0]
        return torch.from_numpy(np.array(pixels)).movedim(-1, -3)

    def _chosen(self, texts: list[tuple[list[int], int]], number: int) -> list[tuple[list[int], int]]:
        wanted = self.captions_per_image
        if wanted is None or len(texts) == wanted:
            return texts
        if len(texts) < wanted:
            return [texts[place % len(texts)] for place in range(wanted)]
        if self.train:
            texts = Stream("captions", self.seed, number).shuffled(texts)
        return texts[:wanted]


def collate(batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack items: images uint8 (N, 3, S, S), tokens int64 (N, k, T) padded right, need_predict bool (N, k, T).

    T is the longest text of the batch; films give images (N, F, 3, S, S), items without pixels none. `need_predict` is
    False on [CLS], the prefix and padding and True on the target and [SEP], as the official code marks what counts in the
    loss. prefix_lengths int64 (N, k) counts [CLS] and the prefix. Images with fewer texts than the batch's most get rows of
    padding, which predict nothing and have a prefix length of 0. request_ids and request_prefixes are lists, one of each image.
    """
    most = max(len(item["tokens"]) for item in batch)
    longest = max(len(tokens) for item in batch for tokens in item["tokens"])
    tokens = np.full((len(batch), most, longest), batch[0]["pad_id"], dtype=np.int64)
    need_predict = np.zeros(tokens.shape, dtype=bool)
    prefix_lengths = np.zeros((len(batch), most), dtype=np.int64)
    for row, item in enumerate(batch):
        for column, (ids, given) in enumerate(zip(item["tokens"], item["prefix_lengths"], strict=True)):
            tokens[row, column, : len(ids)] = ids
            need_predict[row, column, given : len(ids)] = True
            prefix_lengths[row, column] = given
    images = [item["image"] for item in batch if "image" in item]
    return {
        **({"images": torch.stack(images).contiguous()} if images else {}),
        "tokens": torch.from_numpy(tokens),
        "need_predict": torch.from_numpy(need_predict),
        "prefix_lengths": torch.from_numpy(prefix_lengths),
        "image_ids": [item["image_id"] for item in batch],
        "indices": [item["index"] for item in batch],
        "request_ids": [item["request_ids"] for item in batch],
        "request_prefixes": [item["request_prefixes"] for item in batch],
    }
