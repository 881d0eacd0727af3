"""Two launches that write the same file of a study at the same time: the second one waits, and nothing is lost."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_runs import NAME, make_work_dir

from gitbench.claim import Claim
from gitbench.study import store
from gitbench.study.interim import judge
from gitbench.study.store import Study


@pytest.fixture
def work(tmp_path) -> Path:
    """A work directory with the records of four replicates, of which nothing was entered and nobody looked at."""
    return make_work_dir(tmp_path, replicates=4, records_only=True)


def at_once(monkeypatch, first: Callable[[], object], second: Callable[[], object]) -> None:
    """Do both; what is `first` stops before its file is written, until the second one waits for it or has overtaken it."""
    written, asked, write, take = [], threading.Event(), store.write_json, Claim.take
    other = threading.Thread(target=second, daemon=True)

    def slow(path: Path, value: object) -> None:
        if not written:
            written.append(path)
            other.start()
            while other.is_alive() and not asked.wait(0.01):
                pass
        write(path, value)

    def taken(claim: Claim) -> bool:
        held = take(claim)
        if threading.current_thread() is other and not held:
            asked.set()
        return held

    monkeypatch.setattr(store, "write_json", slow)
    monkeypatch.setattr(Claim, "take", taken)
    first()
    other.join(60)
    assert written and not other.is_alive()


def test_runs_that_two_launches_enter_at_the_same_time_are_all_listed(work, monkeypatch):
    one, two = Study.open(work, NAME), Study.open(work, NAME)
    runs = one.plan.runs
    at_once(monkeypatch, lambda: one.adopt(runs[::2]), lambda: two.adopt(runs[1::2]))
    manifest = Study.open(work, NAME).manifest
    listed = {entry.run_key for entry in manifest.runs}
    assert manifest.unchained is None and listed >= {run.run_key for run in runs}


def test_looks_of_two_commands_at_the_same_time_are_both_kept(work, monkeypatch):
    def study(seeds: int) -> Study:
        plan = Study.open(work, NAME).plan
        runs = tuple(run for run in plan.runs if run.replicate < seeds)
        return Study(work, dataclasses.replace(plan, runs=runs))

    at_once(monkeypatch, lambda: judge(study(3), "report"), lambda: judge(study(4), "explain"))
    looks = Study.open(work, NAME).looks
    assert [look.command for look in looks.looks] == ["report", "explain"] and looks.unchained is None
