"""Text to tokens and back: WordPiece trained on the captions at hand, or BERT's own (the paper's tokenizer).

BERT's own may be cut down to the pieces in those captions: see `tokenizer_subset`.

Both lower-case and split as `bert-base-uncased`. Captions are encoded without [CLS] and [SEP]; the data set adds them.
Training is deterministic: the trainer of `tokenizers` numbers the pieces "##x" in the order of a hash map, which
differs between processes and then decides ties; so the whole alphabet is handed to it beforehand, sorted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitbench.data.base import Source, content_hash
from gitbench.data.bert_folder import MINILM, bert_folder
from gitbench.data.cache import CacheUnwritable, cached
from gitbench.errors import GitbenchError
from gitbench.files import atomic_path, cache_dir
from gitbench.spec import TextSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, UNKNOWN, BEGIN, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
TRAINER_VERSION = 1  # raise when the same captions would give another vocabulary
MOST_CHARACTERS = 1000  # rarer characters of large Unicode alphabets become [UNK]
_IN_MEMORY: dict[Path, CaptionTokenizer] = {}  # by cache path, which names the content


class CaptionTokenizer:
    """A WordPiece tokenizer with the four special tokens of BERT."""

    def __init__(self, tokenizer: Tokenizer):
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        vocabulary = tokenizer.get_vocab()
        missing = [token for token in (PAD, UNKNOWN, BEGIN, END) if token not in vocabulary]
        if missing:
            raise GitbenchError(f"the tokenizer has no {', '.join(missing)}: use a BERT tokenizer or 'wordpiece'")
        self.pad_id, self.unk_id = vocabulary[PAD], vocabulary[UNKNOWN]
        self.bos_id, self.eos_id = vocabulary[BEGIN], vocabulary[END]

    @property
    def vocab_size(self) -> int:
        """The number of tokens, specials included; can be below what was asked for if the captions have fewer."""
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str, max_tokens: int = 40) -> list[int]:
        """Return the payload tokens of a text, cut after `max_tokens`; no [CLS], no [SEP]."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids[:max_tokens]

    def encode_all(self, texts: list[str], max_tokens: int = 40) -> list[list[int]]:
        """Encode many texts at once."""
        return [found.ids[:max_tokens] for found in self._tokenizer.encode_batch(texts, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of tokens up to the first [SEP]; specials are dropped, word pieces joined."""
        kept: list[int] = []
        for number in ids:
            if int(number) == self.eos_id:
                break
            if int(number) not in (self.pad_id, self.bos_id):
                kept.append(int(number))
        return self._tokenizer.decode(kept, skip_special_tokens=True)

    def tokens(self) -> list[str]:
        """Return the vocabulary in the order of ids."""
        return [token for token, _ in sorted(self._tokenizer.get_vocab().items(), key=lambda entry: entry[1])]

    def fingerprint(self) -> str:
        """Return a hash of everything that decides the encoding."""
        return content_hash([self._tokenizer.to_str()])

    def definition(self) -> dict[str, Any]:
        """Return the content of its `tokenizer.json`."""
        return json.loads(self._tokenizer.to_str())

    def words(self, text: str) -> list[str]:
        """Split a text into words as encoding does, before they are cut into pieces: normalised, punctuation apart."""
        normal = self._tokenizer.normalizer.normalize_str(text) if self._tokenizer.normalizer else text
        return [word for word, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(normal)]

    def save(self, path: str | Path) -> None:
        """Write a `tokenizer.json` that the `tokenizers` library reads as well; atomic."""
        with atomic_path(path) as temporary:
            temporary.write_text(self._tokenizer.to_str(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> CaptionTokenizer:
        """Read a `tokenizer.json`."""
        from tokenizers import Tokenizer

        if not Path(path).is_file():
            raise GitbenchError(f"{path} does not exist: pass a tokenizer.json")
        try:
            return cls(Tokenizer.from_file(str(path)))
        except GitbenchError:
            raise
        except Exception:  # tokenizers raises bare Exception
            raise GitbenchError(f"{path} is not a whole tokenizer.json: delete it and run again") from None


def _bert(vocabulary: dict[str, int]) -> Tokenizer:
    """Build the lower-casing BERT tokenizer around a vocabulary."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer.add_special_tokens([token for token in (PAD, UNKNOWN, BEGIN, END) if token in vocabulary])
    return tokenizer


def train_wordpiece(captions: Iterable[str], vocab_size: int) -> CaptionTokenizer:
    """Train a WordPiece vocabulary of at most `vocab_size` tokens (never below the alphabet); [PAD] is 0."""
    from tokenizers import trainers

    specials = [PAD, UNKNOWN, BEGIN, END]
    blank = _bert({token: number for number, token in enumerate(specials)})
    counts: Counter[str] = Counter()
    for caption in captions:
        text = blank.normalizer.normalize_str(caption)
        counts.update(word for word, _ in blank.pre_tokenizer.pre_tokenize_str(text))
    if not counts:
        raise GitbenchError("there are no words in the captions to train a tokenizer on: check the data")
    first: Counter[str] = Counter()
    later: Counter[str] = Counter()
    for word, count in counts.items():
        first[word[0]] += count
        for letter in word[1:]:
            later[letter] += count
    common = sorted((first + later).items(), key=lambda entry: (-entry[1], entry[0]))[:MOST_CHARACTERS]
    letters = sorted(letter for letter, _ in common)
    # both forms of every letter, so that no word in known letters is unknown
    alphabet = letters + ["##" + letter for letter in letters]
    known = set(letters)
    kept = {word: count for word, count in sorted(counts.items()) if known.issuperset(word)}
    trainer = trainers.WordPieceTrainer(
        vocab_size=max(vocab_size, len(specials) + len(alphabet)),
        special_tokens=specials + alphabet,
        min_frequency=2,
        show_progress=False,
    )
    blank.train_from_iterator((" ".join([word] * count) for word, count in kept.items()), trainer, length=len(kept))
    ordered = sorted(blank.get_vocab().items(), key=lambda entry: entry[1])
    return CaptionTokenizer(_bert({token: number for number, (token, _) in enumerate(ordered)}))


def from_bert(name_or_path: str) -> CaptionTokenizer:
    """Load a BERT tokenizer: a folder, a tokenizer.json, a vocab.txt, "minilm", or a name on the Hugging Face hub.

    `bert-base-uncased` gives the ids of the official model: [PAD] 0, [CLS] 101, [SEP] 102.
    """
    path = bert_folder(MINILM) if name_or_path == MINILM else Path(name_or_path).expanduser()
    if path.is_dir():
        for file in (path / "tokenizer.json", path / "vocab.txt"):
            if file.is_file():
                return from_bert(str(file))
        raise GitbenchError(f"{path} holds neither tokenizer.json nor vocab.txt: pass the folder of a BERT tokenizer")
    if path.suffix == ".txt" and path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        return CaptionTokenizer(_bert({token: number for number, token in enumerate(lines)}))
    if path.suffix in (".json", ".txt"):
        return CaptionTokenizer.load(path)
    return _from_hub(name_or_path)


def _from_hub(name: str) -> CaptionTokenizer:
    from tokenizers import Tokenizer

    try:
        return CaptionTokenizer(Tokenizer.from_pretrained(name))
    except GitbenchError:
        raise
    except Exception as error:  # no network, no such repository, no permission: one cure
        raise GitbenchError(
            f"tokenizer '{name}' could not be fetched from the Hugging Face hub ({type(error).__name__}): "
            "download its tokenizer.json or vocab.txt and pass that path"
        ) from None


def tokenizer_for(text: TextSpec, source: Source) -> CaptionTokenizer:
    """Return the tokenizer of a study: WordPiece trained on `source` (the training split), or BERT's, whole or cut down.

    What is made from the captions is cached by content: captions, what decides the making, version of the library.
    """
    if text.tokenizer == "wordpiece":
        if text.subset:
            raise GitbenchError("only a BERT tokenizer can be cut down: name one, or leave out `subset`")
        made_by = [str(text.vocab_size), str(TRAINER_VERSION)]
        return _made(
            f"wordpiece-{text.vocab_size}", source, made_by, lambda captions: train_wordpiece(captions, text.vocab_size)
        )
    whole = from_bert(text.tokenizer)
    if not text.subset:
        return whole
    from gitbench.data.tokenizer_subset import SUBSET_VERSION, subset_for

    made_by = [whole.fingerprint(), str(SUBSET_VERSION)]
    return _made("subset", source, made_by, lambda captions: subset_for(whole, captions)[0])


def _made(
    name: str, source: Source, made_by: list[str], make: Callable[[Iterable[str]], CaptionTokenizer]
) -> CaptionTokenizer:
    """Make a tokenizer from the captions of `source`, once for each content of captions and `made_by`."""
    import tokenizers

    key = content_hash([source.fingerprint(), *made_by, tokenizers.__version__])[:20]
    path = cache_dir() / "tokenizers" / f"{name}-{key}.json"
    if path in _IN_MEMORY:
        return _IN_MEMORY[path]

    def build() -> CaptionTokenizer:
        return make(_sentences(source))

    def load(path: Path) -> CaptionTokenizer:
        try:
            return CaptionTokenizer.load(path)
        except GitbenchError as error:
            raise ValueError(str(error)) from None  # damaged: made again

    try:
        _IN_MEMORY[path] = cached(path, lambda temporary: _save_plain(build(), temporary), load)
    except CacheUnwritable:
        _IN_MEMORY[path] = build()
    return _IN_MEMORY[path]


def _sentences(source: Source) -> Iterator[str]:
    """Yield what a source has to say: its captions, or the given and said parts of its task's texts."""
    texts = getattr(source, "texts", None)
    for index in range(len(source)):
        if texts is None:
            yield from source.example(index).captions
        else:
            yield from (part for text in texts(index) for part in (text.prefix, text.target) if part)


def _save_plain(tokenizer: CaptionTokenizer, path: Path) -> None:
    path.write_text(tokenizer._tokenizer.to_str(), encoding="utf-8")
