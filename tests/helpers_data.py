"""Tiny data folders for tests: photographs of noise with texts, in every layout; and what several data tests assert."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from gitbench.data import Example, open_source
from gitbench.data.scenes.graph import ATTRIBUTES, SceneGraph, SceneObject
from gitbench.data.tasks import TaskSource, open_task
from gitbench.spec import TaskSpec, TextSpec

CAPTION, VQA, READ, CLASSIFY = (TaskSpec(name=name) for name in ("caption", "vqa", "read", "classify"))
SPLITS = ("train", "val", "test")
VIDEO = TaskSpec(name="video", frames=3)
TEXT = TextSpec(vocab_size=300, max_tokens=16)


class TinySource:
    """A data set of one's own: two photographs of noise, one with a caption of 10,000 words."""

    def __init__(self, name: str = "tiny", split: str = "train", limit: int | None = None):
        self.name, self.split = name, split

    def __len__(self) -> int:
        return 2

    def image_id(self, index: int) -> str:
        return f"{self.split}-{index}"

    def example(self, index: int) -> Example:
        said = ("red circle " * 5000, "a dog") if index else ("a cat",)
        return Example(image_id=self.image_id(index), captions=said)

    def image(self, index: int) -> np.ndarray:
        return np.random.default_rng(index).integers(0, 256, (30 + index, 41, 3), dtype=np.uint8)

    def fingerprint(self) -> str:
        return "two images"

    def check(self) -> None:
        """Nothing can be wrong."""


def photo(number: int = 0, size: tuple[int, int] = (24, 18), mode: str = "RGB", kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def picture(number: int) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(photo(number))))


def row(number: int, captions: Any = None, image: Any = ..., **more: Any) -> dict[str, Any]:
    said = [f"A dog number {number} runs .", "Two cats"] if captions is None else captions
    data = {"bytes": photo(number), "path": f"{number}.png"} if image is ... else image
    return {"image": data, "captions": said, "image_id": f"id{number}", **more}


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = None
    if rows and isinstance(rows[0].get("image"), dict):
        fields = {"image": pa.struct([("bytes", pa.binary()), ("path", pa.string())])}
        table = pa.Table.from_pylist(rows)
        schema = pa.schema([pa.field(f.name, fields.get(f.name, f.type)) for f in table.schema])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def with_images(folder: Path, names: list[str]) -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / "images" / name).write_bytes(photo(number))
    return folder


def coco(folder: Path, names: list[str], file: str = "captions.json") -> Path:
    with_images(folder, names)
    images = [{"id": number + 7, "file_name": name} for number, name in enumerate(names)]
    notes = [{"image_id": image["id"], "caption": f"caption {k} of {image['file_name']}\n"}
             for image in images for k in (0, 1)]  # fmt: skip
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps({"images": images, "annotations": notes}))
    return folder


def opened(folder: Path, split: str = "train", limit: int | None = None, task: TaskSpec | None = None) -> Any:
    """Open a split and check it; with a task, seen through that task."""
    source: Any = open_task(str(folder), split, limit, task) if task else open_source(str(folder), split, limit)
    source.check()
    return source


def texts(source: TaskSource) -> list[tuple[str, str]]:
    return [(text.prefix, text.target) for index in range(len(source)) for text in source.texts(index)]


def printed_by(code: str, *arguments: str, **environment: str) -> str:
    """Run code in a process of its own and return what it prints."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **environment}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def is_true(said: SceneGraph, scene: SceneGraph) -> bool:
    """Tell whether a caption's graph holds in a scene: some assignment of its objects to different objects fits."""

    def agrees(item: SceneObject, truth: SceneObject) -> bool:
        pairs = ((getattr(item, name), getattr(truth, name)) for name in ATTRIBUTES)
        return item.shape == truth.shape and all(told in (None, actual) for told, actual in pairs)

    if said.background not in (None, scene.background):
        return False
    links = {(link.subject, link.predicate, link.object) for link in scene.relations}
    return any(
        all(agrees(item, scene.objects[place]) for item, place in zip(said.objects, order, strict=True))
        and all((order[link.subject], link.predicate, order[link.object]) in links for link in said.relations)
        for order in itertools.permutations(range(len(scene.objects)), len(said.objects))
    )
