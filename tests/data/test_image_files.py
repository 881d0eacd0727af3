"""Image files are found in their split's own folder, by name, stem or number; files that differ are never guessed between."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from helpers_data import CAPTION, SPLITS, VQA, opened, photo, picture
from helpers_errors import refused

from gitbench.data import open_source
from gitbench.data.image_files import ImageFiles


def put(folder: Path, **numbers: int) -> ImageFiles:
    """Write pictures: path (with __ for a slash, _png for .png) -> number of the picture."""
    for name, number in numbers.items():
        path = folder / name.replace("__", "/").replace("_png", ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(number))
    return ImageFiles([folder])


@pytest.mark.parametrize("task", [CAPTION, VQA])
@pytest.mark.parametrize("place", ["images/{}", "{}2017", "data/{}_images"])
def test_names_that_every_split_uses_are_found_in_its_own_folder(tmp_path: Path, task: object, place: str) -> None:
    for number, split in enumerate(SPLITS):
        (tmp_path / place.format(split)).mkdir(parents=True)
        (tmp_path / place.format(split) / "0.png").write_bytes(photo(number))
        captions = {"images": [{"id": 0, "file_name": "0.png"}], "annotations": [{"image_id": 0, "caption": "a dog"}]}
        asked = [{"question_id": f"{split}0", "image": 0, "question": "what?", "answers": "a dog"}]
        file = f"{split}.json" if task is CAPTION else f"{split}_questions.json"
        (tmp_path / file).write_text(json.dumps(captions if task is CAPTION else asked))
    for number, split in enumerate(SPLITS):
        assert np.array_equal(opened(tmp_path, split, task=task).image(0), picture(number))  # type: ignore[arg-type]


def test_candidates_that_differ_are_an_error_and_copies_are_not(tmp_path: Path) -> None:
    files = put(tmp_path, a__x_png=1, b__x_png=2, a__y_png=3, b__y_png=3, train__z_png=1, val__z_png=2)
    with refused("row 3: .*a/x.png and .*b/x.png are two images called x.png: write the image's folder into the data"):
        files.find("x.png", None, "row 3")
    assert files.find("b/x.png", None, "") == tmp_path / "b" / "x.png"
    assert files.find("y.png", "train", "").read_bytes() == photo(3)
    assert files.find("z.png", "val", "") == tmp_path / "val" / "z.png"
    with refused("two images called z"):
        files.find("z", None, "row 1")
    with refused("two images called /elsewhere/z.png"):
        files.find("/elsewhere/z.png", None, "row 1")


def test_a_name_of_another_split_is_not_taken_where_names_repeat(tmp_path: Path) -> None:
    files = put(tmp_path, train__0_png=1, val__0_png=2, val__1_png=3)
    with refused("row 1: image .*1.png is missing: add it or remove its row"):
        files.find("1.png", "train", "row 1")
    unique = put(
        tmp_path / "coco", val2014__COCO_1_png=4, train2014__COCO_2_png=5
    )  # Karpathy's restval lies in val2014
    assert unique.find("COCO_1.png", "train", "").parent.name == "val2014"


def test_stems_numbers_backslashes_and_letters_of_two_parts(tmp_path: Path) -> None:
    files = put(tmp_path, pictures__COCO_val2014_000000000042_png=1, pictures__a_b_png=2)
    assert files.find(42, None, "") == files.find("42", None, "") == files.find("COCO_val2014_000000000042", None, "")
    assert files.find("somewhere\\a_b.png", None, "").name == "a_b.png"
    (tmp_path / unicodedata.normalize("NFD", "\u00e9t\u00e9.png")).write_bytes(photo(3))
    assert ImageFiles([tmp_path]).find("\u00e9t\u00e9.png", None, "").read_bytes() == photo(3)


def test_images_in_a_folder_elsewhere_and_none_at_all(tmp_path: Path) -> None:
    put(tmp_path / "pictures", a_png=1)
    (tmp_path / "data").mkdir()
    content = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "caption": "a dog"}]}
    (tmp_path / "data" / "val.json").write_text(json.dumps(content))
    with refused("there is no image file below .*data: put the images there, or name their folder with --images"):
        opened(tmp_path / "data", "val")
    source = open_source(f"{tmp_path / 'data'}?images={tmp_path / 'pictures'}", "val")
    assert np.array_equal(source.image(0), picture(1))
    with refused("the folder of images .*nowhere does not exist: check the path"):
        open_source(f"{tmp_path / 'data'}?images={tmp_path / 'nowhere'}", "val").check()


def test_how_many_images_are_missing_is_said(tmp_path: Path) -> None:
    put(tmp_path, a_png=1)
    images = [{"id": k, "file_name": f"{name}.png"} for k, name in enumerate("abcd")]
    notes = [{"image_id": k, "caption": "a dog"} for k in range(4)]
    (tmp_path / "val.json").write_text(json.dumps({"images": images, "annotations": notes}))
    with refused(r"image b.png: image .*b.png is missing: add it or remove its row \(3 of 4 images are missing\)"):
        opened(tmp_path, "val")


def test_a_folder_that_links_to_itself_is_walked_once(tmp_path: Path) -> None:
    files = put(tmp_path, images__a_png=1)
    (tmp_path / "images" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert files.paths == [tmp_path / "images" / "a.png"]
