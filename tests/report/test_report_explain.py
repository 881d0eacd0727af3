"""From a number back to its runs; and a number without runs behind it stops the build."""

import dataclasses
import json

import pytest
from helpers_runs import CLAIM, make_work_dir, run_key

from gitbench.cli import main
from gitbench.errors import GitbenchError
from gitbench.judge import judge_study
from gitbench.report import tables, write_report
from gitbench.report.audit import check_numbers, differences_of, replicates_of
from gitbench.report.explain import aggregation, explain_runs, parse_target
from gitbench.study.records import build_frame, load_study


def load(work_dir):
    study = load_study(work_dir, "decoder_size", "cpu", "scenes")
    frame = build_frame(work_dir, [study])
    return study, frame, judge_study(study, frame, "grammar")


def test_every_number_of_an_honest_report_has_its_runs(tmp_path):
    study, frame, verdicts = load(make_work_dir(tmp_path, records_only=True))
    table = tables.summarise(frame, study)
    checked = check_numbers(tmp_path, study, table, verdicts)
    assert checked == sum(table[name].notna().sum() for name in ("CIDEr", "BLEU-4", "test_nll")) + 7 * 4 + len(verdicts)


def test_a_number_without_a_run_is_named(tmp_path):
    study, frame, _ = load(make_work_dir(tmp_path, replicates=3, records_only=True))
    for replicate in range(3):
        (tmp_path / "runs" / run_key("large", replicate) / "record.json").unlink()
    with pytest.raises(GitbenchError, match="^decoder_size:large:CIDEr would be printed as .* no finished run stands"):
        check_numbers(tmp_path, study, tables.summarise(frame, study))


def test_a_planted_score_is_named(tmp_path):
    study, frame, _ = load(make_work_dir(tmp_path, records_only=True))
    table = tables.summarise(frame, study)
    table.loc[table["arm"] == "base", "BLEU-4"] += 0.5
    with pytest.raises(GitbenchError, match="decoder_size:base:BLEU-4 .* but its 5 runs give"):
        check_numbers(tmp_path, study, table)


def test_a_planted_ceiling_and_a_planted_verdict_are_named(tmp_path):
    study, frame, verdicts = load(make_work_dir(tmp_path, records_only=True))
    table = tables.summarise(frame, study)
    table.loc[table["arm"] == "ceiling", "CIDEr"] = 190.0
    with pytest.raises(GitbenchError, match="decoder_size:ceiling:CIDEr .* no yardstick file"):
        check_numbers(tmp_path, study, table)
    forged = dataclasses.replace(verdicts[0], difference=verdicts[0].difference - 1)
    with pytest.raises(GitbenchError, match="decoder_size:larger-no-better would be printed"):
        check_numbers(tmp_path, study, tables.summarise(frame, study), [forged])


def test_the_build_itself_refuses_a_planted_number(tmp_path, monkeypatch):
    make_work_dir(tmp_path / "work", replicates=3)
    honest = tables.summarise

    def forged(frame, study):
        table = honest(frame, study)
        table.loc[table["arm"] == "large", "CIDEr"] += 10
        return table

    monkeypatch.setattr(tables, "summarise", forged)
    with pytest.raises(GitbenchError, match="decoder_size:large:CIDEr"):
        write_report(tmp_path / "work", "decoder_size", "cpu", "scenes", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_overridden_runs_stand_behind_no_claim(tmp_path):
    study, frame, verdicts = load(make_work_dir(tmp_path, records_only=True, overridden=(("large", 0),)))
    assert [each.replicate for each in replicates_of(tmp_path, study, "large", "CIDEr")] == [1, 2, 3, 4]
    assert sorted(differences_of(tmp_path, study, study.claims[0])) == [1, 2, 3, 4]
    check_numbers(tmp_path, study, tables.summarise(frame, study), verdicts)


def test_walk_of_a_score_ends_at_runs_command_and_versions(tmp_path):
    make_work_dir(tmp_path)
    text = explain_runs(tmp_path, parse_target("decoder_size:large:CIDEr"), "cpu", "scenes")
    record = json.loads((tmp_path / "runs" / run_key("large", 2) / "record.json").read_text())
    assert f"{record['metrics']['CIDEr']['value']:<12.6g} {tmp_path}/runs/{run_key('large', 2)}" in text
    for said in ("mean of 5 replicates", "mean over the test images", "12 rows of its per_image.parquet", "CIDEr-D|"):
        assert said in text, said
    assert "gitbench run decoder_size --profile cpu" in text and "torch" in text and "0123abc" in text


def test_walk_of_a_claim_names_the_runs_of_each_pair(tmp_path):
    study, _, verdicts = load(make_work_dir(tmp_path))
    text = explain_runs(tmp_path, parse_target("decoder_size:larger-no-better"), "cpu", "scenes")
    assert "SUPPORTED" in text and "exact sign-flip test" in text and "seeds and test images" in text
    for replicate, value in enumerate(verdicts[0].differences):
        assert f"{value:<+12.6g} large {run_key('large', replicate)}, base {run_key('base', replicate)}" in text


def test_walk_of_the_ceiling_and_of_a_cost(tmp_path):
    make_work_dir(tmp_path)
    assert "abc123.json" in explain_runs(tmp_path, parse_target("decoder_size:ceiling:CIDEr"), "cpu", "scenes")
    assert "measured once a run" in explain_runs(tmp_path, parse_target("decoder_size:large:seconds"), "cpu", "scenes")
    assert "never a mean of images" in aggregation("BLEU-4") and "never a mean of images" in aggregation("METEOR")


@pytest.mark.parametrize(
    "name, message",
    [
        ("decoder_size", "names no number"),
        ("decoder_size:large:CIDEr:x", "names no number"),
        ("decoder_size:lage:CIDEr", "unknown arm 'lage': did you mean 'large'"),
        ("decoder_size:large:CIDER", "unknown metric 'CIDER': did you mean 'CIDEr'"),
        ("decoder_size:larger-better", "unknown claim 'larger-better': did you mean 'larger-no-better'"),
        ("decoder_size:ceiling:METEOR", "no yardstick stands behind"),
    ],
)
def test_what_is_not_there_is_one_line(tmp_path, name, message):
    make_work_dir(tmp_path, replicates=3, records_only=True)
    with pytest.raises(GitbenchError, match=message):
        explain_runs(tmp_path, parse_target(name), "cpu", "scenes")


def test_command_line_explains_a_work_dir_and_a_committed_report(tmp_path, capsys, monkeypatch):
    work_dir = make_work_dir(tmp_path / "work", claims=(CLAIM,))
    number = ["explain", "decoder_size:base:CIDEr", "--profile", "cpu"]
    assert main([*number, "--work-dir", str(work_dir)]) == 0
    assert run_key("base", 0) in capsys.readouterr().out
    results = tmp_path / "results"
    write_report(work_dir, "decoder_size", "cpu", "scenes", results / "decoder_size" / "cpu-scenes-cpu2")
    monkeypatch.setattr("gitbench.commands.explain.results_folder", lambda: results)
    monkeypatch.chdir(tmp_path)
    assert main(number) == 0
    told = capsys.readouterr().out
    assert run_key("base", 4) in told and "run folders are not part of the repository" in told and "0123abc" in told
    assert main(["explain", "encoder_init:base:CIDEr", "--profile", "cpu"]) == 2
    assert "no study and no report is encoder_init.cpu.scenes" in capsys.readouterr().err
