"""LaTeX for papers: one command a number, names of letters alone, the same numbers as in the table."""

import dataclasses
import re

import pytest
from helpers_report import floor_of, view_of
from helpers_runs import CLAIM

from gitbench.errors import GitbenchError
from gitbench.report.latex import command_name, numbers_text
from gitbench.report.templates import latex_escape


@pytest.fixture(scope="module")
def view(tmp_path_factory):
    view = view_of(tmp_path_factory.mktemp("latex"))
    view.study.noise_floors = {"CIDEr": floor_of(sd=5.5, mde=13.1)}
    return view


def commands(text):
    return dict(re.findall(r"\\newcommand\{(\\[A-Za-z]+)\}\{(.*)\}\n", text))


def test_escape_covers_every_special_character_and_any_letter():
    assert latex_escape(r"5 % a_b & {c} #1 $x$ ~ ^ \ < >") == (
        r"5 \% a\_b \& \{c\} \#1 \$x\$ \textasciitilde{} \textasciicircum{} \textbackslash{} \textless{} \textgreater{}"
    )
    text = latex_escape("flickr\u21928k caf\u00e9 \u03b2 \u2265 5\n\\input \u2032 \u2026 \u732b")
    assert text == "flickr$\\rightarrow$8k cafe ? $\\geq$ 5 \\textbackslash{}input ' \\dots{} ?"


def test_names_are_letters_alone_and_digits_are_spelled():
    assert command_name("decoder_size", "large", "CIDEr", "Mean") == "\\gbDecoderSizeLargeCIDErMean"
    assert command_name("data_scale", "n300", "BLEU-4", "Low") == "\\gbDataScaleNThreeZeroZeroBLEUFourLow"
    assert command_name("caf\u00e9", "\u03b2") == "\\gbCafeGreekSmallLetterBeta" != command_name("caf\u00e9", "\u03b3")


def test_every_number_of_the_table_is_a_command(view):
    found, verdict = commands(numbers_text(view)), view.verdicts[0]
    assert all(re.fullmatch(r"\\gb[A-Za-z]+", name) for name in found)
    for row in view.rows:
        for metric in view.scores:
            cell = view.cell(row, metric)
            if cell.half is not None:
                assert found[command_name("decoder_size", row["arm"], metric, "Mean")] == cell.text
    own = view.frame[(view.frame["arm"] == "large") & (view.frame["metric"] == "CIDEr")]["value"]
    assert found["\\gbDecoderSizeLargeCIDErMean"] == f"{own.mean():.1f}"
    assert found["\\gbDecoderSizeLargeCIDErSd"] == f"{own.std(ddof=1):.1f}"
    assert found["\\gbDecoderSizeCeilingCIDErMean"] == "150.0" and found["\\gbDecoderSizeLargeSeeds"] == "5"
    claim = "\\gbDecoderSizeClaimLargerNoBetter"
    expected = {"Verdict": "supported", "Seeds": "5", "Looks": "0"}
    assert {part: found[claim + part] for part in expected} == expected
    assert float(found[f"{claim}Low"].replace("$-$", "-")) == pytest.approx(verdict.interval[0], abs=0.006)
    assert float(found[f"{claim}PRefute"]) == pytest.approx(verdict.p_refute, rel=0.06)
    assert found[f"{claim}LikelihoodVerdict"] == "supported" and found[f"{claim}LikelihoodUnit"] == "nat/token"
    assert found[f"{claim}Metrics"] == "both metrics say so"
    low = float(found[f"{claim}LikelihoodLow"].replace("$-$", "-"))
    assert low == pytest.approx(verdict.likelihood.interval[0], abs=0.0006)
    floor = "\\gbDecoderSizeNoiseFloorCIDEr"
    assert (found[f"{floor}Sd"], found[f"{floor}Mde"], found[f"{floor}Replicates"]) == ("5.5", "13.1", "10")


def test_other_data_get_names_of_their_own_and_a_title_of_two_lines_cannot_leave_its_comment(view):
    plan = dataclasses.replace(view.plan, data="flickr8k\u2192", title="d\u00e9\n\\input{two}")
    text = numbers_text(dataclasses.replace(view, plan=plan))
    assert not set(commands(numbers_text(view))) & set(commands(text))
    assert "\\gbDecoderSizeCpuFlickrEightK" in text
    assert all(line.startswith(("%", "\\newcommand{\\gb")) for line in text.splitlines())
    assert "".join(line for line in text.splitlines() if not line.startswith("%")).isascii()


def test_two_things_of_one_name_are_refused(tmp_path):
    view = view_of(tmp_path, claims=(CLAIM, CLAIM | {"name": "larger_no_better"}))
    with pytest.raises(GitbenchError, match="gbDecoderSizeClaimLargerNoBetter"):
        numbers_text(view)
