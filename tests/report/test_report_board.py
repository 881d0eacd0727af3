"""The claims board: from studies and from committed reports the same, never by colour alone, never forged."""

import csv
import dataclasses
import hashlib
import io
import json
import re
import shutil

import pytest
from helpers_report import study_of
from matplotlib.backends.backend_agg import FigureCanvasAgg

from gitbench.ablations import ablation_names
from gitbench.cli import main
from gitbench.commands import report as command
from gitbench.errors import GitbenchError
from gitbench.files import resource
from gitbench.report.board import board_figure, page, rows_of_results, rows_of_studies, write_board
from gitbench.report.results import load_result, load_results
from gitbench.study.interim import judge

pytestmark = pytest.mark.usefixtures("svg_alone")


@pytest.fixture(scope="module")
def rows(made):
    """The rows of that study on a board. Nobody may change them."""
    return rows_of_studies([(made.study, judge(made.study))])


def test_repository_alone_gives_the_same_board(made, rows):
    committed = rows_of_results(made.results)
    assert [dataclasses.replace(row, report=None) for row in committed] == rows and len(rows) == 2
    assert committed[0].report == "decoder_size/cpu-scenes-cpu2" and rows[0].report is None
    assert len(rows[0].dropped) == 1 and "came-out-badly: dropped after results existed: 3 of 19" in rows[0].dropped[0]


def test_files_are_whole_and_the_same_each_time(made, rows, tmp_path):
    paths = write_board(rows, tmp_path / "a")
    assert {path.name for path in paths} == {f"board.{kind}" for kind in ("html", "md", "csv", "svg", "pdf", "png")}
    write_board(rows, tmp_path / "b")
    assert all(path.read_bytes() == (tmp_path / "b" / path.name).read_bytes() for path in paths)
    lines = [line for line in (tmp_path / "a" / "board.md").read_text().splitlines() if line.startswith("|")]
    claims, arms = lines[:4], lines[4:]
    assert all(len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1 for table in (claims, arms))
    reach = rows[0].reach
    assert [re.split(r" *\| *", line)[2:-1] for line in arms[2:]] == [[arm, *cells] for arm, cells in reach.rows]
    assert reach.rows[0][0] == "never sees the image" and "0 %" in reach.rows[0][1]
    read = list(csv.DictReader(io.StringIO((tmp_path / "a" / "board.csv").read_text())))
    assert [row["verdict"] for row in read] == [row.verdict.word for row in rows]
    assert float(read[0]["difference"]) == rows[0].verdict.difference and int(read[0]["n"]) == 5
    beside = [row.verdict.likelihood for row in rows]
    assert [row["likelihood_verdict"] for row in read] == [each.word for each in beside]
    assert [float(row["likelihood_low"]) for row in read] == [each.interval[0] for each in beside]
    assert [row["metrics"] for row in read] == [row.verdict.agreement for row in rows]


def test_page_shows_quote_difference_verdict_and_symbol(made):
    rows = rows_of_results(made.results)
    text, verdict = page(rows).replace("\N{NO-BREAK SPACE}", " "), rows[0].verdict
    for said in (verdict.claim.says, verdict.claim.quote, "Table 10, p. 11", "n = 5", "SUPPORTED", "came-out-badly"):
        assert said in text, said
    assert f"{verdict.difference:+.2f}" in text.replace("\N{MINUS SIGN}", "-")
    badges = re.findall(r'class="badge [a-z]+"><span aria-hidden="true">(.)</span> ([A-Z ]+)<', text)
    assert badges and all(mark in "✓×?…○" and word for mark, word in badges)
    assert text.count('<article class="claim" id=') == text.count("<svg ") == 2
    assert all(name in text for name in ablation_names()) and 'href="decoder_size/cpu-scenes-cpu2/report.html"' in text
    report = (made.out / "report.html").read_text(encoding="utf-8")
    named = re.findall('href="decoder_size/cpu-scenes-cpu2/report.html#([a-z-]+)"', text)
    assert len(named) == 2 and all(f'id="{name}"' in report for name in named)


