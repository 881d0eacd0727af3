"""The tool that counts the gate's false alarms."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from helpers_tools import TOOLS, load_tool

from gitbench.gate.outcome import FINE, REGRESSED, UNMEASURED, Finding, Measured, Outcome
from gitbench.gate.run import Check
from gitbench.gate.setting import Setting


def outcome(status: str, low: float = 0.98) -> Outcome:
    said = Finding(quantity="x", part="data", value="1", reference="2", excess=2.0, said="x takes longer")
    ratios = {"captioning": {"low": low, "high": 1.02 * low, "of": "time", "pairs": [1.0] * 12}}
    findings = (said,) if status == REGRESSED else ()
    measured = Measured(compared=1, did="", findings=findings, details={"ratios": ratios})
    return Outcome(tier="speed", status=status, seconds=60.0, measured=None if status == UNMEASURED else measured)


def test_false_alarms_are_counted_and_a_series_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    tool, csv, page = load_tool("gate_aa"), tmp_path / "aa.csv", tmp_path / "page.md"
    given = iter([outcome(FINE), outcome(REGRESSED, 1.2), outcome(UNMEASURED), *[outcome(FINE)] * 17])

    def run_check(folder: Path, setting: Setting, *_: object, **__: object) -> Check:
        assert setting.base == "HEAD"
        return Check(setting=setting, outcomes=(next(given),), references={}, began="", seconds=1.0, revision=None)

    monkeypatch.setattr(tool, "run_check", run_check)
    tool.main(["--checks", "3", "--csv", str(csv)])
    page.write_text(f"before\n{tool.BEGIN}\n<!-- end -->\nafter\n")
    tool.main(["--checks", "17", "--csv", str(csv), "--write", str(page)])
    said = page.read_text()
    assert "| 20 | 1 | 5.0 (0.1 to 24.9) | 18 | 1 | 0 | 60 (60) |" in said  # scipy's exact interval of 1 of 20
    assert "| captioning |" in said and "| 19 of 20 | 1.0 | 1.0 | +20.0 | +22.4 |" in said


def test_busy_loops_compute_and_end_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    tool, started = load_tool("gate_aa"), []
    start = subprocess.Popen
    monkeypatch.setattr(tool.subprocess, "Popen", lambda command: started.append(start(command)) or started[-1])
    with tool.loops(2):
        assert len(started) == 2 and all(each.poll() is None for each in started)
    with pytest.raises(RuntimeError), tool.loops(1):
        raise RuntimeError
    assert len(started) == 3 and all(each.poll() == -signal.SIGKILL for each in started)
