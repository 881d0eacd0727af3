"""Tables of image files and their texts: CSV, TSV, JSON lines, Kaggle's and Flickr30k's own, ImageFolder's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_data import CLASSIFY, READ, SPLITS, VQA, opened, photo, picture, texts
from helpers_errors import refused


def with_photos(folder: Path, names: list[str]) -> Path:
    """Write photographs at paths below a folder, numbered in their order."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(photo(number))
    return folder


def all_items(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the captions of all splits together, by the names of the image files."""
    sources = [opened(folder, split) for split in SPLITS]
    return {
        Path(str(row.picture.name)).name: source.example(index).captions
        for source in sources
        for index, row in enumerate(source.rows)
    }


def test_kaggles_captions_of_flickr8k(tmp_path: Path) -> None:
    names = [f"{number}_ab.jpg" for number in range(4)]
    with_photos(tmp_path / "Images", names)
    lines = ["image,caption"]
    lines += [
        f'{name},"A dog , number {k} , says ""hi"" ."' if k % 2 else f"{name},A cat number {k} ."
        for name in names
        for k in range(5)
    ]
    (tmp_path / "captions.txt").write_text("\r\n".join(lines) + "\r\n", newline="")
    found = all_items(tmp_path)
    assert set(found) == set(names)
    assert (
        found["2_ab.jpg"][:2] == ("A cat number 0 .", 'A dog , number 1 , says "hi" .') and len(found["2_ab.jpg"]) == 5
    )
    source = opened(tmp_path)
    assert "20 rows are 4 images: rows of one image are put together" in " ".join(source.notes)
    number = names.index(source.rows[0].picture.name)
    assert np.array_equal(source.image(0), picture(number)) and source.image_id(0) == "train-0"


def test_flickr30ks_results_with_bars(tmp_path: Path) -> None:
    names = ["1000.jpg", "2000.jpg", "2199200615.jpg"]
    with_photos(tmp_path / "flickr30k_images", names)
    rows = [f'{name}| {k}| " The man , number {k} " laughs .' for name in names for k in range(4)]
    rows += ["1000.jpg| 4| Two boys .", "2000.jpg| 4| Two girls .", "2199200615.jpg| 4   A dog runs across the grass ."]
    (tmp_path / "results.csv").write_text("image_name| comment_number| comment\n" + "\n".join(rows) + "\n")
    found = all_items(tmp_path)
    assert found["1000.jpg"] == (*(f'" The man , number {k} " laughs .' for k in range(4)), "Two boys .")
    assert found["2199200615.jpg"][4] == "A dog runs across the grass ."
    assert "results.csv: the last bar is missing in 1 of its lines (first: [16])" in " ".join(opened(tmp_path).notes)


def test_flickr30ks_annotations_with_lists_in_cells(tmp_path: Path) -> None:
    with_photos(tmp_path / "flickr30k-images", [f"{number}.jpg" for number in range(3)])
    lines = ["raw,sentids,split,filename,img_id"]
    for number, split in enumerate(SPLITS):
        cell = json.dumps([f"Dog, no. {number}", 'A "cat".']).replace('"', '""')
        lines.append(f'"{cell}","[{number}, 7]",{split},{number}.jpg,{number + 40}')
    (tmp_path / "flickr_annotations_30k.csv").write_text("\n".join(lines))
    for number, split in enumerate(SPLITS):
        source = opened(tmp_path, split)
        assert len(source) == 1 and source.image_id(0) == str(number + 40)
        assert source.example(0).captions == (f"Dog, no. {number}", 'A "cat".')
        assert np.array_equal(source.image(0), picture(number))


@pytest.mark.parametrize("cell", ["['A dog.', \"It's\"]", '["A dog.", "It\'s"]'])
def test_lists_as_python_and_json_print_them(tmp_path: Path, cell: str) -> None:
    with_photos(tmp_path, ["a.png", "b.png", "c.png"])
    quoted = cell.replace('"', '""')
    (tmp_path / "captions.csv").write_text("file_name,captions\n" + "".join(f'{n}.png,"{quoted}"\n' for n in "abc"))
    assert set(all_items(tmp_path).values()) == {("A dog.", "It's")}
    (tmp_path / "captions.csv").write_text(
        "file_name,captions\n" + "".join(f"{n}.png,['A dog.' 'Cat']\n" for n in "abc")
    )
    with refused(r"line 2: a list without commas, as numpy prints it: write lists as JSON"):
        opened(tmp_path)


def test_several_caption_columns_a_byte_order_mark_and_semicolons(tmp_path: Path) -> None:
    with_photos(tmp_path, ["a.png", "b.png", "c.png"])
    text = 'image;caption_1;caption_2;caption_3\na.png;one;two;"three\nlines"\nb.png;one;;\nc.png;x; y ;\n'
    (tmp_path / "captions.csv").write_text(text, encoding="utf-8-sig")
    assert all_items(tmp_path) == {"a.png": ("one", "two", "three lines"), "b.png": ("one",), "c.png": ("x", "y")}


def test_a_table_a_split_as_tsv_and_json_lines(tmp_path: Path) -> None:
    with_photos(tmp_path, [f"{split}/{number}.png" for split in SPLITS for number in range(2)])
    for split in SPLITS:
        rows = "".join(f"{split}/{number}.png\t{split}, {number}\n" for number in range(2))
        (tmp_path / f"{split}_captions.tsv").write_text("path\tcaption\n" + rows)
    for at, split in enumerate(SPLITS):
        source = opened(tmp_path, split)
        assert [source.example(index).captions for index in range(2)] == [(f"{split}, 0",), (f"{split}, 1",)]
        assert np.array_equal(source.image(1), picture(2 * at + 1)) and source.notes == ()
    for path in tmp_path.glob("*.tsv"):
        path.unlink()
    rows = [{"image": f"{split}/{n}.png", "captions": [f"{split} {n}", "b"]} for split in SPLITS for n in range(2)]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    source = opened(tmp_path, "val")  # the folders of the images state the splits
    assert [source.example(index).captions for index in range(2)] == [("val 0", "b"), ("val 1", "b")]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_image_folders_with_metadata_in_each_splits_folder(tmp_path: Path, kind: str) -> None:
    for at, split in enumerate(("train", "validation", "test")):
        (tmp_path / split).mkdir()
        (tmp_path / split / "0.png").write_bytes(photo(at))  # the same name in every split
        row = {"file_name": "0.png", "text": f"number {at}"}
        lines = [",".join(row), ",".join(row.values())] if kind == "csv" else [json.dumps(row)]
        (tmp_path / split / f"metadata.{kind}").write_text("\n".join(lines))
    for at, split in enumerate(SPLITS):
        source = opened(tmp_path, split)
        assert source.example(0).captions == (f"number {at}",) and np.array_equal(source.image(0), picture(at))


def test_an_image_folder_with_one_metadata_file(tmp_path: Path) -> None:
    with_photos(tmp_path, [f"{split}/{split}.png" for split in SPLITS])
    lines = [json.dumps({"file_name": f"{split}/{split}.png", "text": f"of {split}"}) for split in SPLITS]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    assert [opened(tmp_path, split).example(0).captions for split in SPLITS] == [(f"of {split}",) for split in SPLITS]


def test_questions_labels_and_words(tmp_path: Path) -> None:
    with_photos(tmp_path, ["a.png", "b.png", "c.png"])
    table = tmp_path / "train.csv"
    table.write_text(
        'image,question,answers\na.png,Who?,"[""me"", ""me"", ""you""]"\na.png,"What, then?",a dog\nb.png,Who?,x\nc.png,Who?,y\n'
    )
    (tmp_path / "test.csv").write_text("image,question\nc.png,Who?\n")  # whose answers are withheld
    found = [pair for split in SPLITS for pair in texts(opened(tmp_path, split, task=VQA))]
    assert sorted(found) == [("What, then?", "a dog"), ("Who?", "me"), ("Who?", "x"), ("Who?", "y")]
    assert "its test has no texts" in " ".join(opened(tmp_path, task=VQA).source.notes)
    with refused(r"holds nothing for --task caption \(what is there may suit --task vqa\)"):
        opened(tmp_path)
    (tmp_path / "test.csv").unlink()
    table.write_text("file_name,label,word\na.png,cat,STOP\nb.png,dog,GO\nc.png,cat,EXIT\n")
    assert opened(tmp_path, task=CLASSIFY).vocabulary() == ("cat", "dog")
    assert opened(tmp_path, task=READ).vocabulary() == ("EXIT", "GO", "STOP")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,caption\na.png,one, two\n", "captions.csv, line 2: 3 fields under 2 columns: quote texts that hold the delim"),
        ("image,caption\na.png\n", "captions.csv, line 2: 1 fields under 2 columns"),
        ('image,caption\na.png,"one\n', "captions.csv cannot be read .unexpected end of data"),
        ("image,caption,caption\na.png,x,y\n", "several columns are called caption"),
        ("bild,wort\na.png,x\n", "needs a column for the image, found: bild, wort: name it with --columns"),
        ("image,caption\na.png,\nb.png,x\nc.png,x\n", "captions.csv, line 2: empty caption"),
        ("image,caption\n,x\nb.png,x\nc.png,x\n", "captions.csv, line 2: there is no image"),
        ("image,caption\nz.png,x\nb.png,x\nc.png,x\n", "captions.csv, line 2: image .*z.png is missing"),
        ("image,caption\na.png,café\n".encode("latin-1"), "captions.csv is not in UTF-8"),
    ],
)  # fmt: skip
def test_faults_name_the_line(tmp_path: Path, content: Any, message: str) -> None:
    with_photos(tmp_path, ["a.png", "b.png", "c.png"])
    (tmp_path / "captions.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with refused(message):
        for split in SPLITS:
            opened(tmp_path, split)


def test_faults_of_json_lines_and_of_two_tables(tmp_path: Path) -> None:
    with_photos(tmp_path, ["a.png", "b.png", "c.png"])
    rows = [json.dumps({"image": f"{name}.png", "caption": "x"}) for name in "abc"]
    (tmp_path / "metadata.jsonl").write_text("\n".join([*rows[:2], "{"]))
    with refused("metadata.jsonl, line 3: not a JSON object"):
        opened(tmp_path)
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
    (tmp_path / "captions.csv").write_text("image,caption\na.png,x\n")
    with refused("captions.csv and metadata.jsonl are tables of the same images: leave one"):
        opened(tmp_path)
    (tmp_path / "captions.csv").write_text("class,count\ncat,3\n")  # a table of something else
    assert set(all_items(tmp_path)) == {"a.png", "b.png", "c.png"}
