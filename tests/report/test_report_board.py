"""The claims board: from a work directory and from committed reports the same, never by colour alone, never forged."""

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from helpers_runs import CLAIM, make_work_dir
from matplotlib.backends.backend_agg import FigureCanvasAgg

from gitbench.cli import main
from gitbench.errors import GitbenchError
from gitbench.report import write_report
from gitbench.report.board import board_figure, markdown_text, page, rows_of_results, rows_of_work_dir, write_board
from gitbench.report.results import load_result

BETTER = CLAIM | {
    "name": "larger-better",
    "kind": "better",
    "margin": 0.0,
    "margin_unit": "metric",
    "reference": "small",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A work directory with two claims, and its report as it would be committed."""
    folder = tmp_path_factory.mktemp("board")
    work_dir = make_work_dir(folder / "work", claims=(CLAIM, BETTER))
    write_report(work_dir, "decoder_size", "cpu", "scenes", folder / "results" / "decoder_size" / "cpu-scenes-cpu2")
    return work_dir, folder / "results"


def test_repository_alone_gives_the_same_board(made):
    work_dir, results = made
    ours, committed = rows_of_work_dir(work_dir), rows_of_results(results)
    assert [row.verdict for row in committed] == [row.verdict for row in ours] and len(ours) == 2
    assert [(row.ablation, row.profile, row.data, row.title) for row in ours] == [
        (row.ablation, row.profile, row.data, row.title) for row in committed
    ]
    assert committed[0].report == "decoder_size/cpu-scenes-cpu2" and ours[0].report is None


def test_board_and_explain_need_no_torch():
    script = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "mmengine", "timm", "datasets", "transformers"):
            raise ImportError(f"{name} must not be imported here")

sys.meta_path.insert(0, Refuse())
from gitbench.report import board, explain, results
print(len(board.unjudged([])))
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert told.returncode == 0 and int(told.stdout) >= 6, told.stderr


def test_files_are_whole_and_the_same_each_time(made, tmp_path):
    rows = rows_of_results(made[1])
    paths = write_board(rows, tmp_path / "a")
    assert {path.name for path in paths} == {f"board.{kind}" for kind in ("html", "md", "csv", "svg", "pdf", "png")}
    write_board(rows, tmp_path / "b")
    for path in paths:
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    assert (
        "<text" in (tmp_path / "a" / "board.svg").read_text()
        and b"/Type3" not in (tmp_path / "a" / "board.pdf").read_bytes()
    )


def test_page_says_claim_place_difference_verdict_and_symbol(made):
    text = page(rows_of_results(made[1])).replace("\N{NO-BREAK SPACE}", " ")
    verdict = rows_of_results(made[1])[0].verdict
    for said in (verdict.claim.says, "a larger decoder shows no improvement", "Table 10, p. 11", "n = 5", "SUPPORTED"):
        assert said in text, said
    assert f"{verdict.difference:+.2f}" in text.replace("\N{MINUS SIGN}", "-")
    badges = re.findall(r'class="badge [a-z]+"><span aria-hidden="true">(.)</span> ([A-Z ]+)<', text)
    assert badges and all(mark in "✓×?…○" and word for mark, word in badges)
    assert text.count('<article class="claim">') == text.count("<svg ") == 2
    assert "<script" not in text and 'src="' not in text and "prefers-color-scheme: dark" in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert "Not run yet: data_scale, decoder_attention, decoder_init, encoder_init, encoder_training" in text
    assert 'href="decoder_size/cpu-scenes-cpu2/report.html"' in text


def test_markdown_and_csv_carry_the_verdicts(made, tmp_path):
    rows = rows_of_results(made[1])
    lines = [line for line in markdown_text(rows).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 2 and len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    write_board(rows, tmp_path)
    read = list(csv.DictReader(io.StringIO((tmp_path / "board.csv").read_text())))
    assert [row["verdict"] for row in read] == [row.verdict.word for row in rows]
    assert float(read[0]["difference"]) == rows[0].verdict.difference


@pytest.fixture
def copy(made, tmp_path):
    """A report that a test may spoil."""
    import shutil

    return shutil.copytree(made[1], tmp_path / "results") / "decoder_size" / "cpu-scenes-cpu2"


def test_no_line_of_the_picture_is_cut_and_what_was_not_measured_has_one(made):
    row = rows_of_work_dir(made[0])[0]
    trend = replace(row.verdict.claim, kind="trend", along_unit="step of the model", margin_unit="metric")
    long = replace(row, verdict=replace(row.verdict, claim=trend))
    empty = replace(row, verdict=replace(row.verdict, difference=None, interval=None, differences=()))
    figure = board_figure([long, empty])
    FigureCanvasAgg(figure)
    lines = [line for text in figure.texts for line in text.get_text().splitlines()]
    assert "no difference measured" in lines and f"n = {row.verdict.n}" in lines
    width = figure.get_size_inches()[0] * figure.dpi
    renderer = figure.canvas.get_renderer()
    assert all(text.get_window_extent(renderer).x1 <= width for text in figure.texts)


def test_an_edited_verdict_is_refused(copy):
    path = copy / "verdicts.json"
    path.write_text(path.read_text().replace("SUPPORTED", "REFUTED"))
    with pytest.raises(GitbenchError, match="verdicts.json is not as it was built"):
        load_result(copy)


def test_a_difference_that_its_runs_do_not_give_is_refused_even_with_new_hashes(copy):
    import hashlib

    values = json.loads((copy / "verdicts.json").read_text())
    values["verdicts"][0]["difference"] += 3
    (copy / "verdicts.json").write_text(json.dumps(values))
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["verdicts.json"] = hashlib.sha256((copy / "verdicts.json").read_bytes()).hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(GitbenchError, match="decoder_size:larger-no-better .* its runs.csv gives"):
        load_result(copy)


def test_a_verdict_whose_runs_the_manifest_does_not_know_is_refused(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["runs"] = manifest["runs"][:3]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(GitbenchError, match="has no runs behind its arm"):
        load_result(copy)


def test_a_report_of_an_older_version_keeps_its_verdict(copy):
    import hashlib

    values = json.loads((copy / "verdicts.json").read_text())
    for verdict in values["verdicts"]:
        for name in ("p_holm", "family", "looks", "further_seconds"):
            verdict.pop(name, None)
    (copy / "verdicts.json").write_text(json.dumps(values))
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["verdicts.json"] = hashlib.sha256((copy / "verdicts.json").read_bytes()).hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert [each.word for each in load_result(copy).verdicts] == [each["word"] for each in values["verdicts"]]


def test_command_line(made, tmp_path, capsys, monkeypatch):
    work_dir, results = made
    assert main(["report", "--all", "--work-dir", str(work_dir), "--out", str(tmp_path / "a")]) == 0
    monkeypatch.setattr("gitbench.commands.explain.results_folder", lambda: results)
    assert main(["report", "--all", "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a" / "board.csv").read_bytes() == (tmp_path / "b" / "board.csv").read_bytes()
    assert 'href="../' in (tmp_path / "b" / "board.html").read_text()  # links lead from there to the reports
    capsys.readouterr()
    assert main(["report", "--all", "decoder_size"]) == 2 and "leave decoder_size out" in capsys.readouterr().err
    assert main(["report", "--all", "--profile", "gpu"]) == 2 and "no study has that" in capsys.readouterr().err
    monkeypatch.setattr("gitbench.commands.explain.results_folder", lambda: tmp_path / "nothing")
    assert main(["report", "--all"]) == 2 and "holds no report" in capsys.readouterr().err
