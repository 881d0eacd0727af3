"""A data set in gitbench's own layout: `train.parquet`, `val.parquet` and `test.parquet`, images as they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gitbench.data.describe import splits_of
from gitbench.data.photos import PhotoSource
from gitbench.errors import GitbenchError
from gitbench.files import new_folder

ROWS = 100  # written at a time


def write_parquet(data: str, task: str, folder: Path) -> Path:
    """Write the splits of a data set for a task as a folder that is read back with the same content, to the byte.

    Errors: GitbenchError for a folder that is there, or cannot be written; then nothing is left.
    """
    if folder.exists():
        raise GitbenchError(f"{folder} exists: pass a folder that does not")
    splits = splits_of(data, task)
    if any(source.moving for source in splits.values()):
        raise GitbenchError(f"{data} holds films, for which this layout has no room: keep them as files")
    with new_folder(folder) as temporary:
        for split, source in splits.items():
            _write(source, temporary / f"{split}.parquet")
    return folder


def _write(source: PhotoSource, path: Path) -> None:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, texts = datasets.Value("string"), datasets.Sequence(datasets.Value("string"))
    columns: dict[str, Any] = {
        "caption": {"captions": texts},
        "vqa": {"question_id": text, "question": text, "answers": texts, "answers_are": text},
        "classify": {"label": text},
        "read": {"text": text},
    }[source.task]
    schema = datasets.Features({"image": datasets.Image(), "image_id": text, **columns}).arrow_schema
    with pq.ParquetWriter(path, schema) as writer:
        batch: list[dict[str, Any]] = []
        for row in _rows(source):
            batch.append(row)
            if len(batch) == ROWS:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                batch = []
        writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def _rows(source: PhotoSource) -> Iterator[dict[str, Any]]:
    """Yield the rows of a split: one an image, of questions one each."""
    for index in range(len(source)):
        example = source.example(index)
        image = {"image": {"bytes": source.raw_image(index), "path": None}, "image_id": example.image_id}
        if source.task == "vqa":
            for asked in example.questions:
                own = {"question_id": asked.question_id, "question": asked.text, "answers": list(asked.answers)}
                yield {**image, **own, "answers_are": asked.answers_are}
        elif source.task == "caption":
            yield {**image, "captions": list(example.captions)}
        else:
            yield {**image, ("label" if source.task == "classify" else "text"): example.captions[0]}
