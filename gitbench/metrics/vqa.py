"""VQA accuracy: an answer is as right as three annotators say it is, after the official normalisation.

The formula of VQAv2 (Goyal et al. 2017; visualqa.org/evaluation.html): for each of the ten ways to leave one annotator
out, min(matches among the other nine / 3, 1); then the mean of the ten. The normalisation follows the official program
(GT-Vision-Lab/VQA, `vqaEval.py`), which differs from its description on the web page in ways that move scores:

* Where all annotators of a question write the same, nothing is normalised, on either side, not even the case. (Meant to
  keep answers that were read off the image as they are, its author says in issue 14 of that repository.) Kept, so that
  the number is the official one. Others (lmms-eval, mmf) always normalise and come out a little higher.
* A mark of `PUNCTUATION` becomes a space; nothing where it stands beside a space anywhere in the answer, or where the
  answer holds a comma between two digits.
* A full stop goes unless a digit follows, so "3.5" stays and "5. 3" does not. (The official program stops after 32 of
  them, by a misplaced argument; here all go.)
* "none" is the number 0, as "zero" is. An answer that is nothing but an article becomes empty.

That formula is for votes, one an annotator, and at least four of them. Other references are alternatives ("1/8/93", "January
8, 1993"): an answer that equals one of them, both normalised, is right; so where there is one, accuracy is 0 or 1. A set is one
reference of several parts between commas, each normalised, in any order. The data say which they are, see `data.answers`.

Where normalisation leaves nothing of a text ("A", to "which letter?"), it is compared as it is but for case, and an answer in
which nothing is said is never right. (To the official program "", "A" and "the" are equal.)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from gitbench.data.answers import fitting
from gitbench.data.base import AnswersAre

ENOUGH = 3  # matching annotators that make an answer fully right

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'  # not the apostrophe, not the colon
ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS)}

# Written correctly; the official list takes each with one apostrophe missing for it ("couldnt've", "couldn'tve").
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd
where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all
y'all'd've y'all'll you'd you'd've you'll you're you've
"""
CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTED.split()
    for place, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}  # the wrong way round in the official list

_NUMBER_COMMA = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")


def normalise(answer: str) -> str:
    """Return an answer as the official program compares it: punctuation, case, articles, number words, contractions."""
    answer = _stripped(answer)
    dropped = _NUMBER_COMMA.search(answer) is not None
    table = {
        ord(mark): None if dropped or f"{mark} " in answer or f" {mark}" in answer else " " for mark in PUNCTUATION
    }
    words = _FULL_STOP.sub("", answer.translate(table)).lower().split()
    words = [NUMBERS.get(word, word) for word in words]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def vqa_accuracy(answer: str, references: Sequence[str], answers_are: AnswersAre = "votes") -> float:
    """Return the accuracy of one answer, a fraction; `answers_are`: what the references are, see the module."""
    answers_are = fitting(answers_are, references)
    if answers_are == "set":
        return float(same_parts(answer, references, _compared))
    prepare = _compared if answers_are == "alternatives" else _preparation(references)
    said = prepare(answer)
    matches, count = list(map(prepare, references)).count(said) if said else 0, len(references)
    if answers_are == "alternatives":
        return float(matches > 0)
    with_match_left_out, without = min((matches - 1) / ENOUGH, 1.0), min(matches / ENOUGH, 1.0)
    return (matches * with_match_left_out + (count - matches) * without) / count


def annotator_accuracy(references: Sequence[str], answers_are: AnswersAre = "votes") -> float:
    """Return what an annotator reaches, a fraction: each answer against the others, then the mean; 1 without votes."""
    if fitting(answers_are, references) != "votes":
        return 1.0
    answers = list(map(_preparation(references), references))
    counts = Counter(answers)
    return sum(min((counts[answer] - 1) / ENOUGH, 1.0) for answer in answers) / len(answers)


def same_parts(answer: str, references: Sequence[str], prepare: Callable[[str], str]) -> bool:
    """Tell whether an answer has the same parts as a reference, each prepared; nothing has none."""
    said, *right = (
        frozenset(prepare(part) for part in text.split(",") if part.strip()) for text in (answer, *references)
    )
    return bool(said) and said in right


def _preparation(references: Sequence[str]) -> Callable[[str], str]:
    """Return what prepares both sides of votes: only stripping where all annotators write the same."""
    return _stripped if len(set(map(_stripped, references))) == 1 else _compared


def _compared(text: str) -> str:
    return normalise(text) or _stripped(text).lower()


def _stripped(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()
