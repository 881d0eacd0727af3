"""Tiers in processes of their own: one that crashes, hangs or dies is a result."""

from __future__ import annotations

import time

from helpers_gate import Gate, here, statuses, why

from gitbench.gate import run, words
from gitbench.gate.outcome import BEYOND, FINE, REGRESSED, STALE, UNMEASURED, overall


def test_what_was_recorded_is_fine_and_what_changes_is_red(gate: Gate, monkeypatch) -> None:
    gate.record("passes")
    fine = gate.check("passes")
    assert statuses(fine) == {"passes": FINE} and overall(fine.outcomes) == FINE
    assert fine.references["passes"].reason == "the first"
    monkeypatch.setenv("FAKE_VALUE", "3")
    changed = gate.check("passes")
    assert overall(changed.outcomes) == REGRESSED
    assert [each.excess for each in changed.outcomes[0].measured.findings] == [3.0]


def test_a_tier_that_fails_in_any_way_stops_no_other_and_is_never_fine(gate: Gate) -> None:
    names = ("passes", "crashes", "refuses", "dies", "halves", "misspells", "idles", "wavers")
    gate.record(*(name for name in names if name != "refuses"))
    check = gate.check(*names)
    assert statuses(check) == {"passes": FINE} | dict.fromkeys(names[1:], UNMEASURED)
    assert overall(check.outcomes) == UNMEASURED
    assert "ValueError: no such thing" in why(check, "crashes") and "log.txt" in why(check, "crashes")
    assert "refuses failed (the base cannot be found: name one with --base)" in why(check, "refuses")
    assert "killed by signal 9" in why(check, "dies")
    assert "damaged" in why(check, "halves") and "damaged" in why(check, "misspells")
    assert why(check, "idles") == "it compared nothing"
    assert why(check, "wavers") == "one of two could not be told"


def test_a_tier_that_finds_its_reference_to_be_of_something_else_is_stale(gate: Gate) -> None:
    gate.record("outdates")
    check = gate.check("outdates")
    assert (
        statuses(check) == {"outdates": STALE} and why(check, "outdates") == "it is of another study: record it again"
    )
    assert "it is of another study" in words.what(check.outcomes[0])


def test_no_number_and_infinity_are_findings_and_no_crash(gate: Gate) -> None:
    gate.record("explodes")
    check = gate.check("explodes")
    assert overall(check.outcomes) == REGRESSED
    measured = check.outcomes[0].measured
    assert measured.findings[0].excess == BEYOND and measured.details["curves"]["base"]["value"] == [1.0, None]


def test_a_tier_without_reference_is_stale_and_one_without_time_could_not_measure(quick: Gate, monkeypatch) -> None:
    quick.record("passes")
    monkeypatch.setattr(run, "LEAST", 100.0)
    check = quick.check("passes", "crashes")
    assert statuses(check) == {"passes": UNMEASURED, "crashes": STALE}
    assert "no time was left: raise --minutes" in why(check, "passes")
    assert "there is no reference of git on cpu-" in why(check, "crashes") and "gate record" in why(check, "crashes")


def test_a_tier_that_hangs_is_ended_in_time(gate: Gate, monkeypatch, tmp_path) -> None:
    gate.record("hangs")
    (tmp_path / "hang").touch()
    monkeypatch.setenv("FAKE_HANG", str(tmp_path / "hang"))
    monkeypatch.setattr(run, "LEAST", 0.1)
    began = time.monotonic()
    check = gate.check("hangs", seconds=1.5)
    assert time.monotonic() - began < 10
    assert statuses(check) == {"hangs": UNMEASURED} and "not done after 1 s" in why(check, "hangs")


def test_more_minutes_give_each_tier_more(quick: Gate, monkeypatch) -> None:
    quick.record("passes")
    given = []
    monkeypatch.setattr(run, "_child", lambda *more: given.append(more[-1]) or here(*more))
    for seconds in (60.0, run.USUAL, 3 * run.USUAL):
        quick.check("passes", seconds=seconds)
    assert given == [20.0, 20.0, 60.0]  # the fake's limit is 20 s


def test_a_tier_of_the_cpu_sees_no_card(gate: Gate, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    seen = []
    monkeypatch.setattr(run, "run_for", lambda command, environment, log, seconds: seen.append(environment) or -9)
    assert "killed by signal 9" in why(gate.check("refuses"), "refuses")
    assert seen[0]["CUDA_VISIBLE_DEVICES"] == ""
