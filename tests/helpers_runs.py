"""Fabricate a small, honest work directory: the files the Run layer would leave, with made-up numbers.

No training and no torch. Scores are normal draws around given means, captions and pictures are tiny.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gitbench.plan import Plan, PlannedArm, PlannedRun, Vocabulary
from gitbench.profiles import CPU
from gitbench.run_folder import RECORD_SCHEMA
from gitbench.run_key import from_json
from gitbench.spec import Claim, RunSpec
from gitbench.study.store import Study
from gitbench.variants import AXES, resolve
from gitbench.variants.decoder import DecoderSpec

CLAIM: dict[str, Any] = {
    "name": "larger-no-better",
    "kind": "not_better",
    "metric": "CIDEr",
    "treatment": "large",
    "reference": "base",
    "says": "A larger text decoder brings no improvement.",
    "quote": "a larger decoder shows no improvement",
    "where": "Table 10, p. 11",
    "confidence": "SQ",
}
SIZES = {"small": (1, 96, 120_000), "base": (2, 128, 480_000), "large": (4, 256, 3_400_000), "blind": (2, 128, 480_000)}
GAPS = {"small": 0.1, "base": 0.3, "large": 0.9, "blind": 0.0}  # nats between validation and training, of seed 0
NAME = "decoder_size.cpu.scenes"  # of the study that `make_work_dir` writes
IMAGES = 12
SIGNATURE = "CIDEr-D|pycocoevalcap:1.2|ptb|java:11|images:12|refs:5"


def run_key(arm: str, replicate: int) -> str:
    """Return the fabricated run key of an arm's replicate."""
    return hashlib.sha256(f"{arm} {replicate}".encode()).hexdigest()[:16]


def make_images() -> dict[str, np.ndarray]:
    """Return image_id -> (64, 64, 3) uint8 pictures, different from each other."""
    rows, columns = np.mgrid[0:64, 0:64]
    images = {}
    for index in range(IMAGES):
        picture = np.full((64, 64, 3), 235, np.uint8)
        inside = (rows - 20 - 2 * index) ** 2 + (columns - 32) ** 2 < (8 + index) ** 2
        picture[inside] = ((200, 40, 40), (40, 90, 200), (40, 150, 80))[index % 3]
        images[f"scenes-test-{index}"] = picture  # as scenes names them
    return images


def make_work_dir(
    folder: Path,
    *,
    means: Mapping[str, float] | None = None,
    sd: float = 2.0,
    replicates: int = 5,
    ceiling: float | None = 150.0,
    kind: str = "grammar",
    claims: tuple[Mapping[str, Any], ...] = (CLAIM,),
    better_loss: Mapping[str, float] | None = None,
    missing: tuple[tuple[str, int], ...] = (),
    overridden: tuple[tuple[str, int], ...] = (),
    seed: int = 0,
    records_only: bool = False,
) -> Path:
    """Write studies, runs and a yardstick for decoder_size, profile cpu, data scenes, and return `folder`.

    `means` gives each arm's mean CIDEr ("blind" is the floor). The loss is a line in CIDEr, that of an arm in `better_loss`
    as at so many points more. `missing` and `overridden` name (arm, replicate) pairs.
    `records_only` leaves out captions, curves and provenance, which judging does not read.
    """
    means = means or {"blind": 21.0, "small": 78.0, "base": 90.0, "large": 91.0}
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, sd, replicates)  # what the arms of one replicate have in common
    runs = [(arm, replicate) for replicate in range(replicates) for arm in means]
    plan = Plan(
        ablation="decoder_size",
        profile="cpu",
        data="scenes",
        data_fingerprint="f00d" * 4,
        command="gitbench run decoder_size --profile cpu",
        title="Decoder size",
        question="Does a larger text decoder give better captions, with everything else the same?",
        axis="decoder",
        base="base",
        claims=tuple(from_json(Claim, claim) for claim in claims),
        yardstick_key="abc123" if ceiling else None,
        vocabulary=Vocabulary(size=512, pad_id=0, bos_id=1, eos_id=2),
        arms=tuple(
            PlannedArm(
                name=arm,
                role="floor" if arm == "blind" else "arm",
                variants={"decoder": f"self_{SIZES[arm][0]}x"},
                label="never sees the image" if arm == "blind" else f"{SIZES[arm][0]} x {SIZES[arm][1]}",
            )
            for arm in means
        ),
        runs=tuple(
            PlannedRun(arm=arm, replicate=replicate, run_key=run_key(arm, replicate)) for arm, replicate in runs
        ),
    )
    Study(folder, plan).write_plan()
    if ceiling:
        _json(
            folder / "yardsticks" / "abc123.json",
            {
                "ceiling": {
                    "CIDEr": {"value": ceiling, "signature": SIGNATURE},
                    "BLEU-4": {"value": 70.0, "signature": "b"},
                },
                "kind": kind,
            },
        )
    for arm, replicate in runs:
        noise = rng.normal(0, sd)
        if (arm, replicate) in missing:
            continue
        cider = means[arm] + shared[replicate] + noise
        loss = 3 - (cider + (better_loss or {}).get(arm, 0.0)) / 50
        _write_run(folder, arm, replicate, cider, loss, (arm, replicate) in overridden, records_only)
    return folder


