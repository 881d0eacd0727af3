"""Numbers and their version: red where they changed and it did not, stale with other words where it did and they did not;
and which code the gate found to give the same numbers.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from gitbench.code import code_fingerprint
from gitbench.errors import GitbenchError
from gitbench.files import write_json
from gitbench.gate import numbers, reference
from gitbench.gate import run as gate
from gitbench.gate.listing import chosen
from gitbench.gate.numbers import MEANT, NOTHING_CHANGED
from gitbench.gate.outcome import FINE, REGRESSED, STALE, Finding, Measured, Outcome
from gitbench.gate.reference import Reference, here, new_reference, write_reference
from gitbench.gate.setting import Setting, Subject
from gitbench.run_key import NUMERICS_VERSION
from gitbench.study import makers

MOVED = Finding(quantity="logits", part="decoder", value="1", reference="2", excess=3.0, said="logits: 1, was 2")
OTHER = "0" * 16
USUAL = Subject()


@pytest.fixture(autouse=True)
def no_findings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The gate has found nothing yet."""
    monkeypatch.setattr(makers, "found_path", lambda: tmp_path / "found" / "equal.json")


def measured(digest: str = "d", moved: bool = False, findings: tuple[Finding, ...] = ()) -> Measured:
    return Measured(compared=9, did="-", findings=findings, details={"digest": digest, "moved": moved})


def checked(
    folder: Path,
    found: Measured,
    monkeypatch: pytest.MonkeyPatch,
    tier: str = "exact",
    subject: Subject = USUAL,
    **origin: Any,
) -> Outcome:
    """Check one tier, which finds `found`, beside a reference of other code, made of what `origin` says beside here."""
    made: Reference = new_reference(tier, subject, "cpu", "a test", {"digest": "d"})
    then = replace(made.origin, **{"code": OTHER} | origin)
    write_reference(
        folder / "references", replace(made, origin=replace(then, machine=here("cpu", subject).machine)), subject
    )
    if then.machine != here("cpu", subject).machine:
        read = gate.read_reference
        monkeypatch.setattr(gate, "read_reference", lambda *all: replace(read(*all), origin=then))  # type: ignore[type-var]
    monkeypatch.setattr(
        gate, "_child", lambda own, setting, tier, values, result, seconds: write_json(result, asdict(found))
    )
    setting = Setting(folder="", subject=subject)
    (outcome,) = gate.run_check(
        folder / "out", setting, chosen(tier), folder / "references", 60, lambda _: None
    ).outcomes
    return outcome


def kept() -> dict[str, set[str]]:
    """Return digest -> the codes that gave it here."""
    context = makers.Maker.here("cpu").context
    found: dict[str, set[str]] = {}
    for each in makers.read_found():
        if each.context == context:
            found.setdefault(each.digest, set()).add(each.code)
    return found


# ---- the version --------------------------------------------------------------------------------------------------------


def test_numbers_that_changed_at_the_same_version_are_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = checked(tmp_path, measured("e", True, (MOVED,)), monkeypatch)
    assert outcome.status == REGRESSED and outcome.measured is not None and outcome.measured.notes == (MEANT,)


def test_where_only_costs_rose_no_version_is_spoken_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = checked(tmp_path, measured(findings=(MOVED,)), monkeypatch)
    assert outcome.status == REGRESSED and outcome.measured is not None and outcome.measured.notes == ()


def test_a_raised_version_makes_the_reference_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = f"numerics version {NUMERICS_VERSION}, the reference has {NUMERICS_VERSION - 1}"
    outcome = checked(tmp_path, measured("e", True, (MOVED,)), monkeypatch, numerics=NUMERICS_VERSION - 1)
    assert (outcome.status, outcome.why) == (STALE, (raised,)) and outcome.measured.notes == ()  # type: ignore[union-attr]
    outcome = checked(tmp_path, measured(), monkeypatch, numerics=NUMERICS_VERSION - 1)
    assert (outcome.status, outcome.why) == (STALE, (raised, NOTHING_CHANGED))


def test_other_tiers_speak_of_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = checked(tmp_path, measured("e", True, (MOVED,)), monkeypatch, tier="trajectory")
    assert outcome.status == REGRESSED and outcome.measured is not None and outcome.measured.notes == ()
    outcome = checked(tmp_path, measured(), monkeypatch, tier="trajectory", numerics=NUMERICS_VERSION - 1)
    assert outcome.status == STALE and len(outcome.why) == 1 and not makers.read_found()


# ---- equal code ---------------------------------------------------------------------------------------------------------


def test_equal_code_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked(tmp_path, measured(), monkeypatch).status == FINE
    assert kept() == {"d": {OTHER, code_fingerprint()}}
    checked(tmp_path, measured(), monkeypatch)
    assert len(makers.read_found()) == 2  # what is known is not kept twice


def test_code_of_another_digest_is_kept_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the bands, but not equal to the last bit: two codes, until a third is measured."""
    assert checked(tmp_path, measured("e", False), monkeypatch).status == FINE
    assert kept() == {"d": {OTHER}, "e": {code_fingerprint()}}


@pytest.mark.parametrize(
    "origin", [{"numerics": NUMERICS_VERSION - 1}, {"packages": {"torch": "0.1"}}, {"machine": "cpu-arm64"}]
)
def test_a_reference_of_something_else_equals_nothing_here(
    origin: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked(tmp_path, measured(), monkeypatch, **origin)
    assert kept() == {"d": {code_fingerprint()}} and len(makers.read_found()) == 2


def test_nothing_is_kept_of_values_out_of_band_or_of_edited_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked(tmp_path, measured("d", True, (MOVED,)), monkeypatch)
    assert kept() == {}
    monkeypatch.setattr(numbers, "fingerprint_now", lambda: "1" * 16)
    checked(tmp_path, measured(), monkeypatch)
    assert kept() == {"d": {OTHER}}


def test_a_cache_that_cannot_be_written_leaves_the_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(makers, "found_path", lambda: tmp_path / "file" / "equal.json")
    assert checked(tmp_path, measured(), monkeypatch).status == FINE and makers.read_found() == ()


def test_a_subject_of_ones_own_vouches_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked(tmp_path, measured(), monkeypatch, subject=Subject(task="vqa"))
    assert not makers.read_found()


def test_no_reference_is_made_of_code_that_was_edited_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "fingerprint_now", lambda: "1" * 16)
    with pytest.raises(GitbenchError, match="was edited while the reference was made: make it again"):
        new_reference("exact", Subject(), "cpu", "a test", {})
