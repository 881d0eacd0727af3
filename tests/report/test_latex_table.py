"""Tables for papers: full rows, columns that vary, words with what decided them, and widths that fit a page and a column."""

import dataclasses
import re
import shutil
import subprocess

import pytest
from helpers_report import view_of

from gitbench.judge.sentences import finding_text
from gitbench.report.latex import numbers_text
from gitbench.report.latex_table import COLUMN_WIDTH, TEXT_WIDTH, fit, table_text, text_width
from gitbench.report.verdict_details import CAVEAT

LONG = "2 layers \N{MULTIPLICATION SIGN} 96, cross-attention, feed-forward 256"


def long_labels(grid):
    """Return the grid with labels that fit nowhere."""
    arms = [dataclasses.replace(arm, labels=arm.labels | {"encoder": f"{LONG}, {arm.name}"}) for arm in grid.plan.arms]
    return dataclasses.replace(grid, plan=dataclasses.replace(grid.plan, arms=tuple(arms)))


@pytest.fixture(params=["sizes", "grid", "long labels"])
def each_view(request, view, grid):
    return {"sizes": view, "grid": grid, "long labels": long_labels(grid)}[request.param]


@pytest.mark.parametrize("wide", [True, False])
def test_table_has_booktabs_structure_full_rows_and_says_what_decided_each_word(view, wide):
    text = table_text(view, wide)
    label = "tab:decoder-size-cpu-scenes" + "-column" * (not wide)
    assert f"\\label{{{label}}}" in text and text.count("\\toprule") == text.count("\\bottomrule") == 2
    assert text.count("{") == text.count("}") and text.isascii() and "dagger" not in text
    scores = text[: text.index("\\medskip")]
    rows = [line for line in scores.splitlines() if re.search(r"\\\\( %|$)", line)]
    fitted = fit(view, wide)
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(fitted.labels) + len(fitted.numbers)}
    assert len(rows) == 1 + 5 and all(f"% {row['arm']}" in scores for row in view.rows)  # names of arms can be found
    claims, verdict = " ".join(text[text.index("\\medskip") :].split()), view.verdicts[0]
    assert "Table 10, p. 11, as a reader quotes it" in claims and re.search(r"n = 5; margin \d", claims)
    assert f"{verdict.difference:+.2f}" in claims.replace("$-$", "-")
    why = f"Seen: {finding_text(verdict)}; {verdict.reason}"
    assert f"\\textbf{{Supported.}} {why}." in claims.replace("$-$", "\N{MINUS SIGN}").replace("\\%", "%")
    assert CAVEAT in text


def test_what_varies_has_a_column_and_what_does_not_has_none(view, grid):
    fitted = fit(grid, wide=True)
    assert [column.heading for column in fitted.labels] == ["Encoder", "Amount"]
    assert (
        "ViT, 2 layers \N{MULTIPLICATION SIGN} 64" in fitted.labels[0].cells and "300 images" in fitted.labels[1].cells
    )
    heads = [column.heading for column in fitted.numbers]
    assert heads[0] == "CIDEr" and "Parameters" in heads and "Decoder par." not in heads and "Seeds" not in heads
    assert "small_least" not in re.sub("%.*", "", table_text(grid)).replace("\\_", "_")
    assert "5 seeds an arm" in table_text(grid)
    assert "Decoder par." in [column.heading for column in fit(view, wide=True).numbers]


def test_seeds_have_a_column_where_arms_differ_in_them(tmp_path):
    view = view_of(tmp_path, replicates=3, missing=(("small", 2),))
    (seeds,) = [column for column in fit(view, wide=False).numbers if column.heading == "Seeds"]
    assert seeds.cells == ("3", "2", "3", "3", "") and "seeds an arm" not in table_text(view)


@pytest.mark.parametrize("wide, room", [(True, TEXT_WIDTH), (False, COLUMN_WIDTH)])
def test_columns_fit_by_estimate_and_what_does_not_fit_is_named(each_view, wide, room):
    fitted = fit(each_view, wide)
    assert fitted.width <= room + 1e-6 and fitted.numbers[0].heading == "CIDEr"
    wrapped = [column.width for column in fitted.labels if column.wrapped]
    assert min(wrapped, default=room) > text_width("cross-attention,")  # a word alone is not cut
    shown = [column.heading for column in fitted.numbers]
    assert len(shown) + len(fitted.left_out) >= 3 and not set(shown) & set(fitted.left_out)
    text = table_text(each_view, wide)
    assert all(name.replace(" \N{DOWNWARDS ARROW}", "") in text for name in fitted.left_out)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_sets_both_tables_within_the_narrowest_columns(each_view, tmp_path):
    for name, text in (("wide", table_text(each_view)), ("column", table_text(each_view, wide=False))):
        (tmp_path / f"{name}.tex").write_text(text)
    (tmp_path / "numbers.tex").write_text(numbers_text(each_view))
    (tmp_path / "paper.tex").write_text(
        "\\documentclass[twocolumn,10pt]{article}\\usepackage{booktabs}"
        f"\\usepackage[textwidth={TEXT_WIDTH + 1}pt,columnsep={TEXT_WIDTH + 1 - 2 * COLUMN_WIDTH}pt]{{geometry}}"
        "\\input{numbers}\\begin{document}\\input{wide}\\input{column}Text.\\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout[-800:]
    assert (tmp_path / "paper.pdf").stat().st_size > 5000
    assert not re.findall("Overfull.*", told.stdout)
