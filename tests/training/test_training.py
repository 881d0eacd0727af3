"""Parts of the training loop: schedule, optimizer groups, sampler, config."""

import dataclasses
import math

import pytest
import torch
from helpers_errors import refused
from helpers_study import make_study, runs_of
from mmengine.config import Config
from torch import nn

from gitbench.profiles import get_profile
from gitbench.registry import MODELS, VARIANTS
from gitbench.run_folder import RunFolder
from gitbench.study.config import config_text, make_config
from gitbench.training.data import CountedSampler
from gitbench.training.optimizer import (
    WarmupCosineLR,
    parameter_groups,
    warmup_cosine,
)
from gitbench.variants import resolve


def test_schedule_warms_up_peaks_and_ends_at_exactly_zero():
    values = [warmup_cosine(step, 10, 100) for step in range(101)]
    assert values[0] == pytest.approx(1 / 11)
    assert values[10] == 1.0 and max(values) == 1.0 and values.count(1.0) == 1
    assert values[55] == pytest.approx(0.5)
    assert values[100] == 0.0
    assert all(a < b for a, b in zip(values[:10], values[1:11], strict=True))
    assert all(a > b for a, b in zip(values[10:100], values[11:], strict=True))


def test_scheduler_drives_the_optimizer_to_zero():
    parameter = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter], lr=0.5)
    scheduler = WarmupCosineLR(optimizer, warmup=2, total=8, by_epoch=False)
    seen = []
    for _ in range(8):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx([0.5 * warmup_cosine(step, 2, 8) for step in range(8)])
    assert optimizer.param_groups[0]["lr"] == 0.0


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.git = nn.Module()
        self.git.encoder = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
        self.git.decoder = nn.Linear(3, 4)
        self.git.head = nn.Linear(3, 4)
        self.git.head.weight = self.git.decoder.weight  # tied


def test_optimizer_has_four_groups_with_the_right_rates_and_decay():
    model = Toy()
    groups = {group["name"]: group for group in parameter_groups(model, 1e-5, 5e-5, 0.01)}
    assert set(groups) == {"encoder", "encoder_no_decay", "decoder", "decoder_no_decay"}
    assert {name: group["lr"] for name, group in groups.items()} == {
        "encoder": 1e-5, "encoder_no_decay": 1e-5, "decoder": 5e-5, "decoder_no_decay": 5e-5,
    }  # fmt: skip
    assert all((group["weight_decay"] == 0) == name.endswith("no_decay") for name, group in groups.items())
    assert len(groups["encoder_no_decay"]["params"]) == 3  # bias, norm weight, norm bias
    assert sum(len(group["params"]) for group in groups.values()) == len(list(model.parameters()))


def test_sampler_counts_on_from_its_start():
    sampler = CountedSampler(dataset=None)
    sampler.start = 40
    iterator = iter(sampler)
    assert [next(iterator) for _ in range(3)] == [40, 41, 42]


def test_config_file_is_an_ordinary_config_that_names_its_variants(tiny_study, tmp_path):
    run = runs_of(tiny_study)[0]
    (tmp_path / "config.py").write_text(config_text(make_config(run.spec, tiny_study.plan.vocabulary, run.key)))
    config = Config.fromfile(tmp_path / "config.py", lazy_import=False)
    assert config.model.decoder.type == "decoder/self_2x64" and config.default_scope == "gitbench"
    assert dataclasses.asdict(VARIANTS.build(dict(config.model.decoder))) == dataclasses.asdict(
        run.spec.variants["decoder"]
    )
    assert isinstance(MODELS.build(dict(config.model)).git, nn.Module)


def test_cfg_options_change_the_model_and_the_key(tmp_path):
    plain = make_study(tmp_path)
    changed = make_study(tmp_path, cfg_options={"model.decoder.layers": 3})
    assert not {run.key for run in runs_of(plain)} & {run.key for run in runs_of(changed)}
    assert plain.name != changed.name
    config = make_config(runs_of(changed)[0].spec, changed.plan.vocabulary, "k")
    assert config.model.decoder.layers == 3
    with refused("'layerz' is not there; there is: .*layers"):
        make_study(tmp_path, cfg_options={"model.decoder.layerz": 3})
    with refused("batch_size=abc: its value is a whole number"):
        make_study(tmp_path, cfg_options={"train_dataloader.batch_size": "abc"})


def test_a_damaged_config_gives_one_line(tmp_path):
    (tmp_path / "config.py").write_text("model = dict(")
    with refused("not a readable config"):
        RunFolder(tmp_path).read_config()


def test_the_paper_profile_builds_and_takes_one_training_step():
    from gitbench.models import build_model

    paper = get_profile("paper")
    encoder, decoder = (resolve(axis, paper.variants[axis]) for axis in ("encoder", "decoder"))
    model = build_model("git_base").train()
    assert (model.encoder.spec, model.decoder.spec) == (encoder, decoder)
    optimizer = torch.optim.AdamW(parameter_groups(nn.ModuleDict({"git": model}), 1e-5, 5e-5, 0.01), fused=True)
    tokens = torch.tensor([[101, 2023, 2003, 102]])
    loss = model.loss(torch.zeros(1, 3, 224, 224), tokens, tokens != 101)
    loss.backward()
    before = next(model.parameters()).detach().clone()
    optimizer.step()
    assert math.isfinite(loss.item()) and model.encoder.spec.width == 768
    assert not torch.equal(before, next(model.parameters()))
