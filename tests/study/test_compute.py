"""What the runs of a study compute on: by profile, cards and options; part of every key, except what a CPU run always was."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json

import pytest
from helpers_errors import refused
from helpers_study import TINY, make_study, runs_of, tiny_profile

from gitbench.cli import main
from gitbench.commands.options import study_words, training_options
from gitbench.compute import compute_for
from gitbench.machine import Gpu
from gitbench.profiles import PROFILES
from gitbench.run_key import canonical, from_json, run_key
from gitbench.spec import Compute, RunSpec
from gitbench.study.config import make_config
from gitbench.study.rates import tuning_of

CPU, BF16, FP16, FP32 = Compute(), *(Compute(device="cuda", precision=p) for p in ("bfloat16", "float16", "float32"))


H100, A10G, T4, P100 = (
    Gpu(uuid=f"GPU-{name}", name=name, free_gib=15.0, total_gib=16.0, capability=capability)
    for name, capability in (("H100", (9, 0)), ("A10G", (8, 6)), ("Tesla T4", (7, 5)), ("P100", (6, 0)))
)


@pytest.fixture
def show(monkeypatch):
    """Show cards to planning."""

    def show(*cards: Gpu) -> None:
        for module in ("compute", "machine", "launch.places"):
            monkeypatch.setattr(f"gitbench.{module}.gpus", lambda: list(cards))

    show()
    return show


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ((H100, A10G), BF16),
        ((T4,), FP16),
        ((T4, H100), FP16),  # what all of them have
        ((P100,), FP32),
        ((), BF16),  # for cards that are elsewhere
    ],
)
def test_a_profile_for_gpus_trains_in_what_the_cards_have(show, cards, expected):
    show(*cards)
    assert compute_for(PROFILES["gpu"]) == compute_for(PROFILES["smoke"], "cuda") == expected
    assert compute_for(PROFILES["cpu"]) == compute_for(PROFILES["gpu"], "cpu") == CPU  # as its results elsewhere


def test_a_precision_is_refused_where_this_machine_is_meant_and_has_it_not(show):
    with refused("--precision bfloat16: a CPU computes in float32: add --device cuda"):
        compute_for(PROFILES["cpu"], None, "bfloat16")
    show(H100, T4)
    with refused("--precision bfloat16: Tesla T4 has no bfloat16: leave it out, or hide that card"):
        compute_for(PROFILES["gpu"], None, "bfloat16")
    assert compute_for(PROFILES["gpu"], "cuda", "bfloat16") == BF16  # planned here for other machines
    assert compute_for(PROFILES["gpu"], None, "float32") == FP32
    with refused("--cuda-graph: a CPU records none: add --device cuda, or leave it out"):
        compute_for(PROFILES["cpu"], cuda_graph=True)
    assert compute_for(PROFILES["cpu"], "cuda", cuda_graph=True).cuda_graph


def test_several_gpus_a_run_are_refused_where_they_cannot_be(show, tmp_path):
    assert compute_for(PROFILES["gpu"], gpus_per_run=2) == dataclasses.replace(BF16, world_size=2)
    assert compute_for(PROFILES["cpu"], gpus_per_run=1) == CPU
    with refused("--gpus-per-run 2: the runs are planned for the CPU: add --device cuda"):
        compute_for(PROFILES["cpu"], gpus_per_run=2)
    with refused("--cuda-graph with --gpus-per-run 2: steps of several processes are not recorded: leave one out"):
        compute_for(PROFILES["gpu"], gpus_per_run=2, cuda_graph=True)
    with refused("--gpus-per-run 0: a run for GPUs needs at least 1"):
        compute_for(PROFILES["gpu"], gpus_per_run=0)
    with refused("--gpus-per-run 3: a batch of 4 images cannot be shared out evenly: use 2, 4 or leave it out"):
        make_study(tmp_path, compute=Compute(world_size=3))


def test_steps_in_parts_and_checkpointing_stand_on_every_device_and_not_beside_what_they_do_not_go_with(show):
    assert compute_for(PROFILES["cpu"], micro_batch=4, checkpointing=True) == Compute(micro_batch=4, checkpointing=True)
    assert compute_for(PROFILES["gpu"], micro_batch=4) == dataclasses.replace(BF16, micro_batch=4)
    with refused("--micro-batch with --cuda-graph: they do not go together yet: leave one out"):
        compute_for(PROFILES["gpu"], micro_batch=4, cuda_graph=True)
    with refused("--checkpointing with --gpus-per-run: they do not go together yet: leave one out"):
        compute_for(PROFILES["gpu"], checkpointing=True, gpus_per_run=2)
    with refused("--micro-batch -1: use the number of images"):
        compute_for(PROFILES["gpu"], micro_batch=-1)


def test_the_number_of_processes_enters_a_key_where_it_is_not_one(show, tmp_path):
    alone, shared = (
        make_study(tmp_path, compute=BF16),
        make_study(tmp_path, compute=dataclasses.replace(BF16, world_size=2)),
    )
    assert canonical(runs_of(alone)[0].spec)["compute"] == {"device": "cuda", "precision": "bfloat16"}
    assert canonical(runs_of(shared)[0].spec)["compute"] == {"device": "cuda", "precision": "bfloat16", "world_size": 2}
    assert not {run.key for run in runs_of(alone)} & {run.key for run in runs_of(shared)}
    assert shared.plan.mark == "+cuda-bfloat16+gpus-2"
    for_gpus = dataclasses.replace(tiny_profile(), device="cuda")
    assert make_study(tmp_path, profile=for_gpus, compute=shared.plan.compute).plan.mark == "+gpus-2"
    record = from_json(RunSpec, json.loads(json.dumps(dataclasses.asdict(runs_of(alone)[0].spec) | {"variants": {}})))
    assert record.compute == BF16


def test_processes_share_a_batch_and_one_alone_has_no_wrapper(show, tmp_path):
    for world in (1, 2):
        study = make_study(tmp_path, compute=dataclasses.replace(BF16, world_size=world))
        config = make_config(runs_of(study)[0].spec, study.plan.vocabulary, "key")
        assert config.train_dataloader.batch_size == 4 // world and config.test_dataloader.batch_size == 64
        assert (config.launcher, config.model_wrapper_cfg is None) == (
            ("none", True) if world == 1 else ("pytorch", False)
        )
    with refused("model_wrapper_cfg: planning decides it"):
        make_study(tmp_path, cfg_options={"model_wrapper_cfg": "x"})


def test_a_cpu_run_keeps_its_key_and_each_compute_has_its_own(show, tmp_path):
    """That a CPU's are what they were before there was a choice, `test_spec` pins."""
    spec = runs_of(make_study(tmp_path))[0].spec
    assert "compute" not in canonical(spec) and spec.compute == CPU
    keys = {run_key(dataclasses.replace(spec, compute=each), "data") for each in (CPU, BF16, FP16, FP32)}
    assert len(keys) == 4 and run_key(spec, "data") in keys
    tunings = [tuning_of(TINY, dataclasses.replace(tiny_profile(), rates=(1.0, 2.0)), "scenes", compute=each)
               for each in (CPU, BF16)]  # fmt: skip
    tuned = [{each.run.run_key for each in tuning.runs} for tuning in tunings if tuning]
    assert len(tuned) == 2 and not tuned[0] & tuned[1]


