"""The caption scorer as a whole: equal to pycocoevalcap, aligned whatever the captions hold, METEOR and plugins among it."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest

from gitbench import metric_info
from gitbench.bench.scoring import ALL, peer_scores
from gitbench.errors import GitbenchError
from gitbench.metric_info import display_name, lower_is_better, ordered, unit
from gitbench.metrics import CaptionScorer, aggregate, from_totals, leave_one_out, register, registered, statistics
from gitbench.metrics.java import java_home, java_version

REFERENCES = {
    "b": ["A brown dog runs across the lawn.", "The dog is running on grass!", "a dog: fast, and happy"],
    "a": ["Two men (in hats) play soccer", "Men playing football near St. Mary's church.", "two guys with a ball"],
    "c": ['A sign that says "STOP" at a corner', "the red stop-sign isn't lit", "A stop sign..."],
    "d": ["An airplane flies over the mountains", "a plane in the blue sky", "a jet above some hills"],
}
PREDICTIONS = {
    "a": "two men playing soccer in a field",
    "b": "A dog runs on the grass.",
    "c": 'a red sign says "stop"',
    "d": "a bird sits on a branch",
}

# For METEOR: the score of each as pycocoevalcap 1.2's own wrapper gives it (with "|||" taken out of the reference, too).
METEOR_CAPTIONS = {
    "perfect": ("A brown dog runs across the lawn.", 1.0, ["a brown dog runs across the lawn", "the dog is running"]),
    "stems": (
        "two mans played ||| soccer in a field",
        0.32371001889116274,
        ["two men play soccer", "men playing football near a church", "two guys with a ball"],
    ),
    "synonyms": (
        "a auto parked near the ocean",
        0.21742248060153352,
        ["an automobile is parked by the sea", "a car at the beach"],
    ),
    "scrambled": (
        "on the street the corner of sign red is",
        0.4254621458199651,
        ["the red sign is on the corner of the street", "a stop sign ||| here"],
    ),
    "nothing": ("zebra", 0.0, ["an airplane flies over the mountains"]),
    "empty": ("", 0.0, ["a cat sleeps"]),
}
METEOR_PREDICTIONS = {image: entry[0] for image, entry in METEOR_CAPTIONS.items()}
METEOR_REFERENCES = {image: entry[2] for image, entry in METEOR_CAPTIONS.items()}


@pytest.fixture(scope="module")
def scorer():
    """A scorer whose one tokenizer serves all calls and ends with the block."""
    with CaptionScorer(meteor=False, spice=False) as made:
        made.score({"a": "a dog"}, {"a": ["a dog"]})
        process = made.tokenizer.process
        yield made
        assert made.tokenizer.process is process and process.poll() is None
    assert process.poll() is not None


@pytest.fixture(scope="module")
def scores(scorer):
    return scorer.score(PREDICTIONS, REFERENCES)


# What METEOR's process says of each, its 23 statistics; see `test_a_real_meteor_equals_pycocoevalcap`.
METEOR_TABLE = pd.DataFrame(
    {
        "meteor_stats": [
            "7 7 2 2 5 5 2 2 0 0 0 0 0 0 0 0 0 0 0 0 1 7 7",
            "10 4 3 1 1 1 1 1 1 1 0 0 1 1 0 0 0 0 0 0 2 4 4",
            "6 7 2 4 1 1 1 1 0 0 0 0 1 1 0 0 0 0 0 0 2 3 3",
            "9 10 5 6 4 4 5 5 0 0 0 0 0 0 0 0 0 0 0 0 6 9 9",
            "1 6 0 3 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
            "0 3 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
        ]
    }
)
METEOR_EACH, METEOR_CORPUS = [100 * entry[1] for entry in METEOR_CAPTIONS.values()], 31.179268085734638


def test_scores_equal_pycocoevalcap(scores, monkeypatch):
    """Its tokenizer and scorers, running the Java that we use."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    monkeypatch.setenv("PATH", str(java_home() / "bin"), prepend=os.pathsep)
    references = {image: [{"caption": text} for text in refs] for image, refs in REFERENCES.items()}
    predictions = {image: [{"caption": PREDICTIONS[image]}] for image in REFERENCES}
    tokenized = [list(PTBTokenizer().tokenize(texts).values()) for texts in (predictions, references)]
    cider, bleu, _, rouge = peer_scores(ALL, [texts[0] for texts in tokenized[0]], tokenized[1])
    for order, value in enumerate(bleu, start=1):
        assert scores.values[f"BLEU-{order}"].value == pytest.approx(100 * value, abs=1e-9)
    assert scores.values["CIDEr"].value > 10  # the papers' scale, and not all zero
    assert list(scores.per_image["image_id"]) == list(REFERENCES)
    for name, each in (("CIDEr", cider), ("ROUGE-L", rouge)):
        assert scores.values[name].value == pytest.approx(100 * each.mean(), abs=1e-9)
        np.testing.assert_allclose(scores.per_image[name], 100 * each, atol=1e-9)


