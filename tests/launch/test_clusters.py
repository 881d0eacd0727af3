"""Slurm and Ray as executors: their options and faults, and what real ones make of a study."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers_errors import refused
from helpers_launch import MadeUpScores
from helpers_slurm import HAS_SLURM, slurm_cluster
from helpers_study import make_study, tiny_profile

from gitbench.ablations import load_ablation
from gitbench.launch import queues
from gitbench.launch.executor import Event
from gitbench.launch.queues import Pack, QueueExecutor
from gitbench.launch.scheduling import execute_runs, local_executor
from gitbench.launch.slurm import for_runs, parse_options, parse_time, slurm_executor
from gitbench.launch.state import read_state
from gitbench.profiles import PROFILES
from gitbench.spec import Compute
from gitbench.study.plan import make_plan
from gitbench.study.store import Study


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(queues, "INTERVAL", 0.0)
    monkeypatch.setattr(queues, "PER_JOB", 0.0)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:30", 91), ("2:00:00", 120), ("1-0", 1440), ("1-2:30", 1590), ("1-2:30:01", 1591), ("0:0:1", 1)],
)
def test_times_are_read_as_slurm_writes_them(text, minutes):
    assert parse_time(text) == minutes


def test_options_are_those_of_sbatch():
    assert parse_options("partition=gpu,nodelist=a,b,cpus_per_task=4") == {
        "partition": "gpu",
        "nodelist": "a,b",
        "cpus-per-task": "4",
    }
    for wrong in ("partition", "gres=", "=x", "a b=c"):
        with refused("write OPTION=VALUE"):
            parse_options(wrong)
    with refused("write minutes"):
        parse_time("soon")


def test_without_its_package_an_executor_says_what_to_install(tmp_path, monkeypatch):
    from gitbench.launch.ray import ray_executor

    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with refused("--executor slurm needs submitit: .* install submitit"):
        slurm_executor(tmp_path, {})
    with refused("--executor ray needs ray: .* install ray"):
        ray_executor(Compute())


def test_a_cluster_that_does_not_answer_is_said_in_one_line(monkeypatch):
    from gitbench.launch.ray import ray_executor

    def init(**_) -> None:
        raise Exception("The current node timed out during startup.\nMore of it")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with refused(r"no cluster can be joined \(The current node timed out during startup.\): check RAY_ADDRESS"):
        ray_executor(Compute())


def test_an_address_of_ray_where_nothing_answers_is_refused_before_ray_waits_for_it(monkeypatch):
    from gitbench.launch.ray import ray_executor

    asked: list[int] = []
    ray = SimpleNamespace(init=lambda **_: asked.append(1), remote=lambda **_: lambda function: function)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for address in ("", "auto", f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            monkeypatch.setenv("RAY_ADDRESS", address)
            ray_executor(Compute())
    assert len(asked) == 4
    for address in (f"ray://127.0.0.1:{port}", "127.0.0.1:99999", "a..b:1"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        with refused(f"nothing answers at RAY_ADDRESS={address} .*: correct it"):
            ray_executor(Compute())
    assert len(asked) == 4


def slurm_of(folder: Path, monkeypatch, **programs: str) -> None:
    """Put made-up programs of Slurm, as shell commands, before all others."""
    for name, commands in {"srun": "true", **programs}.items():
        (folder / name).write_text(f"#!/bin/sh\n{commands}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_slurm_that_does_not_answer_is_refused_in_one_line_before_anything_is_written(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    slurm_of(tmp_path, monkeypatch, sinfo="echo 'a word' >&2; echo 'sinfo: error: Unknown host' >&2; exit 1")
    with refused(r"Slurm does not answer here \(sinfo: error: Unknown host\): start gitbench on a host"):
        slurm_executor(tmp_path / "work", {})
    assert not (tmp_path / "work").exists()


def test_where_slurm_refuses_a_second_array_the_first_leaves_the_queue(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    count = f"{tmp_path}/count"
    first = f"if [ -e {count} ]; then echo 'sbatch: error: too many jobs' >&2; exit 1; fi; touch {count}; echo 'job 7'"
    slurm_of(tmp_path, monkeypatch, sinfo="true", sbatch=first, scancel=f'echo "$@" > {tmp_path}/cancelled')
    monkeypatch.setattr("gitbench.launch.slurm.MOST", 2)
    executor = slurm_executor(tmp_path / "work", {"cpus-per-task": "3"})
    for name in "abc":
        executor.submit(tmp_path / name)
    with refused(r"Slurm refused the jobs \(sbatch: error: too many jobs\): correct --slurm"):
        executor.poll(0)
    assert (tmp_path / "cancelled").read_text().split() == ["7_0", "7_1"]
    scripts = [each.read_text() for each in (tmp_path / "work" / "slurm").glob("*.sh")]
    assert scripts and all("srun --unbuffered" in each and " --cpus-per-task=3 " in each for each in scripts)


def test_runs_for_gpus_do_not_wait_in_a_cluster_that_has_none(monkeypatch):
    from gitbench.launch.ray import ray_executor

    asked: list[dict] = []
    ray = SimpleNamespace(init=lambda **_: None, cluster_resources=lambda: {"CPU": 4.0})
    ray.remote = lambda **options: asked.append(options) or (lambda function: function)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with refused("planned for a GPU, and the cluster has none"):
        ray_executor(Compute(device="cuda"), share=4)
    ray.cluster_resources = lambda: {"CPU": 4.0, "GPU": 1.0}
    ray_executor(Compute(device="cuda"), share=4)
    ray_executor(Compute())
    assert [options["num_gpus"] for options in asked] == [0.25, 0]


def test_a_job_asks_for_the_cards_of_its_run_and_a_core_for_each(tmp_path):
    one, four = (Compute(device="cuda", world_size=world) for world in (1, 4))
    assert for_runs({"time": "60"}, Compute()) == {"time": "60", "cpus-per-task": "1"}
    assert for_runs({}, Compute(), pack=3) == {"cpus-per-task": "3"}
    assert for_runs({"time": "60"}, one) == {"time": "60", "gres": "gpu:1", "cpus-per-task": "1"}
    assert for_runs({"cpus-per-gpu": "8"}, one) == {"cpus-per-gpu": "8", "gres": "gpu:1"}  # Slurm refuses both
    assert for_runs({"tres-per-task": "cpu:4,gres/gpu:1"}, one) == {"tres-per-task": "cpu:4,gres/gpu:1"}
    assert for_runs({"gres": "none"}, one) == {"cpus-per-task": "1"}
    assert for_runs({}, one, pack=4) == {"gres": "gpu:1", "cpus-per-task": "4"}
    assert for_runs({"time": "60"}, four) == {"time": "60", "gres": "gpu:4", "cpus-per-task": "4"}
    for name, value in (("gres", "gpu:h100:4"), ("gpus-per-node", "4"), ("gpus", "4")):
        assert for_runs({name: value, "cpus-per-task": "16"}, four) == {name: value, "cpus-per-task": "16"}


def test_a_task_of_ray_takes_the_cards_of_its_run_on_one_node(monkeypatch):
    from gitbench.launch.ray import ray_executor

    asked: list[dict] = []
    ray = SimpleNamespace(init=lambda **_: None, cluster_resources=lambda: {"CPU": 4.0, "GPU": 4.0})
    ray.remote = lambda **options: asked.append(options) or (lambda function: function)
    ray.nodes = lambda: [
        {"Alive": True, "Resources": {"GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 2.0}},
        {"Alive": False, "Resources": {"GPU": 8.0}},
    ]
    monkeypatch.setitem(sys.modules, "ray", ray)
    ray_executor(Compute(device="cuda", world_size=2))
    assert [(options["num_gpus"], options["num_cpus"]) for options in asked] == [(2, 2)]
    with refused("--gpus-per-run 4: no node of the cluster has so many GPUs: use fewer"):
        ray_executor(Compute(device="cuda", world_size=4))


def trained(folder: Path, executor=None, iterations: int = 6) -> Study:
    """Train the study of three tiny runs through an executor, None: of this machine; scores are made up."""
    study = make_study(folder, profile=tiny_profile(iterations=iterations, checkpoint_every=0))
    with nullcontext(executor) if executor else local_executor(study, 1) as chosen:
        outcome = execute_runs(study, chosen, plain=True, scorer=MadeUpScores(study, folder / "scored.log"))
    assert (outcome.completed, outcome.failed) == (3, ())
    return study


def smoke_ablation(folder: Path, executor=None) -> Study:
    """Run the whole ablation of decoder sizes, profile smoke, with its scores, through an executor."""
    study = Study(folder, make_plan(load_ablation("decoder_size"), PROFILES["smoke"], "scenes"))
    with nullcontext(executor) if executor else local_executor(study, 2) as chosen:
        outcome = execute_runs(study, chosen, plain=True)
    assert (outcome.completed, outcome.failed) == (8, ()) == (len(study.unique_runs), ())
    return study


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Study:
    """The ablation by this machine's executor."""
    return smoke_ablation(tmp_path_factory.mktemp("local"))


