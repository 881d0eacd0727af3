"""How a data set is named: registered names, paths, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_data import CAPTION, READ, TEXT, TinySource, coco
from helpers_errors import refused

import gitbench.data as data
from gitbench.data import readers
from gitbench.data.dataset import CaptionDataset
from gitbench.data.image_processor import square_processor
from gitbench.data.items import Item, Loaded, Part, Place
from gitbench.data.tasks import open_task
from gitbench.data.tokenizer import tokenizer_for
from gitbench.spec import DataSpec


def test_unknown_names_and_paths(tmp_path: Path) -> None:
    assert data.data_names()[:2] == ("scenes", "scenes-motion")
    (tmp_path / "file").write_text("x")
    for name, split, message in (
        ("scene", "train", "unknown data set 'scene': did you mean 'scenes'.*path of a folder"),
        (str(tmp_path / "nowhere"), "train", "does not exist: check the path, or use .*scenes"),
        ("scenes", "dev", "unknown split 'dev'"),
        (str(tmp_path / "file"), "train", "is not a folder: pass the folder in which it lies"),
    ):
        with refused(message):
            data.open_source(name, split)


def test_a_plugin_registers_a_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_REGISTERED", dict(data._REGISTERED))

    data.register("tiny", TinySource)
    data.register("tiny", TinySource)  # a module that is imported twice
    assert "tiny" in data.data_names() and data.data_label("tiny") == "tiny"
    source = open_task("tiny", "train", None, CAPTION)
    spec = DataSpec(image_size=16)
    item = CaptionDataset("tiny", "train", spec, TEXT, tokenizer_for(TEXT, source), 0, 2, True)[0]
    expected = square_processor(16).resized(TinySource().image(item["index"]))
    assert np.array_equal(item["image"].permute(1, 2, 0), expected) and item["image_id"] == f"train-{item['index']}"
    with refused("tiny has no labels, which --task read needs"):
        open_task("tiny", "train", 4, READ)
    with refused("unknown data set 'tinny': did you mean 'tiny'"):
        data.open_source("tinny", "train")
    for name, message in (("tiny", "is taken"), ("scenes", "is taken"), ("a/b", "letters, digits")):
        with refused(message):
            data.register(name, lambda *_: source)


def test_a_plugin_registers_a_layout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = dict(readers.readers())
    monkeypatch.setattr(readers, "readers", lambda: known)

    class Lists:
        NEEDS = {"caption": "a captions.lst"}

        def fits(self, place: Place) -> bool:
            return (place.folder / "captions.lst").is_file()

        def parts(self, place: Place) -> list[Part]:
            item = Item(image_id="a", captions=("a dog",), where="line 1", picture=place.picture("a", ""))
            return [Part(files=(), load=lambda: Loaded(items=[item]), split="dev")]

    with refused("add image files with captions.json"):
        data.open_source(str(tmp_path), "train")
    readers.register("word_lists", Lists())
    (tmp_path / "captions.lst").touch()
    assert data.open_source(str(tmp_path), "val").example(0).captions == ("a dog",)
    with refused("two readers of folders called coco"):
        readers.register("coco", Lists())


def test_options_that_would_change_nothing_are_refused(tmp_path: Path) -> None:
    folder = coco(tmp_path / "dogs", [f"{number}.png" for number in range(12)])
    with refused("is taken for coco, a layout without columns to choose: leave --columns out"):
        data.open_source(f"{folder}?columns=captions=caption", "train")
    with refused("a data set on the hub alone has configurations: leave config out"):
        data.open_source(f"{folder}?config=en", "train")
