"""A daemon of MPS for each card that runs share: tried out, handed on, and stopped however the launch ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers_processes import alive, is_gone

from gitbench.launch import mps
from gitbench.machine import Gpu

# As NVIDIA's: `-d` leaves a daemon behind, which "quit" on the standard input of another call stops.
PROGRAM = """#!/bin/sh
if [ "$1" = -d ]; then
    [ -z "$BROKEN" ] || exit 1
    sleep 600 &
    echo $! > "$CUDA_MPS_PIPE_DIRECTORY/pid"
    echo "$! $CUDA_VISIBLE_DEVICES $CUDA_MPS_PIPE_DIRECTORY" >> "$STARTED"
else
    read word rest
    [ "$word" = quit ] && kill "$(cat "$CUDA_MPS_PIPE_DIRECTORY/pid")"
fi
"""
CARDS = [Gpu(uuid=f"GPU-{name}", name=name, free_gib=70.0, total_gib=80.0, capability=(9, 0)) for name in "ab"]


@pytest.fixture
def started(tmp_path, monkeypatch) -> Path:
    """NVIDIA's program is installed, and CUDA works under it: the file in which it lists its daemons."""
    program = tmp_path / "bin" / mps.PROGRAM
    program.parent.mkdir()
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STARTED", str(tmp_path / "started"))
    monkeypatch.setattr(
        mps, "ask_driver", lambda environment: {"cards": [{"mps": "CUDA_MPS_PIPE_DIRECTORY" in environment}]}
    )
    return tmp_path / "started"


def daemons(started: Path) -> list[list[str]]:
    """Return process id, card and folder of every daemon that was started."""
    return [line.split() for line in started.read_text().splitlines()] if started.exists() else []


@pytest.mark.parametrize("ends", [None, KeyboardInterrupt])
def test_each_card_has_a_daemon_of_its_own_while_runs_may_need_it(started, ends):
    try:
        with mps.shared(CARDS) as environments:
            (first, card, folder), (second, other, _) = daemons(started)
            assert (card, other) == ("GPU-a", "GPU-b") and alive(first) and alive(second)
            assert environments["GPU-a"] == {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
            assert environments["GPU-b"]["CUDA_MPS_PIPE_DIRECTORY"] != folder and os.path.isdir(folder)
            if ends:
                raise ends
    except KeyboardInterrupt:
        pass
    assert is_gone(first, second) and not os.path.exists(folder)


def test_a_launcher_that_is_killed_leaves_no_daemon_behind(started):
    code = (
        "import sys, time; from gitbench.launch import mps; from gitbench.machine import Gpu\n"
        "mps.ask_driver = lambda environment: {'cards': [{'mps': True}]}\n"
        "card = Gpu(uuid='GPU-a', name='a', free_gib=70.0, total_gib=80.0, capability=(9, 0))\n"
        "with mps.shared([card]): print('ready', flush=True); time.sleep(100)"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert launcher.stdout is not None and launcher.stdout.readline() == b"ready\n"
    ((pid, _, folder),) = daemons(started)
    assert alive(pid)
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    deadline = time.monotonic() + 20
    while (alive(pid) or os.path.exists(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert is_gone(pid)
    assert not os.path.exists(folder)


@pytest.mark.parametrize(
    "said", [{"code": 805, "error": "CUDA_ERROR_MPS_CONNECTION_FAILED"}, {"cards": [{"mps": False}]}]
)
def test_where_cuda_does_not_work_under_it_the_daemon_is_stopped_and_runs_take_turns(started, monkeypatch, said):
    monkeypatch.setattr(mps, "ask_driver", lambda environment: said)
    with mps.shared(CARDS[:1]) as environments:
        ((pid, *_),) = daemons(started)
        assert environments == {} and is_gone(pid)


def test_where_it_does_not_start_or_is_not_installed_or_is_there_already_runs_go_without(started, monkeypatch):
    monkeypatch.setenv("BROKEN", "1")
    with mps.shared(CARDS) as environments:
        assert environments == {}
    monkeypatch.delenv("BROKEN")
    others = [
        Gpu(uuid="GPU-c", name="served by a daemon", free_gib=9.0, total_gib=9.0, capability=(9, 0), mps=True),
        Gpu(uuid="GPU-d", name="Pascal", free_gib=9.0, total_gib=9.0, capability=(6, 1)),
    ]
    with mps.shared(others) as environments:
        assert environments == {}
    monkeypatch.setattr(mps.shutil, "which", lambda program: None)
    with mps.shared(CARDS) as environments:
        assert environments == {} and daemons(started) == []