def assert_same(one: Study, other: Study) -> None:
    """Two studies have the same predictions and losses, byte for byte, and the second was trained by other processes."""
    for run in one.unique_runs:
        folders = [study.folder(run.run_key) for study in (one, other)]
        for name in ("predictions", "curve"):
            assert len({getattr(folder, name).read_bytes() for folder in folders}) == 1
        assert len({read_state(folder.path).pid for folder in folders}) == 2


@pytest.mark.slow
def test_submitit_gives_the_predictions_of_this_machine(tmp_path, local):
    pytest.importorskip("submitit")
    assert_same(local, smoke_ablation(tmp_path, slurm_executor(tmp_path, {}, jobs=2, cluster="local")))


@pytest.mark.slow
def test_a_job_of_submitit_that_raises_is_a_failed_run_in_one_line(tmp_path, monkeypatch):
    pytest.importorskip("submitit")

    class Broken(Pack):  # defined here, so that the job gets it by value
        def __call__(self) -> list[int]:
            raise ZeroDivisionError("division by zero")

    executor = slurm_executor(tmp_path, {}, cluster="local")
    monkeypatch.setattr(queues, "Pack", Broken)
    executor.submit(tmp_path / "run")
    events: list[Event] = []
    deadline = time.monotonic() + 120
    while not events and time.monotonic() < deadline:
        events = executor.poll(0.1)
    (said,) = events[0].values
    assert "ZeroDivisionError: division by zero" in said and "\n" not in said


