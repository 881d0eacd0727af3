"""A study for a paper in LaTeX: `table.tex` (booktabs) and `numbers.tex`, a command for every number so that prose can cite it.

A command's name is made from what it holds: `\\gb` + ablation + arm + metric + part, `\\gbDecoderSizeLargeCIDErMean`. TeX
names take letters only, so digits are spelled (`BLEU-4` is `BLEUFour`), and so are letters beyond ASCII. Studies other
than scenes at the cpu profile carry profile and data after the ablation's name, so that one paper can hold several. A
number is printed as in the tables.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from gitbench.errors import GitbenchError
from gitbench.judge.claims import Verdict
from gitbench.judge.crossed import Crossed
from gitbench.judge.noise import NoiseFloor
from gitbench.judge.words import verdict_sentence
from gitbench.report import tables
from gitbench.report.costs import cost_names, cost_text
from gitbench.report.view import counted
from gitbench.scores import claim_unit, digits, display_name, signed
from gitbench.study.records import Study

_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "\N{NO-BREAK SPACE}": "~",
    "\N{MULTIPLICATION SIGN}": "$\\times$",
    "\N{PLUS-MINUS SIGN}": "$\\pm$",
    "\N{DOWNWARDS ARROW}": "$\\downarrow$",
    "\N{DAGGER}": "$^\\dagger$",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{PRIME}": "'",
    "\N{EM DASH}": "---",
    "\N{HORIZONTAL ELLIPSIS}": "\\dots{}",
    "\N{RIGHTWARDS ARROW}": "$\\rightarrow$",
    "\N{GREATER-THAN OR EQUAL TO}": "$\\geq$",
    "\N{LESS-THAN OR EQUAL TO}": "$\\leq$",
}
_HEADINGS = {"test NLL": "NLL"}  # narrow columns


def latex_escape(text: str) -> str:
    """Escape text for LaTeX, one character at a time (a replacement is never escaped again).

    Line breaks become spaces; a letter that every LaTeX cannot take loses its accent, or becomes a question mark.
    """
    return "".join(_LATEX.get(letter) or _ascii(letter, "?") for letter in text)


def _ascii(letter: str, other: str) -> str:
    """Return one letter without its accents, a space for every kind of break, `other` where ASCII has nothing."""
    if letter.isspace():
        return " "
    return unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or other


def command_name(*parts: str) -> str:
    """Return the TeX command that holds a number: "\\gb" and the parts in camel case, digits spelled, letters only."""
    spelled = ("".join(_ascii(each, f" {unicodedata.name(each, '').title()} ") for each in part) for part in parts)
    words = [word for part in spelled for word in re.findall(r"[A-Za-z]+|[0-9]", part)]
    return "\\gb" + "".join(_DIGITS[int(word)] if word.isdigit() else word[0].upper() + word[1:] for word in words)


def table_text(
    frame: pd.DataFrame, study: Study, verdicts: Sequence[Verdict], floors: Mapping[str, NoiseFloor] | None = None
) -> str:
    """Return a LaTeX `table*` for the booktabs package: scores with intervals and seeds, and below it claim by claim."""
    label = re.sub("[^a-z0-9]+", "-", f"{study.ablation} {study.profile} {study.data}".lower())
    about = f"{study.title} ({study.data}, {study.profile} profile). {tables.CELL_NOTE}"
    if counted(frame)["overridden"].any():
        about += f" {tables.DAGGER} changed by --cfg-options; enters no claim."
    lines = [
        "% needs \\usepackage{booktabs}; every number is a command in numbers.tex too",
        "\\begin{table*}[t]",
        "\\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}",
        f"\\caption{{{latex_escape(about)}}}",
        f"\\label{{tab:{label}}}",
        *_score_rows(frame, study, floors),
    ]
    if verdicts:
        lines += ["", "\\medskip", *_claim_rows(verdicts)]
    return "\n".join([*lines, "\\end{table*}", ""])


def _score_rows(frame: pd.DataFrame, study: Study, floors: Mapping[str, NoiseFloor] | None) -> list[str]:
    rows, scores = tables.score_cells(frame, study, floors), tables.headline_names(frame)
    sized = "decoder_parameters" in cost_names(frame)
    head = ["Arm", *(["Dec.\\ params"] if sized else []), "$n$", *(_heading(name) for name in scores)]
    body: list[str] = []
    for index, row in enumerate(rows):
        if index and (row["role"] == "ceiling" or rows[index - 1]["role"] == "floor"):
            body.append("\\midrule")
        name = latex_escape(str(row["arm"])) + "$^\\dagger$" * bool(row["overridden"])
        cells = [name, *([_plain(row["costs"]["decoder_parameters"])] if sized else []), str(row["n"] or "--")]
        cells += [_cell(row["cells"][each]) for each in scores]
        body.append(" & ".join(cells) + r" \\")
    rules = [f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", "\\toprule", " & ".join(head) + r" \\", "\\midrule"]
    return [*rules, *body, "\\bottomrule", "\\end{tabular}"]


def _claim_rows(verdicts: Sequence[Verdict]) -> list[str]:
    """One row a claim: what the paper says and where, the difference here with its interval and seeds, the verdict."""
    lines = [
        "\\begin{tabular}{p{0.36\\textwidth}lrcrl}",
        "\\toprule",
        "The paper says & Metric & Difference & 95\\,\\% interval & $n$ & Verdict here \\\\",
        "\\midrule",
    ]
    for each in verdicts:
        says = latex_escape(f"{each.claim.says} ({each.claim.where}, {each.claim.confidence})")
        difference, interval = "--", "--"
        if each.difference is not None:
            places = digits((each.difference, *(each.interval or ())))
            difference = latex_escape(signed(each.difference, places))
            if each.interval is not None:
                interval = latex_escape(f"[{signed(each.interval[0], places)}, {signed(each.interval[1], places)}]")
        cells = (says, latex_escape(display_name(each.claim.metric)), difference, interval, str(each.n), _word(each))
        lines.append(" & ".join(cells) + r" \\")
    return [*lines, "\\bottomrule", "\\end{tabular}"]


def _word(verdict: Verdict) -> str:
    return latex_escape(verdict.word.capitalize().replace(" at this scale", ""))


def numbers_text(
    frame: pd.DataFrame,
    study: Study,
    verdicts: Sequence[Verdict],
    crossed: Mapping[str, Crossed | None] | None = None,
    floors: Mapping[str, NoiseFloor] | None = None,
) -> str:
    """Return one `\\newcommand` a number of the study. Errors: GitbenchError where two things would get one name."""
    commands: dict[str, str] = {}
    about = latex_escape(f"{study.title}: {study.data}")
    lines = [
        f"% Numbers of {about}, {study.profile} profile. In prose: \\input this file, then write",
        f"% {command_name(*_scope(study), study.base, _first_metric(frame), 'Mean')}{{}}. Where a number comes from:",
        f"% gitbench explain {study.ablation}:{study.base}:{_first_metric(frame)} --profile {study.profile} --data {study.data}",
    ]
    numbers = (
        *_arm_numbers(frame, study),
        *_claim_numbers(study, verdicts, crossed or {}),
        *_noise_numbers(floors or {}),
    )
    for parts, text in numbers:
        name = command_name(*_scope(study), *parts)
        if name in commands:
            raise GitbenchError(f"two numbers of {study.ablation} would be {name} in LaTeX: rename an arm or a claim")
        commands[name] = text
        lines.append(f"\\newcommand{{{name}}}{{{text}}}")
    return "\n".join([*lines, ""])


def _scope(study: Study) -> tuple[str, ...]:
    short = (study.profile, study.data) == ("cpu", "scenes")
    return (study.ablation,) if short else (study.ablation, study.profile, study.data)


def _first_metric(frame: pd.DataFrame) -> str:
    return tables.score_names(frame)[0]


def _arm_numbers(frame: pd.DataFrame, study: Study) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (name parts, text) of every score and cost of every arm, floor and ceiling included."""
    table = tables.summarise(frame, study)
    places = {name: digits(table[name].dropna()) for name in tables.score_names(frame)}
    for _, row in table.iterrows():
        if not pd.isna(row["n"]):
            yield (row["arm"], "Seeds"), str(int(row["n"]))
        for metric, decimals in places.items():
            parts = {"Mean": metric, "Low": f"{metric}_low", "High": f"{metric}_high", "Sd": f"{metric}_sd"}
            for part, column in parts.items():
                if not pd.isna(row[column]):
                    yield (row["arm"], metric, part), _number(row[column], decimals)
        for metric in cost_names(frame):
            if not pd.isna(row[metric]):
                yield (row["arm"], metric, "Mean"), _plain(cost_text(metric, row[metric]))


