"""Decoding undoes encoding: of own texts wholly, of a BERT's as far as the official code does."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from gitbench.data import wordpiece
from gitbench.data.base import texts_of
from gitbench.data.tasks import open_task
from gitbench.data.tokenizer import from_bert, subset_for
from gitbench.data.wordpiece import GAP, CaptionTokenizer, lower_casing, train_wordpiece
from gitbench.metrics import CaptionScorer, score_answers
from gitbench.spec import TaskSpec

TEXTS = {
    "apostrophes": ["it's a man's dog", "don't know", "the dogs' owners", "rock 'n' roll", "o'clock"],
    "numbers": ["10:30", "$5.00", "100%", "1,000,000", ".5", "costs .5 or 3.", "1/8/93", "-4", "#1", "9-5"],
    "signs": ["at&t", "a_b", "x@y.org", "c++", "a=b", "~3", "50/50", "<b>", "^", "back\\slash", "`x`", "a|b*c"],
    "hyphens": ["a well-dressed boy", "salt - pepper", "re- read", "-", "--", "a dash—here", "1990–2000"],
    "brackets": ["(a man)", "[a] {b}", 'he said: "no"', "“yes”", "((x))", "[SEP] and [UNK]", "[PAD]"],
    "ends": [
        "the end.",
        "the end .",
        "why?!",
        "why ?",
        "well ...",
        "wait... what",
        ". . .",
        "a ,b",
        "yes, no",
        ",",
        "? a",
    ],
    "hash": ["##s", "a ## b", "a##b", "###", "# #"],
    "accents": ["un garçon à l'école", "Été", "Zürich", "e\u0301te\u0301", "c'est où ?", "« oui »", "naïve"],
    "other scripts": ["一只狗在草地上跑。", "两个人，一 只 dog", "犬が走る", "नमस्ते", "สุนัข", "می\u200cخواهم"],
    "emoji": ["a dog🐶 runs", "👨\u200d👩\u200d👧 !", "❤\ufe0f", "ok 👍🏽."],
    "white space": ["  a \t b\n", "a\u00a0b", "\u3000a"],
}
EVERY = [text for texts in TEXTS.values() for text in texts]


def normal(text: str) -> str:
    return " ".join(text.lower().split())


@pytest.mark.parametrize("kind", TEXTS)
def test_own_texts_come_back(kind: str, tmp_path: Path) -> None:
    for corpus in (TEXTS[kind], EVERY):
        trained = train_wordpiece(corpus, 300)
        trained.save(tmp_path / "tokenizer.json")
        loaded = CaptionTokenizer.load(tmp_path / "tokenizer.json")  # the file alone says how
        for text in TEXTS[kind]:
            ids = trained.encode(text, 1000)
            assert trained.unk_id not in ids and trained.decode(ids) == normal(text)
            assert loaded.encode(text, 1000) == ids and loaded.decode(ids) == normal(text)


def test_any_texts_come_back() -> None:
    source = random.Random(0)
    letters = "abzéß19 .?!,'\"-:;$%&#()[]/_一只。\u0301🐶\u200d—"
    parts = [*letters, " ", " ", "##", " - ", "dog"]
    texts = ["".join(source.choices(parts, k=source.randint(1, 12))) for _ in range(3000)]
    trained = train_wordpiece(texts, 400)
    assert [trained.decode(ids) for ids in trained.encode_all(texts, 1000)] == [normal(text) for text in texts]


@pytest.mark.parametrize("kind", [kind for kind in TEXTS if kind not in ("white space", "hash")])
def test_references_through_the_tokenizer_score_as_references(kind: str) -> None:
    texts = TEXTS[kind]
    trained = train_wordpiece(texts, 300)
    said = {str(k): trained.decode(trained.encode(text, 1000)) for k, text in enumerate(texts)}
    references = {str(k): [text] for k, text in enumerate(texts)}
    with CaptionScorer(meteor=False, spice=False) as scorer:
        through, written = (
            scorer.score(captions, references).values for captions in (said, {str(k): x for k, x in enumerate(texts)})
        )
    for metric in ("CIDEr", "BLEU-1", "BLEU-4", "ROUGE-L"):
        assert through[metric].value == written[metric].value
    several = {key: [*texts * 9, "something else"] for key, texts in references.items()}
    for answers in (references, several):
        assert {name: score.value for name, score in score_answers("vqa", said, answers).values.items()} == {
            "VQA": 100,
            "EM": 100,
        }


@pytest.mark.parametrize("task", ["caption", "vqa", "read"])
def test_texts_of_scenes_are_encoded_and_written_as_by_berts_rules(task: str) -> None:
    source = open_task("scenes", "train", 60, TaskSpec(name=task))
    texts = [part for k in range(60) for text in texts_of(source, k) for part in (text.prefix, text.target) if part]
    trained = train_wordpiece(texts, 300)
    assert not any(GAP in token for token in trained.tokens())
    as_bert = CaptionTokenizer(lower_casing({token: k for k, token in enumerate(trained.tokens())}))
    assert trained.encode_all(texts) == as_bert.encode_all(texts)
    source_of_ids = random.Random(0)
    for ids in [*trained.encode_all(texts), *(source_of_ids.choices(range(trained.vocab_size), k=9) for _ in texts)]:
        assert trained.decode(ids) == as_bert.decode(ids)


def test_the_gap_is_there_where_texts_need_it_and_no_unseen_text_needs_it() -> None:
    trained = train_wordpiece(["what is this?", "it's (red), see"] * 2, 100)
    assert not any(GAP in token for token in trained.tokens())
    assert trained.encode("what is this ?") == trained.encode("what is this?")
    assert any(GAP in token for token in train_wordpiece(["what is this ?"] * 2, 100).tokens())
    assert trained.encode(f"th{GAP}is") == trained.encode("th\x00is") == trained.encode("this")


def test_only_what_is_unknown_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = train_wordpiece(["what is this?"] * 2, 100)
    ids = trained.encode("what's “this”?")
    assert ids.count(trained.unk_id) == 3 and trained.decode(ids) == "what s this?"
    assert trained.encode("what book") == [*trained.encode("what"), trained.unk_id]  # no letter of another word
    monkeypatch.setattr(wordpiece, "MOST_CHARACTERS", 3)
    many = train_wordpiece(
        ["一只狗猫", "一只狗鸟", "一只狗鱼"], 100
    )  # each with a rare character for which there is no room
    ids = many.encode("一只狗猫一")
    assert ids.count(many.unk_id) == 1 and many.decode(ids) == "一只狗 一" and "一只狗" in many.tokens()


def test_long_sentences_without_spaces_are_words() -> None:
    sentence = "一只狗在草地上跑" * 50
    trained = train_wordpiece([sentence] * 2, 50)
    assert trained.decode(trained.encode(sentence, 1000)) == sentence


# What the official code writes of pieces: transformers 4, `decode(ids, skip_special_tokens=True)`.
OFFICIAL = {
    "a man's dog": "a man's dog",
    "It's, they're; I've, I'm": "it's, they're ; i've, i'm",
    "don't know!": "don't know!",
    "'a' or 'b' ?": "' a'or'b '?",
    "10:30 - $5.00 (at&t) 100%": "10 : 30 - $ 5. 00 ( at & t ) 100 %",
    "the dogs' owners...": "the dogs'owners...",
    'he said: "no", why?': 'he said : " no ", why?',
    "Café 一只": "cafe",
    "[SEP] dog": "",
    "dog [PAD] [CLS] man": "dog man",
}


def bert(folder: Path) -> CaptionTokenizer:
    words = (
        "[PAD] [UNK] [CLS] [SEP] [MASK] ' , ; ! ? . : - $ ( & ) % \" a b an at t man dog dogs it s they re i ve m don"
    )
    words += " know or 10 30 5 00 100 the owners he said no why ca ##fe"
    (folder / "vocab.txt").write_text("\n".join(words.split()) + "\n")
    return from_bert(str(folder))


def test_a_berts_texts_are_cleaned_as_the_official_code_does(tmp_path: Path) -> None:
    whole = bert(tmp_path)
    assert {text: whole.decode(whole.encode(text, 1000)) for text in OFFICIAL} == OFFICIAL
    small = subset_for(whole, OFFICIAL)
    assert {text: small.decode(small.encode(text, 1000)) for text in OFFICIAL} == OFFICIAL


def test_a_berts_texts_are_those_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours = bert(tmp_path)
    ours.save(tmp_path / "tokenizer.json")
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names["mask_token"] = "[MASK]"  # as BertTokenizer has it
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), **names)
    source = random.Random(0)
    drawn = [source.choices([k for k in range(ours.vocab_size) if k != ours.eos_id], k=12) for _ in range(2000)]
    for ids in [*(ours.encode(text, 1000) for text in OFFICIAL if "[SEP]" not in text), *drawn]:
        said = theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True)
        assert ours.decode(ids) == said


def test_a_vocabulary_that_was_trained_by_berts_rules_is_read_as_before(tmp_path: Path) -> None:
    vocabulary = {token: k for k, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "it", "'", "s"])}
    old = CaptionTokenizer(lower_casing(vocabulary))
    old.save(tmp_path / "tokenizer.json")
    loaded = CaptionTokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.encode("It's") == [4, 5, 6] and loaded.decode([4, 5, 6, 3]) == "it's"
    assert loaded.encode("it [SEP]") == [4, 3]


def test_a_mask_is_not_said_whether_its_file_calls_it_special_or_not(tmp_path):
    """A vocab.txt names no special tokens; tokenizer.json does."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    plain = from_bert(str(tmp_path / "vocab.txt"))
    marked = Tokenizer.from_str(json.dumps(plain.definition()))
    marked.add_special_tokens(["[MASK]"])
    for tokenizer in (plain, CaptionTokenizer(marked)):
        assert tokenizer.decode([2, 5, 4, 6, 3]) == "a dog" and not tokenizer.reversible
