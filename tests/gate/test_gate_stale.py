"""Runs say by which code they were made: what a fingerprint is, who is told of other code, and what lets its runs stand."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_honest import edit, reopened
from helpers_launch import planned, plugin, worker
from helpers_report import study_of
from helpers_runs import run_key
from helpers_study import make_study

from gitbench import code, plugins
from gitbench.claim import Claim
from gitbench.commands import run as run_command
from gitbench.launch import fresh
from gitbench.report.board import page, rows_of_studies
from gitbench.report.notes import study_notes
from gitbench.run_folder import RunFolder
from gitbench.run_key import NUMERICS_VERSION
from gitbench.study import makers
from gitbench.study.interim import judge
from gitbench.study.makers import (
    Gave,
    Maker,
    Standing,
    context_of,
    entered,
    keep_found,
    makers_from_json,
    makers_of,
    makers_to_json,
    scored_by,
)
from gitbench.study.manifest import file_digests
from gitbench.study.provenance import deciding_packages
from gitbench.study.store import Study
from gitbench.study.verify import findings

OTHER = "0" * 16  # a fingerprint that no code has
SOURCE = '''"""A module."""
import math


def area(radius, scale=1.0):
    """Return an area."""
    values = {"a": radius, "b": [1, 2]}
    return math.pi * radius**2 * scale if values["a"] > 0 else None  # none of a hole
'''


@pytest.fixture(autouse=True)
def no_findings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The gate has found nothing yet."""
    monkeypatch.setattr(makers, "found_path", lambda: tmp_path / "gate" / "equal.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three made-up seeds of four arms, by this code. Nobody may change it."""
    study = study_of(tmp_path_factory.mktemp("stale") / "work", replicates=3)
    for run in study.plan.runs:
        folder = study.folder(run.run_key)
        for file in (folder.config, folder.origin, folder.trained, folder.log):
            file.write_text("{}")
    return made_by(study, here(), arm=None)


@pytest.fixture
def study(made: Study, tmp_path: Path) -> Study:
    return Study.open(shutil.copytree(made.work_dir, tmp_path / "work"), made.name)


def here(**changes: object) -> Maker:
    return dataclasses.replace(Maker.here("cpu"), **changes)


def made_by(study: Study, *by: Maker, arm: str | None = "small") -> Study:
    """Return a study whose runs of an arm (None: all) were made by others, as their records have it."""
    for run in study.plan.runs:
        if arm in (None, run.arm):
            folder = study.folder(run.run_key)
            edit(folder.provenance, lambda values: values.update(makers=[dataclasses.asdict(each) for each in by]))
            files = file_digests(folder)
            edit(folder.record, lambda record, files=files: record.update(numerics=NUMERICS_VERSION, files=files))
    return reopened(study)


# ---- the fingerprint ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("  # none of a hole", "").replace("A module", "Another one"),
        lambda text: text.replace('    """Return an area."""\n', ""),
        lambda text: text.replace("\n\n\n", "\n\n\n\n# more\n"),
        lambda text: text.replace('"a"', "'a'").replace("[1, 2]}", "[\n        1,\n        2,\n    ],}"),
        lambda text: text.replace("return ", "return (").replace("None  #", "None)  #"),
        lambda text: text.replace("radius**2", "radius ** (2)").replace("1.0", "1.00"),
        lambda text: text.replace("\n", "\r\n"),
    ],
)
def test_comments_docstrings_and_layout_leave_the_fingerprint(change: Callable[[str], str]) -> None:
    changed = change(SOURCE)
    assert changed != SOURCE and code.meaning(changed) == code.meaning(SOURCE)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.0", "1"),
        ("**2", "*2"),
        ("> 0", ">= 0"),
        ("def area", "def surface"),
        ("scale=1.0", "scale"),
        ('"b"', "b'b'"),
        ("[1, 2]", "[2, 1]"),
        ('{"a": radius, ', '{"a": radius, **{}, '),
        ("import math", "import cmath as math"),
        ("math.pi * radius", "math.pi + radius"),
    ],
)
def test_a_constant_an_operator_or_a_name_changes_it(one: str, other: str) -> None:
    assert one in SOURCE and code.meaning(SOURCE.replace(one, other, 1)) != code.meaning(SOURCE)


def test_no_key_and_the_key_none_are_two() -> None:
    assert code.meaning("{**a}") != code.meaning("{None: a}")


def test_formatting_leaves_it() -> None:
    ragged = "def f(a,b):\n  x=('one'\n     'two')\n  if (a and\n      b): return (a, b,)\n  return f'{a!r:>3}' , x\n"
    formatted = """def f(a, b):
    x = "one" "two"
    if a and b:
        return (
            a,
            b,
        )
    return f"{a!r:>3}", x
"""
    assert code.meaning(formatted) == code.meaning(ragged)


