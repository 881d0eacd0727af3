"""The unit of work, as every executor starts it: one process, one run folder, all that is said lies in the folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers_errors import refused
from helpers_launch import planned, plugin, worker
from helpers_processes import is_gone
from helpers_study import make_study

from gitbench.claim import Claim, holder
from gitbench.files import write_json
from gitbench.launch.executor import end_of
from gitbench.launch.state import read_state
from gitbench.launch.work import CLAIMED, DONE, FAULT, FOUND, LOST, ORPHAN, REFUSED, _Speaker
from gitbench.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    """The folder of a run that was planned and not begun."""
    return planned(make_study(tmp_path / "work"))[0]


def ended(process: subprocess.Popen) -> int:
    out, err = process.communicate(timeout=120)
    return process.returncode


def test_a_run_leaves_where_it_was_made_how_it_ended_and_no_claim(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("GITBENCH_SHARING", "MPS")  # by a place on a card
    for leftover in (folder.path / ".model.pth.1.tmp.pth", tmp_path / ".other.tmp"):
        leftover.write_text("half")
    assert ended(worker(folder.path, plugin=plugin(tmp_path))) == DONE
    found = json.loads(folder.provenance.read_text())
    assert found["command"] == "gitbench run tiny" and found["packages"]["torch"] != "absent" and found["started"]
    assert found["sharing"] == "MPS"
    assert read_state(folder.path).kind == "ended" and end_of(folder.path, DONE).values == ("",)
    assert folder.captioned and holder(folder.claim) is None
    assert [*folder.path.glob(".*")] == [] and (tmp_path / ".other.tmp").is_file()
    assert ended(worker(folder.path, plugin=plugin(tmp_path, "1 / 0"))) == FOUND


def test_a_run_in_other_hands_is_left_alone_with_all_its_files(folder, tmp_path):
    """So a second host removes nothing that the first one is writing."""
    claim = Claim(folder.claim)
    assert claim.take()
    (folder.path / ".model.pth.1.tmp.pth").write_text("half")

    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in folder.path.iterdir() if path.name != "claim.1"}

    before = files()
    assert ended(worker(folder.path, plugin=plugin(tmp_path, "1 / 0"))) == CLAIMED
    assert before == files() and len(before) == 3
    assert end_of(folder.path, CLAIMED).kind == "elsewhere"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ('raise GitbenchError("the disk is full: free some space")', REFUSED, "the disk is full: free some space"),
        ('raise ValueError("no such\\nthing")', FAULT, "ValueError: no such (see "),
        ('progress(3, 6, 1.5)\nraise KeyError("a")', FAULT, "KeyError: 'a' (see "),
    ],
)
def test_what_went_wrong_is_said_in_one_line(folder, tmp_path, body, status, said):
    assert ended(worker(folder.path, plugin=plugin(tmp_path, body))) == status
    (message,) = end_of(folder.path, status).values
    assert message.startswith(said) and holder(folder.claim) is None
    assert ("Traceback" in folder.log.read_text()) == (status == FAULT)


def test_a_full_disk_is_said_where_the_worker_could_say_nothing(folder, monkeypatch):
    shutil.rmtree(folder.path)
    folder.path.mkdir()
    assert end_of(folder.path, REFUSED).values == (f"failed (exit status 2, see {folder.log})",)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: (_ for _ in ()).throw(OSError(116, "Stale file handle")))
    assert end_of(folder.path, REFUSED).values == (f"failed (exit status 2, see {folder.log})",)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    assert end_of(folder.path, REFUSED).values[0].startswith(f"the disk of {folder.path} is full: free some space")


def test_a_killed_worker_is_said_to_be_killed_and_the_next_one_begins_at_once(folder, tmp_path):
    process = worker(folder.path, plugin=plugin(tmp_path, "time.sleep(60)"))
    deadline = time.monotonic() + 60
    while read_state(folder.path) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    assert ended(process) == -signal.SIGKILL
    assert end_of(folder.path, process.returncode).values == ("killed by signal 9",)
    assert ended(worker(folder.path, plugin=plugin(tmp_path))) == DONE


TAKEN_OVER = """
import os
from gitbench.claim import Claim
(mine,) = path.glob("claim.*")
os.utime(mine, (1, 1))  # it has slept for long
other = Claim(path / "claim")
assert other.take()
"""


def test_a_worker_whose_run_was_taken_over_while_it_slept_writes_no_result(folder, tmp_path):
    assert ended(worker(folder.path, plugin=plugin(tmp_path, TAKEN_OVER))) == LOST
    assert not folder.predictions.exists() and not folder.trained.exists()
    assert end_of(folder.path, LOST).kind == "elsewhere" and read_state(folder.path).kind == "started"


def test_the_state_says_how_far_a_run_is(folder, tmp_path):
    body = "pretraining(1, 2)\nprogress(1, 6, 9.0)\ntime.sleep(2.2)\nprogress(2, 6, 2.5)\nraise SystemExit(9)"
    assert ended(worker(folder.path, plugin=plugin(tmp_path, body))) == 9
    state = read_state(folder.path)
    assert (state.kind, state.values) == ("progress", (2, 6, 2.5)) and state.host and state.pid


def test_a_training_goes_on_where_its_state_cannot_be_written_now(folder):
    speaker = _Speaker(folder, every=0.0)
    folder.state.mkdir()
    speaker.hear("progress", 1, 6, 9.0)
    with refused("state.json cannot be"):
        speaker.say("started")
    folder.state.rmdir()
    speaker.hear("progress", 2, 6, 8.0)
    assert read_state(folder.path).values == (2, 6, 8.0)


def test_several_folders_are_executed_one_after_the_other(tmp_path):
    folders = planned(make_study(tmp_path / "work"))
    write_json(folders[0].trained, {})
    folders[0].predictions.write_text("")
    claim = Claim(folders[1].claim)
    assert claim.take()
    process = worker(*(each.path for each in folders), tmp_path / "no-run", plugin=plugin(tmp_path))
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert [line.rpartition(": ")[2] for line in out.splitlines()] == [
        "done before",
        "another process works on it",
        "done",
    ]
    claim.release()
    process = worker(*(each.path for each in folders), plugin=plugin(tmp_path, "1 / 0"))
    out, _ = process.communicate(timeout=120)
    assert process.returncode == FAULT and out.count("failed (exit status 1, see ") == out.count("/log.txt)") == 1
    process = worker(tmp_path / "no-run", plugin=plugin(tmp_path))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == REFUSED and "pass the folders of planned runs" in errors


LAUNCHER = """
import multiprocessing, sys, time
from pathlib import Path
from types import SimpleNamespace
from gitbench.launch.work import run_worker
if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=run_worker, args=(Path(sys.argv[1]), {"GITBENCH_PLUGINS": sys.argv[2]}))
    process.start()
    process.join()
"""


@pytest.mark.parametrize("queued", [False, True])
def test_a_worker_ends_with_the_process_that_started_it(folder, tmp_path, queued):
    """With the launcher that had it forked; with the job of a queue, not with whoever queued that."""
    slow = plugin(tmp_path, "time.sleep(60)")
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    environment = {**os.environ, "GITBENCH_PLUGINS": str(slow)}
    command = [sys.executable, str(tmp_path / "launcher.py"), str(folder.path), str(slow)]
    if queued:
        code = "import sys; from pathlib import Path; from gitbench.launch.queues import Pack; Pack([Path(sys.argv[1])], {})()"
        command = [sys.executable, "-c", code, str(folder.path)]
    launcher = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 60
    while (state := read_state(folder.path)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    launcher.kill()
    launcher.wait()
    assert is_gone(state.pid)
    assert holder(folder.claim) is None
    assert end_of(folder.path, ORPHAN).values == ("ended with its launcher",)


def test_a_worker_whose_starter_was_gone_before_it_could_ask_ends(folder, tmp_path):
    process = worker("--parent", 2**22 + 1, folder.path, plugin=plugin(tmp_path, "time.sleep(60)"))
    assert ended(process) == ORPHAN and not folder.captioned
