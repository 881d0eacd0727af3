"""A study for a paper in LaTeX: `numbers.tex`, a command for every number so that prose can cite it (tables: `latex_table`).

A command's name is made from what it holds: `\\gb` + ablation + arm + metric + part, `\\gbDecoderSizeLargeCIDErMean`. TeX
names take letters only, so digits are spelled (`BLEU-4` is `BLEUFour`), and so are letters beyond ASCII. Studies other
than scenes at the cpu profile carry profile and data after the ablation's name. Numbers are printed as in the tables.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Mapping

from gitbench.errors import GitbenchError
from gitbench.formats import digits
from gitbench.judge.noise import NoiseFloor
from gitbench.judge.sentences import agreement_text, verdict_sentence
from gitbench.judge.verdict import Verdict
from gitbench.metric_info import unit
from gitbench.report.tables import cost_text, score_names
from gitbench.report.templates import ascii_letter, latex_escape
from gitbench.report.verdict_details import VerdictDetails
from gitbench.report.view import View

_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
Number = tuple[tuple[str, ...], str]  # the parts of a command's name, and what it prints


def command_name(*parts: str) -> str:
    """Return the TeX command that holds a number: "\\gb" and the parts in camel case, digits spelled, letters only."""
    spelled = (
        "".join(ascii_letter(each, f" {unicodedata.name(each, '').title()} ") for each in part) for part in parts
    )
    words = [word for part in spelled for word in re.findall(r"[A-Za-z]+|[0-9]", part)]
    return "\\gb" + "".join(_DIGITS[int(word)] if word.isdigit() else word[0].upper() + word[1:] for word in words)


def numbers_text(view: View) -> str:
    """Return one `\\newcommand` a number of the study. Errors: GitbenchError where two things would get one name."""
    plan, first = view.plan, score_names(view.frame)[0]
    short = (plan.profile, plan.label) == ("cpu", "scenes")
    scope = (plan.ablation,) if short else (plan.ablation, plan.profile, plan.label)
    commands: dict[str, str] = {}
    claims = itertools.chain.from_iterable(map(_claim_numbers, view.details))
    for parts, text in (*_arm_numbers(view), *claims, *_noise_numbers(view.study.noise_floors)):
        name = command_name(*scope, *parts)
        if name in commands:
            raise GitbenchError(f"two numbers of {plan.ablation} would be {name} in LaTeX: rename an arm or a claim")
        commands[name] = text
    lines = [
        f"% Numbers of {latex_escape(f'{plan.title}: {plan.label}')}, {plan.profile} profile. "
        "In prose: \\input this file, then write",
        f"% {command_name(*scope, plan.base, first, 'Mean')}{{}}. Where a number comes from:",
        f"% gitbench explain {plan.ablation}:{plan.base}:{first} --profile {plan.profile} --data {plan.label}",
        *(f"\\newcommand{{{name}}}{{{text}}}" for name, text in commands.items()),
    ]
    return "\n".join([*lines, ""])


def _arm_numbers(view: View) -> Iterator[Number]:
    """Yield every score and cost of every arm, floor and ceiling included."""
    for row in view.rows:
        if row["n"] is not None:
            yield (row["arm"], "Seeds"), str(row["n"])
        for metric in score_names(view.frame):
            for part in ("Mean", "Low", "High", "Sd"):
                value = row[metric if part == "Mean" else f"{metric}_{part.lower()}"]
                if value is not None:
                    yield (row["arm"], metric, part), _number(value, view.places(metric))
        for metric in view.costs:
            if row[metric] is not None:
                yield (row["arm"], metric, "Mean"), latex_escape(cost_text(row[metric], metric)).replace(" ", "\\,")


def _claim_numbers(details: VerdictDetails) -> Iterator[Number]:
    """Yield the numbers of one claim by its own metric and by likelihood: intervals, p-values, seeds; word and sentence."""
    verdict = details.verdict
    for part, text in _verdict_numbers(verdict).items():
        yield ("Claim", verdict.claim.name, part), text
    if verdict.likelihood is not None:
        for part, text in _verdict_numbers(verdict.likelihood).items():
            yield ("Claim", verdict.claim.name, "Likelihood", part), text
        yield ("Claim", verdict.claim.name, "Metrics"), latex_escape(agreement_text(verdict))


def _verdict_numbers(verdict: Verdict) -> dict[str, str]:
    """Return part -> number or word of a verdict, by one metric."""
    low, high = verdict.interval or (None, None)
    measured = {"Difference": verdict.difference, "Margin": verdict.margin, "Low": low, "High": high}
    places = digits(value for value in measured.values() if value is not None)
    for name, ends in {"Typical": verdict.typical_interval, "Plain": verdict.plain_interval}.items():
        measured |= dict(zip((f"{name}Low", f"{name}High"), ends or (), strict=False))
    measured["Typical"] = verdict.typical
    numbers = {part: _number(value, places) for part, value in measured.items() if value is not None}
    p_values = {"P": verdict.p, "PHolm": verdict.p_holm}
    p_values |= {"PRefute": verdict.p_refute, "PRefuteHolm": verdict.p_refute_holm}
    numbers |= {part: _p(p) for part, p in p_values.items() if p is not None}
    shares = (verdict.share, *(verdict.share_interval or (None, None)), verdict.image_share)
    for name, share in zip(("Share", "ShareLow", "ShareHigh", "ImageShare"), shares, strict=True):
        if share is not None:
            numbers[name] = f"{100 * share:.0f}"
    if verdict.further_seeds is not None:
        numbers["FurtherSeeds"] = str(verdict.further_seeds)
    if verdict.further_seconds is not None:
        numbers["FurtherSeconds"] = f"{verdict.further_seconds:.0f}"
    numbers |= {
        "Seeds": str(verdict.n),
        "Looks": str(verdict.looks),
        "Unit": latex_escape(unit(verdict.claim.metric)),
        "Verdict": latex_escape(verdict.word.lower()),
        "Finding": latex_escape(verdict.finding.lower()),
        "Ahead": str(verdict.ahead),
        "Sentence": latex_escape(verdict_sentence(verdict)),
    }
    return numbers


def _noise_numbers(floors: Mapping[str, NoiseFloor]) -> Iterator[Number]:
    """Yield the noise floor: sd between seeds with its interval, smallest detectable effect, replicates."""
    for metric, floor in floors.items():
        places = digits((floor.sd, floor.mde))
        for part, value in {"Sd": floor.sd, "SdLow": floor.sd_low, "SdHigh": floor.sd_high, "Mde": floor.mde}.items():
            yield ("NoiseFloor", metric, part), _number(value, places)
        yield ("NoiseFloor", metric, "Replicates"), str(floor.n)


def _number(value: float, places: int) -> str:
    return f"{value:.{places}f}".replace("-", "$-$")


def _p(value: float) -> str:
    return "$<$0.001" if value < 0.001 else f"{value:.2g}"
