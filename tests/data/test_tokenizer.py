"""Tokenizers: round trip, determinism across processes, BERT's ids, the hub, the cache."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from helpers_data import printed_by
from helpers_errors import refused

from gitbench.data.scenes.world import Scenes
from gitbench.data.tokenizer import from_bert, tokenizer_for
from gitbench.data.wordpiece import CaptionTokenizer, train_wordpiece
from gitbench.spec import TextSpec


@pytest.fixture(scope="module")
def captions() -> list[str]:
    source = Scenes("scenes", "train", 80)
    return [text for index in range(80) for text in source.example(index).captions]


@pytest.fixture(scope="module")
def trained(captions: list[str]) -> CaptionTokenizer:
    return train_wordpiece(captions, 500)


def bert_vocabulary(folder: Path) -> Path:
    """Write a vocab.txt whose special ids are those of bert-base-uncased."""
    words = ["[PAD]", *(f"[unused{k}]" for k in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += ["a", "dog", "run", "##ning", "##s", ".", ",", "cafe"]
    path = folder / "vocab.txt"
    path.write_text("\n".join(words) + "\n")
    return path


def test_captions_survive_the_round_trip(captions: list[str], trained: CaptionTokenizer) -> None:
    assert trained.pad_id == 0 and trained.vocab_size == len(trained.tokens()) <= 500
    specials = {trained.pad_id, trained.unk_id, trained.bos_id, trained.eos_id}
    assert len(specials) == 4
    for text in captions:
        ids = trained.encode(text, 64)
        assert trained.decode(ids) == text and not specials & set(ids)
    assert [len(trained.encode(word)) for word in ("circle", "blue", "left", "striped")] == [1, 1, 1, 1]


def test_decode_stops_at_the_first_end_and_drops_specials(trained: CaptionTokenizer) -> None:
    red, circle = trained.encode("red circle")
    sequence = [trained.bos_id, red, trained.pad_id, circle, trained.eos_id, red, red]
    assert trained.decode(sequence) == "red circle"
    assert trained.decode([trained.bos_id, trained.eos_id]) == ""


def test_unseen_words_are_spelled_and_unseen_letters_unknown(trained: CaptionTokenizer) -> None:
    assert trained.decode(trained.encode("Blurple")) == "blurple"
    assert trained.encode("\u5f35") == [trained.unk_id]


def test_long_captions_are_cut(trained: CaptionTokenizer) -> None:
    long = "red circle " * 5000
    assert len(trained.encode(long, 24)) == 24
    assert trained.encode_all([long, "red"], 7) == [trained.encode(long, 7), trained.encode("red")]


def test_vocabularies_are_the_same_in_every_process(tmp_path: Path) -> None:
    code = (
        "import sys; from gitbench.data.scenes.world import Scenes; from gitbench.data.wordpiece import train_wordpiece\n"
        "from gitbench.data.tokenizer import from_bert, subset_for\n"
        "s = Scenes('scenes', 'train', 60); t = [c for i in range(60) for c in s.example(i).captions]\n"
        "made = [train_wordpiece(t, size) for size in (120, 300)]\n"
        "made.append(subset_for(from_bert(sys.argv[1]), ['dogs running', 'a catz', 'cafe']))\n"
        "print([one.fingerprint() for one in made])"
    )
    folder = str(bert_vocabulary(tmp_path).parent)
    settings = (
        {"PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": many} for seed, many in (("1", "true"), ("2", "false"))
    )
    assert len({printed_by(code, folder, **one) for one in settings}) == 1


def test_the_vocabulary_never_falls_below_the_alphabet() -> None:
    tokenizer = train_wordpiece(["ab cd", "abcd"], 5)
    assert tokenizer.tokens()[:4] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    assert tokenizer.decode(tokenizer.encode("dcba")) == "dcba"
    with refused("no words"):
        train_wordpiece(["  ", ""], 100)


def test_save_and_load(captions: list[str], trained: CaptionTokenizer, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    trained.save(file)
    again = CaptionTokenizer.load(file)
    assert again.fingerprint() == trained.fingerprint() and again.encode(captions[0]) == trained.encode(captions[0])
    file.write_text(file.read_text()[:500])
    with refused("not a whole tokenizer.json: delete it"):
        CaptionTokenizer.load(file)
    with refused("does not exist"):
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
    assert tokenizer_for(TextSpec(tokenizer=str(path)), Scenes("scenes", "train", 3)).bos_id == 101


def test_bert_faults_name_the_fix(tmp_path: Path) -> None:
    with refused("neither tokenizer.json nor vocab.txt"):
        from_bert(str(tmp_path))
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with refused(r"no \[PAD\]"):
        from_bert(str(tmp_path))


def test_the_hub_is_asked_once_and_not_for_what_is_at_hand(tmp_path: Path, trained: CaptionTokenizer) -> None:
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    code = (
        "import sys; from gitbench.data.tokenizer import from_bert; from gitbench.errors import GitbenchError\n"
        "try: print(from_bert(sys.argv[1]).fingerprint())\n"
        "except GitbenchError as error: print(error)"
    )
    copy = tmp_path / "hub" / "models--some--bert"
    trained.save(copy / "snapshots" / "abc" / "tokenizer.json")
    (copy / "refs").mkdir()
    (copy / "refs" / "main").write_text("abc")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        here = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path)}
        here |= {"HF_HUB_OFFLINE": "0", "NO_PROXY": "*"}  # the suite forbids the hub elsewhere
        said = printed_by(code, "bert-base-uncased", **here)
        assert printed_by(code, "some/bert", **here) == trained.fingerprint()
        server.shutdown()
    assert asked == ["/bert-base-uncased/resolve/main/tokenizer.json"]
    assert "'bert-base-uncased' could not be fetched" in said and "--tokenizer minilm" in said and "\n" not in said


def test_a_trained_tokenizer_is_cached_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path))
    source = Scenes("scenes", "train", 30)
    first = tokenizer_for(TextSpec(vocab_size=200), source)
    (file,) = (tmp_path / "tokenizers").glob("*.json")
    tokenizer_for(TextSpec(vocab_size=210), source)
    tokenizer_for(TextSpec(vocab_size=200), Scenes("scenes", "train", 31))
    assert len(list((tmp_path / "tokenizers").glob("*.json"))) == 3
    made = file.stat().st_mtime_ns
    assert tokenizer_for(TextSpec(vocab_size=200), source).fingerprint() == first.fingerprint()
    assert file.stat().st_mtime_ns == made
    file.write_text("{")  # damaged: made again
    assert tokenizer_for(TextSpec(vocab_size=200), source).fingerprint() == first.fingerprint()
