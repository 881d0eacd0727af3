"""What the metrics fill in and a scorer returns: scores with signatures, and the per-image values they are made of.

All scores are in the papers' scale, a hundred times the fraction (CIDEr 131.4, BLEU-4 40.4), and say so in their
signature. The signature follows sacrebleu's idea (Post 2018): two numbers under one name are comparable only if the
signatures agree, because tokenizer, library, number of images and number of references all move caption scores.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from gitbench import __version__
from gitbench.errors import GitbenchError
from gitbench.metrics.java import java_version
from gitbench.metrics.tokenize import TOKENIZER, library_version

SCALE = 100.0  # papers print caption scores times a hundred


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number for a set of texts. `value` is times 100 (a plugin's: in its own unit); `signature`: how it was made."""

    name: str
    value: float
    signature: str


@dataclass(kw_only=True)
class Scores:
    """All scores of one set of texts; each metric adds its own.

    `ids` and `references` have one entry an image (or question); `ceiling` says how the texts came about if they are
    not predictions but a ceiling. `columns` are those of `per_image`: one for each metric that is a mean over images
    (times 100), and the sufficient statistics of the corpus metrics (`bleu_*`, `meteor_stats`; see
    `metrics.aggregate`). `absent` maps a metric that could not be computed to the reason and its fix, `errors` one that
    failed to its error. `warnings`: what to know before believing the scores.
    """

    ids: list[str]
    references: Sequence[Sequence[str]]
    ceiling: str | None = None
    values: dict[str, Score] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def per_image(self) -> pd.DataFrame:
        """The table of all columns, one row an image, named by its `image_id`."""
        return pd.DataFrame({"image_id": self.ids, **self.columns})

    def add(self, name: str, fraction: float, head: str, *, undefined: int = 0, ptb: bool = True, **said: Any) -> None:
        """Add a score under `name`; `head` opens its signature, `ptb` says whether it is made of tokenized captions.

        The library in the signature is the one that defines the score. Where the computation is ours, it equals the
        library's (tested), so that a score keeps its signature whichever of the two computes it.
        """
        library = {"lib": f"gitbench-{__version__}"}
        if ptb:
            library = {"lib": library_version(), "tok": TOKENIZER, "java": java_version()}
        made = self.signature(head, {**said, **library}, undefined, f"scale:{SCALE:.0f}")
        self.values[name] = Score(name=name, value=SCALE * fraction, signature=made)

    def add_mean(self, name: str, fractions: np.ndarray, head: str, **said: Any) -> None:
        """Add a metric that is a mean over images: its column, and a score if it is defined for any image."""
        self.columns[name] = SCALE * fractions
        undefined = int(np.isnan(fractions).sum())
        if undefined < len(fractions):
            self.add(name, float(np.nanmean(fractions)), head, undefined=undefined, **said)
        else:
            self.absent[name] = "it is defined for no image of this set"

    def signature(self, head: str, said: Mapping[str, object], undefined: int, *last: str) -> str:
        """Build a signature, for example "CIDEr-D|lib:pycocoevalcap-1.2|n:1000|refs:5|scale:100".

        `undefined`: for how many images the metric is; `refs`: "5" where all images have so many references, else "4-5".
        """
        counts = [len(refs) for refs in self.references]
        low, high = min(counts), max(counts)
        fields = {
            **said,
            "n": len(self.ids),
            "undefined": undefined or None,
            "refs": low if low == high else f"{low}-{high}",
            "ceiling": self.ceiling,
        }
        return "|".join([head, *(f"{name}:{value}" for name, value in fields.items() if value is not None), *last])

    @contextlib.contextmanager
    def attempt(self, metric: str) -> Iterator[None]:
        """Turn a failure of the block into the metric's absence, with the reason; the other metrics go on."""
        try:
            yield
        except (GitbenchError, OSError) as reason:
            self.absent[metric], self.errors[metric] = str(reason), reason


def check_references(references: Mapping[str, Sequence[str]], noun: str) -> None:
    """Refuse references that are none: GitbenchError if there is no image (`noun`), or one without a reference."""
    if not references:
        raise GitbenchError(f"there is nothing to score: give at least one {noun} with references")
    for key, texts in references.items():
        if isinstance(texts, str) or not texts:
            raise GitbenchError(f"{noun} {key} needs a list of at least one reference: add it or leave it out")


def check_ids(given: Mapping[str, object], references: Mapping[str, object], noun: str, what: str) -> None:
    """Refuse a set that cannot be scored as a whole: CIDEr depends on exactly which images take part.

    GitbenchError if an image (`noun`) of the references has no `what`, or one has no reference.
    """
    lacking = [key for key in references if key not in given]
    if lacking:
        raise GitbenchError(
            f"{len(lacking)} of {len(references)} {noun}s have no {what} (first: {lacking[0]}): pass one for each"
        )
    extra = [key for key in given if key not in references]
    if extra:
        raise GitbenchError(f"{len(extra)} {noun}s have no reference (first: {extra[0]}): leave them out")
