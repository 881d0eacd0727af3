"""Scene-graph F1: perfect is 100, silence is 0, and each mistake costs where it was made."""

from __future__ import annotations

import math

import pytest

from gitbench.data.scenes.graph import Relation, SceneGraph, SceneObject
from gitbench.data.scenes.world import Scenes
from gitbench.metrics import CaptionScorer, aggregate
from gitbench.metrics.scene_graph import SCENE_METRICS, scene_scores

GRAPH = SceneGraph(
    objects=(
        SceneObject(shape="circle", count=1, size="small", colour="red", texture="plain", place="left"),
        SceneObject(shape="star", count=1, size="medium", colour="blue", texture="striped", place="right"),
    ),
    relations=(Relation(subject=0, predicate="left of", object=1),),
    background="gray",
)
REFERENCES = ["a red circle left of a blue star", "a blue striped star to the right of a small red circle"]
BOTH = "a small red circle left of a blue striped star"  # says what the two references say together


def scores(caption: str) -> dict[str, float]:
    return scene_scores(caption, REFERENCES, GRAPH)


@pytest.mark.parametrize(("caption", "score"), [(BOTH, 1.0), ("", 0.0), ("colourless ideas sleep", 0.0)])
def test_saying_everything_is_perfect_and_nothing_is_zero(caption, score):
    assert scores(caption) == dict.fromkeys(SCENE_METRICS, score)


def test_facts_matter_and_words_do_not():
    assert scores("a blue star with stripes right of a tiny red disc")["SceneF1"] == 1.0
    colour = scores(BOTH.replace("red", "green"))
    assert colour["SceneF1-objects"] == colour["SceneF1-relations"] == 1.0
    assert 0 < colour["SceneF1-attributes"] < 1
    assert 0 < colour["SceneF1"] < 1 and colour["SceneF1-truth"] < 1
    relation = scores(BOTH.replace("left of", "above"))
    assert relation["SceneF1-objects"] == relation["SceneF1-attributes"] == 1.0
    assert relation["SceneF1-relations"] == 0


def test_precision_recall_and_truth_are_what_they_say():
    short = scores("a red circle")
    assert short["SceneF1-precision"] == short["SceneF1-truth"] == 1.0
    assert 0 < short["SceneF1-recall"] < short["SceneF1"] < 1
    untold = scores(BOTH + " on the right")  # true, and in no reference
    assert untold["SceneF1-truth"] == 1.0
    assert untold["SceneF1-precision"] < 1 and untold["SceneF1-recall"] == 1.0
    mixed = scores("a red circle above a green heart")
    precision, recall = mixed["SceneF1-precision"], mixed["SceneF1-recall"]
    assert mixed["SceneF1"] == pytest.approx(2 * precision * recall / (precision + recall))


def test_a_kind_that_nobody_mentions_is_undefined():
    alone = scene_scores("a red circle", ["a red circle"], GRAPH)
    assert math.isnan(alone["SceneF1-relations"])
    assert alone["SceneF1"] == 1.0


def test_real_scenes_have_a_ceiling_below_perfect_and_above_a_wrong_pairing():
    """Fresh grammar captions against their own scene, and against the next one."""
    data = Scenes("scenes", "test", 40)
    examples = [data.example(place) for place in range(40)]
    references = {item.image_id: list(item.captions) for item in examples}
    graphs = {item.image_id: item.graph for item in examples}
    fresh = {item.image_id: data.ceiling_caption(place) for place, item in enumerate(examples)}
    shifted = dict(zip(references, [*list(fresh.values())[1:], next(iter(fresh.values()))], strict=True))
    with CaptionScorer(meteor=False, spice=False) as scorer:
        ceiling = scorer.ceiling(references, candidates=fresh, graphs=graphs)
        wrong = scorer.score(shifted, references, graphs)
    assert ceiling.values["SceneF1-truth"].value == pytest.approx(100)  # the grammar never lies
    assert wrong.values["SceneF1"].value < 0.6 * ceiling.values["SceneF1"].value
    assert 60 < ceiling.values["SceneF1"].value < 99
    assert "SceneF1" not in ceiling.absent
    for name in SCENE_METRICS:
        assert aggregate(ceiling.per_image, name) == pytest.approx(ceiling.values[name].value, abs=1e-9)
    made = ceiling.values["SceneF1"].signature
    assert made.startswith("SceneF1|target:references|lib:gitbench-")
    assert made.endswith("|n:40|refs:5|ceiling:candidates|scale:100")
    assert ceiling.values["SceneF1-truth"].signature.startswith("SceneF1-truth|target:scene|")
