"""Metrics, each score with its signature: captions by BLEU, METEOR, ROUGE-L, CIDEr, SPICE, SPIDEr; on `scenes` by SceneF1
and the false share of what they say; answers by VQA accuracy and exact match.

One file a metric family, which computes it and words its signature: `bleu`, `rouge` and `cider` (on one preparation,
`compare` and `ngrams`), `meteor`, `spice`, `scene_graph`, `hallucination`, and `diversity`, which describes; `registered`
holds metrics of one's own. `captions` runs them all, `guards` says where scores mislead,
`aggregate` turns stored per-image values back into corpus scores without Java; `answers` (with `vqa`) scores the answers
of the other tasks. No torch here.
"""

from gitbench.metrics.aggregate import aggregate, from_totals, statistics
from gitbench.metrics.answers import answer_ceiling, score_answers
from gitbench.metrics.captions import CaptionScorer, leave_one_out
from gitbench.metrics.registered import register

__all__ = [
    "CaptionScorer",
    "aggregate",
    "answer_ceiling",
    "from_totals",
    "leave_one_out",
    "register",
    "score_answers",
    "statistics",
]
