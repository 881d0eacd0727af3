"""Which images are for training, validation and testing: as the data state it, and what is done where they do not.

| the data state | train | val | test |
|---|---|---|---|
| all three | as stated | as stated | as stated |
| nothing, or train alone | 80 % | 10 % | 10 % |
| train and test | 90 % of train | 10 % of train | as stated |
| train and val (or a test without answers) | 90 % of train | 10 % of train | all of val |
| val and test, or one of them | none: nothing can be trained | val | test, else val |

A division goes by a hash of the images' names or bytes, so that adding images moves none. `split` in a data set's name
chooses otherwise: `80/10/10` divides everything anew, `train=train+restval,val=dev,test=test` takes stated splits by name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from gitbench.data.base import SPLITS
from gitbench.errors import GitbenchError

# restval is Karpathy's word for training images that were COCO's validation
SPLIT_WORDS = {
    "train": ("train", "training", "restval"),
    "val": ("val", "validation", "validate", "valid", "dev", "minival"),
    "test": ("test", "testing", "testdev", "teststd"),
}
SPLIT_OF = {word: split for split, words in SPLIT_WORDS.items() for word in words}
WHOLE = {"train": 0.8, "val": 0.1, "test": 0.1}
HELD_OUT = {"train": 0.9, "val": 0.1}


_YEAR = re.compile(r"(19|20)\d\d$")


def split_of(word: str) -> str | None:
    """Return train, val or test for a word as data sets write it: `TRAIN`, `train2017`, `test-dev`, `validation`."""
    return SPLIT_OF.get(_YEAR.sub("", re.sub(r"[\W_]+", "", word.casefold())))


def word_in(name: str) -> str | None:
    """Return the word of a file's or folder's name that says a split (`captions_train2017`: train2017); None without.

    Words for two splits say none.
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold()
    words = re.split(r"[\W_]+", re.sub(r"test[-_ ](dev|std)", r"test\1", spaced))
    found = [word for word in words if split_of(word)]
    return found[0] if len({split_of(word) for word in found}) == 1 else None


def split_in(name: str) -> str | None:
    """Return train, val or test where a file's or folder's name says it, see `word_in`."""
    word = word_in(name)
    return split_of(word) if word else None


@dataclass(frozen=True, kw_only=True)
class Take:
    """What becomes one split: the images of some stated splits, all of them, or a share of a division."""

    stated: frozenset[str]  # the data's own words; "" for images without one
    shares: Mapping[str, float] | None = None  # name -> share, for `divided`; None: all
    own: str = ""  # the name of its share


@dataclass(frozen=True, kw_only=True)
class Division:
    """How stated splits become train, val and test; a split that is missing here cannot be made."""

    takes: Mapping[str, Take]
    note: str = ""  # what is done beyond what the data state, for the user


def division(stated: Mapping[str, bool], asked: str, where: str) -> Division:
    """Plan the splits of a data set that states some: word -> whether its images have texts ("" for none stated).

    Errors: GitbenchError for a word that is none of ours, images with and without one, or a wish that cannot be met.
    """
    words = ", ".join(sorted(filter(None, stated)))
    if re.fullmatch(r"[\d.]+(/[\d.]+){2}", asked):
        return _anew(stated, asked, where)
    if asked:
        return _chosen(stated, asked, where)
    if "" in stated and len(stated) > 1:
        raise GitbenchError(f"{where}: some images state a split ({words}) and others none: give all one, or none")
    if set(stated) == {""}:
        return Division(takes=_divided(frozenset(stated)), note="states no splits: divided 80/10/10 by image")
    groups: dict[str, set[str]] = {}
    unanswered: set[str] = set()
    for word, has_texts in stated.items():
        split = split_of(word)
        if split is None:
            raise GitbenchError(
                f"{where}: the split '{word}' is none of train, val and test (found: {words}): say which is which with "
                "--split train=...,val=...,test=..."
            )
        (groups.setdefault(split, set()) if has_texts else unanswered).add(word)
    for names in groups.values():
        if len({_YEAR.sub("", word) for word in names}) < len(names):
            raise GitbenchError(
                f"{where}: {' and '.join(sorted(names))} are of two years: say which is meant with --split "
                "train=...,val=...,test=..."
            )
    return _of_groups({split: frozenset(names) for split, names in groups.items()}, unanswered, where)


