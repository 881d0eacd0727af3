"""Ways to change a verdict without a trace, each tried on an honest study: `verify` names it, and the report says it.

What gets other runs instead (another claim, another number of seeds, a fresh work directory) is in test_seed_root.
"""

from __future__ import annotations

import contextlib
import shutil

import pytest
from helpers_bundle import copied
from helpers_cli import call
from helpers_honest import (
    CLAIMING,
    NoExecutor,
    assert_told,
    caption,
    edit,
    honest_study,
    rehashed,
    reopened,
    run_folder,
)
from helpers_study import make_study

from gitbench.commands.report import make_report
from gitbench.launch.scheduling import _scorer, execute_runs
from gitbench.report.origin import Origin
from gitbench.study.bundle import write_bundle
from gitbench.study.interim import judge
from gitbench.study.manifest import Manifest, digest
from gitbench.study.store import Study
from gitbench.study.verify import findings

pytestmark = pytest.mark.usefixtures("svg_alone")


def test_a_report_shows_what_does_not_verify(study, tmp_path):
    edit(run_folder(study).record, lambda record: record["cost"].update(seconds=2.0))
    (note,) = Origin.of(reopened(study)).marks
    folder = make_report(reopened(study), tmp_path / "out")
    for name in ("report.html", "table.md"):
        assert note in (folder / name).read_text(encoding="utf-8")
    assert str(tmp_path) not in note and note.startswith("small seed 1: record.json is not the one that was entered")


def test_an_honest_study_verifies_and_its_bundle_too(study, tmp_path, monkeypatch):
    # with the METEOR of this process's launches, for another one would read its table for 8 s
    monkeypatch.setattr("gitbench.metrics.CaptionScorer", lambda **_: contextlib.nullcontext(_scorer()))
    assert Origin.of(study).stated
    assert not list(findings(study))
    page = (make_report(study, tmp_path / "out") / "report.html").read_text(encoding="utf-8")
    assert "What does not verify" not in page and "stated beforehand: the seeds of every run follow" in page
    path = write_bundle(reopened(study), tmp_path / "tiny.tar.xz").path
    result = call("verify", str(path))
    assert result.returncode == 0, result.stdout
    assert "What rests on trust:" in result.stdout and "test_nll" in result.stdout
    assert result.stdout.endswith("9 of 9 runs finished, 0 findings\n")


# ---- runs ---------------------------------------------------------------------------------------------------------


def test_every_run_listed_twice_under_new_numbers(study):
    def twice(plan: dict) -> None:
        plan["runs"] += [{**run, "replicate": run["replicate"] + 3} for run in plan["runs"]]

    edit(study.plan_path, twice)
    assert_told(study, "lists the run", "it was made as seed 0: it was renumbered", "planned were all 0 to 2")


def test_a_run_copied_under_another_key(study):
    """A second folder with the same predictions, its key and seed made good."""
    first, second = run_folder(study, "small", 0), run_folder(study, "small", 1)
    shutil.copy(first.predictions, second.predictions)
    assert_told(study, "its predictions are byte for byte those of seed 0")


def test_seeds_that_were_dropped(study):
    def without(plan: dict) -> None:
        plan["runs"] = [run for run in plan["runs"] if run["replicate"] != 1]

    edit(study.plan_path, without)
    assert_told(study, "arm base lists the replicates 0, 2", "small seed 1: it was entered in", "it was dropped")

    def fewer(plan: dict) -> None:  # renumbered, and planned so from the beginning
        plan.update(seeds=2)
        for run in plan["runs"]:
            run["replicate"] //= 2

    edit(study.plan_path, fewer)
    assert_told(study, "its seeds do not follow from the claims, the setting and the number of seeds")


def test_seeds_that_were_paired_anew(study):
    def swapped(plan: dict) -> None:
        for run in plan["runs"]:
            run["replicate"] = (run["replicate"] + 1) % 3 if run["arm"] == "small" else run["replicate"]

    edit(study.plan_path, swapped)
    study.manifest_path.unlink()
    reopened(study).adopt()
    assert_told(study, "paired anew", "small seed 0")


def test_arms_that_were_exchanged(study):
    def exchanged(plan: dict) -> None:
        for run in plan["runs"]:
            run["arm"] = {"base": "small", "small": "base"}.get(run["arm"], run["arm"])

    edit(study.plan_path, exchanged)
    assert_told(study, "it was made with decoder self_1x64, the arm has self_2x64")


def test_runs_of_another_numerics_version(study):
    for arm in ("base", "small"):
        edit(run_folder(study, arm).record, lambda record: record.update(numerics=5))
    rehashed(study)
    assert_told(study, "do not give its run key")
    assert "of numerics version 5 and numerics version 7, this code is at 7" in Origin.of(reopened(study)).marks[0]
    for arm in ("base", "small"):
        edit(run_folder(study, arm).record, lambda record: record.pop("numerics"))
    rehashed(study)
    assert_told(study, "its record names no numerics version")


def test_overridden_that_was_emptied(honest, tmp_path):
    study = honest_study(tmp_path / "work", 1, cfg_options={"train_cfg.max_iters": 3})
    for run in study.unique_runs:
        edit(study.folder(run.run_key).record, lambda record: record.update(overridden=[]))
    rehashed(study)
    assert_told(study, "says that nothing was overridden, its spec ['train_cfg.max_iters']")


def test_a_record_that_names_no_files(study):
    edit(run_folder(study).record, lambda record: record.pop("files"))
    assert_told(study, "its record names no hashes of its files")


