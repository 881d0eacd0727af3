"""Every reading of results is a look; a study is fixed or sequential from its first run, whatever is read or run later."""

import dataclasses
import json

import pytest
from helpers_runs import NAME, make_work_dir

from gitbench.cli import main
from gitbench.errors import GitbenchError
from gitbench.study.interim import judge
from gitbench.study.store import Study

pytestmark = pytest.mark.usefixtures("svg_alone")


def opened(work, seeds: int, design: str = "fixed") -> Study:
    """Open the study that would be there with this many seeds."""
    plan = Study.open(work, NAME).plan
    runs = tuple(run for run in plan.runs if run.replicate < seeds)
    return Study(work, dataclasses.replace(plan, runs=runs, design=design))


def test_a_fixed_study_keeps_the_t_rules_and_every_look_is_kept(tmp_path):
    work = make_work_dir(tmp_path, replicates=5, records_only=True)
    for _ in range(3):  # however often it is read
        (verdict,) = judge(opened(work, 5), "report")
    (look,) = Study.open(work, NAME).looks.looks
    (claim,) = look.claims
    assert (look.command, claim.n, claim.word) == ("report", 5, verdict.word) and claim.p == claim.p_holm is not None
    assert look.time.endswith("Z") and dict(look.seeds) == {"blind": 5, "small": 5, "base": 5, "large": 5}
    assert not verdict.sequential and verdict.looks == 0


def test_every_command_that_shows_results_looks(tmp_path, capsys):
    for name, command in (
        ("report", ("report", "decoder_size", "--out", str(tmp_path / "out"))),
        ("explain", ("explain", "decoder_size:large:CIDEr")),
        ("board", ("report", "--all", "--out", str(tmp_path / "board"))),
    ):
        work = make_work_dir(tmp_path / name, replicates=3)
        assert main([*command, "--work-dir", str(work)]) == 0, capsys.readouterr().err
        assert [look.command for look in Study.open(work, NAME).looks.looks] == [name]


def test_a_sequential_study_has_the_test_for_looking_from_its_first_look_on(tmp_path):
    work = make_work_dir(tmp_path, replicates=6, records_only=True)
    for count, seeds in enumerate((4, 5, 6, 4), start=1):  # dropping seeds again is another look
        (verdict,) = judge(opened(work, seeds, "sequential"), "report")
        assert verdict.sequential and verdict.looks == count
    assert Study.open(work, NAME).looks.looks[-1].claims[0].p == verdict.p


def test_what_holds_no_claim_or_no_run_is_no_look(tmp_path):
    judge(Study.open(make_work_dir(tmp_path / "none", replicates=4, claims=(), records_only=True), NAME))
    everything = tuple((arm, 0) for arm in ("blind", "small", "base", "large"))
    judge(Study.open(make_work_dir(tmp_path / "bare", replicates=1, missing=everything, records_only=True), NAME))
    assert not list(tmp_path.rglob("*.looks.json"))


def test_looks_are_chained(tmp_path):
    work = make_work_dir(tmp_path, replicates=5, records_only=True)
    for seeds in (3, 4, 5):
        judge(opened(work, seeds), "report")
    looks = Study.open(work, NAME).looks
    assert looks.unchained is None and looks.mark == {"count": 3, "last": looks.looks[-1].hash}
    edited = dataclasses.replace(looks.looks[1], seeds={"base": 9})
    assert dataclasses.replace(looks, looks=(looks.looks[0], edited, looks.looks[2])).unchained == 2
    assert dataclasses.replace(looks, looks=looks.looks[1:]).unchained == 1


def test_a_damaged_file_and_one_of_an_earlier_version(tmp_path):
    work = make_work_dir(tmp_path, replicates=3, records_only=True)
    path = Study.open(work, NAME).looks_path
    path.write_text('{"looks": [{}]}')
    with pytest.raises(GitbenchError, match="delete it only if nobody has seen a verdict"):
        _ = Study.open(work, NAME).looks
    path.write_text(json.dumps({"schema": 1, "looks": [{"seeds": {}}], "until_decided": False}))
    assert Study.open(work, NAME).looks is None
    path.write_text(json.dumps({"schema": 1, "looks": [{"seeds": {}}], "until_decided": True}))
    with pytest.raises(GitbenchError, match="an earlier version"):
        _ = Study.open(work, NAME).looks