@pytest.mark.slow
def test_ray_gives_the_predictions_of_this_machine(tmp_path, local):
    ray = pytest.importorskip("ray")
    from gitbench.launch.ray import ray_executor

    try:
        assert_same(local, smoke_ablation(tmp_path, ray_executor(Compute(), jobs=2)))
    finally:
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(not HAS_SLURM, reason="needs root, slurm-wlm and munge")
def test_slurm_gives_the_predictions_of_this_machine_through_a_requeue(tmp_path):
    """Each job gets the signal of its time limit once and is queued again; then one that hurts: SIGKILL of a worker."""
    pytest.importorskip("submitit")
    quiet = trained(tmp_path / "local", iterations=600)
    with slurm_cluster(tmp_path / "cluster"):
        signalled: set[str] = set()

        class Interrupting(QueueExecutor):
            """Signals each job once, when its run has a checkpoint."""

            def poll(self, timeout: float) -> list[Event]:
                for queued in self.jobs:
                    (folder,) = queued.last
                    ready = folder.name not in signalled and list(folder.glob("iter_*.pth"))
                    if ready and self.interrupted(queued.job.job.job_id, folder, kill=len(signalled) == 2):
                        signalled.add(folder.name)
                subprocess.run(["bash", "-c", RELEASE], capture_output=True)
                return super().poll(timeout)

            def interrupted(self, job: str, folder: Path, kill: bool) -> bool:
                try:
                    if kill:
                        os.kill(read_state(folder).pid, signal.SIGKILL)
                        return True
                    return subprocess.run(["scancel", "--signal=USR2", job], timeout=3).returncode == 0
                except (subprocess.TimeoutExpired, ProcessLookupError):
                    return False  # the job is just changing state: scancel alone would try again for minutes

        made = slurm_executor(tmp_path / "slurm", parse_options("partition=main,time=60"), jobs=1)
        interrupting = Interrupting(made.queue)
        study = trained(tmp_path / "slurm", interrupting, iterations=600)
        assert len(signalled) == 3
        with refused("Slurm refused the jobs .*: correct --slurm"):
            wrong = slurm_executor(tmp_path / "slurm", parse_options("partition=none"), jobs=1)
            wrong.submit(tmp_path / "run")
            wrong.poll(0)
    assert_same(quiet, study)


# A job that was queued again waits for two minutes, unless it is told when to start.
RELEASE = "for job in $(squeue -h -o %A -t PD); do scontrol update JobId=$job StartTime=now; done"