def _spec(arm: str, replicate: int) -> RunSpec:
    """Return the spec of a run: the cpu profile's, with the arm's decoder and few test images."""
    layers, width, _ = SIZES[arm]
    names = {axis.name: axis.default for axis in AXES.values() if axis.in_model and axis.default}
    names |= {**CPU.on_scenes, "encoder": CPU.variants["encoder"], "vision": "blind" if arm == "blind" else "sighted"}
    variants = {axis: resolve(axis, name) for axis, name in names.items()}
    return RunSpec(
        variants={**variants, "decoder": DecoderSpec(layers=layers, width=width, heads=4, ffn=4 * width)},
        data=dataclasses.replace(CPU.data, test_images=IMAGES),
        text=CPU.text,
        train=CPU.train,
        evaluate=CPU.evaluate,
        replicate=replicate,
        variant_names={**names, "decoder": f"self_{layers}x{width}"},
    )


def _write_run(
    folder: Path, arm: str, replicate: int, cider: float, loss: float, overridden: bool, records_only: bool
) -> None:
    layers, width, size = SIZES[arm]
    key, bottom = run_key(arm, replicate), 2.0 if arm == "blind" else 1.2
    validated = bottom + 4 * math.exp(-600 / 90)  # the last point of the curve
    run = folder / "runs" / key
    images = list(make_images())
    captions = [f"a {word} circle on a white ground" for word in ("red", "blue", "green")]
    _json(
        run / "record.json",
        {
            "schema": RECORD_SCHEMA,
            "run_key": key,
            "overridden": ["train.iterations"] if overridden else [],
            "variant_names": {"decoder": f"self_{layers}x{width}"},
            "spec": dataclasses.asdict(_spec(arm, replicate)),
            "metrics": {
                "CIDEr": {"value": cider, "signature": SIGNATURE},
                "BLEU-4": {"value": cider / 3, "signature": "BLEU|images:12"},
                "test_nll": {"value": loss, "signature": "nll|images:12"},
                "train_nll": {"value": validated - GAPS[arm] - replicate / 100, "signature": "nll|images:4"},
                "val_nll": {"value": validated, "signature": "nll|images:4"},
            },
            "absent": {"SPICE": "its model files are not present"},
            "cost": {
                "parameters": size + 900_000,
                "encoder_parameters": 900_000,
                "decoder_parameters": size,
                "flops_per_image": 1.1e8 + 30 * size,
                "peak_memory_bytes": 4.1e8 + 16 * size,
                "train_images_per_second": 900 - size / 8000,
                "seconds": 40 + size / 1e5,
                "device": "cpu",
                "machine": "cpu2",
            },
            "train": {"iterations": 600, "final_loss": 2.1},
        },
    )
    # the record's score is the mean of its images; they differ as much in every run, so that differences do not
    scores = pd.DataFrame({"image_id": images, "CIDEr": cider + np.linspace(-10, 10, IMAGES), "tokens": 50})
    scores["nll"] = scores["tokens"] * (loss + np.linspace(0.1, -0.1, IMAGES))
    scores.to_parquet(run / "per_image.parquet")
    if records_only:
        return
    rng = np.random.default_rng(int(key[:8], 16))
    lines = [
        {
            "image_id": image,
            "caption": captions[0] if arm == "blind" else captions[i % 3],
            "score": -1.0,
            "references": [captions[i % 3], f"there is a circle (no. {i})"],
        }
        for i, image in enumerate(images)
    ]
    (run / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    steps = np.arange(1, 601)
    train = bottom + 4 * np.exp(-steps / (80 + 9 * layers)) + rng.normal(0, 0.08, 600)
    curve = pd.DataFrame({"iteration": steps, "split": "train", "loss": train, "lr": 1e-4})
    validated = steps[99::100]
    val = pd.DataFrame(
        {"iteration": validated, "split": "val", "loss": bottom + 4 * np.exp(-validated / 90), "lr": 1e-4}
    )
    pd.concat([curve, val]).to_csv(run / "curve.csv", index=False)
    _json(
        run / "provenance.json",
        {
            "git_revision": "0123abc",
            "git_dirty": False,
            "packages": {"torch": "2.15.0", "mmengine": "0.10.7"},
            "python": "3.11.9",
            "device": "cpu",
            "driver": None,
            "cpu": "a processor",
            "data_fingerprint": "f00d" * 4,
            "command": "gitbench run decoder_size --profile cpu",
            "started": "2026-01-01T00:00:00Z",
            "finished": "2026-01-01T00:01:00Z",
        },
    )


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