def test_meteor_from_its_statistics_equals_pycocoevalcap():
    rows = statistics(METEOR_TABLE, "METEOR")
    np.testing.assert_allclose([from_totals(row, "METEOR") for row in rows], METEOR_EACH, atol=1e-9)
    assert aggregate(METEOR_TABLE, "METEOR") == pytest.approx(METEOR_CORPUS, abs=1e-9)


@pytest.mark.slow
def test_a_real_meteor_equals_pycocoevalcap():
    """It reads its table for seconds; one process serves all calls and ends with the block."""
    with CaptionScorer(spice=False, timeout=120) as scorer:
        found = scorer.score(METEOR_PREDICTIONS, METEOR_REFERENCES)
        process = scorer.meteor.process
        rows = [0, 0, 1, 2]
        images = {str(place): found.per_image["image_id"][row] for place, row in enumerate(rows)}
        corpus = scorer.score(
            {copy: METEOR_PREDICTIONS[image] for copy, image in images.items()},
            {copy: METEOR_REFERENCES[image] for copy, image in images.items()},
        )
        assert scorer.meteor.process is process and process.poll() is None
    assert process.poll() is not None
    np.testing.assert_allclose(found.per_image["METEOR"], METEOR_EACH, atol=1e-9)
    assert found.values["METEOR"].value == pytest.approx(METEOR_CORPUS, abs=1e-9)
    assert found.values["METEOR"].signature.startswith("METEOR-1.5|params:en-rank-norm|lib:pycocoevalcap-1.2|")
    np.testing.assert_array_equal(statistics(found.per_image, "METEOR"), statistics(METEOR_TABLE, "METEOR"))
    resampled = from_totals(statistics(METEOR_TABLE, "METEOR")[rows].sum(0), "METEOR")
    assert resampled == pytest.approx(corpus.values["METEOR"].value, abs=1e-9)


@pytest.mark.parametrize("metric", ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "CIDEr", "ROUGE-L"])
def test_aggregate_gives_the_corpus_score_back(scores, metric):
    assert aggregate(scores.per_image, metric) == pytest.approx(scores.values[metric].value, abs=1e-9)


def test_bleu_of_a_resample_is_that_of_the_resampled_corpus(scorer, scores):
    images = {str(place): scores.per_image["image_id"][row] for place, row in enumerate([0, 0, 2])}
    corpus = scorer.score(
        {copy: PREDICTIONS[image] for copy, image in images.items()},
        {copy: REFERENCES[image] for copy, image in images.items()},
    )
    for metric in ("BLEU-1", "BLEU-4"):
        resampled = from_totals(statistics(scores.per_image, metric)[[0, 0, 2]].sum(0), metric)
        assert resampled == pytest.approx(corpus.values[metric].value, abs=1e-9)


