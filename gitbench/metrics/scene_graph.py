"""Scene-graph F1 on `scenes`: does a caption say the right things, whatever its words?

SPICE (Anderson et al. 2016) estimates this on natural images with a dependency parser. In the embedded world it is
exact: a caption is parsed into facts (an object; an object's attribute; a relation between two objects) and compared,
as sets, with the facts that the reference captions state between them. The references' union is the target, as in
SPICE, and not the whole scene, of which no caption lists everything. A single caption cannot reach full recall against
the union, so read the score beside the ceiling (a fresh caption of the same grammar, `CaptionScorer.ceiling`).

SceneF1              F1 over all facts; -precision and -recall are its two sides
SceneF1-objects      F1 over (object)
SceneF1-attributes   F1 over (object, kind, value), counts and the background among them
SceneF1-relations    F1 over (object, relation, object)
SceneF1-truth        the share of the caption's facts that hold in the scene itself, mentioned by a reference or not

All are means over images of per-image values. A caption that says nothing scores 0. An image where neither caption
nor references state a fact of a kind has no value (NaN) for that kind and is left out of its mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from functools import lru_cache

import numpy as np

from gitbench.data.scenes.graph import SceneGraph
from gitbench.data.scenes.parse import parse_caption
from gitbench.metrics.base import Scores

KINDS = ("objects", "attributes", "relations")
SCENE_METRICS = (
    "SceneF1",
    *(f"SceneF1-{kind}" for kind in KINDS),
    "SceneF1-precision",
    "SceneF1-recall",
    "SceneF1-truth",
)

_REMEMBERED = 2**14  # captions whose facts are kept: the references of a study's test set, parsed once for all its runs


def add_scene_graph(
    scores: Scores,
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    graphs: Sequence[SceneGraph],
) -> None:
    """Add all of SCENE_METRICS, from raw (not tokenized) captions."""
    rows = [scene_scores(*row) for row in zip(captions, references, graphs, strict=True)]
    for name in SCENE_METRICS:
        target = "scene" if name.endswith("-truth") else "references"
        scores.add_mean(name, np.array([row[name] for row in rows], dtype=float), name, ptb=False, target=target)


def scene_scores(caption: str, references: Sequence[str], graph: SceneGraph) -> dict[str, float]:
    """Score one raw (not tokenized) caption; returns a fraction, or NaN where undefined, for each of SCENE_METRICS."""
    said, stated = facts_said(caption), [facts_said(reference) for reference in references]
    target = {kind: frozenset[tuple[str, ...]]().union(*(facts[kind] for facts in stated)) for kind in KINDS}
    said_all, target_all, true_all = _all(said), _all(target), _all(graph.facts())
    common = len(said_all & target_all)
    return {
        "SceneF1": _f1(said_all, target_all, empty=0.0),
        **{f"SceneF1-{kind}": _f1(said[kind], target[kind], empty=float("nan")) for kind in KINDS},
        "SceneF1-precision": _share(common, len(said_all)),
        "SceneF1-recall": _share(common, len(target_all)),
        "SceneF1-truth": _share(len(said_all & true_all), len(said_all)),
    }


@lru_cache(maxsize=_REMEMBERED)
def facts_said(caption: str) -> dict[str, frozenset[tuple[str, ...]]]:
    """Return what a caption states, by kind."""
    return {kind: frozenset(facts) for kind, facts in parse_caption(caption).facts().items()}


def _all(facts: Mapping[str, Set[tuple[str, ...]]]) -> set[tuple[str, ...]]:
    """Join the kinds: a tuple's kind goes first, so that facts of different kinds never coincide."""
    return {(kind, *fact) for kind in KINDS for fact in facts[kind]}


def _f1(said: Set[tuple[str, ...]], target: Set[tuple[str, ...]], *, empty: float) -> float:
    total = len(said) + len(target)
    return 2 * len(said & target) / total if total else empty


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
