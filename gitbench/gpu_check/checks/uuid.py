"""Workers that are given their card by uuid, as places of a launch are: they compute on that card and on no other.

A slice of MIG is named so too. Of several cards the first and the last are tried.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from mmengine.config import Config

from gitbench.gpu_check.checks.card import same_card
from gitbench.gpu_check.results import Report
from gitbench.gpu_check.sizes import Setting, config_of, showing, write_run
from gitbench.launch.work import DONE
from gitbench.machine import Gpu, gpus
from gitbench.run_folder import RunFolder

STEPS = 4
BEGINNING = 12  # characters of a uuid that name a card where no other begins with them


def check(setting: Setting, report: Report) -> None:
    """Judge whether workers compute on the cards whose uuid, or its beginning, they are given."""
    cards = gpus()
    config = config_of(setting, iterations=STEPS, warmup=1, val_every=STEPS)
    config.test_dataloader.dataset.data_spec.test_images = config.test_dataloader.batch_size // 4
    named = {"the first card": (cards[0], cards[0].uuid)}
    if len(cards) > 1:
        named["the last card"] = (cards[-1], cards[-1].uuid)
    if not cards[0].uuid.startswith("MIG-") and unique(cards[0].uuid[:BEGINNING], cards):
        named["the first card, by the beginning of its uuid"] = (cards[0], cards[0].uuid[:BEGINNING])
    for which, (card, name) in named.items():
        with report.part(which):
            one_worker(setting, report, config, which, card, name)


def unique(beginning: str, cards: tuple[Gpu, ...]) -> bool:
    """Tell whether a beginning of a uuid names one card."""
    return sum(card.uuid.startswith(beginning) for card in cards) == 1


def one_worker(setting: Setting, report: Report, config: Config, which: str, card: Gpu, name: str) -> None:
    """Judge a worker that is given a card by its name in CUDA_VISIBLE_DEVICES."""
    run = write_run(setting.path("runs", f"uuid-{name}"), config)
    status = subprocess.call(
        [sys.executable, "-m", "gitbench.launch.work", str(run.path)],
        env={**os.environ, **showing(name)},
        stdin=subprocess.DEVNULL,
    )
    judge(report, which, card, run, status)


def judge(report: Report, which: str, card: Gpu, run: RunFolder, status: int) -> None:
    """Judge what a worker left behind."""
    done = status == DONE and run.captioned
    device = json.loads(run.trained.read_text(encoding="utf-8"))["device"] if done else {}
    right = done and device["name"] == card.name and same_card(card.uuid, device.get("uuid", ""))
    report.judge(which, right, "trained and captioned on that card", device.get("name", f"status {status}"))
