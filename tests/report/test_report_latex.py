"""LaTeX for papers: full rows, one command a number, names of letters alone, the same numbers as in the table."""

import re
import shutil
import subprocess

import pytest
from helpers_runs import CLAIM, make_work_dir

from gitbench.errors import GitbenchError
from gitbench.judge import judge_study
from gitbench.report import tables
from gitbench.report.latex import command_name, latex_escape, numbers_text, table_text
from gitbench.study.records import build_frame, load_study


def load(tmp_path, **options):
    work_dir = make_work_dir(tmp_path, records_only=True, **options)
    study = load_study(work_dir, "decoder_size", "cpu", "scenes")
    frame = build_frame(work_dir, [study])
    return frame, study, judge_study(study, frame, "grammar")


def commands(text):
    return dict(re.findall(r"\\newcommand\{(\\[A-Za-z]+)\}\{(.*)\}\n", text))


def test_table_has_booktabs_structure_and_full_rows(tmp_path):
    frame, study, verdicts = load(tmp_path)
    text = table_text(frame, study, verdicts)
    assert "\\label{tab:decoder-size-cpu-scenes}" in text and text.count("\\toprule") == text.count("\\bottomrule") == 2
    blocks = re.findall(r"\\begin\{tabular\}\{((?:p\{[^}]*\}|\w)+)\}(.*?)\\end\{tabular\}", text, flags=re.DOTALL)
    assert len(blocks) == 2
    for columns, body in blocks:
        width = len(re.sub(r"p\{[^}]*\}", "p", columns))
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {width}
    assert len([line for line in blocks[0][1].splitlines() if line.endswith(r"\\")]) == 1 + 5
    assert text.count("{") == text.count("}") and text.isascii()


def test_table_gives_each_claim_its_interval_seeds_and_verdict(tmp_path):
    frame, study, verdicts = load(tmp_path)
    (row,) = [line for line in table_text(frame, study, verdicts).splitlines() if "Table 10, p. 11" in line]
    difference = verdicts[0].difference
    assert row.endswith(r"& 5 & Supported \\") and f"{difference:+.2f}" in row.replace("$-$", "-") and "[" in row


def test_escape_covers_every_special_character():
    text = latex_escape(r"5 % a_b & {c} #1 $x$ ~ ^ \ < >")
    assert text == (
        r"5 \% a\_b \& \{c\} \#1 \$x\$ \textasciitilde{} \textasciicircum{} \textbackslash{} \textless{} \textgreater{}"
    )


def test_names_are_letters_alone_and_digits_are_spelled():
    assert command_name("decoder_size", "large", "CIDEr", "Mean") == "\\gbDecoderSizeLargeCIDErMean"
    assert command_name("data_scale", "n300", "BLEU-4", "Low") == "\\gbDataScaleNThreeZeroZeroBLEUFourLow"


def test_every_number_of_the_table_is_a_command(tmp_path):
    frame, study, verdicts = load(tmp_path)
    found = commands(numbers_text(frame, study, verdicts))
    assert all(re.fullmatch(r"\\gb[A-Za-z]+", name) for name in found)
    for row in tables.score_cells(frame, study):
        for metric, cell in row["cells"].items():
            if cell["half"] is not None:
                assert found[command_name("decoder_size", row["arm"], metric, "Mean")] == cell["text"]
    own = frame[(frame["arm"] == "large") & (frame["metric"] == "CIDEr")]["value"]
    assert found["\\gbDecoderSizeLargeCIDErMean"] == f"{own.mean():.1f}"
    assert found["\\gbDecoderSizeLargeCIDErSd"] == f"{own.std(ddof=1):.1f}"
    assert found["\\gbDecoderSizeLargeSeeds"] == "5"
    assert found["\\gbDecoderSizeClaimLargerNoBetterVerdict"] == "supported"
    assert found["\\gbDecoderSizeClaimLargerNoBetterSeeds"] == "5"
    low = float(found["\\gbDecoderSizeClaimLargerNoBetterLow"].replace("$-$", "-"))
    assert low == pytest.approx(verdicts[0].interval[0], abs=0.006)
    assert found["\\gbDecoderSizeCeilingCIDErMean"] == "180.0"


