"""What the gate's speed measures: every activity does what it is asked for, and says what it took."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gitbench.gate import workload
from gitbench.gate.sides import Failed, Side, Worker


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


def test_a_run_that_comes_to_no_step_is_an_error(asked: dict[str, Any]) -> None:
    (Path(asked["folder"]) / "config.py").write_text("broken")
    with pytest.raises(RuntimeError, match="did not come to its first step"):
        workload.start(asked, Script())


def test_a_side_that_imports_another_gitbench_fails(tmp_path: Path) -> None:
    side = Side(name="base", tree=tmp_path, python=sys.executable, folder=tmp_path, logs=tmp_path)
    with (
        Worker(side, "plan", {"device": "cpu"}) as worker,
        pytest.raises(Failed, match="the base cannot do plan .ImportError: gitbench is"),
    ):
        worker.ready(time.monotonic() + 60)
