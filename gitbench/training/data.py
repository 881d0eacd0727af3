"""The data parts that a config names: the data set, its counted sampler, the collate function; and batches made ahead."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from mmengine.dist import get_dist_info
from torch.utils.data import DataLoader, Dataset, Sampler

from gitbench.data.dataset import CaptionDataset, collate
from gitbench.data.tasks import open_task
from gitbench.data.tokenizer import tokenizer_for
from gitbench.models.packed import pack
from gitbench.registry import DATA_SAMPLERS, DATASETS, FUNCTIONS
from gitbench.spec import DataSpec, TaskSpec, TextSpec


def caption_collate(batch: Sequence[dict[str, Any]], multiple: int = 1, everywhere: bool = False) -> dict[str, Any]:
    """`collate`; its texts, packed (in the process or thread that makes the batch); and `image_set`.

    Rows of `texts` are filled up to a multiple of so many tokens; `everywhere`: see `pack`. `image_set`: what `indices` count
    in: "train", "val", "test", or None if augmented.
    """
    found = collate(batch)
    n, k, t = found["tokens"].shape
    tokens, predicted = (found[name].view(n * k, t) for name in ("tokens", "need_predict"))
    return {
        **found,
        "texts": pack(tokens, predicted, n, batch[0]["pad_id"], multiple, everywhere),
        "image_set": batch[0]["image_set"],
    }


FUNCTIONS.register_module(name="caption_collate", module=caption_collate)


@DATA_SAMPLERS.register_module()
class CountedSampler(Sampler):
    """Sample numbers 0, 1, 2, ... without end; with several processes, rank r takes every world-th.

    The data set turns a sample number into an image, its captions and its augmentation; nothing else is random.
    `start` is set by the training loop, so a resumed run asks for its next sample directly and replays nothing.
    """

    def __init__(self, dataset: Dataset, seed: int | None = None) -> None:
        self.rank, self.world = get_dist_info()
        self.start = 0  # samples already taken by this rank

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start * self.world + self.rank, self.world)

    def __len__(self) -> int:
        return 2**62  # endless


@DATASETS.register_module()
class CaptionData(CaptionDataset):
    """`CaptionDataset` built from the plain values of a config file.

    `first`: of the training split, so many images alone, as evaluation sees them (item k is image k, no crop). Without
    `pixels` items have no image: the model holds them (`gitbench.training.resident`). Errors: ValueError where there are crops.
    """

    metainfo: dict[str, Any] = {}  # mmengine warns where it is missing

    def __init__(
        self,
        *,
        data: str,
        split: str,
        data_spec: dict[str, Any],
        text_spec: dict[str, Any],
        seed: int,
        captions_per_image: int | None,
        task: dict[str, Any] | None = None,
        first: int | None = None,
        pixels: bool = True,
    ) -> None:
        sizes, text, asked = DataSpec(**data_spec), TextSpec(**text_spec), TaskSpec(**task or {})
        words = open_task(data, "train", sizes.vocabulary_images or sizes.train_images, asked)
        tokenizer = tokenizer_for(text, words)
        super().__init__(
            data=data,
            split=split,
            data_spec=sizes if first is None else dataclasses.replace(sizes, train_images=first),
            text_spec=text,
            tokenizer=tokenizer,
            seed=seed,
            captions_per_image=captions_per_image,
            train=split == "train" and first is None,
            task=asked,
            pixels=pixels,
        )
        self.tokenizer, self.text_spec = tokenizer, text
        self.image_set = split if self.crop_scale is None else None  # where a number is always the same pixels
        if not pixels and self.image_set is None:
            raise ValueError("random crops are cut out of pixels")

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return an item of `CaptionDataset`, and the set of images that it is from."""
        return {**super().__getitem__(number), "image_set": self.image_set}


class Batches:
    """The batches of a loader, in order; `waited` counts the seconds that `next` has waited for them.

    Where a loader has no processes of its own, a thread makes them `ahead` of the training if they have random crops, which are
    resized outside Python, beside the model, or no pixels, beside a GPU. What is in a batch depends on its number alone.
    Errors of the data set are raised by the `next` that reaches them. Use it as a context: its end stops the thread.
    """

    def __init__(self, loader: DataLoader, ahead: int = 3) -> None:
        self.waited = 0.0
        self._made: Iterator[Any] = iter(loader)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")  # which starts with its first task
        self._ready: deque[Future] = deque()
        data = loader.dataset
        if not loader.num_workers and (getattr(data, "crop_scale", None) or not getattr(data, "pixels", True)):
            self._ready.extend(self._thread.submit(next, self._made) for _ in range(ahead))

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._made = iter(())  # a loader's processes end with it

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        started = time.perf_counter()
        if self._ready:
            batch = self._ready.popleft().result()
            self._ready.append(self._thread.submit(next, self._made))
        else:
            batch = next(self._made)
        self.waited += time.perf_counter() - started
        return batch
