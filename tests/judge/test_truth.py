"""Planted truths, end to end: from runs that are trained here, through scores and judge, to the report.

On `scenes` an arm must learn for a minute or more to leave the blind floor, so that study is a session of its own
(`nox -s truth`, the cpu profile). Here a world that is learned in seconds stands in for it: stripes whose direction and
width the captions tell, in noise. Blurred by 16 pixels they are plain grey. The ablation file is the same.
"""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from gitbench.commands.publish import publish
from gitbench.judge.truth import main, outcomes, truth_of
from helpers_data import write_parquet
from helpers_model import pictures, tiny
from helpers_study import tiny_profile
from PIL import Image

from gitbench.ablations import load_ablation
from gitbench.errors import GitbenchError
from gitbench.files import resource
from gitbench.launch.scheduling import launch
from gitbench.models.git import blurred
from gitbench.run_key import canonical
from gitbench.study.plan import make_plan
from gitbench.variants import resolve
from gitbench.variants.vision import VisionSpec

TRUTH_FILE = resource("ablations") / "_truth.py"
DIRECTIONS = {"lying": (0, 1), "upright": (1, 0), "rising": (1, 1), "falling": (1, -1)}
WIDTHS = {"thin": 6, "broad": 14}  # pixels from stripe to stripe


def stripes(number: int) -> dict:
    """Return a row: 64 pixels of stripes under noise, and three captions."""
    rng = np.random.default_rng(number)
    direction, width = (str(rng.choice(list(each))) for each in (DIRECTIONS, WIDTHS))
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    a, b = DIRECTIONS[direction]
    along = (a * x + b * y) / np.hypot(a, b)
    grey = 128 + 60 * np.sin(2 * np.pi * (along / WIDTHS[width] + rng.random())) + rng.normal(0, 50, (64, 64))
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, 2)).save(buffer, "PNG")
    captions = [f"a {what} of {width} {direction} stripes" for what in ("picture", "photo", "drawing")]
    return {"image": {"bytes": buffer.getvalue(), "path": None}, "captions": captions, "image_id": str(number)}


def stripe_world(folder: Path, train: int = 400, test: int = 60) -> Path:
    ends = {"train": range(train), "val": range(train, train + 8), "test": range(train + 8, train + 8 + test)}
    for split, numbers in ends.items():
        write_parquet(folder / f"{split}.parquet", [stripes(number) for number in numbers])
    return folder


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[Path, Path]:
    """The planted ablation on stripes, four seeds, trained and reported: (work directory, report)."""
    folder = tmp_path_factory.mktemp("truth")
    data = stripe_world(folder / "stripes")
    profile = tiny_profile(
        iterations=100, batch_images=8, captions_per_image=2, lr_encoder=1e-3, lr_decoder=3e-3, warmup=10, betas=(0.9, 0.98)
    )  # fmt: skip
    profile = dataclasses.replace(
        profile,
        encoder="vit_1x64_p8_64",
        decoder="self_1x64",
        data=dataclasses.replace(profile.data, train_images=None, val_images=None, test_images=None),
        evaluate=dataclasses.replace(profile.evaluate, beam_size=1),
        replicates=4,
    )
    ablation = load_ablation(str(TRUTH_FILE))
    # captions of so easy a world may be equal to the letter, their likelihood is not: judge that too
    more = [
        dataclasses.replace(claim, name=f"{claim.name}-nll", metric="test_nll", margin=0.05, margin_unit="metric")
        for claim in ablation.claims
    ]
    ablation = dataclasses.replace(ablation, claims=(*ablation.claims, *more))
    plan = make_plan(ablation, profile, str(data), folder / "work")
    outcome = launch(plan, "gitbench run ablations/_truth.py", plain=True)
    assert outcome.completed == 16 and not outcome.failed  # the twin shares the runs of the sighted
    return folder / "work", publish(folder / "work", plan.study, folder / "report")


@pytest.mark.timeout(600)
def test_the_verdicts_are_those_that_were_planted(planted):
    found = {each.claim: each for each in outcomes(truth_of(TRUTH_FILE), planted[1])}
    for name in ("sight-helps", "blur-helps", "twin-alike"):
        assert found[name].right, found[name]
    assert found["sight-helps"].difference == -found["blur-helps"].difference > 100
    # of an effect of nought the captions may be equal to the letter
    assert found["unharmed-alike"].right or found["unharmed-alike"].word.startswith("NOT TESTABLE")
    assert found["unharmed-helps"].word != "SUPPORTED"


def test_so_are_those_of_the_likelihood_where_nought_is_measured_as_nearly_nought(planted):
    truth = {f"{name}-nll": words for name, words in truth_of(TRUTH_FILE).items()}
    found = {each.claim: each for each in outcomes(truth, planted[1])}
    assert {each.claim: each.word for each in found.values()} == {
        "sight-helps-nll": "SUPPORTED",
        "blur-helps-nll": "REFUTED",
        "unharmed-alike-nll": "SUPPORTED",
        "unharmed-helps-nll": "REFUTED",
        "twin-alike-nll": "NOT TESTABLE AT THIS SCALE",
    }
    assert 0 < abs(found["unharmed-alike-nll"].difference) < 0.05 < abs(found["sight-helps-nll"].difference)
    assert "share their runs" in found["twin-alike-nll"].reason


def test_the_report_says_so(planted):
    page = (planted[1] / "report.html").read_text(encoding="utf-8")
    assert "SUPPORTED" in page and "REFUTED" in page and "NOT TESTABLE AT THIS SCALE" in page
    table = pd.read_csv(planted[1] / "table.csv")
    assert {"sighted", "blurred", "unharmed", "twin", "blind"} <= set(table.iloc[:, 0]) | set(table["arm"])


# ---- what is planted --------------------------------------------------------------------------------------------


def test_a_wrong_verdict_is_told(tmp_path, capsys):
    def report(word: str) -> int:
        verdicts = [
            {
                "claim": {"name": name},
                "word": words[0],
                "difference": 1.0,
                "interval": [0.0, 2.0],
                "n": 5,
                "reason": "r",
            }
            for name, words in truth_of(TRUTH_FILE).items()
        ]
        verdicts[0]["word"] = word
        (tmp_path / "verdicts.json").write_text(json.dumps({"verdicts": verdicts}))
        return main([str(TRUTH_FILE), str(tmp_path)])

    assert report("SUPPORTED") == 0 and "WRONG" not in capsys.readouterr().out
    assert report("REFUTED") == 1 and "sight-helps: REFUTED (WRONG: may be SUPPORTED)" in capsys.readouterr().out
    (tmp_path / "verdicts.json").write_text(json.dumps({"verdicts": []}))
    assert main([str(TRUTH_FILE), str(tmp_path)]) == 2 and "no verdict on" in capsys.readouterr().err
    assert main([str(resource("ablations") / "decoder_size.py"), str(tmp_path)]) == 2
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


def test_the_blur_enters_a_run_key_only_where_there_is_one(tmp_path):
    plan = make_plan(load_ablation(str(TRUTH_FILE)), tiny_profile(), "scenes", tmp_path)
    by_arm = {run.arm.name: run for run in plan.runs}
    assert canonical(by_arm["sighted"].spec)["vision"] == {"blind": False}
    assert canonical(by_arm["blurred"].spec)["vision"] == {"blind": False, "blur": 16.0}
    assert by_arm["twin"].key == by_arm["sighted"].key
    assert len({by_arm[name].key for name in ("sighted", "blurred", "unharmed", "blind")}) == 4
    assert resolve("vision", "unharmed").blur == 0.25
