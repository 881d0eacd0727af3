"""A run of several processes (on gloo): what they give together, what becomes of it when one dies, and who writes."""

import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers_errors import refused
from helpers_launch import MadeUpScores
from helpers_processes import is_gone
from helpers_resume import assert_same_results, start
from helpers_study import Run, edited, make_study, run_of, tiny_ablation, tiny_profile, write_configs
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from gitbench.claim import ClaimLost, holder
from gitbench.files import guarded
from gitbench.launch.executor import Event, LocalExecutor
from gitbench.launch.places import places_for
from gitbench.launch.scheduling import execute_runs
from gitbench.launch.state import read_state
from gitbench.processes import start_context
from gitbench.profiles import SMOKE
from gitbench.run_folder import RunFolder
from gitbench.spec import Compute
from gitbench.study.part import Part
from gitbench.training.distributed import _listen, _Rank
from gitbench.training.evaluation import BatchesInOrder
from gitbench.training.loop import CountedTrainLoop
from gitbench.training.run import PlainRunner, execute, load_run

TWO = Compute(world_size=2)
SAID: dict[str, dict[str, Any]] = {}  # what the runs "one" and "two" say of themselves


def planned(work_dir: Path, compute: Compute = TWO, arm: str = "base", ablation: Any = None, **options: Any) -> Run:
    """Plan a tiny study and write its configs; return the first run of an arm. Test images are captioned in 3 batches."""
    profile = tiny_profile(val_every=3, **options.pop("train", {}))
    profile = dataclasses.replace(profile, evaluate=dataclasses.replace(profile.evaluate, batch_images=2))
    study = make_study(work_dir, *([ablation] if ablation else []), profile=profile, compute=compute, **options)
    write_configs(study)
    return run_of(study, arm)


def trained(run: Run, progress: Any = None) -> dict[str, Any]:
    """Execute a run in the processes that it is planned for; return what it says of itself, and how many files it wrote."""
    written: list[int] = []
    with guarded(run.folder, lambda: written.append(1)):
        assert execute(run.folder, progress), "it was done before"
    return json.loads((run.folder / "trained.json").read_text()) | {"written": len(written)}


def weights(run: Run) -> dict[str, torch.Tensor]:
    return torch.load(run.folder / "model.pth", weights_only=True)["state_dict"]


