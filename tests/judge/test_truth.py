"""Planted truths, end to end: from runs that are trained here, through scores and judge, to the report.

On `scenes` an arm must learn for a minute or more to leave the blind floor, so that study is a session of its own
(`nox -s truth`, the cpu profile). Here a world that is learned in seconds stands in for it: stripes whose direction and
width the captions tell, in noise. Blurred by 16 pixels they are plain grey. The ablation file is the same.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers_model import pictures, tiny
from helpers_study import make_study, run_of, tiny_profile
from helpers_tools import load_tool
from PIL import Image

from gitbench.ablations import load_ablation
from gitbench.commands.report import make_report
from gitbench.errors import GitbenchError
from gitbench.files import resource, write_json
from gitbench.launch.scheduling import launch
from gitbench.models.git import blurred
from gitbench.study.store import Study
from gitbench.variants.vision import VisionSpec

tool = load_tool("truth")
TRUTH_FILE = resource("ablations") / "_truth.py"
TRUTH = tool.truth_of(TRUTH_FILE)
DIRECTIONS = {"lying": (0, 1), "upright": (1, 0), "rising": (1, 1), "falling": (1, -1)}
WIDTHS = {"thin": 6, "broad": 14}  # pixels from stripe to stripe
pytestmark = pytest.mark.usefixtures("svg_alone")


def stripes(number: int) -> tuple[Image.Image, list[str]]:
    """Return 64 pixels of stripes under noise, and three captions."""
    rng = np.random.default_rng(number)
    direction, width = (str(rng.choice(list(each))) for each in (DIRECTIONS, WIDTHS))
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    a, b = DIRECTIONS[direction]
    along = (a * x + b * y) / np.hypot(a, b)
    grey = 128 + 60 * np.sin(2 * np.pi * (along / WIDTHS[width] + rng.random())) + rng.normal(0, 50, (64, 64))
    image = Image.fromarray(np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, 2))
    return image, [f"a {what} of {width} {direction} stripes" for what in ("picture", "photo", "drawing")]


def stripe_world(folder: Path, train: int = 400, test: int = 60) -> Path:
    """Write COCO's layout, which every run reads without importing `datasets`."""
    (folder / "images").mkdir(parents=True)
    ends = {"train": range(train), "val": range(train, train + 8), "test": range(train + 8, train + 8 + test)}
    for split, numbers in ends.items():
        images, notes = [], []
        for number in numbers:
            image, captions = stripes(number)
            image.save(folder / "images" / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png"})
            notes += [{"image_id": number, "caption": caption} for caption in captions]
        write_json(folder / f"{split}.json", {"images": images, "annotations": notes})
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The report of the planted ablation on stripes, four seeds."""
    folder = tmp_path_factory.mktemp("truth")
    data = stripe_world(folder / "stripes")
    recipe = {
        "iterations": 80,
        "batch_images": 8,
        "captions_per_image": 2,
        "lr_encoder": 1e-3,
        "lr_decoder": 3e-3,
    }
    profile = tiny_profile(**recipe, warmup=10, betas=(0.9, 0.98))
    profile = dataclasses.replace(
        profile,
        variants={**profile.variants, "encoder": "vit_1x64_p8_64", "decoder": "self_1x64"},
        data=dataclasses.replace(profile.data, train_images=None, val_images=None, test_images=None),
        evaluate=dataclasses.replace(profile.evaluate, beam_size=1),
        replicates=4,
    )
    ablation = load_ablation(str(TRUTH_FILE))
    # captions of so easy a world may be equal to the letter, their likelihood is not: judge that too
    more = [
        dataclasses.replace(
            claim,
            name=f"{claim.name}-nll",
            metric="test_nll",
            margin=0.05,
            margin_unit="metric",
            margin_reason="a world that is easy",
        )
        for claim in ablation.claims
    ]
    ablation = dataclasses.replace(ablation, claims=(*ablation.claims, *more))
    study = make_study(folder / "work", ablation, profile, data=str(data))
    outcome = launch(study, plain=True)
    assert outcome.completed == 16 and not outcome.failed  # the twin shares the runs of the sighted
    return make_report(Study.open(study.work_dir, study.name), folder / "report")


@pytest.mark.timeout(600)
def test_the_verdicts_are_those_that_were_planted(report):
    found = tool.verdicts_on({**TRUTH, **{f"{name}-nll": words for name, words in TRUTH.items()}}, report)
    for name in ("sight-helps", "blur-helps", "twin-alike"):
        assert found[name]["word"] in TRUTH[name], found[name]
    assert found["sight-helps"]["difference"] == -found["blur-helps"]["difference"] > 100
    # of an effect of nought the captions may be equal to the letter
    assert found["unharmed-alike"]["word"].startswith(("NOT TESTABLE", *TRUTH["unharmed-alike"]))
    assert found["unharmed-helps"]["word"] != "SUPPORTED"
    assert {name: found[f"{name}-nll"]["word"] for name in TRUTH} == {
        "sight-helps": "SUPPORTED",
        "blur-helps": "REFUTED",
        "unharmed-alike": "SUPPORTED",
        "unharmed-helps": "REFUTED",
        "twin-alike": "NOT TESTABLE AT THIS SCALE",
    }
    small, large = (abs(found[name]["difference"]) for name in ("unharmed-alike-nll", "sight-helps-nll"))
    assert 0 < small < 0.05 < large and "share their runs" in found["twin-alike-nll"]["reason"]
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "SUPPORTED" in page and "REFUTED" in page and "NOT TESTABLE AT THIS SCALE" in page
    table = pd.read_csv(report / "table.csv")
    assert {"sighted", "blurred", "unharmed", "twin", "blind"} <= set(table["arm"])


# ---- what is planted --------------------------------------------------------------------------------------------


def test_a_wrong_verdict_is_told(tmp_path, capsys):
    def told(*words: str) -> int:
        numbers = {"difference": 1.0, "n": 5, "reason": "r"}
        listed = [
            {"claim": {"name": name}, "word": word, **numbers} for name, word in zip(TRUTH, words, strict=bool(words))
        ]
        (tmp_path / "verdicts.json").write_text(json.dumps({"verdicts": listed}))
        return tool.main([str(TRUTH_FILE), str(tmp_path)])

    right = [words[0] for words in TRUTH.values()]
    assert told(*right) == 0 and "WRONG" not in capsys.readouterr().out
    assert told("REFUTED", *right[1:]) == 1
    assert "sight-helps: REFUTED (WRONG: may be SUPPORTED)" in capsys.readouterr().out
    assert told() == 2 and "no verdict on" in capsys.readouterr().err
    assert tool.main([str(resource("ablations") / "decoder_size.py"), str(tmp_path)]) == 2
    assert "plants no TRUTH" in capsys.readouterr().err


def test_blurring_is_a_gaussian_that_keeps_what_is_even():
    even = torch.full((2, 3, 16, 20), 0.7)
    torch.testing.assert_close(blurred(even, 5.0), even)
    point = torch.zeros(1, 1, 65, 65, dtype=torch.float64)
    point[0, 0, 32, 32] = 1
    spread = blurred(point, 4.0)[0, 0]
    assert spread.sum().item() == pytest.approx(1, abs=1e-3) and spread.argmax() == 32 * 65 + 32
    assert (spread[32, 36] / spread[32, 32]).item() == pytest.approx(np.exp(-0.5), rel=1e-9)  # one sigma away
    torch.testing.assert_close(spread, spread.T)
    stripes_of_8 = torch.sin(torch.arange(64) * 2 * torch.pi / 8).expand(1, 3, 64, 64)
    spoilt = blurred(stripes_of_8, 16.0).abs()
    assert spoilt[..., 20:44].max() < 0.02 and spoilt.max() < 0.1  # at the edges the Gaussian is cut off
    torch.testing.assert_close(blurred(stripes_of_8, 0.25), stripes_of_8, atol=1e-3, rtol=0)


@pytest.mark.parametrize("film", [False, True])
def test_a_model_that_sees_blurred_sees_what_blurring_gives(film):
    images = pictures(2, 2, 3, 32, 32) if film else pictures(2, 3, 32, 32)
    sharp, spoilt = tiny(), tiny(vision=VisionSpec(blur=3.0))
    torch.testing.assert_close(spoilt.encode(images), sharp.encode(blurred(images, 3.0)))
    assert not torch.allclose(spoilt.encode(images), sharp.encode(images))
    with pytest.raises(GitbenchError, match="no width of a Gaussian"):
        tiny(vision=VisionSpec(blur=-1.0))


def test_the_twin_is_the_same_run_and_the_others_are_not(tmp_path):
    study = make_study(tmp_path, load_ablation(str(TRUTH_FILE)))
    runs = {name: run_of(study, name) for name in ("sighted", "blurred", "unharmed", "blind", "twin")}
    assert runs["twin"].key == runs["sighted"].key and len({run.key for run in runs.values()}) == 4
    assert [runs[name].spec.variants["vision"].blur for name in ("sighted", "blurred", "unharmed")] == [0, 16.0, 0.25]
