"""A tiny captioner that comes to an end, as a run, an official release and `save_pretrained` leave it; and photographs."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import torch
from helpers_model import DECODER, ENCODER, pictures, tiny
from PIL import Image
from safetensors.torch import save_file

from gitbench.cli import main
from gitbench.data.tokenizer import train_wordpiece
from gitbench.models.huggingface_config import config_of
from gitbench.models.weights import to_huggingface, to_official
from gitbench.training.caption import load_captioner

WORDS = train_wordpiece(
    ["a red cube on the grass", "what colour is the small ball", "two dogs run over a green hill"] * 3, 96
)
IDS = {"pad_id": WORDS.pad_id, "bos_id": WORDS.bos_id, "eos_id": WORDS.eos_id}
HEADS = "gitbench: {encoder_heads: 1, decoder_heads: 1}\n"  # in parameter.yaml: the weights do not tell them
CONFIG = {"model_type": "git", "num_attention_heads": 1, "vision_config": {"num_attention_heads": 1}}


def model(frames: int = 0, seed: int = 0):
    """A tiny GIT of this vocabulary; one head of 64 on each side."""
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


def pictures_in(folder: Path) -> list[Path]:
    """Three photographs of different shapes, as files."""
    files = []
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
    (folder / "parameter.yaml").write_text(HEADS + parameters)
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


def captioner_with(folder: Path, untied: bool) -> Path:
    """A checkpoint of 4 heads a side, with short texts: of a run, or with a head that is not tied, as others leave."""
    run_folder(folder)
    held = torch.load(folder / "model.pth", weights_only=True)
    config = json.loads(held["model"])
    config["encoder"]["heads"] = config["decoder"]["heads"] = 4
    config["generation"] |= {"max_length": 12, "length_penalty": 2.0}
    held["model"] = json.dumps(config)
    held["state_dict"]["head_bias"][WORDS.eos_id] += 2 if untied else 1.5
    torch.save(held, folder / "model.pth")
    if untied:
        git = load_captioner(folder).git
        state = to_huggingface(git)
        state["output.weight"] += 0.05 * pictures(*state["output.weight"].shape)
        save_file(state, folder / "model.safetensors")
        noted = {"gitbench": config["generation"], "tie_word_embeddings": False}
        (folder / "config.json").write_text(json.dumps({**config_of(git), **noted}))
        (folder / "model.pth").unlink()
    return folder


def exported(source: Path, layout: str, out: Path, *words: str) -> Path:
    assert main(["export", str(source), "--to", layout, str(out), *words]) == 0
    assert not list(out.parent.glob(".*"))  # nothing half-written beside it
    assert len({path.stat().st_mode for path in out.iterdir()}) == 1  # whoever may read one file may read all
    return out


def snippets(folder: Path) -> list[str]:
    """The Python blocks of a model card."""
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