def test_no_line_of_the_picture_is_cut_and_what_was_not_measured_has_one(rows):
    row = rows[0]
    trend = dataclasses.replace(
        row.verdict.claim, kind="trend", along=("base", "a model in between", "large"), margin_unit="metric"
    )
    long = dataclasses.replace(row, verdict=dataclasses.replace(row.verdict, claim=trend))
    unmeasured = dataclasses.replace(row.verdict, difference=None, interval=None, differences=())
    figure = board_figure([long, dataclasses.replace(row, verdict=unmeasured)])
    FigureCanvasAgg(figure)
    lines = [line for text in figure.texts for line in text.get_text().splitlines()]
    assert "no difference measured" in lines and f"n = {row.verdict.n}" in lines
    width, renderer = figure.get_size_inches()[0] * figure.dpi, figure.canvas.get_renderer()
    assert all(text.get_window_extent(renderer).x1 <= width for text in figure.texts)


def test_a_test_of_the_judge_is_no_claim_of_the_paper(made, tmp_path):
    study = study_of(tmp_path, replicates=3)
    planted = dataclasses.replace(study.plan, ablation="_truth")
    study.plan = planted
    judged = [(made.study, judge(made.study)), (study, judge(study))]
    assert {row.ablation for row in rows_of_studies(judged)} == {"decoder_size"}
    with pytest.raises(GitbenchError, match="no study of the work directory"):
        rows_of_studies(judged[1:])


# ---- committed reports ----------------------------------------------------------------------------------------------