def test_aggregate_skips_the_undefined_and_names_what_is_missing(scores):
    table = pd.DataFrame({"image_id": ["a", "b", "c"], "SPICE": [10.0, np.nan, 30.0]})
    assert aggregate(table, "SPICE") == 20.0
    with pytest.raises(GitbenchError, match="did you mean 'CIDEr'"):
        aggregate(scores.per_image, "CIDER")
    with pytest.raises(GitbenchError, match="meteor_stats"):
        aggregate(scores.per_image, "METEOR")


def test_line_separators_do_not_shift_captions(scorer, scores):
    """Every separator inside a caption; the scores of the other images must not move."""
    nasty = dict(PREDICTIONS, b="A dog\rruns\u2028on\u2029the\x0bgrass\x0c.\x85\r\n\n")
    references = {image: [text.replace(" ", "\r\n", 1) for text in refs] for image, refs in REFERENCES.items()}
    again = scorer.score(nasty, references)
    pd.testing.assert_frame_equal(again.per_image, scores.per_image)


def test_empty_captions_score_zero_and_keep_their_place(scorer):
    result = scorer.score(dict(PREDICTIONS, a="", d="  \n ", b="..."), REFERENCES)
    table = result.per_image.set_index("image_id")
    for image in ("a", "b", "d"):
        assert table.loc[image, "CIDEr"] == table.loc[image, "ROUGE-L"] == table.loc[image, "bleu_guess_len"] == 0
    assert table.loc["c", "CIDEr"] > 0
    nothing = scorer.score(dict.fromkeys(PREDICTIONS, ""), REFERENCES)
    assert [nothing.values[name].value for name in ("CIDEr", "ROUGE-L")] == [0, 0]
    assert nothing.values["BLEU-4"].value == pytest.approx(0, abs=1e-6)
    empty_reference = scorer.score({"a": "", "b": "a dog"}, {"a": ["..."], "b": ["a dog"]})
    assert list(empty_reference.per_image["ROUGE-L"]) == [0, 100]


def test_signatures_say_how_a_score_was_made_and_absent_metrics_have_reasons(scores, scorer):
    assert scores.values["CIDEr"].signature == (
        f"CIDEr-D|lib:pycocoevalcap-1.2|tok:ptb-stanford-3.4.1|java:{java_version()}|n:4|refs:3|scale:100"
    )
    assert scores.values["BLEU-4"].signature.startswith("BLEU-4|eff:closest|lib:pycocoevalcap-1.2|")
    uneven = scorer.score(PREDICTIONS, dict(REFERENCES, a=["two men"]))
    assert "|n:4|refs:1-3|" in uneven.values["ROUGE-L"].signature
    assert set(scores.absent) == {"METEOR", "SPICE", "SceneF1"} and all(scores.absent.values())


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ({image: "a dog" for image in "abd"}, REFERENCES, r"1 of 4 .*first: c"),
        (PREDICTIONS, dict(REFERENCES, a=[]), "image a needs a list"),
    ],
)
def test_what_cannot_be_scored_as_a_whole_is_refused(scorer, predictions, references, message):
    with pytest.raises(GitbenchError, match=message):
        scorer.score(predictions, references)


def test_leave_one_out_rotates_drops_single_references_and_gives_a_ceiling_that_says_so(scorer):
    chosen, rest = leave_one_out({"a": ["a0", "a1"], "b": ["b0", "b1", "b2"], "c": ["c0"], "d": ["d0", "d1"]})
    assert chosen == {"a": "a0", "b": "b1", "d": "d1"}
    assert rest == {"a": ["a1"], "b": ["b0", "b2"], "d": ["d0"]}
    with pytest.raises(GitbenchError, match="no image has two references"):
        leave_one_out({"a": ["a0"]})
    each_other = scorer.ceiling(REFERENCES)
    assert each_other.values["CIDEr"].value == scorer.score(*leave_one_out(REFERENCES)).values["CIDEr"].value
    assert each_other.values["CIDEr"].signature.endswith("|n:4|refs:2|ceiling:leave-one-out|scale:100")
    perfect = scorer.ceiling(REFERENCES, candidates={image: refs[0] for image, refs in REFERENCES.items()})
    assert perfect.values["ROUGE-L"].value == pytest.approx(100)
    assert "|refs:3|ceiling:candidates|" in perfect.values["BLEU-4"].signature


