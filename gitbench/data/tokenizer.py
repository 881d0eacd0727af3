"""The tokenizer of a study: WordPiece trained on its captions, or BERT's own (the paper's), whole or cut down."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path

from gitbench.data.base import Source, content_hash, texts_of
from gitbench.data.bert_folder import MINILM, TOKENIZER_FILES, bert_folder, hub_file
from gitbench.data.cache import cached
from gitbench.data.wordpiece import TRAINER_VERSION, CaptionTokenizer, lower_casing, train_wordpiece
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir
from gitbench.spec import TextSpec

__all__ = ["CaptionTokenizer", "from_bert", "rows_of", "tokenizer_for", "train_wordpiece"]

BATCH = 10_000  # captions encoded at a time
SUBSET_VERSION = 1  # raise when the same captions would keep other pieces


def from_bert(name_or_path: str) -> CaptionTokenizer:
    """Load a BERT tokenizer: a folder, a tokenizer.json, a vocab.txt, "minilm", or a name on the Hugging Face hub.

    `bert-base-uncased` gives the ids of the official model: [PAD] 0, [CLS] 101, [SEP] 102.
    """
    path = bert_folder(MINILM) if name_or_path == MINILM else Path(name_or_path).expanduser()
    file: Path | None = path
    instead = f", or take the tokenizer that needs no network: --tokenizer {MINILM}"
    if path.is_dir():
        file = next((path / name for name in TOKENIZER_FILES if (path / name).is_file()), None)
    elif path.suffix not in (".json", ".txt") and (path.is_absolute() or name_or_path.startswith((".", "~"))):
        raise GitbenchError(f"{path} does not exist: pass the folder or file of a BERT tokenizer")
    elif path.suffix not in (".json", ".txt"):
        file = next((found for name in TOKENIZER_FILES if (found := hub_file(name_or_path, name, instead))), None)
    if file is None:
        names = " nor ".join(TOKENIZER_FILES)
        raise GitbenchError(f"{path} holds neither {names}: pass the folder of a BERT tokenizer")
    if file.suffix == ".txt" and file.is_file():
        lines = file.read_text(encoding="utf-8").splitlines()
        return CaptionTokenizer(lower_casing({token: number for number, token in enumerate(lines)}))
    return CaptionTokenizer.load(file)


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
    texts = (text for index in range(len(source)) for text in texts_of(source, index))
    sentences = (part for text in texts for part in (text.prefix, text.target) if part)
    return cached(path, lambda temporary: make(sentences).save(temporary), CaptionTokenizer.load)


# ---- BERT's vocabulary cut down ----------------------------------------------------------------------------------


def subset_for(tokenizer: CaptionTokenizer, captions: Iterable[str]) -> CaptionTokenizer:
    """Return a BERT tokenizer that keeps only what the captions use; `rows_of` finds the old id of each of its ids.

    Kept are [PAD] [UNK] [CLS] [SEP], the pieces that occur, and all characters that occur, at the start and inside of a
    word, so that an unseen word in known letters is spelled. Ids run in the old order, [PAD] first. The captions become
    the same pieces as before: WordPiece takes the longest piece that fits, and every piece so taken is kept, also those
    taken before a word fails ([UNK]). A tokenizer that is not WordPiece, or captions without words, are errors.
    """
    from tokenizers import Tokenizer

    definition = tokenizer.definition()
    if definition["model"].get("type") != "WordPiece":
        raise GitbenchError("only a WordPiece vocabulary can be cut down: use a BERT tokenizer")
    specials = {tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id}
    used, unspelled = _used(tokenizer, captions)
    if not used - specials:
        raise GitbenchError("there are no words in the captions to choose word pieces by: check the data")

    vocabulary: dict[str, int] = definition["model"]["vocab"]
    inside: str = definition["model"]["continuing_subword_prefix"]
    added = {entry["id"]: entry["content"] for entry in definition["added_tokens"]}
    names = {number: token for token, number in vocabulary.items()} | added
    letters = set("".join([*unspelled, *(names[piece].removeprefix(inside) for piece in used if piece not in added)]))
    kept = specials | used | {piece for word in unspelled for piece in _spell(word, vocabulary, inside)}
    kept |= {vocabulary[form] for letter in letters for form in (letter, inside + letter) if form in vocabulary}
    numbers = {old: new for new, old in enumerate([tokenizer.pad_id, *sorted(kept - {tokenizer.pad_id})])}
    entries = [entry | {"id": numbers[entry["id"]]} for entry in definition["added_tokens"] if entry["id"] in numbers]
    smaller = definition | {
        "model": definition["model"] | {"vocab": {names[old]: new for old, new in numbers.items()}},
        "added_tokens": sorted(entries, key=lambda entry: entry["id"]),
        "post_processor": None,  # it adds [CLS] and [SEP] by their old ids; here the data set adds them
    }
    return CaptionTokenizer(Tokenizer.from_str(json.dumps(smaller)))


def rows_of(subset: CaptionTokenizer, whole: CaptionTokenizer) -> list[int]:
    """Return the id in the `whole` vocabulary of each id of a tokenizer that was cut from it.

    Error: a piece that the whole vocabulary does not have.
    """
    numbers = {piece: number for number, piece in enumerate(whole.tokens())}
    missing = [piece for piece in subset.tokens() if piece not in numbers]
    if missing:
        some = ", ".join(repr(piece) for piece in missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise GitbenchError(
            f"{len(missing)} word pieces of the study's tokenizer are not in BERT's vocabulary ({some}): use the "
            "tokenizer of that BERT, with text: bert or bert_subset in the ablation's `common`"
        )
    return [numbers[piece] for piece in subset.tokens()]


def _used(tokenizer: CaptionTokenizer, captions: Iterable[str]) -> tuple[set[int], set[str]]:
    """Return the pieces that occur, and the words of captions in which some word could not be spelled."""
    used: set[int] = set()
    unspelled: set[str] = set()
    remaining = iter(captions)
    while batch := list(islice(remaining, BATCH)):
        for text, ids in zip(batch, tokenizer.encode_all(batch, sys.maxsize), strict=True):
            used.update(ids)
            if tokenizer.unk_id in ids:
                unspelled.update(tokenizer.words(text))
    return used, unspelled


def _spell(word: str, vocabulary: Mapping[str, int], inside: str) -> Iterator[int]:
    """Yield the pieces that WordPiece takes of a word, longest first from the left, up to where it fails if it does."""
    start = 0
    while start < len(word):
        prefix = inside if start else ""
        for end in range(len(word), start, -1):
            if (piece := prefix + word[start:end]) in vocabulary:
                yield vocabulary[piece]
                start = end
                break
        else:
            return
