"""The captioner that ships: its content, its name wherever weights are named, and what it says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from helpers_data import is_true
from helpers_errors import refused
from PIL import Image

from gitbench.captioners import recipe
from gitbench.captioners.shipped import CONTENTS, FOLDER, weights_at
from gitbench.cli import main
from gitbench.data.scenes.parse import parse_caption
from gitbench.data.scenes.world import Scenes
from gitbench.models.checkpoint import checkpoint_files
from gitbench.training.caption import Captioner, load_captioner
from gitbench.variants import resolve

NAME = Path("scenes-captioner")
SAID = {  # number of a test scene -> what it says
    11: "an orange triangle inside a black square",
    13: "there is a green ring at night",
    18: "an orange heart inside a white ring",
    19: "a large pink star to the left of a yellow ring",
}


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return load_captioner(NAME)


def test_what_ships_is_what_was_made_and_small() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(CONTENTS)
    for name, content in CONTENTS.items():
        assert hashlib.sha256((FOLDER / name / "model.safetensors").read_bytes()).hexdigest() == content
        assert sum(file.stat().st_size for file in (FOLDER / name).iterdir()) < 4_000_000


def test_its_card_has_the_scores_with_intervals_and_the_command() -> None:
    card = (FOLDER / NAME / "README.md").read_text()
    cider, low, high = map(float, re.findall(r"\| CIDEr \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \|", card)[0])
    assert 330 < low < cider < high < 345
    assert "`gitbench pretrain --captioner`" in card and "train 38,400" in card


def test_it_has_the_sizes_of_the_cpu_profile(captioner: Captioner) -> None:
    for axis, spec in (("encoder", captioner.git.encoder.spec), ("decoder", captioner.git.decoder.spec)):
        sizes = resolve(axis, recipe.PROFILE.variants[axis])
        assert (spec.layers, spec.width, spec.heads) == (sizes.layers, sizes.width, sizes.heads)
    assert captioner.git.encoder.spec.image_size == recipe.PROFILE.data.image_size
    assert captioner.generation["max_length"] == recipe.PROFILE.evaluate.max_length


def test_it_says_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    scenes = Scenes("scenes", "test", 20)
    for index in SAID:
        Image.fromarray(scenes.image(index)).save(tmp_path / f"{index}.png")
    assert main(["caption", str(tmp_path), "--weights", str(NAME)]) == 0
    said = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]
    assert said == list(SAID.values())
    for index, text in SAID.items():
        assert is_true(parse_caption(text), scenes.scene(index).graph)


def test_it_spells_every_word_of_the_shifted_world(captioner: Captioner) -> None:
    shifted, words = Scenes("scenes-shifted", "train", 200), captioner.tokenizer
    texts = [text for index in range(200) for text in shifted.example(index).captions]
    pieces = words.encode_all(texts, 1000)
    assert not any(words.unk_id in ids for ids in pieces)
    assert max(map(len, pieces)) <= recipe.PROFILE.text.max_tokens
    assert [words.decode(ids) for ids in pieces] == texts


def test_its_name_stands_for_it_where_nothing_else_is_called_so(tmp_path: Path, monkeypatch) -> None:
    assert checkpoint_files(NAME) == [FOLDER / NAME / "model.safetensors"]
    assert weights_at(Path("other")) == Path("other") and weights_at(tmp_path / NAME) == tmp_path / NAME
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(NAME), "--to", "official", "given"]) == 0
    assert (tmp_path / "given" / "model.pt").is_file()
    NAME.mkdir()
    assert weights_at(NAME) == NAME
    with refused("scene-captioner does not exist: .*scenes-captioner, which ships"):
        checkpoint_files(Path("scene-captioner"))
