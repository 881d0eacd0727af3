"""The details of one verdict, line by line: every interval, p-value and yardstick that it stands on, in words.

The t interval says what other seeds would give on these test images; the crossed one draws images anew too and says how
much of the variance comes from each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gitbench.errors import GitbenchError
from gitbench.formats import digits, p_text, plural, signed
from gitbench.judge.crossed import Crossed, crossed_claim
from gitbench.judge.noise import NoiseFloor
from gitbench.judge.sentences import difference_text, further_seeds_text
from gitbench.judge.verdict import INCONCLUSIVE, Verdict
from gitbench.metric_info import claim_unit, unit
from gitbench.report.paper import KNOWN, paper_claims
from gitbench.report.paper_table import paper_numbers
from gitbench.spec import Claim
from gitbench.study.lock import LockDeviation, lock_deviations
from gitbench.study.store import Study

CAVEAT = "A word is about the paper's claim on this data at this scale; it does not carry over to the paper's scale by itself."


@dataclass(frozen=True, kw_only=True)
class VerdictDetails:
    """A verdict and what stands behind it; None or empty: not measured."""

    verdict: Verdict
    crossed: Crossed | None = None
    noise_floor: NoiseFloor | None = None
    changes: tuple[LockDeviation, ...] = ()  # deviations from claims.lock that concern this claim
    paper_note: str = ""  # what `reports/paper/claims.csv` adds to the paper's words
    paper_numbers: str = ""  # what the paper found, as text, with how that is known

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Return (what, what was found) pairs, in the metric's own unit and sign."""
        verdict = self.verdict
        looks = "planned at a fixed number of seeds: another number is another study, on other seeds"
        if verdict.looks:
            looks = f"looked {plural(verdict.looks, 'time')} while seeds were added; the bounds hold under looking"
        changes = [each.what + (f" ({each.when})" if each.when else "") for each in self.changes]
        return [
            ("seeds, on these test images", difference_text(verdict)),
            ("seeds and test images", _crossed_line(self.crossed)),
            *_test_lines(verdict),
            ("looks", looks),
            ("claim as locked beforehand", "; ".join(changes) or "no deviation"),
            ("noise floor", noise_line(verdict, self.noise_floor)),
        ]


def verdict_details(study: Study, verdicts: Sequence[Verdict]) -> tuple[VerdictDetails, ...]:
    """Return the details of each verdict. A claim without a measured difference has no crossed interval."""
    changes, known = lock_changes(study), paper_claims(study.plan.ablation).set_index("quote")
    return tuple(
        VerdictDetails(
            verdict=verdict,
            crossed=None if verdict.difference is None else _crossed(study, verdict),
            noise_floor=study.noise_floors.get(verdict.claim.metric),
            changes=tuple(each for each in changes if each.name.rsplit("/", 1)[-1] == verdict.claim.name),
            paper_note=next(iter(known[known.index == verdict.claim.quote]["note"]), ""),
            paper_numbers=paper_numbers(study.plan, verdict.claim),
        )
        for verdict in verdicts
    )


def because(verdict: Verdict) -> str:
    """Return why a claim got its word, as sentences: what decided it, what would decide it, and what to beware of."""
    text = verdict.reason + (f"; {further_seeds_text(verdict)}" if verdict.word == INCONCLUSIVE else "")
    return " ".join(f"{each[:1].upper()}{each[1:]}." for each in (text, *verdict.notes))


def quoted(claim: Claim) -> str:
    """Return the words of the paper with their place, and how they are known."""
    return f"\N{LEFT DOUBLE QUOTATION MARK}{claim.quote}\N{RIGHT DOUBLE QUOTATION MARK} ({source(claim)})"


def source(claim: Claim) -> str:
    """Return where the paper says what a claim is about, and how that is known."""
    return f"{claim.where}, {KNOWN[claim.confidence]}"


def lock_changes(study: Study) -> tuple[LockDeviation, ...]:
    """Return how the claims of a study differ from those that its finished runs were made under."""
    return lock_deviations(study.plan, {run.run_key: study.provenance(run.run_key) for run in study.finished})


def dropped_claims(study: Study) -> tuple[LockDeviation, ...]:
    """Return the claims that runs of a study were made under and that it does not state."""
    return tuple(each for each in lock_changes(study) if each.kind == "removed")


def _crossed(study: Study, verdict: Verdict) -> Crossed | None:
    try:
        return crossed_claim(verdict.claim, study.frame, study.per_image)
    except (ValueError, GitbenchError):  # per-image scores that do not fit together: said as "not measured"
        return None


def _crossed_line(crossed: Crossed | None) -> str:
    if crossed is None:
        return "not measured: it needs per-image scores of 2 paired seeds"
    places = digits((crossed.mean, crossed.low, crossed.high))
    return (
        f"95 % interval {signed(crossed.low, places)} to {signed(crossed.high, places)}; variance of the mean: "
        f"{100 * crossed.seed_share:.0f} % seeds, {100 * crossed.image_share:.0f} % images, "
        f"{100 * crossed.rest_share:.0f} % the rest "
        f"({crossed.replicates} seeds \N{MULTIPLICATION SIGN} {crossed.images} images, df = {crossed.df:.1f})"
    )


def _test_lines(verdict: Verdict) -> list[tuple[str, str]]:
    """Return what the tests found: the one that decides, the exact one, and the correction for several claims."""
    if verdict.sequential:
        name, exact = "sequential test", "does not hold under looking"
    else:
        name = "two one-sided t-tests" if verdict.claim.kind == "equivalent" else "one-sided t-test"
        exact = p_text(verdict.p_sign_flip)
        if verdict.sign_flip_needs is not None and verdict.n < verdict.sign_flip_needs:
            exact += f"; it cannot reach 0.05 with fewer than {verdict.sign_flip_needs} seeds"
    adjusted = p_text(verdict.p_holm) + " after adjustment" * (verdict.p_holm is not None)
    if verdict.p_holm is not None and verdict.family_size <= 1:
        adjusted = "nothing to adjust for: the only claim"
    return [
        (name, p_text(verdict.p)),
        ("exact sign-flip test", exact),
        (f"Holm, {plural(verdict.family_size, 'claim')}", adjusted),
    ]


def noise_line(verdict: Verdict, floor: NoiseFloor | None) -> str:
    """Say what effect these seeds could detect, whether the difference reaches it, and how often the judge errs on A/A."""
    claim = verdict.claim
    if floor is None:
        return "not measured for this profile and data: `gitbench noise-floor` measures it"
    if claim.kind == "trend":  # the floor is one of differences
        text = f"sd between seeds of one arm: {floor.sd:.{digits((floor.sd,))}f} {unit(claim.metric)}"
    else:
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
    share = f" ({100 * claim.margin:g} % of the range from floor to ceiling)" if claim.margin_unit == "range" else ""
    return f"{f'{margin:.{digits((margin,))}f}' if margin else '0'} {claim_unit(claim)}{share}"
