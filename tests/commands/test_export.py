"""`gitbench export`: what it writes loads in transformers and here, and captions the same; what has no such layout is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from helpers_captioner import IDS, WORDS, huggingface, official, pictures_in, run_folder
from helpers_cli import error_of
from helpers_model import pictures
from PIL import Image
from safetensors.torch import load_file, save_file

from gitbench.cli import main
from gitbench.data.tokenizer import from_bert
from gitbench.models.huggingface_config import config_of
from gitbench.models.weights import from_official, to_huggingface
from gitbench.study.interim import judge
from gitbench.study.store import Study
from gitbench.training.caption import caption_files, caption_video, load_captioner


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> list[Path]:
    return pictures_in(tmp_path_factory.mktemp("photographs"))


def captions(paths, weights, **options):
    return [text for _, text in caption_files(paths, weights, **options)]


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("untied", [False, True])
def test_transformers_captions_as_gitbench(tmp_path, photographs, untied, dtype, monkeypatch):
    """Greedily and from the same pixels; a head of its own, too."""
    transformers = pytest.importorskip("transformers")
    source = captioner_with(tmp_path / "source", untied)
    folder = exported(source, "huggingface", tmp_path / "hf")
    assert captions(photographs, folder, greedy=True) == captions(photographs, source, greedy=True)
    assert captions(photographs, folder) == captions(photographs, source)

    assert ("output.weight" in load_file(folder / "model.safetensors")) is untied
    captioner = load_captioner(source)
    processor = transformers.GitProcessor.from_pretrained(
        folder, **({"backend": "pil"} if transformers.__version__ >= "5.1" else {"use_fast": False})
    )
    theirs, report = transformers.GitForCausalLM.from_pretrained(
        folder, torch_dtype=getattr(torch, dtype), output_loading_info=True
    )
    assert not any(report.values())
    assert (theirs.output.weight is theirs.git.embeddings.word_embeddings.weight) is not untied
    said = []
    for path in photographs:
        pixels = processor(images=Image.open(path), return_tensors="pt").pixel_values
        assert (pixels[0] - captioner.pixels(path)).abs().max() <= 1e-6
        ids = theirs.eval().generate(pixel_values=pixels.to(theirs.dtype))
        said.append(processor.decode(ids[0], skip_special_tokens=True))
        captioner.git.to(theirs.dtype)
        assert said[-1] == captioner.captions(pixels.to(theirs.dtype), greedy=True)[0]
    assert len(set(said)) == 3 and said == captions(photographs, source, greedy=True)
    text = "what colour is the small ball"
    asked = processor(text=text, add_special_tokens=False).input_ids
    assert asked == WORDS.encode(text)
    assert processor(text=text).input_ids == [WORDS.bos_id, *asked, WORDS.eos_id]


@pytest.mark.parametrize("untied", [False, True])
def test_the_official_layout_captions_the_same(tmp_path, photographs, untied):
    """With heads that are not 64 wide, the run's own tokenizer and its longest text, which no official file says."""
    source = captioner_with(tmp_path / "source", untied)
    folder = exported(source, "official", tmp_path / "git", "--license", "mit")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "model.pt", "parameter.yaml", "tokenizer.json", "vocab.txt"
    ]  # fmt: skip
    expected = captions(photographs, source)
    assert len(set(expected)) == 3 and captions(photographs, folder) == expected
    assert captions(photographs, folder, question="what colour") == captions(
        photographs, source, question="what colour"
    )
    turned = load_captioner(folder)  # a run is trained on upright photographs; an official checkpoint is not
    assert turned.rule == load_captioner(source).rule and turned.rule.upright
    parameters = yaml.safe_load((folder / "parameter.yaml").read_text())
    assert parameters["test_crop_size"] == 32 and parameters["gitbench"]["decoder_heads"] == 4
    state = torch.load(folder / "model.pt", weights_only=True)["model"]
    own = from_official(state, encoder_heads=4, decoder_heads=4, **IDS)
    assert (own.head_weight is None) is not untied
    card = (folder / "README.md").read_text()
    assert "license: mit" in card and ("not_tie_weight=True" in card) is untied
    (folder / "parameter.yaml").write_text(yaml.safe_dump({**parameters, "gitbench": {"decoder_heads": "four"}}))
    assert "gitbench.decoder_heads is 'four'" in error_of("caption", str(photographs[0]), "--weights", str(folder))


