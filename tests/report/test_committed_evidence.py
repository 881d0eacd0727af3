"""A committed report whose `evidence.json` was edited, its verdicts made to match and its manifest rehashed: it is told."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_honest import honest_study
from helpers_report import study_of
from helpers_runs import CLAIM

from gitbench.commands.report import make_report
from gitbench.files import write_json
from gitbench.judge.claims import judge_study
from gitbench.judge.verdict import NOT_TESTABLE
from gitbench.report.results import Result, load_result
from gitbench.run_key import NUMERICS_VERSION, from_json
from gitbench.spec import Claim
from gitbench.study import evidence
from gitbench.study.interim import judge
from gitbench.study.lock import claim_hash, seed_root
from gitbench.study.makers import Maker

NAME = "tiny/base-better"
pytestmark = pytest.mark.usefixtures("svg_alone")


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The report of three honest seeds of base, small and blind. Nobody may change it."""
    folder = tmp_path_factory.mktemp("evidence")
    return make_report(honest_study(folder / "work"), folder / "report")


def forged(report: Path, folder: Path, change: Callable[[dict], object]) -> Result:
    """Return a report whose evidence was changed, and whose words and hashes were made good."""
    folder = shutil.copytree(report, folder / "forged")

    def rewrite(name: str, values: dict) -> None:
        write_json(folder / name, values)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        write_json(folder / "manifest.json", manifest)

    values = json.loads((folder / "evidence.json").read_text())
    change(values)
    rewrite("evidence.json", values)
    said = json.loads((folder / "verdicts.json").read_text())
    rewrite("verdicts.json", said | {"verdicts": [dataclasses.asdict(each) for each in load_result(folder).verdicts]})
    return load_result(folder)


def margin(values: dict) -> None:
    values["plan"]["claims"][0]["margin"] = 0.01


def margin_and_hash(values: dict) -> None:
    margin(values)
    values["plan"]["claim_hashes"] = {NAME: claim_hash(from_json(Claim, values["plan"]["claims"][0]))}


def margin_hash_and_root(values: dict) -> None:
    margin_and_hash(values)
    root = seed_root("tiny", values["plan"]["claim_hashes"], values["plan"]["setting"], "fixed", 3)
    for spec in values["made"]["specs"].values():
        spec["seed_root"] = root


def sequential(values: dict) -> None:
    values["looks"] = 3
    values["plan"].update(design="sequential", seeds=None)


def numerics(values: dict) -> None:
    for run in values["made"]["runs"].values():
        run["numerics"] = 5


def paired_anew(values: dict) -> None:
    for run in values["made"]["runs"].values():
        run["replicate"] = (run["replicate"] + 1) % 3


def other_encoder(values: dict) -> None:
    [*values["made"]["runs"].values()][-1].update(encoder="f" * 64)


def other_task(values: dict) -> None:
    values["plan"].update(task="vqa")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (margin, f"claim {NAME} is not the one that the seeds of the runs follow from"),
        (margin_and_hash, "its seeds do not follow from the claims, the setting and the number of seeds"),
        (margin_hash_and_root, "its spec and data do not give its run key"),
        (sequential, "its seeds do not follow from the claims, the setting and the number of seeds"),
        (numerics, "its spec and data do not give its run key"),
        (paired_anew, "it was made as seed"),
        (other_encoder, "it began with the encoder ffffffff, another run with eeeeeeee of the same recipe"),
        (other_task, "it was made for the task caption, the study's is vqa"),
        (lambda values: values["made"].update(runs={}), "nothing says how it was made"),
        (lambda values: values["plan"]["runs"].pop(), "which its plan does not list so"),
    ],
)
def test_an_edit_that_keys_and_seeds_contradict(change, said, report, tmp_path):
    origin = forged(report, tmp_path, change).origin
    assert any(said in note for note in origin.notes), origin.notes
    assert not origin.stated or change.__name__ == "<lambda>"


def test_an_honest_report_verifies(report):
    origin = load_result(report).origin
    assert origin.stated and not origin.marks and origin.numerics == (NUMERICS_VERSION,)
    assert len(origin.makers) == 9 and set(map(str, origin.makers.values())) == {str((Maker.here("cpu"),))}
    assert "9 runs made by this code" in (report / "report.html").read_text()


def test_a_report_of_an_earlier_version_names_no_makers(report, tmp_path):
    origin = forged(report, tmp_path, lambda values: values.pop("makers")).origin
    assert origin.makers == {} and not origin.marks


def test_what_can_be_derived_is_not_read(report, tmp_path):
    """Neither the proof that claims came first, nor numerics version, nor the days of the lock are the file's to say."""
    said = {"stated": True, "numerics": [9], "locked": {"base-better": "2020-01-01"}, "changed": [], "notes": []}

    def change(values: dict) -> None:
        margin(values)
        values["origin"].update(said)

    origin = forged(report, tmp_path, change).origin
    assert not origin.stated and origin.numerics == (NUMERICS_VERSION,) and origin.locked == {} and origin.notes


