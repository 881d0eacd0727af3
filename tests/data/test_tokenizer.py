"""Tokenizers: round trip, determinism across processes, BERT's ids, the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gitbench.data import tokenizer as module
from gitbench.data.scenes.world import Scenes
from gitbench.data.tokenizer import CaptionTokenizer, from_bert, tokenizer_for, train_wordpiece
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir
from gitbench.spec import TextSpec

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def captions() -> list[str]:
    source = Scenes("scenes", "train", 80)
    return [text for index in range(80) for text in source.example(index).captions]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_IN_MEMORY", {})
    return tmp_path / "cache"


def bert_vocabulary(folder: Path) -> Path:
    """Write a vocab.txt whose special ids are those of bert-base-uncased."""
    words = ["[PAD]", *(f"[unused{k}]" for k in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += ["a", "dog", "run", "##ning", "##s", ".", ",", "cafe"]
    path = folder / "vocab.txt"
    path.write_text("\n".join(words) + "\n")
    return path


def test_captions_survive_the_round_trip(captions: list[str]) -> None:
    tokenizer = train_wordpiece(captions, 500)
    assert tokenizer.pad_id == 0
    assert len({tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id}) == 4
    for text in captions:
        ids = tokenizer.encode(text, 64)
        assert tokenizer.decode(ids) == text
        assert not {tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id} & set(ids)
    assert tokenizer.vocab_size == len(tokenizer.tokens()) <= 500


def test_frequent_words_are_one_token(captions: list[str]) -> None:
    tokenizer = train_wordpiece(captions, 500)
    assert [len(tokenizer.encode(word)) for word in ("circle", "blue", "left", "striped")] == [1, 1, 1, 1]


def test_decode_stops_at_the_first_end_and_drops_specials(captions: list[str]) -> None:
    tokenizer = train_wordpiece(captions, 500)
    red, circle = tokenizer.encode("red circle")
    sequence = [tokenizer.bos_id, red, tokenizer.pad_id, circle, tokenizer.eos_id, red, red]
    assert tokenizer.decode(sequence) == "red circle"
    assert tokenizer.decode([tokenizer.bos_id, tokenizer.eos_id]) == ""


def test_unseen_words_are_spelled_and_unseen_letters_unknown(captions: list[str]) -> None:
    tokenizer = train_wordpiece(captions, 500)
    assert tokenizer.decode(tokenizer.encode("Blurple")) == "blurple"
    assert tokenizer.encode("\u5f35") == [tokenizer.unk_id]


def test_long_captions_are_cut(captions: list[str]) -> None:
    tokenizer = train_wordpiece(captions, 500)
    long = "red circle " * 5000
    assert len(tokenizer.encode(long, 24)) == 24
    assert tokenizer.encode_all([long, "red"], 7) == [tokenizer.encode(long, 7), tokenizer.encode("red")]


def test_training_gives_the_same_vocabulary_in_every_process() -> None:
    code = (
        "from gitbench.data.scenes.world import Scenes; from gitbench.data.tokenizer import train_wordpiece\n"
        "s = Scenes('scenes', 'train', 60); t = [c for i in range(60) for c in s.example(i).captions]\n"
        "print([train_wordpiece(t, size).fingerprint() for size in (120, 300)])"
    )
    prints = set()
    for seed, threads in (("1", "true"), ("2", "false"), ("3", "true")):
        env = {**os.environ, "PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": threads, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        prints.add(done.stdout)
    assert len(prints) == 1


def test_the_vocabulary_never_falls_below_the_alphabet() -> None:
    tokenizer = train_wordpiece(["ab cd", "abcd"], 5)
    assert tokenizer.tokens()[:4] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    assert tokenizer.decode(tokenizer.encode("dcba")) == "dcba"


def test_no_words_no_tokenizer() -> None:
    with pytest.raises(GitbenchError, match="no words"):
        train_wordpiece(["  ", ""], 100)


def test_save_and_load(captions: list[str], tmp_path: Path) -> None:
    tokenizer = train_wordpiece(captions, 300)
    tokenizer.save(tmp_path / "tokenizer.json")
    again = CaptionTokenizer.load(tmp_path / "tokenizer.json")
    assert again.fingerprint() == tokenizer.fingerprint()
    assert again.encode(captions[0]) == tokenizer.encode(captions[0])
    whole = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(GitbenchError, match="not a whole tokenizer.json: delete it"):
        CaptionTokenizer.load(tmp_path / "tokenizer.json")
    with pytest.raises(GitbenchError, match="does not exist"):
        CaptionTokenizer.load(tmp_path / "none.json")


def test_bert_from_vocabulary_folder_and_json(tmp_path: Path) -> None:
    path = bert_vocabulary(tmp_path)
    for given in (path, tmp_path):
        tokenizer = from_bert(str(given))
        assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 100, 101, 102)
        ids = tokenizer.encode("A dog, running. Caf\u00e9")  # lower case, accents stripped, as bert-base-uncased
        assert [tokenizer.tokens()[k] for k in ids] == ["a", "dog", ",", "run", "##ning", ".", "cafe"]
        assert tokenizer.decode(ids) == "a dog, running. cafe"
    tokenizer.save(tmp_path / "other" / "tokenizer.json")
    assert from_bert(str(tmp_path / "other")).fingerprint() == tokenizer.fingerprint()


def test_bert_faults_name_the_fix(tmp_path: Path) -> None:
    with pytest.raises(GitbenchError, match="neither tokenizer.json nor vocab.txt"):
        from_bert(str(tmp_path))
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(GitbenchError, match=r"no \[PAD\]"):
        from_bert(str(tmp_path))


def test_without_network_the_hub_error_asks_for_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    import tokenizers

    def fail(name: str) -> None:
        raise OSError("offline")

    monkeypatch.setattr(tokenizers.Tokenizer, "from_pretrained", staticmethod(fail))
    with pytest.raises(GitbenchError, match="'bert-base-uncased' could not be fetched.*pass that path"):
        from_bert("bert-base-uncased")


def test_a_trained_tokenizer_is_cached_by_content(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Scenes("scenes", "train", 30)
    first = tokenizer_for(TextSpec(vocab_size=200), source)
    (file,) = (own_cache / "tokenizers").glob("*.json")
    tokenizer_for(TextSpec(vocab_size=210), source)
    tokenizer_for(TextSpec(vocab_size=200), Scenes("scenes", "train", 31))
    assert len(list((own_cache / "tokenizers").glob("*.json"))) == 3

    monkeypatch.setattr(module, "_IN_MEMORY", {})
    monkeypatch.setattr(module, "train_wordpiece", lambda *_: pytest.fail("trained again"))
    assert tokenizer_for(TextSpec(vocab_size=200), source).fingerprint() == first.fingerprint()
    monkeypatch.undo()
    monkeypatch.setenv("GITBENCH_CACHE", str(own_cache))
    monkeypatch.setattr(module, "_IN_MEMORY", {})
    file.write_text("{")  # damaged: made again
    assert tokenizer_for(TextSpec(vocab_size=200), source).fingerprint() == first.fingerprint()
    assert cache_dir() == own_cache


def test_a_cache_that_cannot_be_written_does_not_stop_training(own_cache: Path) -> None:
    own_cache.write_text("a file where the folder should be")
    assert tokenizer_for(TextSpec(vocab_size=200), Scenes("scenes", "train", 30)).vocab_size > 100


def test_a_bert_path_in_the_spec_is_used(tmp_path: Path) -> None:
    tokenizer = tokenizer_for(TextSpec(tokenizer=str(bert_vocabulary(tmp_path))), Scenes("scenes", "train", 3))
    assert tokenizer.bos_id == 101