def test_runs_that_began_with_different_encoders(study):
    edit(run_folder(study).record, lambda record: record.update(encoder_content="f" * 64))
    rehashed(study)
    assert_told(study, "small seed 1: it began with the encoder ffffffff, another run with eeeeeeee of the same recipe")
    assert len(list(findings(reopened(study)))) == 1 and not Origin.of(reopened(study)).stated
    edit(run_folder(study).record, lambda record: record.update(encoder_content=None))
    rehashed(study)
    assert_told(study, "small seed 1: its record does not name the encoder that it began with")


# ---- claims and looks ---------------------------------------------------------------------------------------------


def test_claims_rewritten_in_the_plan(study):
    edit(study.plan_path, lambda plan: plan["claims"][0].update(margin=5.0))
    assert_told(study, "claim tiny/base-better is not the one that the seeds of the runs follow from")
    assert not Origin.of(reopened(study)).stated
    edit(study.plan_path, lambda plan: plan.update(claims=[]))
    assert_told(study, "claim tiny/base-better was dropped")


def test_claims_rewritten_with_their_hashes(study):
    """Look, rewrite claim and lock, and say that the runs were made so."""
    from gitbench.run_key import from_json
    from gitbench.spec import Claim
    from gitbench.study.lock import claim_hash

    def rewritten(plan: dict) -> None:
        plan["claims"][0].update(margin=5.0)
        plan["claim_hashes"] = {"tiny/base-better": claim_hash(from_json(Claim, plan["claims"][0]))}

    edit(study.plan_path, rewritten)
    assert_told(study, "its seeds do not follow from the claims")
    page = (make_report(reopened(study), study.work_dir / "out") / "report.html").read_text(encoding="utf-8")
    assert "nothing proves that they were stated before the runs" in page and ", stated beforehand," not in page


def test_claims_are_not_stated_beforehand_by_runs_that_do_not_verify(study):
    """Seeds that follow from the claims prove nothing where the runs are of other keys, or were renumbered."""
    path = run_folder(study).record
    edit(path, lambda record: record["spec"]["train"].update(iterations=7))
    rehashed(study)
    assert_told(study, "small seed 1: its spec and data do not give its run key")
    assert not Origin.of(reopened(study)).stated
    edit(path, lambda record: record["spec"]["train"].update(iterations=6))
    assert Origin.of(reopened(study)).stated
    edit(study.plan_path, lambda plan: [run.update(replicate=2 - run["replicate"]) for run in plan["runs"]])
    assert not Origin.of(reopened(study)).stated


def test_claims_taken_out_of_provenance(study):
    for run in study.unique_runs:
        edit(study.folder(run.run_key).provenance, lambda said: said.pop("claims"))
    rehashed(study)
    assert_told(study, "its provenance names no claims")


@pytest.fixture(scope="module")
def sequential(tmp_path_factory) -> Study:
    """A sequential study that was read at three seeds, and again at four. Nobody may change it."""
    study = honest_study(tmp_path_factory.mktemp("sequential") / "work", 3, sequential=True)
    assert judge(study)[0].sequential
    grown = make_study(study.work_dir, CLAIMING, replicates=4, sequential=True, command="gitbench run tiny")
    grown.write_plan()
    for run in grown.plan.runs[9:]:
        caption(grown, run)
    execute_runs(grown, NoExecutor(), plain=True)
    judge(reopened(grown))
    return grown


@pytest.mark.parametrize("how", ["deleted", "edited", "cut"])
def test_looks_that_runs_know_of(how, sequential, tmp_path):
    """The fourth seed knows of the look at three, whatever becomes of looks.json."""
    grown = copied(sequential, tmp_path / "work")
    told = list(findings(grown))
    assert len(told) == 1 and "the proof of other runs" in told[0]
    if how == "deleted":
        grown.looks_path.unlink()
    elif how == "edited":
        edit(grown.looks_path, lambda said: said["looks"][0]["claims"][0].update(word="REFUTED"))
        assert_told(grown, "look 1 does not follow from the one before it")
        return
    else:
        edit(grown.looks_path, lambda said: said.update(looks=said["looks"][1:]))
    told = "\n".join(findings(reopened(grown)))
    assert "base seed 3: it was started after 1 looks that are not those of studies/" in told


def test_a_manifest_that_was_edited(study):
    edit(study.manifest_path, lambda said: said["runs"].pop(3))
    assert_told(study, "entry 4 does not follow from the one before it", "has no entry of it")
    study.manifest_path.unlink()
    assert reopened(study).manifest == Manifest()
    assert_told(study, "has no entry of it")


def test_a_record_that_was_edited_and_entered_again(study):
    """`gitbench run` enters what it finds: the first entry still tells."""
    edit(run_folder(study).record, lambda record: record["cost"].update(seconds=2.0))
    reopened(study).adopt()
    (said,) = findings(reopened(study))
    assert said.startswith("small seed 1: studies/") and "has several entries of it that differ" in said
    assert_told(study, said)


def test_a_ceiling_that_was_edited_and_entered_again(study):
    edit(study.yardstick_path, lambda said: said.update(kind="leave-one-out"))
    reopened(study).adopt()
    assert_told(study, "yardsticks/", "has several entries of it that differ")
    study.yardstick_path.unlink()
    assert_told(study, "ceiling seed 0: it was entered in", "it was dropped")


def test_the_digest_of_json_is_that_of_what_a_bundle_carries(tmp_path):
    for name, text in (("a.json", '{"b": "/home/ann/x/flickr", "git_diff": "+1"}'), ("b.json", '{\n "b":"flickr"}')):
        (tmp_path / name).write_text(text)
    assert digest(tmp_path / "a.json") == digest(tmp_path / "b.json")
