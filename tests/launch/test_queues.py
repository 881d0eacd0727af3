"""Executors that hand runs to a queue: what they make of jobs, whichever system runs them; Slurm's and Ray's own below."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers_errors import refused
from helpers_launch import MadeUpScores, planned, plugin
from helpers_slurm import HAS_SLURM, slurm_cluster
from helpers_study import make_study, tiny_profile

from gitbench.errors import GitbenchError
from gitbench.files import write_json, write_text
from gitbench.launch import queues
from gitbench.launch.executor import Event
from gitbench.launch.queues import Pack, QueueExecutor
from gitbench.launch.scheduling import execute_runs, local_executor
from gitbench.launch.slurm import parse_options, parse_time, slurm_executor
from gitbench.launch.state import State, read_state, write_state
from gitbench.launch.work import CLAIMED, DONE, FAULT
from gitbench.study.store import Study


class FakeJob:
    """A job that ends when `ends` is set: exit statuses, or an error of the queue."""

    def __init__(self, pack: Pack) -> None:
        self.pack, self.cancelled = pack, False
        self.ends: list[int] | GitbenchError | None = None

    def statuses(self) -> list[int] | None:
        if isinstance(self.ends, GitbenchError):
            raise self.ends
        return self.ends


class FakeQueue:
    def __init__(self) -> None:
        self.jobs: list[FakeJob] = []

    def start(self, packs: list[Pack]) -> list[FakeJob]:
        self.jobs += (started := [FakeJob(pack) for pack in packs])
        return started

    def cancel(self, jobs: list[FakeJob]) -> None:
        for job in jobs:
            job.cancelled = True


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(queues, "INTERVAL", 0.0)
    monkeypatch.setattr(queues, "PER_JOB", 0.0)


def say(folder: Path, kind: str, *values) -> None:
    write_state(folder, State(kind=kind, host="node", pid=1, values=values))


def test_what_runs_say_and_how_they_end_is_told_under_the_names_they_were_submitted_by(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    queue, folders = FakeQueue(), [Path("runs") / name for name in "abc"]
    executor = QueueExecutor(queue, pack=2)
    for folder in folders:
        executor.submit(folder)
    say(folders[0], "ended", "an earlier fault")  # of another attempt
    assert executor.poll(0) == []
    assert [job.pack.folders for job in queue.jobs] == [
        tuple(each.resolve() for each in folders[:2]),
        (folders[2].resolve(),),
    ]
    say(folders[0], "progress", 3, 6, 1.5)
    assert executor.poll(0) == [Event(folder=folders[0], kind="progress", values=(3, 6, 1.5))]
    assert executor.poll(0) == []  # said once
    say(folders[1], "ended", "the disk is full")
    queue.jobs[0].ends = [DONE, FAULT]
    queue.jobs[1].ends = [CLAIMED]
    assert executor.poll(0) == [
        Event(folder=folders[0], kind="ended", values=("",)),
        Event(folder=folders[1], kind="ended", values=("the disk is full",)),
        Event(folder=folders[2], kind="elsewhere"),
    ]
    assert executor.jobs == []


def test_of_a_job_that_the_queue_ended_the_runs_that_were_done_are_done(tmp_path):
    queue, folders = FakeQueue(), [tmp_path / name for name in "ab"]
    executor = QueueExecutor(queue, pack=2)
    for folder in folders:
        executor.submit(folder)
    executor.poll(0)
    write_text(folders[0] / "predictions.jsonl", "")
    write_json(folders[0] / "trained.json", {})
    queue.jobs[0].ends = GitbenchError("job 7 was ended from outside")
    assert [event.values for event in executor.poll(0)] == [("",), ("job 7 was ended from outside",)]


def test_withdrawing_spares_what_has_begun_and_an_end_ends_all(tmp_path):
    queue, folders = FakeQueue(), [tmp_path / name for name in "abc"]
    executor = QueueExecutor(queue)
    for folder in folders[:2]:
        executor.submit(folder)
    executor.poll(0)
    say(folders[0], "started")
    executor.poll(0)
    executor.submit(folders[2])
    assert sorted(executor.cancel(running=False)) == folders[1:]
    assert [job.cancelled for job in queue.jobs] == [False, True]
    executor.cancel()
    assert queue.jobs[0].cancelled


def test_a_limit_is_kept_by_jobs_in_the_queue(tmp_path):
    queue = FakeQueue()
    executor = QueueExecutor(queue, limit=2)
    for name in "abc":
        executor.submit(tmp_path / name)
    executor.poll(0)
    assert len(queue.jobs) == 2
    queue.jobs[0].ends = [CLAIMED]
    executor.poll(0)
    executor.poll(0)
    assert len(queue.jobs) == 3
    with refused("--runs-per-gpu 0: at least 1 run"):
        QueueExecutor(queue, pack=0)


def test_a_pack_is_executed_side_by_side_and_tells_how_each_ended(tmp_path, monkeypatch):
    folders = planned(make_study(tmp_path / "work"))
    body = "if path.name < max(each.name for each in path.parent.iterdir()): raise GitbenchError('no')"
    pack = Pack([folder.path for folder in folders[:2]], {"GITBENCH_PLUGINS": str(plugin(tmp_path, body))})
    statuses = dict(zip((folder.path.name for folder in folders), pack(), strict=False))
    names = [folder.path.name for folder in folders]
    assert statuses == {name: (DONE if name == max(names) else 2) for name in names[:2]}


SIGNALLED = """
import os, signal, sys, types
from pathlib import Path
from gitbench.launch.queues import Pack

