"""Tiers in processes of their own: one that crashes, hangs or dies is a result; a check that is stopped goes on."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_data import row, write_parquet
from helpers_errors import refused
from helpers_gate import FAKES, Gate, here
from helpers_processes import is_gone

from gitbench.files import load_json, write_json
from gitbench.gate import reference, run, state, words
from gitbench.gate.base import Base
from gitbench.gate.outcome import BEYOND, FINE, REGRESSED, STALE, UNMEASURED, overall
from gitbench.gate.setting import Subject
from gitbench.run_key import NUMERICS_VERSION, from_json

ROOT, CHILD = Path(__file__).parents[2], run._child


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    """Where the tiers' processes say what they did."""
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log.txt"))
    return tmp_path / "log.txt"


def statuses(check: run.Check) -> dict[str, str]:
    return {outcome.tier: outcome.status for outcome in check.outcomes}


def why(check: run.Check, tier: str) -> str:
    return "; ".join(next(outcome for outcome in check.outcomes if outcome.tier == tier).why)


def edit(file: Path, **origin: Any) -> None:
    """Let a reference have been made of something else."""
    made = from_json(reference.Reference, json.loads(file.read_text()))
    other = dataclasses.replace(made, origin=dataclasses.replace(made.origin, **origin))
    file.write_text(json.dumps(dataclasses.asdict(reference.signed(other))))


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


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("numerics", NUMERICS_VERSION + 1, "numerics version"), ("data", "scenes 0", "data version")],
)
def test_a_reference_of_something_else_is_stale_whether_values_differ_or_not(
    quick: Gate,
    monkeypatch,
    field,
    value,
    said,
) -> None:
    (file,) = quick.record("passes")
    edit(file, **{field: value})
    for number, findings in (("1", 0), ("2", 1)):
        monkeypatch.setenv("FAKE_VALUE", number)
        check = quick.check("passes")
        assert statuses(check) == {"passes": STALE} and said in why(check, "passes")
        assert len(check.outcomes[0].measured.findings) == findings


def test_packages_of_other_versions_are_stale_only_where_something_differs(quick: Gate, monkeypatch) -> None:
    (file,) = quick.record("passes")
    edit(file, packages={"torch": "2.0"})
    assert statuses(quick.check("passes")) == {"passes": FINE}
    monkeypatch.setenv("FAKE_VALUE", "2")
    check = quick.check("passes")
    assert statuses(check) == {"passes": STALE} and "the reference has 2.0" in why(check, "passes")
    said = words.unsettled(check.outcomes[0])
    assert "by the change or by other packages (torch" in said and "would change" not in said
    edit(file, numerics=NUMERICS_VERSION + 1)
    assert "would change 1 quantity" in words.unsettled(quick.check("passes").outcomes[0])


def test_a_reference_in_the_place_of_another_is_refused(quick: Gate) -> None:
    (file,) = quick.record("passes")
    file.rename(file.with_name("idles.json"))
    with refused("is the reference of passes of git on cpu-.*move it to its place"):
        quick.check("idles")
    file.write_text('{"tier": "passes"')
    with refused("damaged"):
        quick.check("passes")


def test_values_that_nobody_recorded_are_refused(quick: Gate) -> None:
    (file,) = quick.record("passes")
    values = json.loads(file.read_text())
    for place, name, value in (("values", "value", 2.0), ("origin", "numerics", 9), ("origin", "code", "0" * 16)):
        file.write_text(json.dumps(values | {place: values[place] | {name: value}}))
        with refused("passes.json was changed by something else than `gitbench gate record`"):
            quick.check("passes")


def test_a_package_that_a_reference_does_not_name_is_no_other_version() -> None:
    then, today = (
        reference.Origin(machine="cpu-x86_64", numerics=7, data="", packages=packages, code="")
        for packages in ({"torch": "2.7"}, {"torch": "2.7", "pillow": "12.0"})
    )
    assert reference.packages_by(then, today) == ()
    assert reference.packages_by(today, then) == ("pillow absent, the reference has 12.0",)


def test_data_of_ones_own_that_changed_make_the_reference_stale(quick: Gate, tmp_path) -> None:
    folder = tmp_path / "own"
    for split in ("train", "val", "test"):
        write_parquet(folder / f"{split}-0.parquet", [row(number) for number in range(3)])
    quick.setting = dataclasses.replace(quick.setting, subject=Subject(data=str(folder)))
    quick.record("passes")
    assert statuses(quick.check("passes")) == {"passes": FINE}
    write_parquet(folder / "test-0.parquet", [row(number, ["A dog", "Another cat"]) for number in range(3)])
    check = quick.check("passes")
    assert statuses(check) == {"passes": STALE} and f"data version {folder} " in why(check, "passes")


# ---- stopped, and gone on with ------------------------------------------------------------------------------------


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
    check = quick.check("passes")
    assert statuses(check) == {"passes": UNMEASURED} and "were changed while it was checked" in why(check, "passes")
    assert load_json(quick.folder / state.STATE)["outcomes"] == {}


