"""Folders of photographs, written here and read by the readers: which text and which pixels belong to which image."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from gitbench.data.tasks import open_task
from gitbench.files import make_dir
from gitbench.gate.exact.constant import photograph
from gitbench.gate.exact.order import add_batches
from gitbench.gate.exact.pixels import told
from gitbench.gate.exact.subject import Place
from gitbench.gate.exact.values import Values
from gitbench.spec import TaskSpec

COUNT = 14
COLOURS = ("red", "blue", "green", "white", "black", "brown", "grey")


def add(values: Values, place: Place) -> None:
    """Add what is read of folders in the layouts of COCO, VQAv2 and Parquet."""
    coco = make_dir(place.folder / "coco")
    write_coco(coco)
    _read(values, coco, "caption", "a COCO folder")
    add_batches(values, place.small(data=str(coco)), "a COCO folder")
    questions = make_dir(place.folder / "questions")
    _write_questions(questions)
    _read(values, questions, "vqa", "a folder of questions")
    tables = make_dir(place.folder / "tables")
    _write_tables(tables)
    _read(values, tables, "caption", "a folder of Parquet files")
    _read(values, tables, "classify", "a folder of Parquet files with labels")


def write_coco(folder: Path) -> None:
    """Write images and captions of all splits; the captions of the images are in another order than the images."""
    notes = [{"image_id": 100 + n, "caption": f"{_said(n, k)}\n"} for k in range(3) for n in reversed(range(COUNT))]
    images = [{"id": 100 + n, "file_name": _write_image(folder, n)} for n in range(COUNT)]
    _write(folder / "captions.json", {"images": images, "annotations": notes})


def _read(values: Values, folder: Path, task: str, name: str) -> None:
    """Add ids, texts and pixels of all splits of a folder."""
    found: dict[str, str] = {}
    for split in ("train", "val", "test"):
        source = open_task(str(folder), split, 6, TaskSpec(name=task))  # type: ignore[arg-type]
        source.check()
        for index in range(len(source)):
            texts = [f"{each.prefix}|{each.target}" for each in source.texts(index)]
            asked = [" / ".join([each.request_id, *each.references]) for each in source.requests(index)]
            hashed = told(source.pixels(index, 16))["hash"]
            found[f"{split} {source.image_id(index)}"] = "; ".join([*texts, *asked, hashed])
    values.equal(f"{name}: images of the splits, their texts and pixels", found)
    source = open_task(str(folder), "train", 6, TaskSpec(name=task))  # type: ignore[arg-type]
    values.equal(f"{name}: pixels of an image", told(source.image(0)))
    if source.closed:
        values.equal(f"{name}: labels", list(source.vocabulary()))


def _said(number: int, place: int) -> str:
    colour, other = COLOURS[number % len(COLOURS)], COLOURS[(number * 3 + place) % len(COLOURS)]
    return (
        f"A {colour} dog beside {number} {other} balls .",
        f"{number} balls,  a dog",
        f"the {other} photograph {number}",
    )[place]


def _picture(number: int) -> np.ndarray:
    return photograph(f"photograph {number}", 20 + number, 31 - number)


def _write_image(folder: Path, number: int) -> str:
    name = f"COCO_{number:012d}.png"
    make_dir(folder / "images")
    Image.fromarray(_picture(number)).save(folder / "images" / name)
    return name


def _write_questions(folder: Path) -> None:
    """Write questions in VQAv2's form: ten answers each, of which the commonest is learned."""
    asked = []
    for number in range(COUNT):
        colour, other = COLOURS[number % len(COLOURS)], COLOURS[(number + 1) % len(COLOURS)]
        for place, text in enumerate((f"What colour is ball {number}?", "Is there a dog?")):
            answers = [{"answer": each} for each in [other] * 3 + [colour] * (5 + place) + ["none"] * (2 - place)]
            image = _write_image(folder, number)
            asked.append({"question_id": 10 * number + place, "image": image, "question": text, "answers": answers})
    _write(folder / "questions.json", asked)


def _write_tables(folder: Path) -> None:
    """Write train, val and test as Parquet files with captions and labels."""
    for split, numbers in (("train", range(6)), ("val", range(6, 9)), ("test", range(9, 13))):
        rows = [
            {
                "image": {"bytes": _png(n), "path": f"{n}.png"},
                "captions": [_said(n, 0), _said(n, 1)],
                "label": COLOURS[n % 4],
            }
            for n in numbers
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")


def _png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_picture(number)).save(buffer, "PNG")
    return buffer.getvalue()


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
