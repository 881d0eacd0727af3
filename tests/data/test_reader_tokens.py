"""Flickr8k's own files: a line a caption, and lists of the splits' images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers_data import SPLITS, opened, photo, picture
from helpers_errors import refused

LISTS = {"train": ("0.jpg", "1.jpg"), "dev": ("2.jpg",), "test": ("3.jpg",)}


def flickr8k(folder: Path, text: str = "") -> Path:
    for name in ("Flicker8k_Dataset", "Flickr8k_text"):
        (folder / name).mkdir(parents=True)
    lines = []
    for number in range(5):
        (folder / "Flicker8k_Dataset" / f"{number}.jpg").write_bytes(photo(number))
        lines += [f"{number}.jpg#{k}\tCaption {k} of # {number} ." for k in range(5)]
    (folder / "Flickr8k_text" / "Flickr8k.token.txt").write_text("\n".join([*lines, text]) + "\n")
    (folder / "Flickr8k_text" / "Flickr8k.lemma.token.txt").write_text("0.jpg#0\tcaption\n")
    for split, names in LISTS.items():
        (folder / "Flickr8k_text" / f"Flickr_8k.{split}Images.txt").write_text("\r\n".join([*names, ""]))
    return folder


def test_captions_and_splits(tmp_path: Path) -> None:
    flickr8k(tmp_path, "9.jpg.1#0\tCaption of no image .")
    found = {split: opened(tmp_path, split) for split in SPLITS}
    ids = {split: [source.image_id(k) for k in range(len(source))] for split, source in found.items()}
    assert ids == {"train": ["0.jpg", "1.jpg"], "val": ["2.jpg"], "test": ["3.jpg"]}
    assert found["val"].example(0).captions == tuple(f"Caption {k} of # 2 ." for k in range(5))
    assert np.array_equal(found["test"].image(0), picture(3))
    assert found["val"].notes == ("Flickr8k.token.txt: 2 images in no list of a split left out",)


def test_without_lists_the_images_are_divided(tmp_path: Path) -> None:
    for path in flickr8k(tmp_path).glob("Flickr8k_text/*Images.txt"):
        path.unlink()
    assert sum(len(opened(tmp_path, split)) for split in SPLITS) == 5


def test_faults(tmp_path: Path) -> None:
    folder = flickr8k(tmp_path, "4.jpg Caption without a number")
    with refused("Flickr8k.token.txt, line 26: write a caption as NAME#NUMBER, a tab and the text"):
        opened(folder)
    text = folder / "Flickr8k_text"
    (text / "Flickr8k.token.txt").write_text("0.jpg#0\ta dog\n")
    (text / "Flickr_8k.devImages.txt").write_text("0.jpg\n")
    with refused("Flickr_8k.trainImages.txt: 0.jpg is in the list of dev too"):
        opened(folder)
    (text / "results_20130124.token").write_text("0.jpg#0\ta dog\n")
    with refused("Flickr8k.token.txt and .*results_20130124.token hold captions of the same images: leave one"):
        opened(folder)
