"""What is made once and used by every run: decoded images as one array, encoded texts, tokenizers.

Files lie under `files.cache_dir()`, images and what frozen encoders make of them under `files.local_cache_dir()`. They are
named after content (fingerprint and settings), so a stale one cannot be picked up, and written atomically under a claim, so
runs that start together build a file once. A cache that cannot be written (disk full, read-only) is an error that names the
variable that moves it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gitbench.claim import claimed
from gitbench.data.base import Source, Text, content_hash, texts_of
from gitbench.data.wordpiece import CaptionTokenizer
from gitbench.errors import GitbenchError
from gitbench.files import atomic_path, cache_dir, local_cache_dir, make_dir

T = TypeVar("T")
STORE_VERSION = 1  # raise when the way images are stored changes
_CHUNK = 256  # images decoded and written at a time
_DAMAGED = (GitbenchError, ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile)


class CacheUnwritable(GitbenchError):
    """The cache folder cannot be written; holds the fix."""


def cached(path: Path, save: Callable[[Path], None], load: Callable[[Path], T]) -> T:
    """Load a cache file, made first where it is missing or damaged; raises CacheUnwritable."""
    if found := _loaded(path, load):
        return found[0]
    try:
        make_dir(path.parent)
        with claimed(path.with_name(f".{path.name}.claim")):  # soon another's if the process is killed
            if found := _loaded(path, load):  # another process has made it meanwhile
                return found[0]
            with atomic_path(path) as temporary:
                save(temporary)
            return load(path)
    except (GitbenchError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        reason = cause.strerror or "cannot be written"
        text = f"the cache {path.parent}: {reason}: set GITBENCH_CACHE to a folder with space that you may write to"
        raise CacheUnwritable(text) from error


def _loaded(path: Path, load: Callable[[Path], T]) -> list[T]:
    """Return the value of a cache file in a list, or an empty list where the file is missing or damaged."""
    try:
        return [load(path)] if path.exists() else []
    except _DAMAGED:
        return []


def cached_array(
    path: Path, shape: tuple[int, ...], dtype: type[np.generic], parts: Callable[[], Iterable[np.ndarray]]
) -> np.ndarray:
    """Return an array from the cache as a read-only memory map, made of `parts`, one after the other, where it is missing.

    Errors: CacheUnwritable.
    """

    def load(path: Path) -> np.ndarray:
        found = np.load(path, mmap_mode="r")
        if found.shape != shape or found.dtype != dtype:
            raise ValueError("another array")
        return found

    def save(path: Path) -> None:
        # plain writes, not a memory map: on a full disk those fail with an error and not with SIGBUS
        with open(path, "wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for part in parts():
                file.write(part.tobytes())

    return cached(path, save, load)


# ---- images -----------------------------------------------------------------------------------------------------


def decoded_split(source: Any, store_size: int) -> np.ndarray:
    """Return all images of a `TaskSource` as its `pixels`: uint8 (n, store_size, store_size, 3), a read-only memory map.

    Of films of F frames: uint8 (n, F, store_size, store_size, 3).
    """
    frames: int = source.task.frames
    film = [f"{frames} frames"] if frames else []
    fingerprint = content_hash([source.image_fingerprint(), str(store_size), str(STORE_VERSION), *film])[:20]
    of_frames = f"{frames}x" if frames else ""
    path = local_cache_dir() / "images" / f"{source.split}-{of_frames}{store_size}px-{fingerprint}.npy"
    shape = (len(source), *((frames,) if frames else ()), store_size, store_size, 3)

    def pixels(index: int) -> np.ndarray:
        return source.pixels(index, store_size)

    def parts() -> Iterator[np.ndarray]:
        step = max(1, _CHUNK // (frames or 1))
        with ThreadPoolExecutor(4) as pool:
            for start in range(0, len(source), step):
                chunk = range(start, min(start + step, len(source)))
                yield np.stack(list(map(pixels, chunk) if source.drawn else pool.map(pixels, chunk)))

    return cached_array(path, shape, np.uint8, parts)


# ---- texts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EncodedCaptions:
    """The payload tokens of all texts of a split, in one flat array with two levels of offsets."""

    ids: np.ndarray  # int32 (tokens,)
    captions: np.ndarray  # int64 (captions + 1,): where each text starts in ids
    images: np.ndarray  # int64 (images + 1,): where each image starts in captions
    prefixes: np.ndarray  # int64 (captions,): how many tokens of each text are given; 0 for captions

    def prefixes_of(self, index: int) -> list[int]:
        """Return how many tokens of each of one image's texts are given."""
        return self.prefixes[int(self.images[index]) : int(self.images[index + 1])].tolist()

    def of(self, index: int) -> list[list[int]]:
        """Return the token lists of one image's texts: given and said tokens together."""
        first, last = int(self.images[index]), int(self.images[index + 1])
        bounds = self.captions[first : last + 1].tolist()
        start = bounds[0]
        ids = self.ids[start : bounds[-1]].tolist()  # one slice of an array costs as much as many of a list
        return [ids[a - start : b - start] for a, b in pairwise(bounds)]


def encoded_split(source: Source, tokenizer: CaptionTokenizer, max_tokens: int) -> EncodedCaptions:
    """Return the texts of a split as tokens, without [CLS] and [SEP]: captions, or what its task has for texts.

    At most `max_tokens` each; see `joined` for texts with a given part.
    """
    key = content_hash([source.fingerprint(), tokenizer.fingerprint(), str(max_tokens), "2"])[:20]
    path = cache_dir() / "captions" / f"{source.split}-{key}.npz"

    def load(path: Path) -> EncodedCaptions:
        with np.load(path) as file:
            return EncodedCaptions(**file)

    def save(path: Path) -> None:
        texts: list[Text] = []
        images = [0]
        for index in range(len(source)):
            texts += texts_of(source, index)
            images.append(len(texts))
        given = [text.prefix for text in texts]
        targets = tokenizer.encode_all([text.target for text in texts], max_tokens)
        starts = tokenizer.encode_all(given, max_tokens) if any(given) else [[]] * len(texts)
        pairs = [joined(start, target, max_tokens) for start, target in zip(starts, targets, strict=True)]
        lengths = np.array([len(ids) for ids, _ in pairs], dtype=np.int64)
        flat = np.fromiter((token for ids, _ in pairs for token in ids), dtype=np.int32, count=int(lengths.sum()))
        starts_of_texts = np.concatenate([[0], np.cumsum(lengths)])
        prefixes = np.array([length for _, length in pairs], dtype=np.int64)
        with open(path, "wb") as file:
            np.savez(file, ids=flat, captions=starts_of_texts, images=np.array(images), prefixes=prefixes)

    return cached(path, save, load)


def joined(prefix: list[int], target: list[int], max_tokens: int) -> tuple[list[int], int]:
    """Join the tokens of a given and a said part, both already cut to `max_tokens`; also return how many are given.

    As the official data code does: what is together longer than `max_tokens` keeps its last `max_tokens` - 2 tokens,
    so the prefix is cut on its left, and the target only where it alone is longer.
    """
    together = prefix + target
    cut = max(0, len(together) - max(0, max_tokens - 2)) if len(together) > max_tokens else 0
    return together[cut:], max(0, len(prefix) - cut)
