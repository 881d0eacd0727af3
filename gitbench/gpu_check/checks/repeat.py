"""The same twice: training, validation, captions, a frozen encoder, pre-training. Bits must be equal, strict mode content."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.config import Config

from gitbench.gpu_check.results import Report
from gitbench.gpu_check.sizes import CROSS, Setting, config_of
from gitbench.training.device import settle
from gitbench.training.fingerprints import tensor_hash
from gitbench.training.pretrain import Pretraining, pretrain
from gitbench.training.run import PlainRunner
from gitbench.variants.encoder import EncoderSpec

STEPS = 20
Bits = Mapping[str, Any]  # name -> what must be equal


def check(setting: Setting, report: Report) -> None:
    """Judge whether everything that a run does gives the same bits twice."""
    settle(setting.compute)
    if setting.on_card:
        strict = (
            torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
        )
        report.judge("strict mode", strict, "on, and no warnings instead of errors")
    kinds: tuple[tuple[str, dict[str, str]], ...] = (
        ("base arm", {}),
        ("cross-attention", {"decoder": CROSS[setting.profile.name]}),
        ("frozen encoder", {"encoder_training": "frozen"}),
    )
    for name, variants in kinds:
        config = config_of(setting, variants)
        judge_twice(report, name, lambda config=config: trained(config))  # type: ignore[misc]
    judge_twice(report, "contrastive pre-training", lambda: {"encoder": pretrained(setting)})


def judge_twice(report: Report, name: str, make: Callable[[], Bits]) -> None:
    """Judge each thing that `make` gives: the second time it must be what it was the first time."""
    with report.part(name):
        first, second = make(), make()
        for what in dict.fromkeys([*first, *second]):
            same = what in first and what in second and first[what] == second[what]
            report.judge(f"{name}: {what}", same, "the same bits twice")


def trained(config: Config) -> Bits:
    """Take the first steps of a run, validate and caption; returns hashes of the weights, and what came out."""
    config = config.copy()
    with tempfile.TemporaryDirectory(prefix="gitbench-") as folder:
        config.work_dir, config.train_cfg.max_iters = folder, STEPS
        runner = PlainRunner.from_cfg(config)
        runner.train()
        weights = {name: tensor_hash(tensor) for name, tensor in runner.model.state_dict().items()}
        model, loaders = runner.model.eval(), (runner.val_dataloader, runner.test_dataloader)
        with torch.no_grad():
            likelihoods = [item for batch in loaders[0] for item in model.val_step(batch)]
            captions = model.test_step(next(iter(loaders[1])))
    return {f"{STEPS} training steps": weights, "validation": likelihoods, "captions": captions}


def pretrained(setting: Setting) -> dict[str, str]:
    """Take the first steps of contrastive pre-training; returns hashes of the encoder's weights."""
    profile = setting.profile
    batch = profile.pretraining.batch_images
    recipe = dataclasses.replace(profile.pretraining, iterations=STEPS, images=2 * batch)
    encoder = config_of(setting).model.encoder
    spec = {name: value for name, value in encoder.items() if name != "type"}
    job = Pretraining(encoder=EncoderSpec(**spec), recipe=recipe, device=torch.device(setting.device))
    state, _ = pretrain(job)
    return {name: tensor_hash(tensor) for name, tensor in state.items()}