def test_other_data_or_profiles_get_names_of_their_own(tmp_path):
    import dataclasses

    frame, study, verdicts = load(tmp_path)
    other = dataclasses.replace(study, data="flickr8k-38212c")
    assert not set(commands(numbers_text(frame, study, verdicts))) & set(commands(numbers_text(frame, other, verdicts)))
    assert "\\gbDecoderSizeCpuFlickrEightK" in numbers_text(frame, other, verdicts)


def test_two_things_of_one_name_are_refused(tmp_path):
    claims = (CLAIM, CLAIM | {"name": "larger_no_better"})
    frame, study, verdicts = load(tmp_path, claims=claims)
    with pytest.raises(GitbenchError, match="two numbers of decoder_size would be .gbDecoderSizeClaimLargerNoBetter"):
        numbers_text(frame, study, verdicts)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs a LaTeX with booktabs")
def test_a_real_latex_takes_both_files(tmp_path):
    frame, study, verdicts = load(tmp_path / "work")
    (tmp_path / "table.tex").write_text(table_text(frame, study, verdicts))
    (tmp_path / "numbers.tex").write_text(numbers_text(frame, study, verdicts))
    (tmp_path / "paper.tex").write_text(
        "\\documentclass[twocolumn]{article}\\usepackage{booktabs}\\input{numbers}\\begin{document}"
        "\\gbDecoderSizeLargeCIDErMean{} \\gbDecoderSizeClaimLargerNoBetterSentence{} \\input{table}\\end{document}"
    )
    told = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout[-800:]
    assert (tmp_path / "paper.pdf").stat().st_size > 5000 and "Overfull" not in told.stdout


def test_any_letter_of_a_name_ends_in_something_that_latex_takes():
    text = latex_escape("flickr\u21928k caf\u00e9 \u03b2 \u2265 5\n\\input \u2032 \u2026 \u732b")
    assert text == "flickr$\\rightarrow$8k cafe ? $\\geq$ 5 \\textbackslash{}input ' \\dots{} ?"
    assert command_name("caf\u00e9", "\u03b2") == "\\gbCafeGreekSmallLetterBeta"
    assert command_name("a", "\u03b2") != command_name("a", "\u03b3")


def test_a_title_of_two_lines_cannot_leave_its_comment(tmp_path):
    import dataclasses

    frame, study, verdicts = load(tmp_path)
    text = numbers_text(frame, dataclasses.replace(study, title="one\n\\input{two}", data="d\u00e9\u21928"), verdicts)
    assert all(line.startswith(("%", "\\newcommand{\\gb")) for line in text.splitlines())
    assert "".join(line for line in text.splitlines() if not line.startswith("%")).isascii()


def test_refuting_p_looks_and_the_noise_floor_are_commands(tmp_path):
    from gitbench.judge.noise import NoiseFloor

    frame, study, verdicts = load(tmp_path)
    floor = NoiseFloor(
        metric="CIDEr",
        sd=5.5,
        sd_low=3.8,
        sd_high=10.1,
        n=10,
        seeds=5,
        mde=13.1,
        false_positive_rate=0.05,
        judged=100,
        better_rate=0.05,
        different_rate=0.05,
        splits=126,
        mean=90.0,
        values=(89.0, 91.0),
    )
    found = commands(numbers_text(frame, study, verdicts, floors={"CIDEr": floor}))
    claim = "\\gbDecoderSizeClaimLargerNoBetter"
    assert found[f"{claim}Looks"] == "0"
    assert float(found[f"{claim}PRefute"]) == pytest.approx(verdicts[0].p_refute, rel=0.06)
    assert found["\\gbDecoderSizeNoiseFloorCIDErSd"] == "5.5" and found["\\gbDecoderSizeNoiseFloorCIDErMde"] == "13.1"
    assert found["\\gbDecoderSizeNoiseFloorCIDErReplicates"] == "10"


def test_a_dagger_is_explained_where_it_stands(tmp_path):
    frame, study, verdicts = load(tmp_path / "a", overridden=tuple(("large", each) for each in range(5)))
    assert "large$^\\dagger$" in table_text(frame, study, verdicts)
    assert "$^\\dagger$ changed by --cfg-options" in table_text(frame, study, verdicts)
    frame, study, verdicts = load(tmp_path / "b")
    assert "dagger" not in table_text(frame, study, verdicts)
