"""What a scorer returns: scores with signatures, and the per-image values they were made of.

All scores are in the papers' scale, a hundred times the fraction (CIDEr 131.4, BLEU-4 40.4), and say so in their
signature. The signature follows sacrebleu's idea (Post 2018): two numbers under one name are comparable only if the
signatures agree, because tokenizer, library, number of images and number of references all move caption scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

SCALE = 100.0  # papers print caption scores times a hundred


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number for a set of captions. `value` is times 100; `signature` says how it was made."""

    name: str
    value: float
    signature: str


@dataclass(frozen=True, kw_only=True)
class Scores:
    """All scores of one set of captions.

    `per_image` has one row an image: `image_id`, a column for each metric that is a mean over images (times 100),
    and the sufficient statistics of the corpus metrics (`bleu_*`, `meteor_stats`; see `metrics.aggregate`).
    `absent` maps a metric that could not be computed to the reason and its fix.
    """

    values: dict[str, Score]
    per_image: pd.DataFrame
    absent: dict[str, str]


class MetricUnavailable(Exception):
    """One metric cannot be computed here; the text is the reason and the fix. The other metrics go on."""


def span(counts: Sequence[int]) -> str:
    """Print how many references images have: "5" where all agree, "4-5" where they do not."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low}-{high}"


def signature(metric: str, **fields: object) -> str:
    """Build a signature: the metric, then `field:value` pairs in the given order, then the scale.

    >>> signature("CIDEr-D", lib="pycocoevalcap-1.2", n=1000, refs=5)
    'CIDEr-D|lib:pycocoevalcap-1.2|n:1000|refs:5|scale:100'
    """
    parts = [metric, *(f"{name}:{value}" for name, value in fields.items() if value is not None), f"scale:{SCALE:.0f}"]
    return "|".join(parts)
