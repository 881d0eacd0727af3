"""A BERT tokenizer cut down to the captions: same pieces, fewer ids, the same in every process."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from helpers_errors import refused

from gitbench.data.scenes.world import Scenes
from gitbench.data.tokenizer import from_bert, rows_of, subset_for, tokenizer_for
from gitbench.data.wordpiece import CaptionTokenizer, train_wordpiece
from gitbench.spec import TextSpec

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = ["the", "dog", "run", "runs", "##ning", "##s", "##un", "cat", "ab", "##cd", "##bc", "big", "."]


def bert_like(folder: Path, words: list[str] = WORDS, letters: str = "abdghinorstu") -> CaptionTokenizer:
    """A tokenizer with unused ids in between, as bert-base-uncased has them: [CLS] is 11."""
    spelled = [form for letter in letters for form in (letter, "##" + letter)]
    tokens = ["[PAD]", *(f"[unused{k}]" for k in range(9)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", *spelled, *words]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(tokens)) + "\n")
    return from_bert(str(folder))


def pieces(tokenizer: CaptionTokenizer, text: str) -> list[str]:
    names = tokenizer.tokens()
    return [names[number] for number in tokenizer.encode(text, 1000)]


def test_the_captions_become_the_same_pieces_under_new_ids(tmp_path: Path) -> None:
    full = bert_like(tmp_path)
    captions = ["The dog, running.", "dogs run", "Cat"]
    small = subset_for(full, captions)
    assert subset_for(full, captions[::-1]).fingerprint() == small.fingerprint()
    rows = rows_of(small, full)
    for text in captions:
        assert pieces(small, text) == pieces(full, text)
        assert [rows[number] for number in small.encode(text)] == full.encode(text)
        assert small.decode(small.encode(text)) == full.decode(full.encode(text))
    names = full.tokens()
    assert small.tokens() == [names[row] for row in rows] and len(rows) == small.vocab_size < full.vocab_size
    assert small.tokens()[:4] == SPECIALS and rows == sorted(rows) and rows[0] == 0
    assert (small.pad_id, small.unk_id, small.bos_id, small.eos_id) == (0, 1, 2, 3)
    assert {"run", "##ning", "##s", "dog", "the", "cat"} <= set(small.tokens())
    assert not {"runs", "##un", "ab", "big", "[MASK]", "[unused3]"} & set(small.tokens())


def test_unseen_words_in_known_letters_are_spelled(tmp_path: Path) -> None:
    full = bert_like(tmp_path)
    small = subset_for(full, ["the dog runs"])
    assert pieces(small, "dogs") == ["dog", "##s"] and pieces(small, "sod") == ["s", "##o", "##d"]
    assert pieces(small, "bog") == ["[UNK]"] and pieces(full, "bog") == ["b", "##o", "##g"]


def test_any_captions_keep_their_pieces(tmp_path: Path) -> None:
    source = random.Random(0)
    for trial in range(40):
        words = {"".join(source.choices("abcd", k=source.randint(2, 4))) for _ in range(12)}
        words |= {"##" + "".join(source.choices("abcd", k=source.randint(2, 3))) for _ in range(12)}
        full = bert_like(tmp_path / str(trial), sorted(words), letters="ab")
        captions = [
            " ".join("".join(source.choices("abcd", k=source.randint(1, 7))) for _ in range(5)) for _ in range(8)
        ]
        small = subset_for(full, captions)
        assert [pieces(small, text) for text in captions] == [pieces(full, text) for text in captions]


def test_no_words_and_no_wordpiece_are_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    with refused("no words in the captions"):
        subset_for(bert_like(tmp_path), [" ", ""])
    levels = Tokenizer(models.WordLevel({token: k for k, token in enumerate([*SPECIALS, "dog"])}, "[UNK]"))
    with refused("only a WordPiece vocabulary"):
        subset_for(CaptionTokenizer(levels), ["dog"])


def test_the_rows_are_found_in_a_saved_tokenizer(tmp_path: Path) -> None:
    full = bert_like(tmp_path / "bert")
    small = subset_for(full, ["The dog, running.", "Cat"])
    small.save(tmp_path / "tokenizer.json")
    again = CaptionTokenizer.load(tmp_path / "tokenizer.json")
    assert again.fingerprint() == small.fingerprint() and again.encode("the dog", 1) == small.encode("the dog")[:1]
    assert rows_of(again, full) == rows_of(small, full) and rows_of(full, full) == list(range(full.vocab_size))
    with refused(r"\d+ word pieces .* not in BERT's vocabulary \(.*\): use"):
        rows_of(train_wordpiece(["zebra crossing"] * 3, 60), full)


def test_a_study_cuts_it_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    source = Scenes("scenes", "train", 20)
    captions = [caption for index in range(20) for caption in source.example(index).captions]
    (tmp_path / "vocab.txt").write_text("\n".join([*train_wordpiece(captions, 300).tokens(), "unheard"]))
    whole, text = from_bert(str(tmp_path)), TextSpec(tokenizer=str(tmp_path), subset=True)
    first = tokenizer_for(text, source)
    assert first.vocab_size < whole.vocab_size and "unheard" not in first.tokens()
    assert [pieces(first, caption) for caption in captions] == [pieces(whole, caption) for caption in captions]
    assert tokenizer_for(text, source).fingerprint() == first.fingerprint()
    (tmp_path / "vocab.txt").write_text("\n".join([*whole.tokens(), "another"]))
    tokenizer_for(text, source)
    assert len(list((tmp_path / "cache" / "tokenizers").glob("subset-*.json"))) == 2  # by the content of the whole one


def test_a_trained_vocabulary_is_not_cut_down() -> None:
    with refused("only a BERT tokenizer"):
        tokenizer_for(TextSpec(subset=True), Scenes("scenes", "train", 3))
