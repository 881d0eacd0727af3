"""The details of one verdict, line by line: every interval, p-value and yardstick that it stands on, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gitbench.formats import digits, p_text, plural, signed
from gitbench.judge.noise import NoiseFloor
from gitbench.judge.sentences import (
    agreement_text,
    collapse_text,
    difference_text,
    finding_text,
    further_seeds_text,
    generalises,
    leave_one_out_text,
    likelihood_text,
    share_text,
    typical_text,
)
from gitbench.judge.verdict import INCONCLUSIVE, Step, Verdict
from gitbench.metric_info import unit
from gitbench.report.notes import own_encoders
from gitbench.report.paper import KNOWN, paper_claims
from gitbench.report.paper_table import paper_numbers
from gitbench.spec import OURS, Claim
from gitbench.study.lock import LockDeviation, lock_deviations
from gitbench.study.store import Study

CHOICE = "a choice of the paper, no measurement of it was found"
ROUGHLY = 1.005  # a spread raised by less than this is as found
CAVEAT = "A word is about the paper's claim on this data at this scale; it does not carry over to the paper's scale by itself."


@dataclass(frozen=True, kw_only=True)
class VerdictDetails:
    """A verdict and what stands behind it; None or empty: not measured."""

    verdict: Verdict
    noise_floor: NoiseFloor | None = None
    changes: tuple[LockDeviation, ...] = ()  # deviations from claims.lock that concern this claim
    paper_note: str = ""  # what `reports/paper/claims.csv` adds to the paper's words
    paper_numbers: str = ""  # what the paper found, as text, with how that is known
    own_encoders: bool = False  # its arms start from different pre-trainings, one each (`notes.own_encoders`)

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Return (what, what was found) pairs, in the metric's own unit and sign."""
        verdict = self.verdict
        looks = "planned at a fixed number of seeds: another number is another study, on other seeds"
        if verdict.looks:
            looks = f"looked {plural(verdict.looks, 'time')} while seeds were added; the intervals hold under looking"
        changes = [each.what + (f" ({each.when})" if each.when else "") for each in self.changes]
        return [
            ("mean over seeds", f"{difference_text(verdict)}{share_text(verdict)}"),
            ("typical seed (median)", typical_text(verdict)),
            ("what is seen", finding_text(verdict) or "nothing"),
            ("it is about", generalises(verdict, self.own_encoders)),
            ("test images", _images_text(verdict)),
            ("plain t interval", _plain_text(verdict)),
            *[
                (f"step {step.reference} to {step.treatment}", _step_text(step, verdict.claim))
                for step in verdict.steps
            ],
            *([] if verdict.control is None else [("positive control", _control_text(verdict.control, verdict.claim))]),
            ("leave one seed out", leave_one_out_text(verdict)),
            ("collapsed seeds", "; ".join(map(collapse_text, verdict.collapses)) or "not known without a blind floor"),
            *_test_lines(verdict),
            *_likelihood_lines(verdict),
            ("looks", looks),
            ("the claim since its runs", "; ".join(changes) or "no deviation"),
            ("noise floor", noise_line(verdict, self.noise_floor)),
        ]


def verdict_details(study: Study, verdicts: Sequence[Verdict]) -> tuple[VerdictDetails, ...]:
    """Return the details of each verdict."""
    changes, known = lock_changes(study), paper_claims(study.plan.ablation).set_index("quote")
    return tuple(
        VerdictDetails(
            verdict=verdict,
            noise_floor=study.noise_floors.get(verdict.claim.metric),
            changes=tuple(each for each in changes if each.name.rsplit("/", 1)[-1] == verdict.claim.name),
            paper_note=next(iter(known[known.index == verdict.claim.quote]["note"]), ""),
            paper_numbers=paper_numbers(study.plan, verdict.claim),
            own_encoders=own_encoders(study, verdict.claim),
        )
        for verdict in verdicts
    )


def because(verdict: Verdict) -> str:
    """Return why a claim got its word, as sentences: what decided or would decide it, its word by likelihood, its notes."""
    return " ".join(sentences(verdict))


def sentences(verdict: Verdict) -> list[str]:
    """Return the sentences of `because`."""
    seen = f"seen: {finding_text(verdict)}; " if verdict.finding else ""
    text = seen + verdict.reason + (f"; {further_seeds_text(verdict)}" if verdict.word == INCONCLUSIVE else "")
    said = (text, likelihood_text(verdict), *verdict.notes)
    return [f"{each[:1].upper()}{each[1:]}." for each in said if each]


def quoted(claim: Claim) -> str:
    """Return the words of the paper with their place, and how they are known; of a claim of ours why it is made."""
    if claim.confidence == OURS:
        return f"({source(claim)}) {claim.quote}"
    return f"\N{LEFT DOUBLE QUOTATION MARK}{claim.quote}\N{RIGHT DOUBLE QUOTATION MARK} ({source(claim)})"


