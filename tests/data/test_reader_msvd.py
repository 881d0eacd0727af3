"""MSVD in the layouts in which it is published."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_data import VIDEO, opened
from helpers_errors import refused
from helpers_published import CLIPS, lists, msvd
from helpers_sets import ids, shown


def test_msvd_with_lists(tmp_path: Path) -> None:
    assert ids(lists(msvd(tmp_path)), VIDEO) == {"train": CLIPS[:10], "val": CLIPS[10:12], "test": CLIPS[12:]}
    source = opened(tmp_path, "val", task=VIDEO)
    assert source.requests(0)[0].references == ("A man is slicing bread.", "A man is cooking.")
    assert [shown(frame) for frame in source.image(0)] == [1, 5, 9] and not source.source.notes


@pytest.mark.parametrize("name", ["train_list.txt", "val_list.txt", "AllVideoDescriptions.txt"])
def test_names_with_the_ending_of_a_film(tmp_path: Path, name: str) -> None:
    path = lists(msvd(tmp_path)) / name
    lines = [line.partition(" ") for line in path.read_text().splitlines()]
    ended = ("".join((f"{clip}.AVI" if clip in CLIPS else clip, *more)) for clip, *more in lines)
    path.write_text("\n".join(ended))
    assert ids(tmp_path, VIDEO) == {"train": CLIPS[:10], "val": CLIPS[10:12], "test": CLIPS[12:]}
    assert not opened(tmp_path, "val", task=VIDEO).source.notes


def test_msvd_with_numbered_films(tmp_path: Path) -> None:
    numbers = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1200, 1201, 1300, 1301, 1970]
    msvd(tmp_path, numbered=True)
    for number in (14, 13, 12, 11, 10):
        path = tmp_path / "YouTubeClips" / f"vid{number}.avi"
        path.rename(path.with_name(f"vid{numbers[number - 1]}.avi"))
    pairs = zip(CLIPS, numbers, strict=True)
    (tmp_path / "youtube_mapping.txt").write_text("".join(f"{clip} vid{number}\n" for clip, number in pairs))
    assert ids(tmp_path, VIDEO) == {"train": CLIPS[:10], "val": CLIPS[10:12], "test": CLIPS[12:]}
    assert [shown(frame) for frame in opened(tmp_path, "val", task=VIDEO).image(0)] == [1, 5, 9]
    pairs = zip(CLIPS, numbers, strict=True)
    (tmp_path / "youtube_mapping.txt").write_text("".join(f"{clip}.avi vid{number}.avi\n" for clip, number in pairs))
    assert ids(tmp_path, VIDEO) == {"train": CLIPS[:10], "val": CLIPS[10:12], "test": CLIPS[12:]}
    (tmp_path / "youtube_mapping.txt").write_text(f"{CLIPS[0]} first\n")
    with refused("youtube_mapping.txt: '.* first' is not 'CLIP vidNUMBER'"):
        opened(tmp_path, "val", task=VIDEO)


def test_msvd_alone_is_divided(tmp_path: Path) -> None:
    found = ids(msvd(tmp_path), VIDEO)
    assert sorted(sum(found.values(), [])) == sorted(CLIPS) and all(found.values())


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ((11, 14), "is in val_list.txt and in test_list.txt: leave one"),
        ((13, 14), None),
    ],
)
def test_lists_that_do_not_fit(tmp_path: Path, test: tuple[int, int], message: str | None) -> None:
    lists(msvd(tmp_path), test)
    if message:
        with refused(message):
            opened(tmp_path, "test", task=VIDEO)
    else:
        source = opened(tmp_path, "test", task=VIDEO)
        assert len(source) == 1
        assert source.source.notes == ("AllVideoDescriptions.txt: 1 clips that are in no split are left out",)