def test_a_bert_tokenizer_writes_in_transformers_as_the_official_code(tmp_path):
    transformers = pytest.importorskip("transformers")
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "'", ",", ".", "?", "-"]
    words = [*marks, "it", "s", "a", "man", "don", "t", "know", "well", "dressed"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    source, tokenizer = huggingface(tmp_path / "source"), from_bert(str(tmp_path / "vocab.txt"))
    state = load_file(source / "model.safetensors")
    rows = {name: value[: len(words)].clone() for name, value in state.items() if len(value) == WORDS.vocab_size}
    save_file(state | rows, source / "model.safetensors")
    tokenizer.save(source / "tokenizer.json")
    theirs = transformers.GitProcessor.from_pretrained(exported(source, "huggingface", tmp_path / "hf"))
    ids = tokenizer.encode("It's a man, don't know. Well-dressed?")
    assert tokenizer.unk_id not in ids and theirs(text="it's", add_special_tokens=False).input_ids == ids[:3]
    assert theirs.decode([2, *ids, 3, 0], skip_special_tokens=True) == "it's a man, don't know. well - dressed?"


def test_the_rule_for_photographs_travels_or_is_refused(tmp_path, photographs):
    wide = official(tmp_path / "wide", parameters="test_crop_size: 32\ntest_respect_ratio_max: 48\n")
    words = ["--tokenizer", str(wide / "words.json")]
    again = exported(wide, "official", tmp_path / "again", *words)
    assert captions(photographs, again) == captions(photographs, wide, tokenizer=words[1])
    assert "keep their aspect" in error_of("export", str(wide), "--to", "huggingface", str(tmp_path / "hf"), *words)
    grey = {
        "size": {"height": 32, "width": 40},
        "do_center_crop": False,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    theirs = huggingface(tmp_path / "theirs", processor=grey)
    again = exported(theirs, "huggingface", tmp_path / "hf")
    assert load_captioner(again).rule == load_captioner(theirs).rule
    assert captions(photographs, again) == captions(photographs, theirs)
    assert "not prepared as the official program" in error_of(
        "export", str(theirs), "--to", "official", str(tmp_path / "o")
    )


def test_a_video_model_keeps_its_frames(tmp_path, photographs):
    source = huggingface(tmp_path / "source", frames=3)
    expected = caption_video(photographs[:1] * 2, source)
    for layout in ("huggingface", "official"):
        folder = exported(source, layout, tmp_path / layout)
        assert caption_video(photographs[:1] * 2, folder) == expected
        assert "temporal embeddings of 3 frames" in (folder / "README.md").read_text()


def test_what_cannot_be_exported_leaves_nothing(tmp_path, monkeypatch):
    source = run_folder(tmp_path / "run")
    held = torch.load(source / "model.pth", weights_only=True)
    config = json.loads(held["model"])
    made = [tmp_path / "out", tmp_path / "blind.out"]
    blind = tmp_path / "blind"
    blind.mkdir()
    config["vision"]["blind"] = True
    torch.save({**held, "model": json.dumps(config)}, blind / "model.pth")
    WORDS.save(blind / "tokenizer.json")
    assert "sees no plain images" in error_of("export", str(blind), "--to", "huggingface", str(made[1]))
    assert "or --arm if it is an ablation" in error_of(
        "export", str(tmp_path / "none"), "--to", "official", str(made[0])
    )
    assert "--arm" in error_of("export", str(source), "--to", "official", str(made[0]), "--replicate", "1")

    made[0].mkdir()
    (made[0] / "notes.txt").write_text("mine")
    assert "is there already" in error_of("export", str(source), "--to", "official", str(made[0]))
    assert (made[0] / "notes.txt").read_text() == "mine"
    (made[0] / "notes.txt").unlink()

    def broken(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gitbench.report.card.model_card", broken)
        assert main(["export", str(source), "--to", "official", str(made[0])]) == 130
    assert not any(made[0].iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blind", "out", "run"]
    exported(source, "official", made[0])  # into the empty folder


def test_the_card_says_what_is_known_of_a_run(trained, tmp_path, capsys):
    """Of a study's arm and seed: data, scores with their intervals, claims, and where it comes from; no folder of here."""
    shutil.copytree(trained.work_dir, tmp_path / "work")
    study = Study.open(tmp_path / "work", trained.name)
    asked = ["export", "decoder_size", "--work-dir", str(study.work_dir), "--to", "huggingface"]
    assert main([*asked, str(tmp_path / "a"), "--arm", "base", "--replicate", "1"]) == 0
    run = next(run for run in study.plan.runs if (run.arm, run.replicate) == ("base", 1))
    record = study.record(run.run_key)
    card = (tmp_path / "a" / "README.md").read_text()
    for said in (run.run_key, study.plan.data_fingerprint, study.plan.command, f"{study.name}: base", "replicate 1"):
        assert said in card, said
    assert str(tmp_path) not in card
    cider = next(line for line in card.splitlines() if line.startswith("| CIDEr |"))
    value, low, high = map(float, re.findall(r"[0-9.]+", cider)[:3])
    assert value == pytest.approx(record["metrics"]["CIDEr"]["value"], abs=0.06) and low < value < high
    claims = [claim for claim in study.plan.claims if "base" in claim.arms]
    assert claims and all(f"{claim.name}: " in card for claim in claims) and "not judged yet" in card
    looks = study.looks
    judge(study)
    assert main([*asked, str(tmp_path / "b"), "--arm", "base"]) == 0
    again = Study.open(study.work_dir, study.name).looks
    assert looks is None and len(again.looks) == 1  # exporting is no look
    (word,) = {each.word for each in again.looks[0].claims if each.claim == claims[0].name}
    assert f"{word} (" in (tmp_path / "b" / "README.md").read_text()
    assert main(["export", str(study.folder(run.run_key).path), "--to", "official", str(tmp_path / "c")]) == 0
    assert run.run_key in (tmp_path / "c" / "README.md").read_text()
    capsys.readouterr()
    assert "no seed 7 of the arm base" in error_of(*asked, str(tmp_path / "d"), "--arm", "base", "--replicate", "7")
    assert "unknown arm 'bas'" in error_of(*asked, str(tmp_path / "d"), "--arm", "bas")
