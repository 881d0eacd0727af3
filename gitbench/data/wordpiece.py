"""WordPiece vocabularies: text to tokens and back, trained on the captions at hand or given.

A given BERT vocabulary splits texts as `bert-base-uncased` does and sets punctuation apart; what it writes is put
together by the rules of `cleaned`, as the official code does. "10:30" so becomes "10 : 30".

A vocabulary that is trained on a study's own texts gives them back as they are, but for case, runs of white space and
control characters. Words end at white space, and punctuation inside of them is spelled like letters: "it", "##'", "##s".
Only the marks of `CLOSING` at a word's end are words of their own, as in BERT, and are written without a space before.
Where a text has one, or a word begins with such a mark, or with "##", `GAP` stands for it: "the end ." is "the", "end",
"GAP.". A character that is not in the vocabulary is a word by itself, so that only it is unknown; of a letter that is
upper or lower case, or a digit, the whole word is, as in BERT. All this stands in `tokenizer.json`.

The data set adds [CLS] and [SEP]. Training is deterministic: the trainer of `tokenizers` numbers the pieces "##x" in the
order of a hash map, which differs between processes and then decides ties; so the whole alphabet is handed to it
beforehand, sorted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitbench.data.base import content_hash
from gitbench.errors import GitbenchError
from gitbench.files import write_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, UNKNOWN, BEGIN, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
MASK = "[MASK]"  # BERT's fifth special token, which GIT does not use
TRAINER_VERSION = 2  # raise when the same captions would give another tokenizer
MOST_CHARACTERS = 1000  # rarer characters of large Unicode alphabets become [UNK]
LONGEST_WORD = 1000  # characters; a sentence is one word in Chinese, longer ones become [UNK]
CLOSING = ".?!,"  # marks that are written without a space before
GAP = "\ufdd0"  # an empty character inside of tokens; Unicode keeps it out of texts

# What `clean_up_tokenization_spaces` of transformers 4 replaces, in its order.
_CLEAN_UP = (
    *((f" {mark}", mark) for mark in CLOSING),
    (" ' ", "'"),
    *((f" {ending}", ending) for ending in ("n't", "'m", "'s", "'ve", "'re")),
)


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
        decoder = tokenizer.decoder
        # whether it gives its texts back as they were; what any other decodes is put together by `cleaned`
        self.reversible = decoder is not None and decoder.decode([GAP]) == ""
        tokenizer.encode_special_tokens = self.reversible  # a text that says "[SEP]" does not end there
        self._unsaid = {self.pad_id, self.bos_id, vocabulary.get(MASK)}  # a vocab.txt does not say which are special

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
            if int(number) not in self._unsaid:
                kept.append(int(number))
        text = self._tokenizer.decode(kept, skip_special_tokens=True)
        return text if self.reversible else cleaned(text)

    def tokens(self) -> list[str]:
        """The vocabulary in the order of ids."""
        return [token for token, _ in sorted(self._tokenizer.get_vocab().items(), key=lambda entry: entry[1])]

    def fingerprint(self) -> str:
        """Return a hash of everything that decides the encoding."""
        return content_hash([self._tokenizer.to_str()])

    def definition(self) -> dict[str, Any]:
        """Return the content of its `tokenizer.json`."""
        return json.loads(self._tokenizer.to_str())

    def words(self, text: str) -> list[str]:
        """Split a text into words as encoding does, before they are cut into pieces: normalised, punctuation apart."""
        splitting, normalizer = self._tokenizer.pre_tokenizer, self._tokenizer.normalizer
        normal = normalizer.normalize_str(text) if normalizer else text
        return [word for word, _ in splitting.pre_tokenize_str(normal)]

    def save(self, path: str | Path) -> None:
        """Write a `tokenizer.json` that the `tokenizers` library reads as well; atomic."""
        write_text(path, self._tokenizer.to_str())

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


def lower_casing(vocabulary: dict[str, int]) -> Tokenizer:
    """Build the `tokenizers` object of a vocabulary (token -> id) that splits text as bert-base-uncased does."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer.add_special_tokens([token for token in (PAD, UNKNOWN, BEGIN, END) if token in vocabulary])
    return tokenizer


def cleaned(text: str) -> str:
    """Take out the spaces that BERT's splitting has put in, as far as the official code does: "it ' s" is "it's"."""
    for apart, together in _CLEAN_UP:
        text = text.replace(apart, together)
    return text


def reversible(vocabulary: dict[str, int], letters: Collection[str] | None) -> Tokenizer:
    """Build the `tokenizers` object of a vocabulary (token -> id) of own texts, see the module.

    `letters` are the characters that it can spell, `GAP` among them where the texts need it; None: all.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    marks = f"[{CLOSING}]"
    gaps = [normalizers.Replace("##", f"#{GAP}#"), normalizers.Replace(Regex(rf"\s(?={marks})"), f" {GAP}")]
    others = [] if letters is None else [Regex(rf"[^{re.escape(''.join(sorted(letters)))}\p{{Ll}}\p{{N}}]")]
    at_the_end = Regex(f"{GAP}?{marks}(?={marks}*$)")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=LONGEST_WORD))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(rf"(?!\s)\p{{Cc}}|{GAP}"), ""),
            normalizers.Lowercase(),
            *(gaps if letters is None or GAP in letters else []),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            *(pre_tokenizers.Split(each, "isolated") for each in (*others, at_the_end)),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            decoders.Replace(Regex(f" (?={marks})"), ""),
            decoders.Replace(GAP, ""),
        ]
    )
    tokenizer.add_special_tokens([token for token in (PAD, UNKNOWN, BEGIN, END) if token in vocabulary])
    return tokenizer


def train_wordpiece(captions: Iterable[str], vocab_size: int) -> CaptionTokenizer:
    """Train a WordPiece vocabulary of at most `vocab_size` tokens (never below the alphabet); [PAD] is 0."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    specials = [PAD, UNKNOWN, BEGIN, END]
    words = CaptionTokenizer(reversible({token: number for number, token in enumerate(specials)}, None)).words
    counts = Counter(word for caption in captions for word in words(caption))
    if not counts:
        raise GitbenchError("there are no words in the captions to train a tokenizer on: check the data")
    letter_counts: Counter[str] = Counter()
    for word, count in counts.items():
        for letter in word:
            letter_counts[letter] += count
    letters = sorted(sorted(letter_counts, key=lambda letter: (-letter_counts[letter], letter))[:MOST_CHARACTERS])
    # both forms of every letter, so that no word in known letters is unknown
    alphabet = letters + ["##" + letter for letter in letters]
    splitting, known = reversible({}, letters).pre_tokenizer, set(letters)
    kept: Counter[str] = Counter()
    for word, count in sorted(counts.items()):
        for part, _ in splitting.pre_tokenize_str(word):
            if known.issuperset(part):
                kept[part] += count
    trainer = trainers.WordPieceTrainer(
        vocab_size=max(vocab_size, len(specials) + len(alphabet)),
        special_tokens=specials + alphabet,
        min_frequency=2,
        show_progress=False,
    )
    blank = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    blank.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    blank.train_from_iterator((" ".join([word] * count) for word, count in kept.items()), trainer, length=len(kept))
    return CaptionTokenizer(reversible(blank.get_vocab(), letters))
