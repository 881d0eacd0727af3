"""What the gate's speed measures: every activity does what it is asked for, and says what it took."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gitbench.gate import workload
from gitbench.gate.sides import Failed, Side, Worker
from gitbench.variants import AXES
from gitbench.variants.decoder import decoder


class Done(BaseException):
    """Nothing more is asked for."""


class Script(workload.Turns):
    """Asks for two units twice, and keeps what is told."""

    def __init__(self) -> None:
        self.device, self.imported = "cpu", None
        self.asked: list[int] = [2, 2]
        self.heard: list[dict[str, Any]] = []

    def wait(self) -> int:
        if not self.asked:
            raise Done
        return self.asked.pop()

    def tell(self, **said: Any) -> None:
        if self.imported is not None:
            said["memory"] = workload.memory(self.device) - self.imported
        self.heard.append(said)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_before: None) -> dict[str, Any]:
    """A run that was planned, of few images."""
    for name, value in {"SCORED": 4, "WARM": 2, "CAPTIONED": 2, "TOKENS": 5}.items():
        monkeypatch.setattr(workload, name, value)
    monkeypatch.setattr(workload, "IMAGES", {"train_images": 32, "val_images": 2, "test_images": 4})
    found = {"variants": {}, "task": "caption", "data": None, "device": "cpu", "folder": str(tmp_path)}
    with pytest.raises(Done):
        workload.plan(found, Script())
    return found


@pytest.mark.parametrize("activity", [name for name in workload.ACTIVITIES if name != "plan"])
def test_an_activity_does_what_it_is_asked_for(activity: str, asked: dict[str, Any]) -> None:
    turns = Script()
    with pytest.raises(Done):
        workload.ACTIVITIES[activity](asked, turns)
    ready, *told = turns.heard
    assert ready["ready"] and len(told) == 2
    for each in told:
        assert each["seconds"] > 0 and each["processor"] > 0
        assert ("memory" in each) == (activity in ("train", "caption"))
        if activity == "train":
            assert 0 < each["waited"] < each["seconds"]


def test_a_run_that_comes_to_no_step_is_an_error(asked: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    (Path(asked["folder"]) / "config.py").write_text("broken")
    turns = Script()
    with pytest.raises(subprocess.CalledProcessError, match="a run up to its first step' returned non-zero"):
        workload.start(asked, turns)
    assert "name 'broken' is not defined" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "machine"),
    [
        (AttributeError("'Batches' object has no attribute 'waited'"), False),
        (subprocess.CalledProcessError(1, "gitbench list"), False),
        (subprocess.CalledProcessError(-9, "gitbench list"), True),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), True),
        (MemoryError(), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
    ],
)
def test_it_says_why_it_gives_up_and_whether_that_is_the_machines_fault(error: Exception, machine: bool) -> None:
    turns = Script()
    workload.give_up(error, turns)
    (told,) = turns.heard
    assert told["failed"].startswith(type(error).__name__) and str(error) in told["failed"]
    assert told["of_machine"] == machine


def test_it_gives_up_with_a_reason_where_its_gitbench_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __getattr__(self, name: str) -> None:
            raise SyntaxError("invalid syntax")

    monkeypatch.setitem(sys.modules, "gitbench.gate.exact.faults", Broken())
    turns = Script()
    workload.give_up(SyntaxError("invalid syntax"), turns)
    assert turns.heard == [{"failed": "SyntaxError: invalid syntax", "of_machine": False}]


def test_a_decoder_of_few_positions_captions_as_long_as_it_can(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(AXES["decoder"].variants, "short", decoder("self", 1, 32, max_positions=20))
    monkeypatch.setattr(workload, "TOKENS", 40)
    with pytest.raises(Done):
        workload.plan(asked | {"variants": {"decoder": "short"}}, Script())
    turns = Script()
    with pytest.raises(Done):
        workload.caption(asked, turns)
    assert len(turns.heard) == 3


def test_a_side_that_imports_another_gitbench_fails(tmp_path: Path) -> None:
    side = Side(name="base", tree=tmp_path, python=sys.executable, folder=tmp_path, logs=tmp_path)
    with (
        Worker(side, "plan", {"device": "cpu"}) as worker,
        pytest.raises(Failed, match="the base cannot do plan .ImportError: gitbench is"),
    ):
        worker.ready(time.monotonic() + 60)
