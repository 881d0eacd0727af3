"""Runs say by which code they were made: who is told of other code, and what lets its runs stand."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest
from helpers_honest import edit, reopened
from helpers_launch import planned, plugin, worker
from helpers_makers import MACHINE, OTHER, PACKAGES, gave, here, made, made_by, no_findings, study
from helpers_runs import run_key
from helpers_study import make_study

from gitbench import code
from gitbench.commands import run as run_command
from gitbench.launch import fresh
from gitbench.report.board import page, rows_of_studies
from gitbench.report.notes import study_notes
from gitbench.run_key import NUMERICS_VERSION
from gitbench.study import makers
from gitbench.study.interim import judge
from gitbench.study.makers import (
    Maker,
    Standing,
    context_of,
    entered,
    makers_from_json,
    makers_of,
    makers_to_json,
    scored_by,
)
from gitbench.study.store import Study
from gitbench.study.verify import findings

__all__ = ["made", "no_findings", "study"]

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
        "`gitbench gate check --tiers exact`, run with that code and with this, tells whether both give the same numbers, "
        "`gitbench run ... --fresh` makes them "
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


# ---- what lets runs stand -----------------------------------------------------------------------------------------------


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
