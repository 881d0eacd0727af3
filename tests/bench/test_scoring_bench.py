"""The benchmark of scoring: it times only what agrees, in pairs, on captions that are what their docstring says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gitbench.bench import corpus as corpora
from gitbench.bench import scoring
from gitbench.data.scenes.world import Scenes
from gitbench.errors import GitbenchError
from gitbench.metrics.captions import Comparison, References
from gitbench.metrics.tokenize import tokenize

WORKS = ["score-cider", "score-bleu", "score-rouge", "score-all", "score-cider-cached"]


def test_rows_of_all_scores_on_both_sets_of_captions():
    rows = scoring.scoring_rows(2, images=64)
    assert [(row.work, row.shape) for row in rows] == [
        (work, f"{'320 captions' if work == 'score-cider-cached' else '64 images'}, {name}")
        for name in ("drawn", "scenes")
        for work in WORKS
    ]
    for row in rows:
        assert (row.peer, row.device, len(row.ours_seconds), len(row.peer_seconds)) == ("pycocoevalcap", "cpu", 2, 2)
        assert row.checked.startswith("every value, the largest difference ")
        assert float(row.checked.rpartition(" ")[2]) <= 1e-9


def test_captions_of_a_data_set_are_used_instead():
    """Each image's captions, tokenized, one of them taken as the prediction."""
    source = Scenes("scenes", "train", 64)
    corpus = corpora.real("scenes", 64)
    assert [len(texts) for texts in corpus.references] == [4] * 64
    for place in (0, 1, 63):
        said = [corpus.predictions[place], *corpus.references[place]]
        assert sorted(said) == sorted(tokenize(source.example(place).captions))
    assert {row.shape for row in scoring.scoring_rows(1, 64, "scenes")} == {"64 images, scenes", "320 captions, scenes"}


def contest(ours, theirs):
    return scoring.Contest(work="score-x", shape="2 images", ours=lambda: [ours], theirs=lambda: [theirs])


def test_scores_that_differ_are_not_timed():
    fractions = np.array([0.5, 1.0])
    assert scoring.check(contest(fractions, fractions + 5e-10)) == "every value, the largest difference 5.0e-10"
    with pytest.raises(GitbenchError, match=r"score-x \(2 images\) differs from pycocoevalcap by 1e-08: nothing was"):
        scoring.check(contest(fractions, fractions + 1e-8))
    with pytest.raises(GitbenchError, match="by nan"):
        scoring.check(contest(fractions, fractions * np.nan))
    with pytest.raises(GitbenchError, match="by 1:"):
        scoring.check(contest(np.array([3, 4]), np.array([3, 5])))
    with pytest.raises(GitbenchError, match="by inf"):
        scoring.check(contest(fractions, fractions[:1]))


def test_both_programs_are_timed_in_alternating_order(monkeypatch):
    order = []
    one = dataclasses.replace(
        contest(np.zeros(1), np.zeros(1)),
        ours=lambda: order.append("ours") or [np.zeros(1)],
        theirs=lambda: order.append("theirs") or [np.zeros(1)],
    )
    scoring._measure(one, 2)
    assert order == ["ours", "theirs", "ours", "theirs", "theirs", "ours"]  # the first two are the check


def test_too_little_work_is_one_clear_line():
    for repeats, images in ((0, 100), (3, 63)):
        with pytest.raises(GitbenchError, match="at least 1 repeat and 64 images"):
            scoring.scoring_rows(repeats, images)


def test_drawn_captions_are_like_peoples():
    """Within a tenth or so of what the head of `corpus` says of 5,000 images; the same whenever they are drawn."""
    corpus = corpora.drawn(1000)
    assert corpus == corpora.drawn(1000) != corpora.drawn(1000, seed=1)
    assert [len(texts) for texts in corpus.references] == [5] * 1000
    comparison = Comparison(corpus.predictions, References(corpus.references))
    words = comparison.references.words
    assert 10.3 < words.lengths.mean() < 11.3 and 3.3 < words.lengths.std() < 4.2 and words.lengths.min() >= 3
    assert 0.10 < np.bincount(words.ids).max() / len(words.ids) < 0.14
    found = [len(comparison.walk(n).place) / len(words.ids) for n in range(1, 5)]
    np.testing.assert_allclose(found, [0.32, 0.11, 0.044, 0.018], rtol=0.2)