def test_studies_of_several_computes_lie_side_by_side(show, tmp_path):
    """That of the profile's usual one has no mark, so names of studies on CPUs are what they were."""
    studies = [make_study(tmp_path, compute=each) for each in (None, BF16, FP16)]
    assert [study.plan.mark for study in studies] == ["", "+cuda-bfloat16", "+cuda-float16"]
    for one, other in itertools.combinations(studies, 2):
        assert not {run.key for run in runs_of(one)} & {run.key for run in runs_of(other)}
    for_gpus = dataclasses.replace(tiny_profile(), device="cuda")
    assert [make_study(tmp_path, profile=for_gpus, compute=each).plan.mark for each in (None, CPU)] == ["", "+cpu"]


def test_a_config_for_a_gpu_is_deterministic_pinned_and_in_rows_of_few_lengths(show, tmp_path):
    for compute in (CPU, FP16):
        study = make_study(tmp_path, compute=compute)
        config, gpu = make_config(runs_of(study)[0].spec, study.plan.vocabulary, "key"), compute is FP16
        assert config.compute == dataclasses.asdict(compute)
        assert config.optim_wrapper.precision == compute.precision and config.randomness.deterministic == gpu
        for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
            assert loader.pin_memory == gpu and loader.collate_fn.multiple == (16 if gpu else 1)
    for option in ("compute.device", "optim_wrapper.precision"):
        with refused(f"{option}: planning decides it"):
            make_study(tmp_path, cfg_options={option: "cuda"})


SMOKE = ("run", "decoder_size", "--profile", "smoke", "--device", "cuda", "--work-dir")


def test_a_study_for_gpus_elsewhere_is_planned_here_and_not_run_on_the_cpu_instead(show, tmp_path, capsys):
    assert main([*SMOKE, str(tmp_path), "--precision", "float16", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "decoder_size.smoke.scenes+cuda-float16: 8 runs" in said and "on a GPU, trained in float16" in said
    assert main([*SMOKE, str(tmp_path)]) == 2
    assert "none is in sight: go to a machine with one, or plan them for the CPU" in capsys.readouterr().err
    assert main([*SMOKE, str(tmp_path), "--gpus-per-run", "2", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "scenes+cuda-bfloat16+gpus-2: 8 runs" in said and "on a set of 2 GPUs, trained in bfloat16" in said
    show(H100)
    assert main([*SMOKE, str(tmp_path), "--gpus-per-run", "2"]) == 2
    assert "--gpus-per-run 2: this machine has 1 to use: use fewer" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_command_of_a_study_names_its_compute_where_the_profile_alone_does_not(show):
    def words(*options: str) -> str:
        parser = argparse.ArgumentParser()
        training_options(parser, "")
        return " ".join(study_words(parser.parse_args(options)))

    assert words("--profile", "cpu") == "--profile cpu"
    assert words("--profile", "gpu") == "--profile gpu --precision bfloat16"
    assert words("--profile", "gpu", "--device", "cpu") == "--profile gpu --device cpu"
    assert words("--profile", "gpu", "--gpus-per-run", "2").endswith("--precision bfloat16 --gpus-per-run 2")
    show(T4)
    assert words() == "--profile gpu --precision float16"
    assert words("--profile", "smoke", "--device", "cuda") == "--profile smoke --device cuda --precision float16"