def test_modules_that_were_read_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("a = 1\n")
    other.write_text("b = 1\n")
    first = code.fingerprint_of([one, other])
    with monkeypatch.context() as patch:
        patch.setattr(code, "meaning", lambda _: pytest.fail("read again"))
        assert code.fingerprint_of([one, other]) == first
    other.write_text("b = 2\n")
    assert code.fingerprint_of([one, other]) != first
    other.write_text("b = 1  # as before\n")
    (tmp_path / "cache" / "code.json").write_text("{")  # damaged
    assert code.fingerprint_of([one, other]) == first


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "file" / "cache"))
    here = Path(__file__)
    assert code.fingerprint_of([here]) == code.fingerprint_of([here]) and not (tmp_path / "file" / "cache").exists()


@pytest.mark.parametrize(
    ("name", "within"),
    [
        ("models/decoder.py", True),
        ("training/optimizer.py", True),
        ("data/tokenizer.py", True),
        ("metrics/cider.py", True),
        ("variants/decoder.py", True),
        ("study/config.py", True),
        ("spec.py", True),
        ("report/page.py", False),
        ("profiles.py", False),
        ("judge/claims.py", False),
    ],
)
def test_it_covers_what_makes_numbers(name: str, within: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, copy = code.code_fingerprint(), tmp_path / "gitbench"
    shutil.copytree(code.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    monkeypatch.setattr(code, "PACKAGE", copy)
    assert code.fingerprint_now() == before
    (copy / name).write_text((copy / name).read_text() + "\nMORE = 1\n")
    assert (code.fingerprint_now() != before) == within


def test_telling_commands_do_not_pay_for_it(tmp_path: Path) -> None:
    said = "import sys; from gitbench.cli import main; main(['list']); print('gitbench.code' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "False"


def test_what_an_ablation_file_plans_is_no_code(tmp_path: Path) -> None:
    """It stands in the keys of its runs; an arm more must not make those that are done other code's."""
    plan = "import math\nSIZE = 2\nABLATION = dict(arms=[1])\n"
    assert code.meaning(plan) == code.meaning(plan.replace("[1]", "[1, 2]"))
    assert code.meaning(plan) != code.meaning(plan.replace("SIZE = 2", "SIZE = 3"))


# ---- what a run says ----------------------------------------------------------------------------------------------------


def test_a_worker_enters_itself(tmp_path: Path) -> None:
    folder = planned(make_study(tmp_path / "work"))[0]
    child = worker(folder.path, plugin=plugin(tmp_path))
    child.communicate(timeout=60)
    (entry,) = makers_of(json.loads(folder.provenance.read_text()))
    assert (entry.code, entry.context) == (here().code, here().context) and set(entry.plugins) == {"training"}


def test_a_run_that_goes_on_keeps_who_began_it(tmp_path: Path) -> None:
    own, other = here(), here(code=OTHER)
    before = {"makers": entered(None, other)}
    assert makers_of({"makers": entered(before, own)}) == (other, own)
    elsewhere = here(context="elsewhere")
    assert makers_of({"makers": entered({"makers": entered(None, elsewhere)}, own)}) == (elsewhere, own)
    assert makers_of({"makers": entered({}, own)}) == (Maker(code=makers.UNKNOWN), own)  # an earlier version's
    assert not makers.stands(makers_of({"makers": entered({}, own)}), ())
    assert makers_of({"makers": scored_by(before, own)}) == (other, own)
    assert makers_of({"makers": scored_by({"makers": entered(None, elsewhere)}, own)}) == (elsewhere,)
    assert makers_of({"makers": scored_by({}, own)}) == ()  # who trained it is not known


@pytest.mark.parametrize("said", [None, {}, {"makers": 3}, {"makers": [{"code": 1}]}, {"makers": [None]}, [], "text"])
def test_what_names_no_makers_is_of_unknown_code(said: object) -> None:
    assert makers_of(said) == ()


# ---- who is told --------------------------------------------------------------------------------------------------------


def test_one_line_tells_of_other_code_and_one_of_unknown(study: Study) -> None:
    assert Standing.of_study(study).lines == ()
    study = made_by(study, here(code=OTHER))
    (line,) = Standing.of_study(study).lines
    assert line == (
        f"3 of 12 runs were made by other code (fingerprint 00000000, today's {code.code_fingerprint()[:8]}): "
        "`gitbench gate check --tiers exact` tells whether it gives the same numbers, `gitbench run ... --fresh` makes them "
        "again"
    )
    study = made_by(study, arm="blind")
    assert [each[:60] for each in Standing.of_study(study).lines] == [
        line[:60],
        "3 of 12 runs were made before code was fingerprinted: nothing "[:60],
    ]


def test_runs_of_another_numerics_version_are_told_elsewhere(study: Study) -> None:
    study = made_by(study, here(code=OTHER))
    for each in study.plan.runs:
        edit(study.folder(each.run_key).record, lambda record: record.update(numerics=NUMERICS_VERSION - 1))
    assert Standing.of_study(reopened(study)).lines == ()


def test_report_board_and_evidence_say_it(study: Study) -> None:
    study = made_by(study, here(code=OTHER))
    (line,), verdicts = Standing.of_study(study).lines, judge(study)
    assert line in study_notes(study, verdicts)
    (row, *_) = rows_of_studies([(study, verdicts)])
    assert row.code == (line,) and line.replace("`", "") in re.sub("<[^>]*>", "", page([row])).replace("&#39;", "'")
    back = makers_from_json(json.loads(json.dumps(makers_to_json(row.origin.makers))))
    assert back == row.origin.makers and Standing.of(back).lines == (line,)
    assert Standing.of(back).said.startswith("9 runs made by this code") and "3 by other code" in Standing.of(back).said


def test_commands_say_it_once_and_fresh_makes_them_again(
    study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = made_by(study, here(code=OTHER))
    asked = argparse.Namespace(fresh=False, dry_run=False)
    assert run_command._of_this_code(asked, study) is study
    assert capsys.readouterr().err.count("3 of 12 runs were made by other code") == 1
    asked = argparse.Namespace(fresh=True, dry_run=True)
    assert len(run_command._of_this_code(asked, study).finished) == 12
    assert capsys.readouterr().out == f"{study.name}: 3 runs of other code to be made again\n"
    asked = argparse.Namespace(fresh=True, dry_run=False)
    assert len(run_command._of_this_code(asked, study).finished) == 9


def test_makers_that_were_edited_are_found(study: Study) -> None:
    edit(study.folder(run_key("base", 1)).provenance, lambda values: values.update(makers=[]))
    assert "base seed 1: provenance.json is not the file that the run left (SHA-256): it was changed" in findings(study)


def test_plugins_are_compared_where_they_are_loaded(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    study = made_by(study, here(plugins={"mine": OTHER}))
    assert Standing.of_study(study).lines == ()  # it is not loaded: nothing tells
    monkeypatch.setattr(makers, "plugin_fingerprints", lambda: {"mine": OTHER, "another": "1" * 16})
    assert Standing.of_study(study).lines == ()
    monkeypatch.setattr(makers, "plugin_fingerprints", lambda: {"mine": "1" * 16})
    (line,) = Standing.of_study(study).lines
    assert "(plugin mine: fingerprint 00000000, today's 11111111)" in line and "gate check" not in line


def test_a_plugin_has_a_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own_variant_of_mine.py"
    file.write_text("SIZE = 3\n")
    plugins.load([str(file)])
    assert code.plugin_fingerprints.__wrapped__() == {"own_variant_of_mine": code.fingerprint_of([file])}


# ---- what lets runs stand -----------------------------------------------------------------------------------------------

MACHINE, PACKAGES = makers.machine_class("cpu"), deciding_packages()


def gave(
    code: str, digest: str = "d", machine: str = MACHINE, numerics: int = NUMERICS_VERSION, **packages: str
) -> None:
    context = context_of(machine, numerics, {**PACKAGES, **packages})
    keep_found([Gave(context=context, machine=machine, digest=digest, code=code, day="2026-01-02")])


def test_runs_of_equal_code_stand(study: Study) -> None:
    study = made_by(study, here(code=OTHER))
    gave(OTHER)
    assert Standing.of_study(study).lines  # today's code has not been measured
    gave(here().code)
    standing = Standing.of_study(study)
    assert standing.lines == () and len(standing.equal) == 3 and not fresh.of_other_code(study)
    assert "3 by other code that gives the same numbers (gate, 2026-01-02)" in standing.said


@pytest.mark.parametrize(
    "other",
    [{"digest": "e"}, {"machine": "cpu-arm64"}, {"numerics": NUMERICS_VERSION - 1}, {"torch": "0.1"}, {"new": "1"}],
)
@pytest.mark.parametrize("whose", ["theirs", "today's", "both, and not the run's"])
def test_another_digest_machine_version_or_package_lets_none_stand(other: dict, whose: str, study: Study) -> None:
    study = made_by(study, here(code=OTHER))
    if whose == "both, and not the run's" and "digest" in other:
        other = {"machine": "h100-80gb-hbm3"}
    gave(OTHER, **(other if whose != "today's" else {}))
    gave(here().code, **(other if whose != "theirs" else {}))
    assert len(Standing.of_study(study).other) == 3


def test_every_maker_of_a_run_has_to_give_the_same(study: Study) -> None:
    gave(OTHER)
    gave(here().code)
    assert not Standing.of_study(made_by(study, here(code=OTHER), here())).lines
    assert Standing.of_study(made_by(study, here(code=OTHER), here(code="1" * 16))).lines
    assert Standing.of_study(made_by(study, here(code=OTHER), here(code=OTHER, context="elsewhere"))).lines


def test_findings_only_grow_and_damaged_ones_let_nothing_stand(study: Study) -> None:
    study = made_by(study, here(code=OTHER))
    for each in (OTHER, here().code, OTHER):
        gave(each)
    assert [each.code for each in makers.read_found()] == [OTHER, here().code]
    makers.found_path().write_text('{"found": [{"code": 1}]}')
    assert makers.read_found() == () and Standing.of_study(study).lines


def test_a_context_tells_machines_versions_and_packages_apart() -> None:
    contexts = {
        context_of(machine, number, {"torch": version}) for machine in "ab" for number in (1, 2) for version in "ab"
    }
    assert len(contexts) == 8 and here().context == context_of(MACHINE, NUMERICS_VERSION, PACKAGES)


# ---- making runs again --------------------------------------------------------------------------------------------------


def files(folder: RunFolder) -> set[str]:
    return {path.name for path in folder.path.iterdir()}


def folders(study: Study, arm: str) -> list[RunFolder]:
    return [study.folder(run.run_key) for run in study.plan.runs if run.arm == arm]


def test_fresh_clears_the_runs_of_other_code_alone(study: Study) -> None:
    study = made_by(made_by(study, here(code=OTHER)), arm="blind")
    own = [files(each) for each in folders(study, "base")]
    assert fresh.clear(study) == (6, 0)
    assert [files(each) for each in folders(study, "base")] == own
    for each in (*folders(study, "small"), *folders(study, "blind")):
        assert files(each) == {"config.py", "origin.json"} & files(each)
    again = reopened(study)
    assert {run.arm for run in again.missing} == {"small", "blind"} and fresh.clear(again) == (0, 0)


def test_what_was_begun_by_other_code_is_cleared_too(study: Study) -> None:
    study = made_by(study, here(code=OTHER))
    captioned, training, bare = folders(study, "small")
    captioned.record.unlink()
    for name in ("record", "trained", "predictions", "per_image"):
        getattr(training, name).unlink()
    (training.path / "iter_20.pth").write_text("")
    for path in bare.path.iterdir():
        path.unlink()
    assert fresh.clear(study) == (2, 0)
    assert not training.checkpoints and not captioned.captioned


def test_a_run_that_somebody_works_on_is_left(study: Study) -> None:
    study = made_by(study, here(code=OTHER))
    (first, *_), claim = folders(study, "small"), Claim(folders(study, "small")[0].claim)
    assert claim.take()
    before = files(first)
    try:
        assert fresh.clear(study) == (2, 1) and files(first) == before
    finally:
        claim.release()
    assert fresh.clear(study) == (1, 0)


def test_a_kill_at_any_moment_leaves_a_whole_run_or_a_planned_one(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = made_by(study, here(code=OTHER))
    (folder, *_), unlink = folders(study, "small"), Path.unlink
    (folder.path / "20260101_000000").mkdir()
    kept, steps = shutil.copytree(folder.path, folder.path.parent / "kept"), 0

    class Killed(BaseException):
        pass

    while True:
        shutil.rmtree(folder.path)
        shutil.copytree(kept, folder.path)
        left = steps

        def remove(path: Path, missing_ok: bool = False) -> None:
            nonlocal left
            if path.parent == folder.path and "claim" not in path.name:
                if left == 0:
                    raise Killed
                left -= 1
            unlink(path, missing_ok=missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", remove)
            try:
                fresh._cleared(folder)
            except Killed:
                whole = folder.completed_record() is not None
                assert whole == (steps < 2) and (not folder.captioned or steps == 0)
                if folder.predictions.exists():  # what other code left there is still known to be its
                    assert fresh.of_other_code(study)
            else:
                break
        fresh._cleared(folder)
        assert files(folder) <= {"config.py", "origin.json", "provenance.json"} and steps < 20
        steps += 1
    assert steps > 5