def test_what_a_tier_keeps_is_cleared_for_another_check(quick: Gate, monkeypatch) -> None:
    quick.record("passes", "idles")
    stopped(quick, monkeypatch, "passes", "idles")
    work = quick.folder / "passes" / "work.txt"
    assert len(work.read_text().splitlines()) == 2
    quick.setting = dataclasses.replace(quick.setting, jobs=2)
    quick.check("passes")
    assert len(work.read_text().splitlines()) == 2


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


# ---- references --------------------------------------------------------------------------------------------------


def test_a_reference_says_what_it_was_made_of_and_why(quick: Gate) -> None:
    (file,) = quick.record("passes", reason="  new pixels ")
    machine = reference.machine_class("cpu")
    assert file == quick.references / machine / "git" / "passes.json"
    made = reference.read_reference(quick.references, machine, quick.setting.subject, "passes")
    assert made.reason == "new pixels" and made.values == {"value": 1.0}
    assert made.origin == reference.here("cpu", quick.setting.subject)
    constraints = (file.parent / "constraints.txt").read_text().split()
    assert {f"torch=={made.origin.packages['torch'].partition('+')[0]}", f"numpy=={np.__version__}"} <= set(constraints)
    assert {"torch", "numpy"} <= set(made.origin.packages) and "gitbench" not in made.origin.packages
    assert not (quick.folder / state.MAKING).exists()


def test_a_reference_that_cannot_be_written_or_has_no_reason_is_refused_before_anything_is_measured(
    quick: Gate,
    log,
) -> None:
    quick.references.write_text("a file")
    with refused("a file is in the way: remove it or pass another --references"):
        quick.record("passes")
    with refused("a reference needs a reason"):
        quick.record("passes", reason=" ")
    assert quick.work(log) == []


def test_a_record_that_fails_leaves_the_old_reference(gate: Gate, monkeypatch) -> None:
    (file,) = gate.record("passes", work=CHILD)
    before = file.read_bytes()
    monkeypatch.setenv("FAKE_VALUE", "nan")
    with refused("passes failed .*see .*log.txt"):
        gate.record("passes", work=CHILD)
    assert file.read_bytes() == before


def test_a_record_of_some_tiers_has_the_packages_of_those_that_stay(quick: Gate, monkeypatch) -> None:
    monkeypatch.setattr(run, "TIERS", quick.tiers("passes", "idles"))
    (stays,) = quick.record("passes")
    edit(stays, packages={"torch": "2.0"})
    with refused("the reference of passes stays, and was made with other packages .torch .*record all tiers"):
        quick.record("idles")
    assert not stays.with_name("idles.json").exists()
    assert len(quick.record("passes", "idles")) == 2


def test_a_record_replaces_all_references_or_none(quick: Gate) -> None:
    (before,) = quick.record("passes")
    text = before.read_text()
    with pytest.raises(ValueError, match="no such"):
        quick.record("passes", "crashes", reason="another", work=crashing)
    assert before.read_text() == text


def crashing(own: Path, setting: Any, tier: Any, *more: Any) -> None:
    if tier.name == "crashes":
        raise ValueError("no such")
    here(own, setting, tier, *more)


def test_what_a_stopped_record_has_made_is_of_the_same_code(quick: Gate, monkeypatch, tmp_path) -> None:
    def interrupted(*more) -> None:  # type: ignore[no-untyped-def]
        raise KeyboardInterrupt

    work = quick.folder / state.MAKING / "passes" / "work.txt"
    (tmp_path / "new.py").write_text("VALUE = 1\n")
    monkeypatch.setattr(state.plugins, "files", lambda: [tmp_path / "new.py"])
    for text, lines in (("VALUE = 1\n", 1), ("VALUE = 1\n", 2), ("VALUE = 2\n", 1)):
        (tmp_path / "new.py").write_text(text)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(run, "new_reference", lambda tier, *more: interrupted() if tier else None)
            quick.record("passes")
        assert len(work.read_text().splitlines()) == lines
    assert statuses(quick.check("passes")) == {"passes": STALE}  # a check is not refused for what is left there


def test_a_tier_of_the_cpu_sees_no_card(gate: Gate, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    seen = []
    monkeypatch.setattr(run, "run_for", lambda command, environment, log, seconds: seen.append(environment) or -9)
    assert "killed by signal 9" in why(gate.check("refuses"), "refuses")
    assert seen[0]["CUDA_VISIBLE_DEVICES"] == ""


def test_builds_of_one_version_are_alike_on_a_cpu_alone() -> None:
    for machine, said in (("cpu-x86_64", ()), ("tesla-t4", ("torch 2.7.1+cu126, the reference has 2.7.1+cu128",))):
        then, today = (
            reference.Origin(machine=machine, numerics=7, data="", packages={"torch": f"2.7.1+{build}"}, code="")
            for build in ("cu128", "cu126")
        )
        assert reference.packages_by(then, today) == said