def test_references_are_tokenized_once(scorer, monkeypatch):
    calls = []
    real = scorer.tokenizer.tokenize
    monkeypatch.setattr(scorer.tokenizer, "tokenize", lambda texts: calls.append(len(texts)) or real(texts))
    references, predictions = dict(REFERENCES, e=["a new set of references"]), dict(PREDICTIONS, e="a set")
    first = scorer.score(predictions, references)
    second = scorer.score(predictions, references)
    assert calls == [13, 5, 5]
    pd.testing.assert_frame_equal(first.per_image, second.per_image)


def count_words(predictions, references):
    counts = {image: float(len(text.split())) for image, text in predictions.items()}
    return sum(counts.values()) / len(counts), counts


@pytest.fixture
def plugin(monkeypatch):
    """Register metrics that are forgotten after the test."""
    monkeypatch.setattr(registered, "_REGISTERED", {})
    monkeypatch.setattr(metric_info, "SCORES", list(metric_info.SCORES))
    for name in ("_UNITS", "_NAMES", "_LOWER_IS_BETTER"):
        monkeypatch.setattr(metric_info, name, getattr(metric_info, name).copy())
    return register


def test_a_metric_of_ones_own_is_scored_beside_the_others(plugin, scorer, scores):
    plugin("Words", count_words, unit="words", lower_is_better=True, label="words a caption")
    found = scorer.score(PREDICTIONS, REFERENCES)
    assert (
        dict(zip(found.per_image["image_id"], found.per_image["Words"], strict=True)) == count_words(PREDICTIONS, {})[1]
    )
    assert found.values["Words"].value == 6 == aggregate(found.per_image, "Words")
    assert found.values["Words"].signature == f"Words|plugin:{__name__}|unit:words|n:4|refs:3"
    pd.testing.assert_frame_equal(found.per_image.drop(columns="Words"), scores.per_image)
    assert "Words" in metric_info.SCORES and unit("Words") == "words" and lower_is_better("Words")
    assert display_name("Words") == "words a caption" and ordered(["Words", "test_nll", "CIDEr"])[-1] == "Words"
    plugin("Words", lambda predictions, references: (2.0, [1, 2, 3, float("nan")]))
    again = scorer.score(PREDICTIONS, REFERENCES)
    assert again.values["Words"].value == 2 and "|undefined:1|" in again.values["Words"].signature
    assert unit("Words") == "points" and not lower_is_better("Words")


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (lambda predictions, references: 1 / 0, "ZeroDivisionError"),
        (lambda predictions, references: (1.0, {"a": 1.0}), "KeyError"),
        (lambda predictions, references: (1.0, [[1.0, 2.0]] * 4), "TypeError"),
        (lambda predictions, references: (5.0, [1.0] * 4), "mean of its per-image values"),
    ],
)
def test_a_plugin_that_fails_is_absent_and_the_others_stand(plugin, scorer, scores, metric, reason):
    plugin("Odd", metric)
    found = scorer.score(PREDICTIONS, REFERENCES)
    assert reason in found.absent["Odd"] and found.values == scores.values and "Odd" not in found.per_image


@pytest.mark.parametrize(
    "name", ["CIDEr", "seconds", "nll", "bleu_guess_1", "SceneF1-recall", "objects_said", "distinct-1"]
)
def test_a_plugin_takes_no_name_of_gitbenchs_own(plugin, name):
    with pytest.raises(GitbenchError, match="another name"):
        plugin(name, count_words)
    assert metric_info.SCORES.count(name) == (name == "CIDEr")
