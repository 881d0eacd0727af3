"""Folders of photographs: which reader opens one, Parquet shards, fingerprints; each fault gives one line with the fix."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_data import CAPTION, coco, opened, photo, picture, printed_by, row, write_parquet
from helpers_errors import refused

from gitbench.data import data_label, open_source, tables
from gitbench.data.base import clean_caption
from gitbench.data.tasks import study_fingerprint
from gitbench.spec import DataSpec

SPEC = DataSpec(image_size=16)


@pytest.fixture
def parquet(tmp_path: Path) -> Callable[..., Path]:
    """Write a whole Parquet folder; a keyword replaces the rows of a split (None: leave it out)."""

    def make(**splits: Any) -> Path:
        rows = {"train": [row(k) for k in range(5)], "val": [row(10)], "test": [row(20), row(21)], **splits}
        for split, content in rows.items():
            if content is not None:
                write_parquet(tmp_path / "photos" / f"{split}.parquet", content)
        return tmp_path / "photos"

    return make


def test_parquet_loads(parquet: Callable[..., Path]) -> None:
    source = opened(parquet())
    assert (len(source), source.name, source.split) == (5, "photos", "train")
    example = source.example(3)
    assert (example.image_id, example.captions) == ("id3", ("A dog number 3 runs .", "Two cats"))
    assert example.graph is None and example.questions == ()
    assert np.array_equal(source.image(3), picture(3)) and source.image(3).dtype == np.uint8
    assert len(opened(parquet(), "train", 2)) == 2
    assert len(opened(parquet(), "train", 99)) == 5  # a limit is an upper bound
    assert data_label(str(parquet())) == "photos"


def test_open_data_go_to_other_processes(parquet: Callable[..., Path], tmp_path: Path) -> None:
    """Which are spawned to load batches, on a Mac."""
    for folder in (parquet(), coco(tmp_path / "coco", [f"{number}.png" for number in range(20)])):
        source = opened(folder)
        again = pickle.loads(pickle.dumps(source))
        assert again.example(1) == source.example(1) and np.array_equal(again.image(1), source.image(1))


def test_parquet_as_the_datasets_library_writes_it(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    (tmp_path / "data").mkdir()
    (tmp_path / "dataset_infos.json").write_text("{}")  # lies in such folders and is no caption file
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "test"):
        shift = 3 if "00001-of-00002" in name else 0
        own = {
            "image": [{"bytes": photo(k + shift), "path": None} for k in range(3)],
            "caption": ["one", "two", "three"],
        }
        table = datasets.Dataset.from_dict(own, features=features)
        table.to_parquet(str(tmp_path / "data" / f"{name}.parquet"))
    train, val = opened(tmp_path), opened(tmp_path, "val")
    assert (len(train), len(val)) == (6, 3)
    assert (train.example(4).captions, train.image_id(4)) == (("two",), "train-4")
    assert np.array_equal(train.image(2), val.image(2)) and np.array_equal(train.image(5), picture(5))


def test_parquet_with_image_paths(parquet: Callable[..., Path]) -> None:
    folder = parquet(val=[row(1, image={"bytes": None, "path": "pictures/a.png"})])
    source = opened(folder, "val")
    with refused(
        r"row 0: there is no image file below .*photos: put the images there, or name their folder with --images"
    ):
        source.image(0)
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.png").write_bytes(photo(1))
    assert np.array_equal(opened(folder, "val").image(0), picture(1))


def test_grey_palette_and_alpha_images_become_rgb(parquet: Callable[..., Path]) -> None:
    images = [photo(k, mode=mode) for k, mode in enumerate(("L", "P", "RGBA", "1", "I;16"))]
    source = opened(parquet(val=[row(k, image={"bytes": data, "path": None}) for k, data in enumerate(images)]), "val")
    for index in range(len(source)):
        assert source.image(index).shape == (18, 24, 3) and source.image(index).dtype == np.uint8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([row(0, captions=["fine", " \t\n"])], r"\(val\), row 0: empty caption: write one or remove it"),
        ([row(0), row(1, captions=[])], r"row 1: the image has no caption: add one or remove the row"),
        ([row(0), row(0)], r"row 1: image id 'id0' already used at .*row 0"),
        ([row(0, captions=["x", None])], r"row 0: caption must be text, not NoneType"),
        (
            [{"image": photo(0), "label": "x"}],
            r"--task caption needs a column for the captions, found: image, label: .*captions=NAME .or --task classify.",
        ),
    ],
)
def test_bad_captions(parquet: Callable[..., Path], content: list[dict[str, Any]], message: str) -> None:
    with refused(message):
        opened(parquet(val=content), "val")


# a GIF whose header says 0 x 0, and a BMP of no height: Pillow opens such files or fails in its own ways
GIF = b"GIF89a" + bytes(7) + b"\x2c" + bytes(9) + b"\x02\x02\x4c\x01\x00\x3b"
BMP = (
    b"BM" + b"\x36\0\0\0" + bytes(4) + b"\x36\0\0\0" + b"\x28\0\0\0" + b"\5\0\0\0" + bytes(4) + b"\1\0\x18" + bytes(25)
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "row 0: the image is empty"),
        (b"no image at all", "row 0: the image is unreadable: replace or remove it"),
        (photo(0, (64, 64), kind="JPEG")[:900], "row 0: the image is (cut short|unreadable)"),
        (None, "row 0: there is no image"),
        (GIF, "row 0: the image is (without pixels|unreadable|cut short)"),
        (BMP, "row 0: the image is (without pixels|unreadable|cut short)"),
    ],
)
def test_bad_images(parquet: Callable[..., Path], data: bytes | None, message: str) -> None:
    source = opened(parquet(val=[row(0, image={"bytes": data, "path": None})]), "val")
    with refused(message):
        source.image(0)


def test_a_damaged_shard_is_one_line(parquet: Callable[..., Path]) -> None:
    folder = parquet()
    whole = (folder / "train.parquet").read_bytes()
    (folder / "train.parquet").write_bytes(whole[: len(whole) // 2])
    with refused(r"\(train\): not readable as Parquet.*train.parquet"):
        opened(folder)


@pytest.mark.parametrize("mark", ["\n", "\r", "\r\n", "\u2028", "\u2029", "\x0b", "\x0c", "\x85", "\x1c", "\t", "\x00"])
def test_line_separators_are_folded(mark: str) -> None:
    assert clean_caption(f"{mark}a red{mark}{mark}dog {mark} runs{mark}", "here") == "a red dog runs"


def test_half_a_character_is_refused_with_its_place():
    assert clean_caption("caf\u00e9 \U0001f600", "here") == "caf\u00e9 \U0001f600"
    with refused("row 3: half a character .a lone surrogate. in the answer: write it as UTF-8"):
        clean_caption("a red \ud83d square", "row 3", "answer")


def test_which_reader_opens_a_folder(parquet: Callable[..., Path], tmp_path: Path) -> None:
    folder = parquet(train=None)
    (folder / "train.parquet").unlink(missing_ok=True)
    with refused("has no train split: add one, or say with --split which is; found: files of test, val"):
        opened(folder)
    (tmp_path / "empty").mkdir()
    with refused("empty holds nothing for --task caption: add .*captions.json.*train.parquet.*found: nothing"):
        open_source(str(tmp_path / "empty"), "train")
    with refused("several ways .coco, parquet."):
        open_source(str(coco(folder, ["a.png"])), "train")


def test_a_reader_is_one_file_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "readers").mkdir()
    (tmp_path / "readers" / "lines.py").write_text(
        "NEEDS = {'caption': 'lines.txt'}\n"
        "from gitbench.data.items import Item, Loaded, Part\n"
        "def fits(place): return (place.folder / 'lines.txt').is_file()\n"
        "def parts(place):\n"
        "    said = (place.folder / 'lines.txt').read_text()\n"
        "    item = Item(image_id='a', captions=(said,), where='line 1', picture=place.picture('a', ''))\n"
        "    return [Part(files=(place.folder / 'lines.txt',), load=lambda: Loaded(items=[item]), split='val')]\n"
    )
    (tmp_path / "lines.txt").write_text("a dog")
    code = (
        "import sys, gitbench.data.readers as r; r.__path__.append(sys.argv[1] + '/readers')\n"
        "from gitbench.data import open_source; print(open_source(sys.argv[1], 'val', 3).example(0).captions)"
    )
    assert printed_by(code, str(tmp_path)) == "('a dog',)"


def test_fingerprint_follows_content_and_not_names_or_times(
    parquet: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    first = study_fingerprint(str(parquet()), SPEC)
    moved = parquet().rename(tmp_path / "elsewhere")
    (moved / "train.parquet").touch()
    assert study_fingerprint(str(moved), SPEC) == first
    assert study_fingerprint(str(moved), DataSpec(image_size=16, train_images=3)) != first
    other_image = {"bytes": photo(11), "path": "10.png"}
    for changed in (row(10, captions=["A dog number 10 runs .", "two cats"]), row(10, image=other_image)):
        write_parquet(moved / "val.parquet", [changed])
        assert study_fingerprint(str(moved), SPEC) != first
    write_parquet(moved / "val.parquet", [row(10)])
    assert study_fingerprint(str(moved), SPEC) == first


def test_a_known_fingerprint_reads_no_data(parquet: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = parquet()
    first = study_fingerprint(str(folder), SPEC, CAPTION)
    monkeypatch.setattr(tables, "of_dataset", lambda *_: pytest.fail("read again"))
    assert study_fingerprint(str(folder), SPEC, CAPTION) == first
