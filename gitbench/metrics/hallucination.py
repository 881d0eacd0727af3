"""What captions of `scenes` say and is not there: exact, since every scene has its graph.

CHAIRs            the share of captions with at least one false object (Rohrbach et al. 2018)
CHAIRi            the share of objects said that are false, over all captions: a ratio of sums
false-attributes  the same of attributes (counts and the background among them)
false-relations   the same of relations

Less is better. What is said are the facts of `SceneGraph.facts`, so an object named twice in a caption counts once, and
the attribute of a false object is false too. Who says nothing says nothing false, and scores 0: read these beside SceneF1.
On photographs CHAIR takes the objects of COCO's annotations and synonyms for the truth, which these need not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gitbench.data.scenes.graph import SceneGraph
from gitbench.metrics.aggregate import SHARES, from_totals
from gitbench.metrics.base import SCALE, Scores
from gitbench.metrics.scene_graph import KINDS, facts_said

COUNT_COLUMNS = tuple(column for pair in SHARES.values() for column in pair)


def add_hallucination(scores: Scores, captions: Sequence[str], graphs: Sequence[SceneGraph]) -> None:
    """Add the four metrics, from raw (not tokenized) captions."""
    rows = [false_facts(*row) for row in zip(captions, graphs, strict=True)]
    counts = {name: np.array([row[name] for row in rows], dtype=float) for name in COUNT_COLUMNS}
    scores.columns.update(counts)
    false_objects = counts["objects_false"] > 0
    scores.add_mean("CHAIRs", false_objects.astype(float), "CHAIRs", ptb=False, truth="scene")
    for name, (false, said) in SHARES.items():
        share = from_totals([counts[false].sum(), counts[said].sum()], name) / SCALE
        scores.add(name, share, name, ptb=False, truth="scene")


def false_facts(caption: str, graph: SceneGraph) -> dict[str, int]:
    """Return COUNT_COLUMNS of one raw caption: facts of each kind that are said, and those of them that are false."""
    said, true = facts_said(caption), graph.facts()
    false = {f"{kind}_false": len(said[kind] - true[kind]) for kind in KINDS}
    return false | {f"{kind}_said": len(said[kind]) for kind in KINDS}
