"""Parts of the training loop: schedule, optimizer groups, sampler, config."""

import itertools
from pathlib import Path

import pytest
import torch
from helpers_errors import refused
from helpers_study import make_study, runs_of, tiny_profile, write_configs
from torch import nn

from gitbench.files import guarded
from gitbench.run_folder import RunFolder
from gitbench.study.config import make_config
from gitbench.training.data import CountedSampler
from gitbench.training.optimizer import (
    WarmupCosineLR,
    parameter_groups,
    warmup_cosine,
)
from gitbench.training.run import execute


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


def test_rates_of_a_gpu_are_numbers_of_float32_as_a_graph_reads_them(monkeypatch):
    def rates(rounded: bool) -> list[float]:
        monkeypatch.setattr(WarmupCosineLR, "rounded", rounded)
        optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(2))], lr=0.3)
        scheduler, seen = WarmupCosineLR(optimizer, warmup=2, total=8, by_epoch=False), []
        for _ in range(8):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return seen

    usual, rounded = rates(False), rates(True)
    assert rounded == torch.tensor(usual).tolist() != usual


def test_whatever_a_run_writes_is_asked_for_first_also_where_its_folder_is_named_relatively(tmp_path, monkeypatch):
    """mmengine makes the path of a run absolute; the guard is what keeps a run that is another's now from being written."""
    monkeypatch.chdir(tmp_path)
    run, asked = write_configs(make_study(Path("work")))[0], set()
    assert not run.folder.is_absolute()

    def ask() -> None:
        being_written = [path.name for path in run.folder.glob(".*.tmp*")]  # .NAME.12345678.tmp.SUFFIX
        asked.update(name[1:].rpartition(".tmp")[0].rpartition(".")[0] for name in being_written)

    with guarded(run.folder, ask):
        execute(run.folder)
    results = {"model.pth", "tokenizer.json", "predictions.jsonl", "trained.json"}
    assert asked == {"curve.csv", "iter_6.pth", "last_checkpoint", *results}


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


def test_several_processes_share_the_samples():
    samplers = [CountedSampler(dataset=None) for _ in range(3)]
    for rank, sampler in enumerate(samplers):
        sampler.rank, sampler.world, sampler.start = rank, 3, 10
    taken = [list(itertools.islice(sampler, 4)) for sampler in samplers]
    assert sorted(itertools.chain(*taken)) == list(range(30, 42)) and taken[1] == [31, 34, 37, 40]


def test_cfg_options_change_the_model_and_the_key(tmp_path):
    plain = make_study(tmp_path)
    changed = make_study(tmp_path, cfg_options={"model.decoder.layers": 3})
    assert not {run.key for run in runs_of(plain)} & {run.key for run in runs_of(changed)}
    assert plain.name != changed.name
    config = make_config(runs_of(changed)[0].spec, changed.plan.vocabulary, "k")
    assert config.model.decoder.layers == 3
    with refused("'layerz' is not there; there is: .*layers"):
        make_study(tmp_path, cfg_options={"model.decoder.layerz": 3})
    for key, value, said in (
        ("train_dataloader.batch_size", "abc", "batch_size=abc: its value is a whole number"),
        ("train_dataloader.batch_size", None, "its value is a whole number"),
        ("train_cfg.max_iters", 0, "its value is 1 or more"),
        ("model.generation.max_length", "abc", "its value is a whole number"),
        ("optim_wrapper.optimizer.betas", ["a", 0.9], "its value is a list as"),
        ("model.decoder.attention", "foo", "attention is 'foo'"),
        ("model.decoder.heads", 7, "7 heads: choose a number that divides the width"),
        ("test_dataloader.dataset.data_spec.crop_scale", "abc", "crop_scale is 'abc'"),
    ):
        with refused(said):
            make_study(tmp_path, cfg_options={key: value})


def test_a_damaged_config_gives_one_line(tmp_path):
    (tmp_path / "config.py").write_text("model = dict(")
    with refused("not a readable config"):
        RunFolder(tmp_path).read_config()


def test_a_run_that_diverges_stops_at_once_and_says_where(tmp_path):
    run = write_configs(make_study(tmp_path, profile=tiny_profile(lr_decoder=1e30, lr_encoder=1e30)))[0]
    with refused(r"the train loss is (nan|inf) in iteration \d: lower the learning rates"):
        execute(run.folder)
    assert not (run.folder / "trained.json").exists()
