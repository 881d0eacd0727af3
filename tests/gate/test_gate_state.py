"""A check that is stopped goes on, of the same code, data, references and question; its folder is its own."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers_errors import refused
from helpers_gate import FAKES, Gate, here, statuses, why
from helpers_processes import is_gone

from gitbench.files import load_json, write_json
from gitbench.gate import run, state, words
from gitbench.gate.base import Base
from gitbench.gate.outcome import FINE, UNMEASURED

ROOT = Path(__file__).parents[2]


def started(gate: Gate) -> subprocess.Popen:
    """Start a check of two tiers, the second of which hangs."""
    command = [
        sys.executable,
        "-m",
        "gitbench",
        "gate",
        "check",
        "--tiers",
        "passes,hangs",
        "--device",
        "cpu",
        "--jobs",
        "1",
    ]
    command += ["--references", str(gate.references), "--out", str(gate.folder), "--plugin", str(FAKES)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),  # a job in the background ignores it
    )


def until(found, seconds: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def hang(tmp_path, monkeypatch) -> Path:
    """The file that makes the second tier hang."""
    monkeypatch.setenv("FAKE_HANG", str(tmp_path / "hang"))
    (tmp_path / "hang").touch()
    return tmp_path / "hang"


@pytest.mark.parametrize(
    ("number", "status", "said"), [(signal.SIGKILL, -9, ""), (signal.SIGINT, 130, "goes on from here")]
)
def test_a_check_that_is_stopped_goes_on(gate: Gate, log, hang, number, status, said) -> None:
    gate.record("passes", "hangs")
    log.unlink()
    process = started(gate)
    until((hang.parent / "pid").exists)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status and said in errors and len(errors.splitlines()) == bool(said), errors
    assert is_gone(*(hang.parent / "pid").read_text().split())
    hang.unlink()
    log.unlink()
    check = gate.check("passes", "hangs")
    assert statuses(check) == {"passes": FINE, "hangs": FINE}
    assert [outcome.resumed for outcome in check.outcomes] == [True, False]
    assert not any("passes" in line for line in gate.work(log))
    again = gate.check("passes", "hangs")  # that one came to its end
    assert [outcome.resumed for outcome in again.outcomes] == [False, False]


def stopped(gate: Gate, monkeypatch, *names: str) -> None:
    """Make a check that is stopped in its last tier."""
    checked = run._checked

    def until_the_last(folder, setting, tier, *more):  # type: ignore[no-untyped-def]
        if tier.name == names[-1]:
            raise KeyboardInterrupt
        return checked(folder, setting, tier, *more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "_checked", until_the_last)
        gate.check(*names)


def test_what_was_done_is_of_the_same_code_references_and_question(quick: Gate, monkeypatch, tmp_path) -> None:
    quick.record("passes", "idles")
    names = ("passes", "idles")

    def resumed(**more) -> bool:  # type: ignore[no-untyped-def]
        return quick.check(*names, **more).outcomes[0].resumed

    stopped(quick, monkeypatch, *names)
    assert resumed()
    stopped(quick, monkeypatch, *names)
    assert not resumed(fresh=True)
    stopped(quick, monkeypatch, *names)
    quick.record("passes", reason="another")
    assert not resumed()
    stopped(quick, monkeypatch, *names)
    quick.setting = dataclasses.replace(quick.setting, base="HEAD~1")
    assert not resumed()
    stopped(quick, monkeypatch, *names)
    monkeypatch.setattr(run, "base_of", lambda root, asked: Base(revision="2" * 40, said=asked))
    assert not resumed()
    stopped(quick, monkeypatch, *names)
    (tmp_path / "new.py").write_text("VALUE = 1\n")
    monkeypatch.setattr(state.plugins, "files", lambda: [tmp_path / "new.py"])
    assert not resumed()
    stopped(quick, monkeypatch, *names)
    (tmp_path / "new.py").write_text("VALUE = 2\n")
    assert not resumed()


def test_code_that_is_edited_meanwhile_is_not_judged(quick: Gate, monkeypatch, tmp_path) -> None:
    quick.record("passes", "idles")
    file = tmp_path / "mine.py"
    file.write_text("VALUE = 1\n")
    monkeypatch.setattr(state.plugins, "files", lambda: [file])
    monkeypatch.setattr(run, "_child", lambda *more: file.write_text("VALUE = 2\n") and here(*more))
    monkeypatch.setenv("FAKE_VALUE", "3")
    check = quick.check("passes")
    assert statuses(check) == {"passes": UNMEASURED} and "were changed while it was checked" in why(check, "passes")
    assert check.outcomes[0].measured.findings and words.first_sentence(check) is None
    assert load_json(quick.folder / state.STATE)["outcomes"] == {}


def test_what_a_tier_keeps_is_cleared_for_another_check(quick: Gate, monkeypatch) -> None:
    quick.record("passes", "idles")
    stopped(quick, monkeypatch, "passes", "idles")
    work = quick.folder / "passes" / "work.txt"
    assert len(work.read_text().splitlines()) == 2
    quick.setting = dataclasses.replace(quick.setting, jobs=2)
    quick.check("passes")
    assert len(work.read_text().splitlines()) == 2


def test_what_cannot_be_cleared_is_refused_and_not_taken_over(quick: Gate, tmp_path) -> None:
    quick.record("passes")
    quick.check("passes")
    kept = quick.folder / "passes"
    kept.rename(tmp_path / "elsewhere")
    kept.symlink_to(tmp_path / "elsewhere")
    with refused("passes cannot be written"):
        quick.check("passes")
    making = quick.folder / state.MAKING
    making.symlink_to(tmp_path / "elsewhere")
    with refused("record cannot be written"):
        quick.record("passes")


def test_a_folder_of_something_else_is_left_as_it_is(quick: Gate) -> None:
    quick.record("passes")
    quick.folder.mkdir(parents=True, exist_ok=True)
    (quick.folder / "mine.txt").write_text("mine")
    with refused("holds something else than a gate's check: pass another --out"):
        quick.check("passes")
    assert (quick.folder / "mine.txt").read_text() == "mine"


def test_the_state_of_something_else_is_no_checks(quick: Gate) -> None:
    quick.record("passes")
    write_json(quick.folder / state.STATE, {"state": "done"})  # as a run folder's
    (quick.folder / "model.pth").write_text("mine")
    with refused("holds something else than a gate's check"):
        quick.check("passes")
    assert (quick.folder / "model.pth").read_text() == "mine"


def test_a_kill_while_a_folder_is_cleared_leaves_one_that_can_be_used(quick: Gate, monkeypatch) -> None:
    quick.record("passes")
    quick.check("passes")
    (quick.folder / state.MAKING / "quality").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(state.shutil, "rmtree", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            quick.check("passes")
    assert statuses(quick.check("passes")) == {"passes": FINE}
    assert (quick.folder / state.MAKING / "quality").is_dir()  # seeds of a record that was stopped


def test_two_gates_do_not_work_in_one_folder(quick: Gate) -> None:
    quick.record("passes")
    with state.alone(quick.folder):
        for act in (quick.check, quick.record):
            with refused("another gate is at work"):
                act("passes")
    assert statuses(quick.check("passes")) == {"passes": FINE}