def source(claim: Claim) -> str:
    """Return where the paper says what a claim is about, how that is known, and where it is a choice alone."""
    if claim.confidence == OURS:
        return "ours, of no paper"
    return f"{claim.where}, {KNOWN[claim.confidence]}" + f"; {CHOICE}" * claim.choice


def lock_changes(study: Study) -> tuple[LockDeviation, ...]:
    """Return how the claims of a study differ from those that its finished runs were made under."""
    return lock_deviations(study.plan, {run.run_key: study.provenance(run.run_key) for run in study.finished})


def dropped_claims(study: Study) -> tuple[LockDeviation, ...]:
    """Return the claims that runs of a study were made under and that it does not state."""
    return tuple(each for each in lock_changes(study) if each.kind == "removed")


def _images_text(verdict: Verdict) -> str:
    if verdict.images is None:
        return "the choice of test images is not in the interval: it holds for these alone"
    share = verdict.image_share or 0.0
    return (
        f"{100 * share:.0f} % of the variance is due to the choice of {verdict.images} test images, the rest to seeds"
    )


def _test_lines(verdict: Verdict) -> list[tuple[str, str]]:
    """Return what the tests found, to support and to refute, and the correction for several claims."""
    name = "sequential test" if verdict.sequential else "one-sided tests"
    found = f"to support {p_text(verdict.p)}, to refute {p_text(verdict.p_refute)}; below 0.025 counts"
    adjusted = f"to support {p_text(verdict.p_holm)}, to refute {p_text(verdict.p_refute_holm)} after adjustment"
    if verdict.p is None:
        found = "none: the claim cannot be tested"
    if verdict.p_holm is None or verdict.family_size <= 1:
        adjusted = (
            "nothing to adjust for: the only claim" if verdict.family_size <= 1 else "not tested: counts as p = 1"
        )
    return [(name, found), (f"Holm, {plural(verdict.family_size, 'claim')}", adjusted)]


def _likelihood_lines(verdict: Verdict) -> list[tuple[str, str]]:
    """Return the word by the test likelihood with what it stands on, and whether the two metrics agree."""
    beside = verdict.likelihood
    if beside is None:
        return []
    found = f"{difference_text(beside)}{share_text(beside)}; typical seed {typical_text(beside)}"
    return [
        ("by likelihood", f"{beside.word}: {because(beside)}"),
        ("by likelihood, mean over seeds", found),
        *((f"by likelihood, {name}", text) for name, text in _test_lines(beside)),
        ("the two metrics", agreement_text(verdict)),
    ]


def _plain_text(verdict: Verdict) -> str:
    """Return Student's interval of the differences as found, and by how much the deciding one's spread was raised."""
    if verdict.plain_interval is None:
        return "none"
    low, high = (signed(each, digits(verdict.plain_interval)) for each in verdict.plain_interval)
    raised = "as found" if verdict.raised < ROUGHLY else f"raised {verdict.raised:.2f} times"
    return f"{low} to {high} (seeds alone); for the interval that decides, the spread was {raised}"


def _step_text(step: Step, claim: Claim) -> str:
    numbers = (step.difference, *(step.interval or ()))
    text = [signed(each, digits(numbers)) for each in numbers]
    return f"{text[0]} {unit(claim.metric)}" + (f" (95 % interval {text[1]} to {text[2]})" if text[1:] else "")


def _control_text(control: Step, claim: Claim) -> str:
    return f"{control.treatment} over {control.reference}: {_step_text(control, claim)}"


def noise_line(verdict: Verdict, floor: NoiseFloor | None) -> str:
    """Say what effect these seeds could detect, whether the difference reaches it, and how often the judge errs on A/A."""
    claim = verdict.claim
    if floor is None:
        return "not measured for this profile and data: `gitbench noise-floor` measures it"
    arms = math.sqrt(2) if claim.kind == "interaction" else 1.0  # four arms instead of two
    smallest = arms * floor.mde_at(verdict.n)
    least = f"{smallest:.{digits((smallest, floor.sd))}f} {unit(claim.metric)}"
    text = f"smallest detectable difference at n = {verdict.n}: {least} without pairing"
    if verdict.difference is not None:
        text += f", which this one {'reaches' if abs(verdict.difference) >= smallest else 'does not reach'}"
    if floor.false_positive_rate is not None:
        text += f"; false SUPPORTED on arms that are alike: {100 * floor.false_positive_rate:.1f} %"
    return text


def margin_text(verdict: Verdict) -> str:
    """Return a margin at three significant digits; a margin of nothing is 0, not 0.000."""
    claim, margin = verdict.claim, verdict.margin
    if margin is None:
        return "unknown"
    share = f" ({100 * claim.margin:g} % of what the base arm learned)" if claim.margin_unit == "learned" else ""
    return f"{f'{margin:.{digits((margin,))}f}' if margin else '0'} {unit(claim.metric)}{share}"