def handle(*_):
    again = pack.checkpoint()
    os._exit(7 if again.folders == pack.folders and not again.processes else 8)

sys.modules["submitit"] = types.SimpleNamespace(helpers=types.SimpleNamespace(DelayedSubmission=lambda pack: pack))
signal.signal(signal.SIGUSR2, handle)
pack = Pack([Path(sys.argv[1])], {"GITBENCH_PLUGINS": sys.argv[2]})
pack()
"""


def test_a_job_that_is_signalled_ends_its_runs_and_hands_them_on(tmp_path):
    """The signal comes while the job waits for them."""
    folder = planned(make_study(tmp_path / "work"))[0].path
    job = subprocess.Popen([sys.executable, "-c", SIGNALLED, str(folder), str(plugin(tmp_path, "time.sleep(60)"))])
    deadline = time.monotonic() + 60
    while (state := read_state(folder)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR2)
    try:
        assert job.wait(30) == 7
        while Path(f"/proc/{state.pid}").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        job.kill()


# ---- Slurm --------------------------------------------------------------------------------------------------------------


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
        ray_executor("cpu")


def test_a_cluster_that_does_not_answer_is_said_in_one_line(monkeypatch):
    from gitbench.launch.ray import ray_executor

    def init(**_) -> None:
        raise Exception("The current node timed out during startup.\nMore of it")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with refused(r"no cluster can be joined \(The current node timed out during startup.\): check RAY_ADDRESS"):
        ray_executor("cpu")


def test_runs_for_gpus_do_not_wait_in_a_cluster_that_has_none(monkeypatch):
    from gitbench.launch.ray import ray_executor

    asked: list[dict] = []
    ray = SimpleNamespace(init=lambda **_: None, cluster_resources=lambda: {"CPU": 4.0})
    ray.remote = lambda **options: asked.append(options) or (lambda function: function)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with refused("planned for a GPU, and the cluster has none"):
        ray_executor("cuda", share=4)
    ray.cluster_resources = lambda: {"CPU": 4.0, "GPU": 1.0}
    ray_executor("cuda", share=4)
    ray_executor("cpu")
    assert [options["num_gpus"] for options in asked] == [0.25, 0]


def trained(folder: Path, executor=None, iterations: int = 6) -> Study:
    """Train the study of three tiny runs through an executor, None: of this machine; scores are made up."""
    study = make_study(folder, profile=tiny_profile(iterations=iterations, checkpoint_every=1))
    with nullcontext(executor) if executor else local_executor(study, 1) as chosen:
        outcome = execute_runs(study, chosen, plain=True, scorer=MadeUpScores(study, folder / "scored.log"))
    assert (outcome.completed, outcome.failed) == (3, ())
    return study


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Study:
    """A study that this machine's executor trained."""
    return trained(tmp_path_factory.mktemp("local"))


def assert_same(one: Study, other: Study) -> None:
    """Two studies have the same predictions, byte for byte, and the second was trained by other processes."""
    for run in one.plan.runs:
        folders = [study.folder(run.run_key) for study in (one, other)]
        assert len({folder.predictions.read_bytes() for folder in folders}) == 1
        assert len({read_state(folder.path).pid for folder in folders}) == 2


@pytest.mark.slow
def test_submitit_gives_the_predictions_of_this_machine(tmp_path, local):
    pytest.importorskip("submitit")
    assert_same(local, trained(tmp_path, slurm_executor(tmp_path, {}, jobs=1, cluster="local")))


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
        assert_same(local, trained(tmp_path, ray_executor("cpu", jobs=1)))
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
                if kill:
                    os.kill(read_state(folder).pid, signal.SIGKILL)
                    return True
                return (
                    subprocess.run(["scancel", "--signal=USR2", job]).returncode == 0
                )  # else it is just changing state

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
