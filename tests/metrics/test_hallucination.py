"""What captions of scenes say and is not there, and how varied captions are: values by hand."""

from __future__ import annotations

import pytest
from test_metrics_scenes import GRAPH  # a small red circle left of a blue striped star, on gray

from gitbench.ablations import load_ablation
from gitbench.metric_info import DESCRIPTIVE, SCORES, lower_is_better, unit
from gitbench.metrics import CaptionScorer, aggregate, statistics
from gitbench.metrics.aggregate import SHARES
from gitbench.metrics.diversity import diversity
from gitbench.metrics.hallucination import false_facts
from gitbench.spec import FALSE_SHARES

# caption -> (false, said) of objects, attributes, relations; "a" is a count of 1, and a star has no size that is said
SAID = {
    "a small red circle left of a blue striped star": ((0, 2), (0, 6), (0, 1)),
    "a red heart above a blue star": ((1, 2), (2, 4), (1, 1)),  # no heart: its count and colour are false as well
    "a green circle": ((0, 1), (1, 2), (0, 0)),
    "two circles right of a star": ((0, 2), (1, 2), (1, 1)),
    "colourless ideas sleep": ((0, 0), (0, 0), (0, 0)),
}


@pytest.mark.parametrize("caption", SAID)
def test_facts_that_are_said_and_not_there(caption):
    found = false_facts(caption, GRAPH)
    pairs = [(found[false], found[said]) for false, said in SHARES.values()]
    assert tuple(pairs) == SAID[caption]


def test_chair_and_the_other_shares_by_hand_and_again_from_the_images():
    captions = {str(place): caption for place, caption in enumerate(SAID)}
    references, graphs = dict.fromkeys(captions, ["a circle"]), dict.fromkeys(captions, GRAPH)
    with CaptionScorer(meteor=False, spice=False) as scorer:
        found = scorer.score(captions, references, graphs)
        silent = scorer.score(dict.fromkeys("ab", ""), dict.fromkeys("ab", ["a circle"]), dict.fromkeys("ab", GRAPH))
    by_hand = {"CHAIRs": 1 / 5, "CHAIRi": 1 / 7, "false-attributes": 4 / 14, "false-relations": 2 / 3}
    for name, share in by_hand.items():
        assert found.values[name].value == pytest.approx(100 * share)
        assert aggregate(found.per_image, name) == pytest.approx(100 * share)
        assert aggregate(found.per_image.iloc[[0, 2]], name) == pytest.approx(25 / 2 if "attr" in name else 0)
        assert lower_is_better(name) and name in SCORES
    assert set(by_hand) == set(FALSE_SHARES) and set(SHARES) < set(FALSE_SHARES)
    assert statistics(found.per_image, "CHAIRi").tolist() == [list(map(float, SAID[each][0])) for each in SAID]
    assert found.values["CHAIRi"].signature.startswith("CHAIRi|truth:scene|lib:gitbench-")
    assert found.values["CHAIRi"].signature.endswith("|n:5|refs:1|scale:100")
    assert (
        [silent.values[name].value for name in by_hand] == [0] * 4 == [aggregate(silent.per_image, n) for n in by_hand]
    )


def test_diversity_by_hand():
    found = diversity(["a red dog", "a red dog", "a cat", ""])  # 8 words: a x 3, red x 2, dog x 2, cat
    expected = {"distinct-captions": 3 / 4, "distinct-1": 4 / 8, "distinct-2": 3 / 8, "vocabulary": 4.0}
    assert found == expected and tuple(found) == DESCRIPTIVE
    assert diversity(["", ""]) == {"distinct-captions": 0.5, "distinct-1": 0.0, "distinct-2": 0.0, "vocabulary": 0.0}


def test_diversity_describes_tokenized_captions_and_no_claim_is_about_it():
    captions = {"a": "A red dog.", "b": "a red dog", "c": "a cat!"}
    with CaptionScorer(meteor=False, spice=False) as scorer:
        found = scorer.score(captions, dict.fromkeys(captions, ["a dog"]))
    values = {name: found.values[name].value for name in DESCRIPTIVE}
    assert values == pytest.approx(
        {"distinct-captions": 200 / 3, "distinct-1": 50.0, "distinct-2": 300 / 8, "vocabulary": 4.0}
    )
    assert "|tok:ptb-stanford-3.4.1|" in found.values["distinct-2"].signature and unit("vocabulary") == "words"
    assert not set(DESCRIPTIVE) & {*SCORES, *found.per_image}
    assert all(claim.metric not in DESCRIPTIVE for claim in load_ablation("decoder_size").claims)
