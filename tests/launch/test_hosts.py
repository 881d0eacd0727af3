"""Launches on two hosts that share a work directory on a file system without locks, and what is left when one is killed.

Real launches with real workers; only training is made up, hosts are names, and claims go stale in seconds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

SITE = """
import errno, fcntl, os, signal, socket, sys, time, types
from pathlib import Path

def refuse(*_):
    raise OSError(errno.ENOSYS, "this file system has no locks")

fcntl.flock = fcntl.lockf = refuse
socket.gethostname = lambda: os.environ["HOST_NAME"]

def execute(path, progress, pretraining):
    from gitbench.files import write_json, write_text
    tried = path / "tried"
    if not tried.exists():
        tried.touch()
        if int(path.name, 16) % 3 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(os.environ["SECONDS_A_RUN"]))
    write_text(path / "predictions.jsonl", path.name)
    write_json(path / "trained.json", {})
    with open(path.parent.parent / "trained.log", "a") as log:
        log.write(path.name + " " + os.environ["HOST_NAME"] + chr(10))
    return True

sys.modules["gitbench.training.run"] = types.SimpleNamespace(execute=execute)
import gitbench.claim
gitbench.claim.STALE, gitbench.claim.BEAT = 10.0, 0.2
"""
LAUNCH = """
if __name__ == "__main__":  # each worker imports what stands above it
    import dataclasses, json, os, sys, time
    from pathlib import Path
    from helpers_launch import MadeUpScores
    from helpers_study import make_study
    from gitbench.launch import session
    from gitbench.launch.scheduling import execute_runs, local_executor
    session.LOOK = session.LOOK_BUSY = 0.2
    work = Path(sys.argv[1])
    study = make_study(work, replicates=4)
    with local_executor(study, 2) as executor:
        (work.parent / f"ready.{os.environ['HOST_NAME']}").touch()
        deadline = time.monotonic() + 120
        while len([*work.parent.glob("ready.*")]) < int(sys.argv[2]):
            assert time.monotonic() < deadline, "the other launch is not there"
            time.sleep(0.01)
        outcome = execute_runs(study, executor, plain=True, scorer=MadeUpScores(study, work / "scored.log"))
    print(json.dumps(dataclasses.asdict(outcome)))
"""


@pytest.fixture
def hosts(tmp_path):
    """Return what starts a launch on a host of some name, on the work directory that all share, once so many are ready."""
    for name, text in (("sitecustomize.py", SITE), ("launch.py", LAUNCH)):
        (tmp_path / name).write_text(text)
    started: list[subprocess.Popen] = []

    def start(host: str, seconds: float = 0.3, together: int = 1) -> subprocess.Popen:
        tests = Path(__file__).parents[1]
        path = os.pathsep.join([str(tmp_path), str(tests), str(tests.parent)])
        environment = {**os.environ, "PYTHONPATH": path, "HOST_NAME": host, "SECONDS_A_RUN": str(seconds)}
        command = [sys.executable, str(tmp_path / "launch.py"), str(tmp_path / "work"), str(together)]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def outcome_of(process: subprocess.Popen) -> dict:
    out, _ = process.communicate(timeout=500)
    assert process.returncode == 0, out
    return json.loads(out.splitlines()[-1])


def keys_of(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().splitlines()] if path.is_file() else []


def assert_each_once(work: Path) -> None:
    """Every run was trained to its end once, and scored once; no claim and nothing half-written is left."""
    for log in ("trained.log", "scored.log"):
        assert sorted(Counter(keys_of(work / log)).values()) == [1] * 12, log
    assert not list(work.rglob("claim.*")) and not list(work.rglob(".*"))


@pytest.mark.timeout(600)
def test_two_hosts_share_the_runs_out_without_locks_though_workers_are_killed(hosts, tmp_path):
    outcomes = [outcome_of(process) for process in [hosts(name, seconds=1.0, together=2) for name in "ab"]]
    assert_each_once(tmp_path / "work")
    assert [each["completed"] + each["others"] for each in outcomes] == [12, 12]
    assert sum(each["completed"] for each in outcomes) == 12
    assert not any(each["failed"] or each["under_way"] or each["left"] for each in outcomes)
    hosts_that_trained = Counter(
        line.split()[1] for line in (tmp_path / "work" / "trained.log").read_text().splitlines()
    )
    assert min(hosts_that_trained["a"], hosts_that_trained["b"]) >= 3


@pytest.mark.timeout(600)
@pytest.mark.parametrize("survivor", [pytest.param("another host", marks=pytest.mark.slow), "the same host"])
def test_what_a_killed_launch_held_is_trained_once_by_another(hosts, tmp_path, survivor):
    """SIGKILL of the launch alone: its workers end with it."""
    first = hosts("a", seconds=1.0)
    other = hosts("b", seconds=0.3) if survivor == "another host" else None
    deadline = time.monotonic() + 300
    while len(keys_of(tmp_path / "work" / "trained.log")) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    found = outcome_of(other or hosts("a"))
    assert_each_once(tmp_path / "work")
    assert found["completed"] + found["others"] + found["found"] == 12 and not found["failed"]
