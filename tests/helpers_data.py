"""Tiny data folders for tests: photographs of noise with captions, as Parquet shards or in COCO layout."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from gitbench.data import check_source, open_source


def photo(number: int = 0, size: tuple[int, int] = (24, 18), mode: str = "RGB", kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


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


def coco(folder: Path, names: list[str], file: str = "captions.json", **per_image: Any) -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / "images" / name).write_bytes(photo(number))
    images = [{"id": number + 7, "file_name": name, **per_image} for number, name in enumerate(names)]
    notes = [
        {"image_id": image["id"], "caption": f"caption {k} of {image['file_name']}\n"}
        for image in images
        for k in (0, 1)
    ]
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps({"images": images, "annotations": notes}))
    return folder


def opened(folder: Path, split: str = "train", limit: int | None = None) -> Any:
    source = open_source(str(folder), split, limit)
    check_source(source)
    return source
