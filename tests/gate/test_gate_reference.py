"""References: what they were made of, what makes them stale, and that they are made whole."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_data import row, write_parquet
from helpers_errors import refused
from helpers_gate import Gate, here, statuses, why

from gitbench.gate import reference, run, state, words
from gitbench.gate.outcome import FINE, STALE
from gitbench.gate.setting import Subject
from gitbench.run_key import NUMERICS_VERSION, from_json

CHILD = run._child  # which a fixture may replace


def edit(file: Path, **origin: Any) -> None:
    """Let a reference have been made of something else."""
    made = from_json(reference.Reference, json.loads(file.read_text()))
    other = dataclasses.replace(made, origin=dataclasses.replace(made.origin, **origin))
    file.write_text(json.dumps(dataclasses.asdict(reference.signed(other))))


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


def test_builds_of_one_version_are_alike_on_a_cpu_alone() -> None:
    for machine, said in (("cpu-x86_64", ()), ("tesla-t4", ("torch 2.7.1+cu126, the reference has 2.7.1+cu128",))):
        then, today = (
            reference.Origin(machine=machine, numerics=7, data="", packages={"torch": f"2.7.1+{build}"}, code="")
            for build in ("cu128", "cu126")
        )
        assert reference.packages_by(then, today) == said
