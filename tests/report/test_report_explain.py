"""From a number back to its runs."""

import json
import re

import pytest
from helpers_report import judged
from helpers_runs import run_key

from gitbench.cli import main
from gitbench.commands import explain as command
from gitbench.errors import GitbenchError
from gitbench.report.explain import explain_study, parse_target
from gitbench.report.tables import values_behind
from gitbench.study.interim import judge


def told(study, target):
    return explain_study(study, judge(study), parse_target(target))


def test_overridden_runs_stand_behind_no_claim(tmp_path):
    study, verdicts = judged(tmp_path, overridden=(("large", 0),))
    assert values_behind(study.frame, "large", "CIDEr")["replicate"].tolist() == [1, 2, 3, 4]
    assert verdicts[0].replicates == (1, 2, 3, 4)


def test_walk_of_a_score_ends_at_runs_command_and_versions(made):
    text = told(made.study, "decoder_size:large:CIDEr")
    value = made.study.record(run_key("large", 2))["metrics"]["CIDEr"]["value"]
    line = next(line for line in text.splitlines() if str(made.study.folder(run_key("large", 2)).path) in line)
    assert f"{value:.6g}" in line and text.count("again, from 12 rows") == 5
    for said in ("mean of 5 replicates", "CIDEr-D|", "gitbench run decoder_size --profile cpu", "torch", "0123abc"):
        assert said in text, said


def test_walk_of_a_claim_names_each_difference_and_its_runs(made):
    text, verdict = told(made.study, "decoder_size:larger-no-better"), judge(made.study)[0]
    assert verdict.word in text and "typical seed (median)" in text and "12 test images" in text
    for replicate, value in (*enumerate(verdict.differences), *enumerate(verdict.likelihood.differences)):
        assert f"{replicate}  {value:+.6g}" in text
        assert run_key("large", replicate) in text and run_key("base", replicate) in text
    loss = made.study.record(run_key("large", 2))["metrics"]["test_nll"]["value"]
    assert f"{loss:<12.6g} test_nll" in text and f"by likelihood {verdict.likelihood.word}" in text


def test_walk_of_the_ceiling_and_of_a_cost(made):
    assert "abc123.json (grammar)" in told(made.study, "decoder_size:ceiling:CIDEr")
    cost = told(made.study, "decoder_size:large:seconds")
    assert "record.json" in cost and "again, from" not in cost


@pytest.mark.parametrize(
    "name, message",
    [
        ("decoder_size", "names no number"),
        ("decoder_size:large:CIDEr:x", "names no number"),
        ("decoder_size:lage:CIDEr", "'lage': did you mean 'large'"),
        ("decoder_size:large:CIDER", "unknown metric 'CIDER': did you mean 'CIDEr'"),
        ("decoder_size:larger-bettr", "unknown claim 'larger-bettr': did you mean 'larger-better'"),
        ("decoder_size:large", "decoder_size:large is an arm: name a score of it, as decoder_size:large:CIDEr"),
        ("decoder_size:ceiling:METEOR", "unknown metric 'METEOR'"),
    ],
)
def test_what_is_not_there_is_one_line(made, name, message):
    with pytest.raises(GitbenchError, match=message):
        told(made.study, name)


def test_every_explain_command_of_the_page_leads_to_its_runs(made):
    text = (made.out / "report.html").read_text(encoding="utf-8")
    commands = re.findall(r"gitbench explain (\S+) --profile (\w+) --data (\w+)", text)
    assert len(commands) == 3
    for target, profile, data in commands:
        assert f"{target} on {data}, {profile} profile" in told(made.study, target)


def test_command_line_explains_a_work_dir_and_a_committed_report(made, tmp_path, capsys, monkeypatch):
    number = ["explain", "decoder_size:base:CIDEr", "--profile", "cpu"]
    assert main([*number, "--work-dir", str(made.study.work_dir)]) == 0
    assert str(made.study.folder(run_key("base", 0)).path) in capsys.readouterr().out
    monkeypatch.setattr(command, "results_folder", lambda: made.results)
    monkeypatch.chdir(tmp_path)
    assert main(number) == 0
    text = capsys.readouterr().out
    runs = json.loads((made.out / "manifest.json").read_text())["runs"]
    assert sum(key in text for key in runs) == 5 and "run folders are not part of the repository" in text
    assert main(["explain", "decoder_size:larger-better", "--profile", "cpu"]) == 0
    assert "paired differences" in capsys.readouterr().out
    assert main(["explain", "encoder_init:base:CIDEr", "--profile", "cpu"]) == 2
    assert "encoder_init.cpu.scenes" in capsys.readouterr().err
