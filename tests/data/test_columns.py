"""Which column of a table holds what, and how rows of one image become one item."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from helpers_data import CAPTION, READ, VQA, opened, photo, row, write_parquet
from helpers_errors import refused
from PIL import Image

from gitbench.data import address, open_source
from gitbench.data.columns import ROLES, columns_of
from gitbench.data.pictures import TablePicture


def chosen(names: str, task: str = "caption", pixels: str = "image", **asked: tuple[str, ...]) -> str:
    found = columns_of(names.split(), task, asked, "here", [name for name in pixels.split() if name in names.split()])
    values = {role: getattr(found, role) for role in ROLES}
    pairs = (f"{role}={'+'.join(value) if role == 'captions' else value}" for role, value in values.items() if value)
    return ",".join(pairs)


def test_columns_are_known_by_the_names_that_data_sets_give_them() -> None:
    assert chosen("image text") == "image=image,captions=text"  # as in Hugging Face's guide to captioning
    assert chosen("Image Caption id") == "image=Image,captions=Caption"
    assert (
        chosen("image filename cocoid sentences split") == "image=image,image_id=cocoid,captions=sentences,split=split"
    )
    assert chosen("file_name caption_0 caption_1") == "image=file_name,captions=caption_0+caption_1"
    assert (
        chosen("image caption text") == "image=image,captions=caption"
    )  # `text` is captions only where nothing else is
    assert chosen("image question answers", "vqa") == "image=image,question=question,answers=answers"
    assert chosen("image text", "read") == "image=image,text=text"
    assert chosen("a b image", captions=("b",), image=("a",)) == "image=a,captions=b"


@pytest.mark.parametrize(
    ("names", "asked", "message"),
    [
        (
            "image caption captions",
            {},
            "here: the columns caption and captions may both be the captions: say which with --col",
        ),
        ("file_name path text", {}, "here: the columns file_name and path may both be the image"),
        (
            "image title",
            {},
            "needs a column for the captions, found: image, title: name it with --columns captions=NAME",
        ),
        ("caption", {}, "needs a column for the image, found: caption"),
        ("image caption", {"captions": ("txt",)}, "here: there is no column 'txt' for captions: found: image, caption"),
        ("image caption", {"captoins": ("caption",)}, "unknown column role 'captoins': did you mean 'captions'"),
        ("image caption", {"image": ("image", "caption")}, "image takes one column, not image, caption: name one"),
    ],
)
def test_a_choice_is_the_users(names: str, asked: dict[str, tuple[str, ...]], message: str) -> None:
    with refused(message):
        chosen(names, **asked)


def plain(colour: str) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": f"{colour}.png"}


@pytest.mark.parametrize("with_id", [False, True])
def test_one_row_a_caption_is_one_item_an_image(tmp_path: Path, with_id: bool) -> None:
    rows = [
        {"image": plain(colour), "caption": f"{colour} {k}", **({"image_id": len(colour)} if with_id else {})}
        for k in range(5)
        for colour in ("red", "blue")
    ]
    write_parquet(tmp_path / "val.parquet", rows)
    source = opened(tmp_path, "val")
    assert [source.example(k).captions for k in range(len(source))] == [
        tuple(f"{colour} {k}" for k in range(5)) for colour in ("red", "blue")
    ]
    assert [source.image_id(k) for k in (0, 1)] == (["3", "4"] if with_id else ["val-0", "val-1"])
    assert "10 rows are 2 images: rows of one image are put together" in source.notes[1]


def test_an_id_of_two_pictures_is_refused(tmp_path: Path) -> None:
    rows = [{"image": plain(colour), "caption": "a tile", "image_id": 1} for colour in ("red", "blue")]
    write_parquet(tmp_path / "val.parquet", rows)
    with refused(r"row 0: image_id '1' has several pictures: give each its own id"):
        opened(tmp_path, "val")


@pytest.mark.parametrize("with_id", [False, True])
def test_images_are_told_apart_without_reading_them(
    tmp_path: Path, with_id: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of an id by their marks; without ids images are read only where they share one."""
    own = [{"image_id": number // 2} if with_id else {} for number in range(10)]
    image = [{"bytes": photo(number // 2 if with_id else number), "path": None} for number in range(10)]
    rows = [{"image": image[k], "caption": f"number {k}", **own[k]} for k in range(10)]
    write_parquet(tmp_path / "val.parquet", rows)
    read: list[str] = []
    whole = TablePicture.read
    monkeypatch.setattr(TablePicture, "read", lambda self, where: read.append(where) or whole(self, where))
    assert len(opened(tmp_path, "val")) == (5 if with_id else 10) and not read
    write_parquet(tmp_path / "val.parquet", [*rows, {**rows[3], "caption": "once more"}])
    source = opened(tmp_path, "val")
    assert source.example(1 if with_id else 3).captions[-1] == "once more"
    assert len(read) == (0 if with_id else 2)


def test_images_that_differ_in_the_middle_alone_stay_two(tmp_path: Path) -> None:
    data = [bytearray(photo(1, kind="BMP")) for _ in range(2)]
    data[1][700] ^= 1
    rows = [{"image": {"bytes": bytes(each), "path": None}, "caption": "a tile"} for each in data]
    write_parquet(tmp_path / "val.parquet", rows)
    assert len(opened(tmp_path, "val")) == 2


def test_questions_in_a_table(tmp_path: Path) -> None:
    image = {"bytes": photo(1), "path": None}
    rows = [
        {"image": image, "image_id": 7, "question_id": k, "question": f"what {k}?", "answers": [{"answer": "x"}] * 2}
        for k in range(2)
    ]
    write_parquet(tmp_path / "val.parquet", rows)
    source = opened(tmp_path, "val", task=VQA)
    assert len(source) == 1 and [request.request_id for request in source.requests(0)] == ["0", "1"]
    assert source.requests(0)[1].references == ("x", "x")


def test_names_of_folders_are_no_patterns(tmp_path: Path) -> None:
    for name, said in (("food1", "the neighbour"), ("food[1]", "right"), ("[D_DATA]", "right"), ("a*b?", "right")):
        write_parquet(tmp_path / name / "val.parquet", [row(1, captions=[said])])
    for name in ("food[1]", "[D_DATA]", "a*b?"):
        assert opened(tmp_path / name, "val").example(0).captions == ("right",)


def test_options_of_a_data_set_stand_in_its_name(tmp_path: Path) -> None:
    write_parquet(tmp_path / "val.parquet", [row(1, captions=["one"], other=["two"], text="WORD")])
    assert open_source(f"{tmp_path}?columns=captions=other", "val").example(0).captions == ("two",)
    assert opened(tmp_path, "val", task=READ).texts(0)[0].target == "WORD"
    text = "photos?columns=image=jpg,captions=a+b&split=80/10/10&images=/elsewhere"
    assert str(address.parse(text)) == text and address.parse(text).columns == {
        "image": ("jpg",),
        "captions": ("a", "b"),
    }
    given = {"columns": "image=jpg", "split": "80/10/10"}
    assert address.with_options("photos", given) == "photos?columns=image=jpg&split=80/10/10"
    (tmp_path / "x?split=1").mkdir()
    assert address.parse(str(tmp_path / "x?split=1")).split == ""  # a folder that is there
    assert address.resolved("scenes") == "scenes" and opened(tmp_path, "val", task=CAPTION)
    for text, message in (
        ("photos?colums=image=jpg", "unknown option of the data set photos 'colums': did you mean 'columns'"),
        ("photos?split=a&split=b", "the option split is given twice"),
        ("photos?columns=jpg", "columns 'jpg': write role=column"),
        ("photos?columns=image=a,image=b", "image is given twice: join its columns with"),
        ("scenes?split=80/10/10", "scenes takes no options"),
    ):
        with refused(message):
            open_source(text, "train")
    with refused("--split: .* says it already: give it once"):
        address.with_options("photos?split=80/10/10", {"split": "1/1/1"})
