"""Checks in processes of their own: one that fails, hangs or dies is a result, and the rest goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers_errors import refused

from gitbench.gpu_check import run
from gitbench.gpu_check.listing import Check
from gitbench.gpu_check.results import FAILED, NOT_RUN, PASSED, TIMED_OUT, read
from gitbench.gpu_check.run import driver_version, run_checks

BODIES = {
    "right": "report.judge('it is right', True, 'that')",
    "wrong": "report.judge('it is right', False, 'that', value=3)",
    "broken": "raise ValueError('no such thing')",
    "killed": "report.judge('until then', True, 'that'); os.kill(os.getpid(), 9)",
    "hanging": "report.judge('until then', True, 'that'); "
    "open(setting.path('pid'), 'w').write(str(subprocess.Popen(['sleep', '100']).pid)); time.sleep(100)",
    "card": "report.judge('it is right', True, 'that')",
}


@pytest.fixture
def checks(tmp_path, monkeypatch) -> dict[str, Check]:
    """Checks of the bodies above, by name."""
    for name, body in BODIES.items():
        lines = f"import os, subprocess, time\ndef check(setting, report):\n    {body}\n"
        (tmp_path / f"check_{name}.py").write_text(lines)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(run, "gpus", lambda: ())
    return {
        name: Check(name=f"check_{name}", doc="", seconds=480.0, within="", needs_card=name == "card")
        for name in BODIES
    }


def outcomes(folder: Path) -> dict[str, str]:
    return {result.check: result.outcome for result in read(folder / "results.jsonl")[1]}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_what_one_check_does_stops_no_other(tmp_path, checks):
    folder, said = tmp_path / "proof", []
    wanted = [checks[name] for name in ("wrong", "broken", "killed", "card", "right")]
    results = run_checks(folder, "cpu", wanted, say=said.append)
    assert [result.outcome for result in results] == [FAILED, FAILED, FAILED, NOT_RUN, PASSED]
    wrong, broken, killed, card, _ = results
    assert "    failed: it is right: 3 (asked: that)" in said
    assert broken.said == "ValueError: no such thing" and killed.said == "killed by signal 9" and card.said == "no card"
    assert [finding.what for finding in killed.findings] == ["until then"]
    assert "| check_killed |  | **failed: killed by signal 9** |" in (folder / "gpu_check.md").read_text()


def test_a_check_that_hangs_is_ended_with_all_that_it_started_and_keeps_what_it_found(tmp_path, checks):
    folder = tmp_path / "proof"
    began = time.monotonic()
    results = run_checks(folder, "cpu", [checks["hanging"], checks["right"]], budget=6.0, say=lambda line: None)
    assert time.monotonic() - began < 30
    assert [result.outcome for result in results] == [TIMED_OUT, PASSED]
    assert [finding.passed for finding in results[0].findings] == [True]
    assert not alive(int((folder / "pid").read_text()))


def test_a_check_for_which_no_time_is_left_is_not_begun(tmp_path, checks):
    results = run_checks(tmp_path / "proof", "cpu", [checks["right"]], budget=1.0, say=lambda line: None)
    assert results[0].outcome == NOT_RUN and "raise --budget" in results[0].said


def test_a_folder_is_cleared_of_an_earlier_proof_and_of_nothing_else(tmp_path, checks):
    folder = tmp_path / "proof"
    run_checks(folder, "cpu", [checks["wrong"]], say=lambda line: None)
    (folder / "mine.txt").write_text("mine")
    run_checks(folder, "cpu", [checks["right"]], say=lambda line: None)
    assert outcomes(folder) == {"check_right": PASSED} and (folder / "mine.txt").is_file()
    other = tmp_path / "work_dirs"
    (other / "runs" / "0123").mkdir(parents=True)
    with refused("holds something else"):
        run_checks(other, "cpu", [checks["right"]])
    assert (other / "runs" / "0123").is_dir()


def test_without_a_card_nothing_is_proven(tmp_path, checks):
    with refused("no GPU is in sight, so that nothing can be proven"):
        run_checks(tmp_path / "proof", "cuda", [checks["right"]])
    assert not (tmp_path / "proof").exists()


def test_the_driver_tells_its_version(tmp_path):
    told = tmp_path / "version"
    told.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\nGCC version: 13\n"
    )
    assert driver_version(told) == "580.159.04"


def test_the_command_runs_on_a_cpu_and_says_that_no_card_did(tmp_path):
    command = [
        sys.executable,
        "-m",
        "gitbench",
        "gpu-check",
        "--device",
        "cpu",
        "--only",
        "card,uuid",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(tmp_path) == {"card": "measured", "uuid": NOT_RUN}
    assert f"no check failed; page: {tmp_path}/gpu_check.md" in done.stdout
    text = (tmp_path / "gpu_check.md").read_text()
    assert (
        "**No GPU has run this.**" in text
        and "| uuid | a worker that is given its card by uuid | not run: no card |" in text
    )
    assert (tmp_path / "cache").is_dir()  # the images, and nothing outside of the folder


@pytest.mark.slow
def test_all_checks_pass_on_a_cpu(tmp_path):
    results = run_checks(tmp_path, "cpu")
    found = {result.check: result.outcome for result in results}
    assert {found[name] for name in ("repeat", "resume", "ddp")} == {PASSED}
    assert {found[name] for name in ("card", "arms", "sharing", "peers")} == {"measured"}
    assert {found[name] for name in ("attention", "agree", "compile", "graph", "waiting", "uuid")} == {NOT_RUN}