def _of_groups(groups: Mapping[str, frozenset[str]], unanswered: set[str], where: str) -> Division:
    """Plan splits from those that are stated and have texts."""
    found, train = set(groups), groups.get("train", frozenset())
    without = f"its {', '.join(sorted(unanswered))} has no answers, " if unanswered else ""
    stated = {split: Take(stated=names) for split, names in groups.items()}
    held = {split: Take(stated=train, shares=HELD_OUT, own=split) for split in HELD_OUT}
    if found == set(SPLITS):
        return Division(takes=stated)
    if found == {"train"}:
        return Division(takes=_divided(train), note=f"{without}states train alone: divided 80/10/10 by image")
    if found == {"train", "test"}:
        note = "states no val: a tenth of train is held out as val"
        return Division(takes={**stated, **held}, note=note)
    if found == {"train", "val"}:
        note = f"{without or 'states no test: '}tested on all of val; a tenth of train is held out as val"
        return Division(takes={**held, "test": stated["val"]}, note=note)
    if not found:
        raise GitbenchError(f"{where}: {without or 'there is '}nothing to train or test on: add images with texts")
    takes = {"test": stated.get("test", next(iter(stated.values()))), **stated}
    return Division(takes=takes, note=f"{without}states no train: for evaluation alone")


def _divided(words: frozenset[str], shares: Mapping[str, float] = WHOLE) -> dict[str, Take]:
    return {split: Take(stated=words, shares=shares, own=split) for split in SPLITS}


def _anew(stated: Mapping[str, bool], asked: str, where: str) -> Division:
    try:
        parts = [float(part) for part in asked.split("/")]
    except ValueError:
        parts = [0.0]
    if min(parts) <= 0:
        raise GitbenchError(f"{where}: --split {asked} leaves a split empty: write three shares above 0, as 80/10/10")
    shares = {split: part / sum(parts) for split, part in zip(SPLITS, parts, strict=True)}
    answered = frozenset(word for word, has_texts in stated.items() if has_texts)
    return Division(takes=_divided(answered, shares), note=f"divided {asked} by image, as asked")


def _chosen(stated: Mapping[str, bool], asked: str, where: str) -> Division:
    takes: dict[str, Take] = {}
    for pair in asked.split(","):
        split, equals, names = pair.partition("=")
        words = frozenset(filter(None, names.split("+")))
        if not equals or split not in SPLITS or not words or split in takes:
            raise GitbenchError(f"{where}: --split {asked}: write 80/10/10, or train=NAME,val=NAME,test=NAME+NAME")
        if missing := words - set(stated):
            known = ", ".join(sorted(filter(None, stated))) or "none"
            raise GitbenchError(
                f"{where}: --split {asked}: there is no split {', '.join(sorted(missing))}: known: {known}"
            )
        takes[split] = Take(stated=words)
    return Division(takes=takes, note=f"splits as asked: {asked}")


def divided(digests: Iterable[bytes], where: str, shares: Mapping[str, float] = WHOLE) -> dict[bytes, str]:
    """Divide images, each given by the SHA-256 of its name or bytes, into shares that sum to 1; adding images moves none.

    Where a share is empty the largest one gives it an image. Errors: fewer images than shares.
    """
    ordered = sorted(set(digests))
    if len(ordered) < len(shares):
        names = ", ".join(shares)
        raise GitbenchError(f"{where}: {len(ordered)} images cannot be divided into {names}: add images")
    limits = dict(zip(shares, (round(limit, 9) for limit in accumulate(shares.values())), strict=True))
    splits = {digest: next(name for name in shares if digest[0] / 256 < limits[name]) for digest in ordered}
    for name in shares:
        if name not in splits.values():
            largest = Counter(splits.values()).most_common(1)[0][0]
            splits[[digest for digest in ordered if splits[digest] == largest][-1]] = name
    return splits
