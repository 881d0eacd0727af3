"""The lines that stand beside scores that mislead, and none where nothing is wrong."""

from __future__ import annotations

import pytest

from gitbench.metrics import CaptionScorer
from gitbench.metrics.guards import FEW_IMAGES, caption_warnings, margin_warnings


def captions(count: int, distinct: int) -> dict[str, str]:
    return {str(image): f"a dog number {image % distinct}" for image in range(count)}


def test_captions_of_their_own_on_enough_images_give_no_line():
    assert caption_warnings(captions(FEW_IMAGES, FEW_IMAGES)) == []
    assert caption_warnings(captions(500, 100)) == []  # exactly at the share
    assert caption_warnings(captions(2000, 150)) == []  # the share is of 500 images, however many there are


def test_the_same_caption_and_few_distinct_ones_are_flagged_with_their_share():
    (line,) = caption_warnings(dict.fromkeys(map(str, range(300)), "A  dog") | {"0": "a dog "})
    assert line.startswith('the same caption for all 300 images ("a dog")')
    (line,) = caption_warnings(captions(500, 99))
    assert line.startswith("99 distinct captions for 500 images, 20 % (flagged below 20 %)")
    assert caption_warnings(captions(2000, 99)) == [line]
    assert caption_warnings(captions(500, 495) | {"7": "", "8": " "}) == ["empty captions, 2 of 500, which score 0"]


def test_one_image_is_named_as_the_cause_of_a_cider_of_zero():
    with CaptionScorer(meteor=False, spice=False) as scorer:
        one = scorer.score({"a": "a red dog"}, {"a": ["a red dog"]}).values["CIDEr"].value
    (line,) = caption_warnings({"a": "a red dog"})
    assert one == 0.0 and "CIDEr of a single image is 0.0" in line and "log(1) = 0" in line
    (line,) = caption_warnings(captions(FEW_IMAGES - 1, FEW_IMAGES - 1))
    assert line.startswith("CIDEr of 99 images is not comparable")


def test_other_scores_that_mean_nothing_name_their_cause():
    """Alike references of all images weigh nothing, and no caption of two words holds a longer n-gram."""
    with CaptionScorer(meteor=False, spice=False) as scorer:
        alike = scorer.score({"a": "a red dog runs", "b": "no"}, {"a": ["a red dog runs"], "b": ["a red dog runs"]})
        short = scorer.score({"a": "red dog", "b": "a cat sat"}, {"a": ["red dog"], "b": ["cat"]})
        usual = scorer.score({"a": "a red dog runs", "b": "no"}, {"a": ["a red dog runs"], "b": ["a cat sits down"]})
    assert alike.values["CIDEr"].value == 0.0 and alike.warnings[-1].startswith(
        "CIDEr is 0.0 whatever the captions say"
    )
    assert short.warnings[-1].startswith(
        "BLEU-3 and BLEU-4: next to 0 whatever the words are, since the longest reference"
    )
    assert [line.split()[0] for line in usual.warnings] == ["CIDEr"]  # that two images are few


def test_images_too_few_for_a_margin_are_named_with_how_many_would_do():
    error = 1.005  # over 100 images: +- 1.994
    assert margin_warnings(error, 100, 2.0, "claim") == []
    (line,) = margin_warnings(error, 100, 1.0, "larger-no-better")
    assert line.startswith("100 test images are too few for the margin of larger-no-better: over images alone")
    assert "± 1.99 and the margin 1.00; it would take about 398 images" in line
    assert margin_warnings(error / 2, 400, 1.0, "claim") == []  # the estimate is true


@pytest.mark.parametrize(("images", "margin"), [(1, 1.0), (2, 0.0)])
def test_without_a_margin_or_an_interval_nothing_is_said(images, margin):
    assert margin_warnings(5.0, images, margin, "claim") == []
