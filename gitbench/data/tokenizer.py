"""The tokenizer of a study: WordPiece trained on its captions, or BERT's own (the paper's), whole or cut down."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gitbench.data.base import Source, content_hash, texts_of
from gitbench.data.bert_folder import MINILM, TOKENIZER_FILES, bert_folder, hub_file
from gitbench.data.cache import cached
from gitbench.data.tokenizer_subset import SUBSET_VERSION, subset_for
from gitbench.data.wordpiece import TRAINER_VERSION, CaptionTokenizer, lower_casing, train_wordpiece
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir
from gitbench.spec import TextSpec

__all__ = ["CaptionTokenizer", "from_bert", "tokenizer_for", "train_wordpiece"]


def from_bert(name_or_path: str) -> CaptionTokenizer:
    """Load a BERT tokenizer: a folder, a tokenizer.json, a vocab.txt, "minilm", or a name on the Hugging Face hub.

    `bert-base-uncased` gives the ids of the official model: [PAD] 0, [CLS] 101, [SEP] 102.
    """
    path = bert_folder(MINILM) if name_or_path == MINILM else Path(name_or_path).expanduser()
    if path.suffix == ".txt" and path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        return CaptionTokenizer(lower_casing({token: number for number, token in enumerate(lines)}))
    if path.suffix in (".json", ".txt"):
        return CaptionTokenizer.load(path)
    if path.is_dir():
        file = next((path / name for name in TOKENIZER_FILES if (path / name).is_file()), None)
    else:
        file = next((found for name in TOKENIZER_FILES if (found := hub_file(name_or_path, name))), None)
    if file is None:
        names = " nor ".join(TOKENIZER_FILES)
        raise GitbenchError(f"{path} holds neither {names}: pass the folder of a BERT tokenizer")
    return from_bert(str(file))


def tokenizer_for(text: TextSpec, source: Source) -> CaptionTokenizer:
    """Return the tokenizer of a study: WordPiece trained on `source` (the training split), or BERT's, whole or cut down.

    What is made from the captions is cached by content: captions, what decides the making, version of the library.
    """
    import tokenizers

    if text.tokenizer == "wordpiece":
        if text.subset:
            raise GitbenchError("only a BERT tokenizer can be cut down: name one, or leave out `subset`")
        made_by = [str(text.vocab_size), str(TRAINER_VERSION)]
        name, make = f"wordpiece-{text.vocab_size}", partial(train_wordpiece, vocab_size=text.vocab_size)
    else:
        whole = from_bert(text.tokenizer)
        if not text.subset:
            return whole
        made_by = [whole.fingerprint(), str(SUBSET_VERSION)]
        name, make = "subset", partial(subset_for, whole)
    key = content_hash([source.fingerprint(), *made_by, tokenizers.__version__])[:20]
    path = cache_dir() / "tokenizers" / f"{name}-{key}.json"
    return cached(path, lambda temporary: make(_sentences(source)).save(temporary), CaptionTokenizer.load)


def _sentences(source: Source) -> Iterator[str]:
    """Yield the given and said parts of all texts of a source."""
    for index in range(len(source)):
        for text in texts_of(source, index):
            yield from filter(None, (text.prefix, text.target))