def test_a_run_that_was_said_to_be_overridden(report, tmp_path):
    folder = shutil.copytree(report, tmp_path / "copy")
    table = folder / "runs.csv"
    lines = [
        line.replace(",False,", ",True,") if ",small," in line else line for line in table.read_text().splitlines()
    ]
    table.write_text("\n".join(lines) + "\n")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["runs.csv"] = hashlib.sha256(table.read_bytes()).hexdigest()
    write_json(folder / "manifest.json", manifest)
    notes = load_result(folder).origin.notes
    assert any("small seed 1: runs.csv and its spec differ in whether it was overridden" in note for note in notes), (
        notes
    )


def test_todays_lock_is_compared(report, monkeypatch):
    plan = json.loads((report / "evidence.json").read_text())["plan"]
    stated = plan["claim_hashes"][NAME]
    monkeypatch.setattr(evidence, "locked_since", lambda: {NAME: "2026-01-01"})
    for locked, days, told in (
        ({NAME: stated}, {"base-better": "2026-01-01"}, ()),
        ({NAME: "0" * 16}, {}, (f"claim {NAME} is not as today's claims.lock has it",)),
        (
            {NAME: stated, "tiny/dropped": "1" * 16},
            {"base-better": "2026-01-01"},
            ("claim tiny/dropped is not as today's claims.lock has it",),
        ),
        ({"other/claim": "2" * 16}, {}, ()),  # an ablation that nobody locked
    ):
        monkeypatch.setattr(evidence, "read_lock", lambda locked=locked: locked)
        origin = load_result(report).origin
        assert (origin.locked, origin.changed, origin.marks) == (days, told, told)


# ---- the word by likelihood --------------------------------------------------------------------------------------------


def told(out: Path, folder: Path, change: Callable[[dict], object]) -> Result:
    """Return a report whose `verdicts.json` was changed, its manifest made good."""
    folder = shutil.copytree(out, folder / "told")
    said = json.loads((folder / "verdicts.json").read_text())
    for verdict in said["verdicts"]:
        change(verdict)
    write_json(folder / "verdicts.json", said)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["verdicts.json"] = hashlib.sha256((folder / "verdicts.json").read_bytes()).hexdigest()
    write_json(folder / "manifest.json", manifest)
    return load_result(folder)


def test_a_word_by_likelihood_that_its_runs_do_not_give_is_told(made, committed, tmp_path):
    found = told(made.out, tmp_path, lambda verdict: verdict["likelihood"].update(word="INCONCLUSIVE"))
    assert found.verdicts == committed.verdicts and committed.verdicts[0].likelihood.word == "SUPPORTED"
    (*_, note) = set(found.origin.notes) - set(committed.origin.notes)
    assert "by likelihood is INCONCLUSIVE" in note and "its runs give SUPPORTED" in note


def test_a_report_from_before_claims_were_judged_by_likelihood_is_read(made, committed, tmp_path):
    """Its word is as it was; of the likelihood its evidence keeps nothing by image, so that nothing is said of it."""
    old = told(made.out, tmp_path, lambda verdict: verdict.pop("likelihood"))
    assert old.origin == committed.origin

    def forget(values: dict) -> None:
        values["images"] = {name: each for name, each in values["images"].items() if "test_nll" not in name}

    for mine, theirs in zip(forged(made.out, tmp_path, forget).verdicts, committed.verdicts, strict=True):
        assert mine.word == theirs.word and mine.interval == theirs.interval
        assert mine.likelihood.word == NOT_TESTABLE and "keep no test_nll by image" in mine.likelihood.reason


# ---- what the choice of images adds -----------------------------------------------------------------------------------


def test_a_word_without_its_images_is_none(made, committed, tmp_path):
    """As in the study itself: what is not known by image cannot be tested."""
    assert NOT_TESTABLE not in {verdict.word for verdict in committed.verdicts}
    for verdict in forged(made.out, tmp_path, lambda values: values.update(images={})).verdicts:
        assert verdict.word == NOT_TESTABLE and "runs keep no CIDEr by image" in verdict.reason


def test_every_step_of_a_trend_needs_its_images(tmp_path):
    trend = CLAIM | {"name": "rises", "kind": "trend", "reference": "small", "along": ["small", "base", "large"]}
    means = {"blind": 21.0, "small": 60.0, "base": 90.0, "large": 120.0}
    study = study_of(tmp_path, claims=(trend,), means=means, records_only=True)
    (verdict,) = judge(study)
    assert verdict.word == "SUPPORTED" and len(verdict.image_errors) == 3
    for name in verdict.image_errors:
        images = {each: error for each, error in verdict.image_errors.items() if each != name}
        (found,) = judge_study(study.plan, study.frame, study.yardstick.kind, images=images)
        assert found.word == NOT_TESTABLE and "by image" in found.reason, name
    (found,) = judge_study(study.plan, study.frame, study.yardstick.kind, images=verdict.image_errors)
    assert found.word == verdict.word