def assert_close(one: Run, several: Run) -> None:
    """Weights, losses and likelihoods agree to 1e-5, but for the biases of keys, which change nothing: without any gradient
    but rounding's, AdamW sends them anywhere."""
    first, second = weights(one), weights(several)
    assert first.keys() == second.keys() and len(first) > 20
    for name, tensor in first.items():
        parts = [[*each.chunk(3)] if name.endswith("qkv.bias") else [each] for each in (tensor, second[name])]
        for place, (a, b) in enumerate(zip(*parts, strict=True)):
            if (len(parts[0]), place) != (3, 1):
                torch.testing.assert_close(b, a, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
    rows = [(run.folder / "curve.csv").read_text().splitlines() for run in (one, several)]
    assert len(rows[0]) == len(rows[1]) > 8
    for a, b in zip(*([row.split(",") for row in each[1:]] for each in rows), strict=True):
        assert a[:2] == b[:2] and float(a[2]) == pytest.approx(float(b[2]), abs=1e-5) and a[3] == b[3]


def fed_as_on_gpus(run: Run) -> Run:
    """Let the processes of a run hold its images, and every token have a target, of which few count."""
    with edited(run) as config:
        config.train_dataloader.dataset.pixels = False
        config.train_dataloader.collate_fn.update(multiple=16, everywhere=True)
        config.custom_hooks.append({"type": "ResidentImagesHook"})
    return run


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Run:
    """A run of two processes, fed as on GPUs."""
    run, heard = fed_as_on_gpus(planned(tmp_path_factory.mktemp("pair"))), []
    SAID["two"] = trained(run, lambda *values: heard.append(values[:2]))
    assert heard == [(done, 6) for done in range(1, 7)]
    return run


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Run:
    """The run of the pair, of one process."""
    run = planned(tmp_path_factory.mktemp("alone"), Compute())
    SAID["one"] = trained(run)
    return run


def test_two_processes_give_the_result_of_one(alone, pair):
    """Their shares of a batch hold unequal numbers of tokens: weighted alike they are 100 times as far off."""
    assert alone.key != pair.key
    assert_close(alone, pair)
    said, shared = SAID["one"], SAID["two"]
    for name in ("test_nll", "train_nll", "val_nll"):
        assert shared[name] == pytest.approx(said[name], abs=1e-5)
    assert shared["fit_images"] == said["fit_images"] and shared["cost"].keys() == said["cost"].keys()
    assert shared["cost"]["flops_per_image"] == said["cost"]["flops_per_image"]


def test_rank_0_alone_writes(alone, pair):
    assert SAID["two"]["written"] == SAID["one"]["written"] > 5
    names = sorted(path.name for path in pair.folder.iterdir() if path.is_file())
    assert names == sorted(
        ["config.py", "curve.csv", "log.txt", "model.pth", "predictions.jsonl", "tokenizer.json", "trained.json"]
    )
    assert all((pair.folder / name).stat().st_size for name in names)
    assert len([path for path in pair.folder.iterdir() if path.is_dir()]) == 1  # mmengine's log
    assert (pair.folder / "log.txt").read_text().count("Iter(train) [3/6]") == 1


def test_captions_and_likelihoods_are_those_of_one_process_bit_for_bit(pair):
    model, tokenizer = load_run(pair.folder)
    with DefaultScope.overwrite_default_scope("gitbench"):
        loader = Runner.build_dataloader(RunFolder(pair.folder).read_config().test_dataloader)
    with torch.no_grad():
        items = [item for batch in loader for item in model.test_step(batch)]
    rows = [json.loads(line) for line in (pair.folder / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == len(items) == 6
    for row, item in zip(rows, items, strict=True):
        (output,) = item["outputs"]
        assert (row["image_id"], row["caption"]) == (item["image_id"], tokenizer.decode(output["ids"]))
        assert [row[name] for name in ("score", "nll", "tokens")] == [output[n] for n in ("score", "nll", "tokens")]


@pytest.mark.parametrize(("items", "batch", "world"), [(10, 2, 1), (10, 2, 2), (11, 3, 3), (5, 8, 2)])
def test_batches_are_shared_out_whole(monkeypatch, items, batch, world):
    whole = [[*range(start, min(start + batch, items))] for start in range(0, items, batch)]
    found = []
    for rank in range(world):
        monkeypatch.setattr("gitbench.training.evaluation.get_dist_info", lambda rank=rank: (rank, world))
        mine = [*BatchesInOrder(range(items), batch)]
        found.append([mine[start : start + batch] for start in range(0, len(mine), batch)])  # as a loader does
    assert [found[number % world][number // world] for number in range(len(whole))] == whole
    assert sum(map(len, found)) == len(whole)


def test_each_process_draws_its_own_dropout_and_the_same_again_after_a_stop(monkeypatch):
    seeds: list[int] = []

    def seed_of(rank: int, iteration: int) -> int:
        model = SimpleNamespace(train_step=lambda *_, **__: seeds.append(torch.initial_seed()))
        runner = SimpleNamespace(call_hook=lambda *_, **__: None, model=model, optim_wrapper=None)
        monkeypatch.setattr("gitbench.training.loop.get_rank", lambda: rank)
        loop = SimpleNamespace(runner=runner, dropout_seed=5, _iter=iteration, graphed=None, compute=Compute())
        CountedTrainLoop.run_iter(loop, {})  # type: ignore[arg-type]
        return seeds[-1]

    found = {(rank, iteration): seed_of(rank, iteration) for rank in range(2) for iteration in range(3)}
    assert len(set(found.values())) == 6 and seed_of(1, 2) == found[1, 2]


@pytest.mark.parametrize("arm", ["blind", "frozen"])
def test_what_has_no_gradient_is_not_waited_for(tmp_path, arm):
    """A blind arm shows one image for all; a frozen encoder's features are asked for by all processes."""
    ablation = tiny_ablation("encoder_training", "trained", "frozen")
    alone, shared = (planned(tmp_path / str(n), Compute(world_size=n), arm, ablation) for n in (1, 2))
    trained(alone)
    trained(shared)
    assert_close(alone, shared)


def test_every_process_writes_within_the_vocabulary_of_a_task(tmp_path):
    run = planned(tmp_path, task_name="read")
    trained(run)
    rows = [json.loads(line) for line in (run.folder / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 6 and all("closed" in row for row in rows)


def test_an_encoder_is_pre_trained_once_for_all_processes(tmp_path):
    recipe = dataclasses.replace(SMOKE.pretraining, iterations=4, seed=20261130)  # which nobody has made
    profile = dataclasses.replace(tiny_profile(), pretraining=recipe)
    shared, alone = (make_study(tmp_path / str(n), profile=profile, compute=Compute(world_size=n)) for n in (2, 1))
    for study in (shared, alone):
        write_configs(study)
    run, heard = run_of(shared, "base"), []
    assert execute(run.folder, None, lambda done, total: heard.append((done, total)))
    assert [each for each in heard if each[0]] == [(done, 4) for done in range(1, 5)]  # of two that make it: twice
    trained(run_of(alone, "base"))
    said = [json.loads((run_of(study, "base").folder / "trained.json").read_text()) for study in (shared, alone)]
    assert said[0]["encoder_content"] == said[1]["encoder_content"] is not None
    assert said[0]["cost"]["pretrain_seconds"] == said[1]["cost"]["pretrain_seconds"]
    assert said[0]["test_nll"] == pytest.approx(said[1]["test_nll"], abs=1e-5)


# ---- what is killed, and goes on -----------------------------------------------------------------------------------------

THREE = {
    "compute": Compute(world_size=3),
    "train": {"batch_images": 6, "iterations": 12, "checkpoint_every": 0},
    "cfg_options": {"model.decoder.dropout": 0.1},
}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory) -> Run:
    """A run of three processes with dropout that was left alone."""
    run = planned(tmp_path_factory.mktemp("quiet"), **THREE)
    trained(run)
    return run


def test_a_rank_that_dies_ends_the_run_in_one_line_and_it_goes_on_to_the_same_bits(quiet, tmp_path):
    """With three processes the order of a sum is seen in its bits."""
    run, pids = planned(tmp_path, **THREE), []

    def kill_rank_1(done: int, *_: Any) -> None:
        if done == 5:
            ranks = {each.name: each.pid for each in multiprocessing.active_children()}
            pids.extend(ranks.values())
            os.kill(ranks["rank 1"], signal.SIGKILL)

    with refused(rf"rank 1 of 3 was killed by signal 9 \(see {run.folder}/log.txt\)"):
        execute(run.folder, kill_rank_1)
    assert len(pids) == 3 and is_gone(*pids)
    newest = RunFolder(run.folder).checkpoints[0].stem
    assert newest in ("iter_4", "iter_5")
    steps: list[int] = []
    trained(run, lambda done, *_: steps.append(done))
    assert steps == [*range(int(newest[-1]) + 1, 13)]
    assert_same_results(quiet.folder, run.folder)


@pytest.mark.slow
def test_the_worker_alone_holds_the_claim_and_its_end_is_that_of_all(quiet, tmp_path):
    run = planned(tmp_path, **THREE)
    worker = start(run)
    deadline = time.monotonic() + 120
    while (state := read_state(run.folder)) is None or state.kind != "progress" or state.values[0] < 4:
        assert worker.exitcode is None, (run.folder / "log.txt").read_text()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    owner = holder(RunFolder(run.folder).claim)
    assert owner is not None and owner.pid == worker.pid == state.pid
    below = descendants(worker.pid)
    assert len(below) >= 3
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(30)
    assert is_gone(*below)
    assert not RunFolder(run.folder).trained.exists() and holder(RunFolder(run.folder).claim) is None
    trained(run)
    assert_same_results(quiet.folder, run.folder)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            found += map(int, task.read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


@pytest.mark.slow
def test_a_launch_tries_a_run_once_more_whose_rank_was_killed(quiet, tmp_path, capsys):
    work = tmp_path / "work"
    profile = tiny_profile(val_every=3, **THREE["train"])
    profile = dataclasses.replace(profile, evaluate=dataclasses.replace(profile.evaluate, batch_images=2))
    options = {name: THREE[name] for name in ("compute", "cfg_options")}
    study = Part(arms=("base",)).within(make_study(work, profile=profile, **options))
    killed: list[int] = []

    class Killing(LocalExecutor):
        def poll(self, timeout: float) -> list[Event]:
            events = super().poll(min(timeout, 0.01))
            if not killed and any(event.kind == "progress" for event in events):
                forked = children(self.running[0].process.pid)  # a fork server among them
                ranks = [rank for each in forked for rank in children(each)]
                assert len(ranks) == 3
                killed.append(min(ranks))
                os.kill(killed[0], signal.SIGKILL)
            return events

    with places_for(study, 1) as places:
        executor = Killing(places, start_context())
        outcome = execute_runs(study, executor, plain=True, scorer=MadeUpScores(study, tmp_path / "scored.log"))
    assert (outcome.completed, outcome.failed, len(killed)) == (1, (), 1)
    assert "was killed by signal 9" in "".join(capsys.readouterr())
    assert_same_results(quiet.folder, run_of(study, "base").folder)


def test_no_process_writes_once_the_run_is_another_launchs(tmp_path):
    run, asked = planned(tmp_path, train={"checkpoint_every": 0}), itertools.count()

    def check() -> None:
        if next(asked) == 4:
            raise ClaimLost("it was taken over")

    with pytest.raises(ClaimLost), guarded(run.folder, check):
        execute(run.folder)
    assert not (run.folder / "trained.json").exists() and not multiprocessing.active_children()


def test_a_run_that_diverges_says_so_in_one_line(tmp_path):
    run = planned(tmp_path, train={"lr_decoder": 1e30, "lr_encoder": 1e30})
    with refused(r"^the train loss is (nan|inf) in iteration \d: lower the learning rates"):
        execute(run.folder)


class Process:
    """Stands for a process that has ended."""

    def __init__(self, exitcode: int) -> None:
        self.exitcode = exitcode

    def join(self) -> None:
        pass


def heard_from(tmp_path: Path, *words: tuple) -> None:
    """Listen to processes of which each says one thing, all at once, and is gone."""
    ranks: dict[Any, _Rank] = {}
    for number, word in enumerate(words):
        ours, theirs = multiprocessing.Pipe()
        if word:
            theirs.send(word)
        theirs.close()
        ranks[ours] = _Rank(number=number, process=Process(0 if word[:1] in (("failed",), ("done",)) else -9))
    _listen(tmp_path, ranks, {"progress": None})


def test_the_process_that_failed_first_is_the_one_that_is_named(tmp_path):
    with refused("^no such word$"):
        heard_from(tmp_path, ("failed", 7.5, "Connection closed by peer"), ("failed", 7.25, "no such word"))
    with refused("^rank 1 of 2 was killed by signal 9"):
        heard_from(tmp_path, ("failed", 7.5, "Connection closed by peer"), ())
    with refused("^rank 0 of 3 was killed by signal 9"):  # what it said before it was is still to be heard
        heard_from(tmp_path, ("progress", 1, 6, 2.5), ("failed", 7.5, "Connection closed by peer"), ("done",))
    heard_from(tmp_path, ("done",), ("done",))


# ---- what is planned -----------------------------------------------------------------------------------------------------


def test_a_tuning_run_ends_with_its_likelihood(tmp_path):
    alone, shared = (planned(tmp_path / str(n), Compute(world_size=n)) for n in (1, 2))
    found = []
    for run in (alone, shared):
        with edited(run) as config:
            config.update(test_dataloader=None, test_cfg=None, test_evaluator=None)
        found.append(trained(run))
        assert found[-1].keys() == {"val_nll", "cost", "written"} and not execute(run.folder)
    assert found[1]["val_nll"] == pytest.approx(found[0]["val_nll"], abs=1e-5)


def test_a_plain_runner_of_another_number_of_processes_is_refused(tmp_path):
    config = RunFolder(planned(tmp_path).folder).read_config()
    assert config.launcher == "pytorch" and config.train_dataloader.batch_size == 2
    config.update(launcher="none", model_wrapper_cfg=None, work_dir=str(tmp_path))
    with refused("planned for 2 processes, and this is one of 1: start it with torchrun --nproc-per-node 2"):
        PlainRunner.from_cfg(config).call_hook("before_run")


@pytest.mark.slow
def test_the_command_that_clusters_execute_trains_it_too(pair, tmp_path):
    run = fed_as_on_gpus(planned(tmp_path))
    command = [sys.executable, "-m", "gitbench.launch.work", str(run.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, (run.folder / "log.txt").read_text()[-3000:]
    assert_same_results(pair.folder, run.folder)


PLAIN = """
import sys, torch
from mmengine.config import Config
from mmengine.runner import Runner
torch.distributed.init_process_group("gloo")  # on GPUs mmengine does it
config = Config.fromfile(sys.argv[1], lazy_import=False)
config.work_dir = sys.argv[2]
runner = Runner.from_cfg(config)
model = runner.train().module
if runner.rank == 0:
    torch.save(model.git.state_dict(), sys.argv[2] + "/weights.pth")
torch.distributed.barrier()
"""


@pytest.mark.slow
def test_torchrun_trains_the_same_run_from_its_config(pair, tmp_path):
    (tmp_path / "plain.py").write_text(PLAIN)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(tmp_path / "plain.py"), str(pair.folder / "config.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    again, own = torch.load(tmp_path / "weights.pth", weights_only=True), weights(pair)
    assert again.keys() == own.keys() and all(torch.equal(again[name], own[name]) for name in own)
