"""Films as files: which frames are seen, films that cannot be decoded, and films in layouts of captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_data import CAPTION, VIDEO, opened, picture, row, write_parquet
from helpers_errors import refused
from helpers_sets import film, ids, put, said, shown, write

from gitbench.data.films import film_frames
from gitbench.spec import TaskSpec


@pytest.mark.parametrize(
    ("frames", "count", "expected"),
    [
        (12, 1, [6]),
        (12, 3, [2, 6, 10]),
        (12, 6, [1, 3, 5, 7, 9, 11]),
        (10, 4, [1, 3, 6, 8]),
        (3, 3, [0, 1, 2]),
        (2, 6, [0, 0, 0, 1, 1, 1]),
        (1, 2, [0, 0]),
    ],
)
def test_the_middle_frames_of_equal_parts_are_seen(
    tmp_path: Path, frames: int, count: int, expected: list[int]
) -> None:
    found = film_frames(film(tmp_path / "a.avi", frames), count, "here")
    assert found.dtype == np.uint8 and found.shape == (count, 48, 64, 3)
    assert [shown(frame) for frame in found] == expected


def test_mp4_is_read_too(tmp_path: Path) -> None:
    path = film(tmp_path / "ä film #1%20.mp4", 12, codec="mp4v")
    assert [shown(frame) for frame in film_frames(path, 3, "here")] == [2, 6, 10]


def test_films_that_cannot_be_decoded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = film(tmp_path / "a.avi")
    whole = path.read_bytes()
    for damaged, message in (
        (b"", "here: the film .*a.avi cannot be decoded: replace or remove it"),
        (b"no film at all", "here: the film .*a.avi cannot be decoded"),
        (whole[: len(whole) * 3 // 4], "here: the film .*a.avi is cut short, after [0-9]+ of 12 frames: replace"),
    ):
        path.write_bytes(damaged)
        with refused(message):
            film_frames(path, 3, "here")
    mp4 = film(tmp_path / "b.mp4", codec="mp4v")
    mp4.write_bytes(mp4.read_bytes()[:-200])  # its index is at the end
    with refused("b.mp4 cannot be decoded"):
        film_frames(mp4, 3, "here")
    assert capfd.readouterr() == ("", "")  # the error says it all


def films_folder(folder: Path) -> Path:
    """Write 12 films of train, 2 of val, 2 of test, all of one name a split, in COCO's layout of captions."""
    for split, count in (("train", 12), ("val", 2), ("test", 2)):
        for number in range(count):
            film(folder / "films" / split / f"{number}.avi", 6 if split == "train" else 12)
        write(folder, f"captions_{split}.json", said({number: f"{number}.avi" for number in range(count)}))
    return folder


def test_films_in_a_layout_of_captions(tmp_path: Path) -> None:
    folder = films_folder(tmp_path)
    assert ids(folder, VIDEO) == {"train": [str(k) for k in range(12)], "val": ["0", "1"], "test": ["0", "1"]}
    source = opened(folder, "val", task=VIDEO)
    assert source.requests(1)[0].references == ("caption 0 of 1", "caption 1 of 1")
    assert source.image(1).shape == (3, 48, 64, 3) and [shown(frame) for frame in source.image(1)] == [2, 6, 10]
    pixels = source.pixels(1, 32)
    assert pixels.shape == (3, 32, 32, 3) and [shown(frame) for frame in pixels] == [2, 6, 10]
    assert [shown(frame) for frame in opened(folder, task=VIDEO).image(0)] == [1, 3, 5]
    assert shown(source.source.image(1)) == 6  # one picture of a film is its middle


def test_the_fingerprint_of_films_is_of_what_is_in_them(tmp_path: Path) -> None:
    folder = films_folder(tmp_path)
    first = opened(folder, "val", task=VIDEO).fingerprint()
    assert opened(folder, "val", task=TaskSpec(name="video", frames=2)).fingerprint() != first
    film(folder / "films" / "val" / "1.avi", 7)
    assert opened(folder, "val", task=VIDEO).fingerprint() != first


def test_a_film_is_no_image_and_an_image_no_film(tmp_path: Path) -> None:
    folder = films_folder(tmp_path / "films")
    with refused("there is no image file below .*put the images there"):
        opened(folder, "val", task=CAPTION)
    (folder / "films" / "val" / "1.avi").unlink()
    with refused("image 1.avi: film .*1.avi is missing"):
        opened(folder, "val", task=VIDEO)
    stills = put(tmp_path / "stills", {f"images/{k}.jpg": k for k in range(12)})
    write(stills, "captions.json", said({k: f"{k}.jpg" for k in range(12)}))
    with refused("needs films and .*stills holds still images: pass --data scenes-motion, or a folder of films"):
        opened(stills, task=VIDEO)
    film(stills / "other.avi")
    with refused("[0-9].jpg: film .*jpg is missing: add it or remove its row .* films are missing"):
        opened(stills, task=VIDEO)
    with refused("still images and takes no frames"):
        opened(folder, task=TaskSpec(name="caption", frames=3))


def test_images_in_tables_are_no_films(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [row(k) for k in range(12)])
    film(tmp_path / "other.avi")
    with refused("row 0 is no film in a file of its own, which --task video needs"):
        opened(tmp_path, task=VIDEO)


def test_stills_and_films_of_one_name_stand_beside_each_other(tmp_path: Path) -> None:
    put(tmp_path, {f"stills/{k}.jpg": k for k in range(12)})
    for k in range(12):
        film(tmp_path / "films" / f"{k}.avi", 1 + k)
    write(tmp_path, "captions.json", said({k: str(k) for k in range(12)}))
    stills = opened(tmp_path, "val")
    films = opened(tmp_path, "val", task=VIDEO)  # while what was read for the stills is still in use
    number = int(stills.image_id(0))
    assert np.array_equal(stills.image(0), picture(number))
    assert films.image_id(0) == str(number) and shown(films.source.image(0)) == (1 + number) // 2
