"""Text to ids and back: word pieces trained on a small corpus, a BERT's vocabulary cut down, lengths that are cut."""

from __future__ import annotations

from gitbench.data.cache import joined
from gitbench.data.dataset import prefix_ids
from gitbench.data.tokenizer import from_bert, rows_of, subset_for, train_wordpiece
from gitbench.gate.exact.subject import Place
from gitbench.gate.exact.values import Values

CORPUS = (
    "A small dog runs across the green field .",
    "Two dogs are running, and a third one sits",
    "The Dog's owner throws a ball; the dog fetches it!",
    "a café near the harbour, at night",
    "Three red circles left of a blue star",
    "a striped square inside a large circle on a white ground",
    "people playing football in the rain",
    "a man re-reads the sign: EXIT 42",
)
UNSEEN = ("a dog plays in Zürich, unseen", "the sign reads EXIT", "☃ dogs", "", CORPUS[6])
BERT = """[PAD] [unused0] [UNK] [CLS] [SEP] [MASK] ! ' , - . : ; a b c d e f g h i k l m n o p r s t u w x y the dog dogs red
blue circle ##s ##ing ##ed run ##n sit star left of two three ball field ##a ##b ##c ##d ##e ##f ##g ##h ##i ##k ##l ##m ##o
##p ##r ##t ##u ##w ##x ##y 4 2 ##2 never seen"""


def add(values: Values, place: Place) -> None:
    """Add what becomes of texts."""
    words = train_wordpiece(CORPUS, 150)
    ids = {name: getattr(words, f"{name}_id") for name in ("pad", "unk", "bos", "eos")}
    values.equal("word pieces trained on a corpus", " ".join(words.tokens()))
    values.equal("special ids and size of the vocabulary", {**ids, "size": words.vocab_size})
    every = [*CORPUS, *UNSEEN]
    whole = words.encode_all(every)
    values.equal("ids of texts", [_line(each) for each in whole])
    values.equal("ids of texts, one at a time", [words.encode(text) for text in every] == whole)
    values.equal("ids of texts cut to 5 tokens", [_line(words.encode(text, 5)) for text in every])
    values.equal("texts of ids", [words.decode(each) for each in whole])
    framed = [words.bos_id, *whole[0][:3], words.eos_id, *whole[1], words.pad_id]
    values.equal("text of ids up to [SEP]", words.decode(framed))
    values.equal("what a generated text starts from", [prefix_ids(words, text, 6) for text in ("", *CORPUS[:2])])
    pairs = [([5, 6, 7], [8, 9]), ([5, 6, 7, 8], [9, 10, 11]), ([], [5, 6, 7, 8, 9]), ([5], [6, 7, 8, 9])]
    values.equal("given and said tokens, joined and cut to 5", [joined(given, said, 5) for given, said in pairs])
    file = place.folder / "vocab.txt"
    file.write_text("\n".join(BERT.split()) + "\n", encoding="utf-8")
    bert = from_bert(str(file))
    few = subset_for(bert, CORPUS[4:6])
    values.equal("ids of texts by BERT's vocabulary", [_line(bert.encode(text)) for text in every])
    values.equal("texts of ids by BERT's vocabulary", [bert.decode(bert.encode(text)) for text in every])
    values.equal("BERT's pieces that captions use", " ".join(few.tokens()))
    values.equal("their rows in BERT's vocabulary", rows_of(few, bert))
    values.equal("ids of texts by these pieces", [_line(few.encode(text)) for text in CORPUS[4:6]])


def _line(ids: list[int]) -> str:
    return " ".join(map(str, ids))
