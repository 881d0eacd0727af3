"""The gate with fake tiers, and checks that were made by nobody."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gitbench import plugins
from gitbench.files import read_json, write_json
from gitbench.gate import listing, run
from gitbench.gate.child import as_json
from gitbench.gate.listing import Tier
from gitbench.gate.outcome import FINE, REGRESSED, STALE, UNMEASURED, Finding, Measured, Outcome
from gitbench.gate.reference import Reference, new_reference
from gitbench.gate.run import Check
from gitbench.gate.setting import Setting
from gitbench.gate.trainings import Training

SMALL = {"encoder": "vit_1x64_p8_64", "decoder": "self_1x64", "encoder_init": "random"}
TINY = Training(name="tiny", variants=SMALL, steps=8, images=18)
FAKES = Path(__file__).with_name("helpers_fake_tiers.py")


class Gate:
    """A gate of fake tiers in a folder of its own, with references there."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.place, self.folder, self.references = place, place / "work" / "gate", place / "gate"
        self.setting = Setting(folder="")

    def tiers(self, *names: str) -> Sequence[Tier]:
        return listing.chosen(",".join(names))

    def record(self, *names: str, reason: str = "the first", work: Any = None) -> list[Path]:
        """Make references, in this process unless `work` is another way."""
        with self.monkeypatch.context() as patch:
            patch.setattr(run, "_child", work or here)
            tiers = self.tiers(*names)
            return run.record(self.folder, self.setting, tiers, self.references, reason, say=lambda line: None)

    def check(self, *names: str, seconds: float = 60.0, **more: Any) -> Check:
        quiet = {"say": lambda line: None, **more}
        return run.run_check(self.folder, self.setting, self.tiers(*names), self.references, seconds, **quiet)

    def work(self, log: Path) -> list[str]:
        """Return what the tiers' processes have done: "checked passes", ..."""
        return log.read_text().splitlines() if log.exists() else []


def here(own: Path, setting: Setting, tier: Tier, values: str, result: Path, seconds: float | None) -> None:
    """Do a tier's work in this process."""
    module: Any = sys.modules[tier.module]
    write_json(result, module.measure(setting) if values == "-" else as_json(module.check(setting, read_json(values))))


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """A gate of fake tiers."""
    monkeypatch.setattr(listing, "TIERS", listing.TIERS)
    monkeypatch.setattr(listing, "BY_NAME", dict(listing.BY_NAME))
    monkeypatch.delitem(sys.modules, f"gitbench_file_{FAKES.stem}", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    plugins.load([str(FAKES)])
    return Gate(tmp_path, monkeypatch)


@pytest.fixture
def quick(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """A gate whose tiers work in this process."""

    monkeypatch.setattr(run, "_child", here)
    return gate


def finding(**more: Any) -> Finding:
    """A quantity out of its band."""
    usual: dict[str, Any] = {"quantity": "logits", "part": "decoder", "value": "1.3", "reference": "1.4", "excess": 3e7}
    return Finding(**{**usual, "said": "logits differ by 3.1e-2", **more})


def made_check(*outcomes: Outcome, **more: Any) -> Check:
    """A check that ended so."""
    setting = Setting(folder="")
    references: dict[str, Reference] = {
        each.tier: new_reference(each.tier, setting.subject, "cpu", "made for a test", {})
        for each in outcomes
        if each.tier != "speed"
    }
    usual: dict[str, Any] = {"began": "2025-01-31T12:00:00Z", "seconds": 71.4, "revision": "0123456789abcdef"}
    return Check(setting=setting, outcomes=outcomes, references=references, **{**usual, **more})


def fine(tier: str, **more: Any) -> Outcome:
    """A tier that is fine."""
    measured = Measured(compared=3, did="three values", **more)
    return Outcome(tier=tier, status=FINE, seconds=12.0, measured=measured)


def red(tier: str, *findings: Finding, **more: Any) -> Outcome:
    """A tier that has regressed."""
    measured = Measured(compared=3, did="three values", findings=findings or (finding(),), **more)
    return Outcome(tier=tier, status=REGRESSED, seconds=12.0, measured=measured)


def stale(tier: str, *findings: Finding) -> Outcome:
    """A tier whose reference is stale."""
    measured = Measured(compared=3, did="three values", findings=findings)
    why = ("numerics version 8, the reference has 7",)
    return Outcome(tier=tier, status=STALE, seconds=12.0, measured=measured, why=why)


def unmeasured(tier: str) -> Outcome:
    """A tier that could not measure."""
    return Outcome(tier=tier, status=UNMEASURED, seconds=400.0, why=("not done after 400 s",))


def statuses(check: Check) -> dict[str, str]:
    """Return tier -> how it ended."""
    return {outcome.tier: outcome.status for outcome in check.outcomes}


def why(check: Check, tier: str) -> str:
    """Return why a tier ended so."""
    return "; ".join(next(outcome for outcome in check.outcomes if outcome.tier == tier).why)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tiers' processes say what they did."""
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log.txt"))
    return tmp_path / "log.txt"
