"""Checks in processes of their own: one that fails, hangs or dies is a result, and the rest goes on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from helpers_cli import call, error_of
from helpers_errors import refused

from gitbench.gpu_check import run
from gitbench.gpu_check.listing import Check
from gitbench.gpu_check.page import failed, proves
from gitbench.gpu_check.results import FAILED, NOT_RUN, PASSED, TIMED_OUT, Result, read
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
    assert results[0].outcome == TIMED_OUT and "raise --budget" in results[0].said
    assert failed(results) == ["check_right"] and not proves(results)


def test_a_folder_is_cleared_of_an_earlier_proof_and_of_nothing_else(tmp_path, checks):
    folder = tmp_path / "proof"
    mine = [folder / name for name in ("mine.txt", "gpu_check.txt", "gpu_check.pyz")]
    for _ in range(2):  # the second time the first one's files are there
        results = run_checks(folder, "cpu", [checks["card"]], say=lambda line: None)
        assert len(results) == 1 and not (folder / "runs").exists()
        for path in mine:
            path.touch()
        (folder / "runs" / "0123").mkdir(parents=True)
    assert all(path.is_file() for path in mine)


@pytest.mark.parametrize("name", ["runs/0123", "logs/a.txt", "results.jsonl", "gpu_check.md", "gpu_check.json"])
@pytest.mark.parametrize("first", ["", "[1]", '{"kind": "mine"}', '{"kind": "made"}', "\xff", None])
def test_a_folder_that_holds_something_else_is_left_as_it_is(tmp_path, checks, name, first):
    for path, text in ((name, "mine"), ("results.jsonl", first)):
        if text is not None:
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(text, encoding="latin-1")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with refused("holds something else"):
        run_checks(tmp_path, "cpu", [checks["card"]])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


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


def test_the_command_says_on_a_cpu_that_no_card_did_anything(tmp_path):
    done = call("gpu-check", "--device", "cpu", "--only", "uuid,agree", "--out", str(tmp_path))
    assert done.returncode == 1 and outcomes(tmp_path) == {"agree": NOT_RUN, "uuid": NOT_RUN}
    assert f"Nothing was proven: no check passed or measured anything; page: {tmp_path}/gpu_check.md" in done.stdout
    text = (tmp_path / "gpu_check.md").read_text()
    assert "**Nothing was proven" in text and "**No GPU has run this.**" in text
    assert "| uuid | a worker that is given its card by uuid | not run: no card |" in text


@pytest.mark.parametrize(("check", "status", "said"), [("right", 0, "no check failed"), ("wrong", 1, "failed: ")])
def test_the_commands_status_is_that_of_the_checks(tmp_path, checks, monkeypatch, check, status, said):
    monkeypatch.setattr("gitbench.gpu_check.listing.chosen", lambda names: (checks[check],))
    done = call("gpu-check", "--device", "cpu", "--out", str(tmp_path / "proof"))
    assert done.returncode == status and said in done.stdout


def test_what_proves_nothing_is_not_published(tmp_path, monkeypatch):
    """Though a card is there."""
    nothing = [Result(check="card", outcome=NOT_RUN, seconds=0.0)]
    monkeypatch.setattr(run, "run_checks", lambda *_: nothing)
    monkeypatch.setattr("gitbench.gpu_check.page.publish", lambda *_: pytest.fail("it was published"))
    assert call("gpu-check", "--publish").returncode == 1


@pytest.mark.parametrize("only", ["", ",", " , "])
def test_no_check_at_all_is_refused(tmp_path, only):
    assert "--only names no check" in error_of("gpu-check", "--device", "cpu", "--only", only, "--out", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_told_with_the_option_of_this_command(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    said = error_of("gpu-check", "--device", "cpu", "--only", "uuid", "--out", str(file))
    assert "pass another --out" in said and "--work-dir" not in said and file.read_text() == "mine"


@pytest.mark.slow
def test_all_checks_pass_on_a_cpu(tmp_path):
    results = run_checks(tmp_path, "cpu")
    found = {result.check: result.outcome for result in results}
    assert {found[name] for name in ("repeat", "resume", "ddp")} == {PASSED}
    assert {found[name] for name in ("card", "arms", "sharing", "peers")} == {"measured"}
    assert {found[name] for name in ("attention", "agree", "compile", "graph", "waiting", "uuid")} == {NOT_RUN}
    assert (tmp_path / "cache").is_dir()  # the images, and nothing outside of the folder