def test_an_edited_verdict_is_refused_even_with_new_hashes(made, committed, tmp_path):
    folder = shutil.copytree(made.out, tmp_path / "copy")
    verdicts, manifest = folder / "verdicts.json", json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"runs": manifest["runs"][:3]}))
    with pytest.raises(GitbenchError, match="runs that the manifest does not list: .*`gitbench publish ABLATION`"):
        load_result(folder)
    values = json.loads(verdicts.read_text())
    values["verdicts"][0]["difference"] += 3
    verdicts.write_text(json.dumps(values))
    with pytest.raises(GitbenchError, match=r"verdicts\.json is not as it was built"):
        load_result(folder)
    manifest["files"]["verdicts.json"] = hashlib.sha256(verdicts.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (note,) = set(load_result(folder).origin.notes) - set(committed.origin.notes)
    assert (
        note.startswith("the report says that larger-no-better is SUPPORTED (") and "its runs give SUPPORTED (" in note
    )


def test_an_edited_word_is_judged_again_and_told(made, committed, tmp_path):
    """A word that was edited and rehashed is not the one on the board, and the board says so."""
    folder = shutil.copytree(made.out, tmp_path / "decoder_size" / "copy")
    verdicts, manifest = folder / "verdicts.json", json.loads((folder / "manifest.json").read_text())
    values = json.loads(verdicts.read_text())
    assert values["verdicts"][0]["word"] == "SUPPORTED"
    values["verdicts"][0].update(word="REFUTED", reason="so it is", p_holm=0.9)
    verdicts.write_text(json.dumps(values))
    manifest["files"]["verdicts.json"] = hashlib.sha256(verdicts.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    found = load_result(folder)
    assert found.verdicts == committed.verdicts
    (said,) = set(found.origin.notes) - set(committed.origin.notes)
    assert "larger-no-better is REFUTED (" in said and "its runs give SUPPORTED (" in said
    write_board(rows_of_results(tmp_path), tmp_path / "board")
    assert all(said in (tmp_path / "board" / name).read_text() for name in ("board.html", "board.md"))


def test_a_row_says_when_its_claim_was_locked_and_its_runs_were_made(made, tmp_path):
    row = rows_of_results(made.results)[0]
    origin = dataclasses.replace(row.origin, locked={"larger-no-better": "2025-12-24"}, numerics=(4,))
    dated = dataclasses.replace(row, origin=origin)
    assert dated.made == "locked 2025-12-24, runs began 2026-01-01, numerics version 4, 5 seeds"
    assert "not locked as it is" in row.made
    write_board([dated], tmp_path)
    for name in ("board.html", "board.md"):
        text = (tmp_path / name).read_text().replace("Locked", "locked")
        assert dated.made in text and "this code is at" in text and "would not reproduce them" in text
    assert "stated beforehand" not in (tmp_path / "board.html").read_text()
    proven = dataclasses.replace(dated, origin=dataclasses.replace(origin, stated=True))
    assert "the margin that was stated beforehand" in page([proven])


def test_committed_reports_say_what_their_runs_give():
    for result in load_results(resource("reports/results")):
        assert not [note for note in result.origin.notes if "the report says" in note], result.folder


def test_command_line(made, tmp_path, capsys, monkeypatch):
    assert main(["report", "--all", "--work-dir", str(made.study.work_dir), "--out", str(tmp_path / "a")]) == 0
    monkeypatch.setattr(command, "results_folder", lambda: made.results)
    monkeypatch.chdir(tmp_path)
    assert main(["report", "--all"]) == 0  # to the work directory, as long as nobody says --publish
    board = tmp_path / "work_dirs" / "reports"
    assert (tmp_path / "a" / "board.csv").read_bytes() == (board / "board.csv").read_bytes()
    assert 'href="../' in (board / "board.html").read_text()  # links lead from there to the reports
    assert not list(made.results.glob("board*"))
    capsys.readouterr()
    assert main(["publish", "--all", "--work-dir", "."]) == 2 and "leave --work-dir out" in capsys.readouterr().err
    assert main(["report", "--all", "decoder_size"]) == 2 and "leave decoder_size out" in capsys.readouterr().err
    assert main(["report", "--all", "--profile", "gpu"]) == 2 and "no study has that" in capsys.readouterr().err
    monkeypatch.setattr(command, "results_folder", lambda: tmp_path / "nothing")
    assert main(["report", "--all"]) == 2 and "holds no report" in capsys.readouterr().err


def test_a_board_looks_only_at_the_studies_that_it_shows(made, tmp_path, capsys):
    work_dir = shutil.copytree(made.study.work_dir, tmp_path / "work")
    board = ["report", "--all", "--work-dir", str(work_dir), "--out", str(tmp_path / "out")]
    for path in (looks := list((work_dir / "studies").glob("*.looks.json"))):
        path.unlink()
    assert looks and main([*board, "--profile", "gpu"]) == 2 and main([*board, "--data", "coco"]) == 2
    assert "no study has that" in capsys.readouterr().err and not list((work_dir / "studies").glob("*.looks.json"))
    assert main([*board, "--profile", "cpu", "--data", "scenes"]) == 0
    assert [path.name for path in (work_dir / "studies").glob("*.looks.json")] == ["decoder_size.cpu.scenes.looks.json"]


def test_smoke_studies_are_not_published(made, tmp_path, capsys, monkeypatch):
    work_dir, results = shutil.copytree(made.study.work_dir, tmp_path / "work"), tmp_path / "results"
    study = work_dir / "studies" / "decoder_size.cpu.scenes.json"
    values = json.loads(study.read_text()) | {"profile": "smoke"}
    study.with_name("decoder_size.smoke.scenes.json").write_text(json.dumps(values))
    monkeypatch.setattr(command, "results_folder", lambda: results)
    options = ["--profile", "smoke", "--work-dir", str(work_dir)]
    for words in (
        ["publish", "decoder_size"],
        ["report", "decoder_size", "--publish"],
        ["run", "decoder_size", "--publish"],
    ):
        assert main([*words, *options]) == 2
        said = capsys.readouterr().err
        assert (
            said.count("\n") == 1 and "smoke profile is not published" in said and "cpu, small-gpu, gpu, paper" in said
        )
    assert not results.exists() and not list((work_dir / "studies").glob("*.smoke.*looks.json"))
    shutil.copytree(made.results, results)
    (folder,) = results.glob("*/*")
    forged = shutil.copytree(folder, folder.with_name("smoke-scenes-cpu2"))
    manifest = json.loads((forged / "manifest.json").read_text()) | {"profile": "smoke"}
    (forged / "manifest.json").write_text(json.dumps(manifest))
    assert main(["publish", "--all"]) == 0
    with open(results / "board.csv", encoding="utf-8") as file:
        assert {row["profile"] for row in csv.DictReader(file)} == {"cpu"}


def test_report_and_board_of_a_work_directory_lead_to_each_other(made, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "pictures", lambda study: None)
    work_dir = shutil.copytree(made.study.work_dir, tmp_path / "work")
    assert main(["report", "decoder_size", "--work-dir", str(work_dir), "--profile", "cpu"]) == 0
    assert main(["report", "--all", "--work-dir", str(work_dir)]) == 0
    board = work_dir / "reports" / "board.html"
    (link,) = set(re.findall('href="([^"#]+/report.html)"', board.read_text(encoding="utf-8")))
    report = board.parent / link
    (back,) = re.findall('href="([^"#]+/board.html)"', report.read_text(encoding="utf-8"))
    assert (report.parent / back).resolve() == board.resolve()
    assert "board.html" not in (made.out / "report.html").read_text(
        encoding="utf-8"
    )  # written elsewhere: no board beside