def _claim_numbers(
    study: Study, verdicts: Sequence[Verdict], crossed: Mapping[str, Crossed | None]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (name parts, text) of every claim: verdict, sentence, difference, intervals, margin, p-values, seeds."""
    for verdict in verdicts:
        numbers: dict[str, str] = {}
        both = crossed.get(verdict.claim.name)
        places = digits(
            value for value in (verdict.difference, verdict.margin, *(verdict.interval or ())) if value is not None
        )
        values: dict[str, float | None] = {"Difference": verdict.difference, "Margin": verdict.margin}
        if verdict.interval is not None:
            values |= {"Low": verdict.interval[0], "High": verdict.interval[1]}
        if both is not None:
            values |= {"CrossedLow": both.low, "CrossedHigh": both.high}
        numbers |= {part: _number(value, places) for part, value in values.items() if value is not None}
        for part, p in (
            ("P", verdict.p),
            ("PSignFlip", verdict.p_sign_flip),
            ("PHolm", verdict.p_holm),
            ("PRefute", verdict.p_refute),
            ("PRefuteHolm", verdict.p_refute_holm),
        ):
            if p is not None:
                numbers[part] = _p(p)
        if both is not None:
            shares = {"SeedShare": both.seed_share, "ImageShare": both.image_share, "RestShare": both.rest_share}
            numbers |= {part: f"{100 * share:.0f}" for part, share in shares.items()}
            numbers["CrossedDf"] = f"{both.df:.1f}"
        if verdict.further_seeds is not None:
            numbers["FurtherSeeds"] = str(verdict.further_seeds)
        if verdict.further_seconds is not None:
            numbers["FurtherSeconds"] = f"{verdict.further_seconds:.0f}"
        numbers |= {
            "Seeds": str(verdict.n),
            "Looks": str(verdict.looks),
            "Unit": latex_escape(claim_unit(verdict.claim)),
            "Verdict": latex_escape(verdict.word.lower()),
            "Sentence": latex_escape(verdict_sentence(verdict)),
        }
        for part, text in numbers.items():
            yield ("Claim", verdict.claim.name, part), text


def _noise_numbers(floors: Mapping[str, NoiseFloor]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (name parts, text) of the noise floor: sd between seeds, smallest detectable effect, replicates."""
    for metric, floor in floors.items():
        places = digits((floor.sd, floor.mde))
        values = {"Sd": floor.sd, "SdLow": floor.sd_low, "SdHigh": floor.sd_high, "Mde": floor.mde}
        for part, value in values.items():
            yield ("NoiseFloor", metric, part), _number(value, places)
        yield ("NoiseFloor", metric, "Replicates"), str(floor.n)


def _number(value: float, places: int) -> str:
    return f"{value:.{places}f}".replace("-", "$-$")


def _p(value: float) -> str:
    return "$<$0.001" if value < 0.001 else f"{value:.2g}"


def _heading(metric: str) -> str:
    name = tables.heading(metric)
    for long, short in _HEADINGS.items():
        name = name.replace(long, short)
    return latex_escape(name)


def _cell(cell: Mapping[str, Any]) -> str:
    number = f"\\textbf{{{cell['text']}}}" if cell["bold"] else latex_escape(cell["text"])
    return number if cell["half"] is None else f"{number} $\\pm$ {cell['half']}"


def _plain(text: str) -> str:
    return latex_escape(text).replace(" ", "\\,")
