"""The evidence for one claim, line by line: every interval, p-value and yardstick that its verdict stands on, in words.

The t interval says what other seeds would give on these test images; the crossed one draws images anew too and says how
much of the variance comes from each. Then the exact check, the correction for several claims, how often anybody looked,
what was changed after results were there, and what the noise floor of this profile could have shown at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gitbench.errors import GitbenchError
from gitbench.judge.claims import Verdict
from gitbench.judge.crossed import Crossed
from gitbench.judge.noise import NoiseFloor
from gitbench.judge.resample import crossed_claim
from gitbench.scores import claim_unit, digits, signed, unit
from gitbench.study.lock import LockDeviation, lock_deviations
from gitbench.study.records import Study


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What stands behind one claim beside its verdict; None or empty: not measured."""

    crossed: Crossed | None = None
    floor: NoiseFloor | None = None
    changes: tuple[LockDeviation, ...] = ()  # deviations from claims.lock that concern this claim


def gather_evidence(
    study: Study, work_dir: str | Path, verdicts: Sequence[Verdict], floors: dict[str, NoiseFloor]
) -> dict[str, Evidence]:
    """Return claim name -> evidence. A claim without a measured difference has no crossed interval."""
    changes = lock_deviations(study, Path(work_dir))
    found = {}
    for verdict in verdicts:
        claim = verdict.claim
        found[claim.name] = Evidence(
            crossed=None if verdict.difference is None else _crossed(study, work_dir, verdict),
            floor=floors.get(claim.metric),
            changes=tuple(each for each in changes if _concerns(each, claim.name)),
        )
    return found


def _crossed(study: Study, work_dir: str | Path, verdict: Verdict) -> Crossed | None:
    try:
        return crossed_claim(study, work_dir, verdict.claim)
    except (ValueError, GitbenchError):  # per-image scores that do not fit together: said as "not measured"
        return None


def _concerns(deviation: LockDeviation, claim: str) -> bool:
    return deviation.name.rsplit("/", 1)[-1] == claim


def evidence_lines(verdict: Verdict, evidence: Evidence) -> list[tuple[str, str]]:
    """Return (what, what was found) pairs, in the metric's own unit and sign."""
    return [
        ("seeds, on these test images", _t_line(verdict)),
        ("seeds and test images", _crossed_line(verdict, evidence.crossed)),
        (_test_name(verdict), "not computed" if verdict.p is None else p_text(verdict.p)),
        ("exact sign-flip test", _exact_line(verdict)),
        (_family_name(verdict), _holm_line(verdict)),
        ("looks", _looks_line(verdict)),
        ("claim as locked beforehand", _lock_line(evidence.changes)),
        ("noise floor", noise_line(verdict, evidence.floor)),
    ]


def p_text(p: float) -> str:
    """Return "p = 0.022" or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _t_line(verdict: Verdict) -> str:
    if verdict.difference is None:
        return "no difference measured"
    places = digits((verdict.difference, *(verdict.interval or ())))
    mean = f"{signed(verdict.difference, places)} {claim_unit(verdict.claim)}"
    if verdict.interval is None:
        return f"{mean}, no interval with {verdict.n} seed{'s' * (verdict.n != 1)}"
    kind = "interval valid under looking" if verdict.sequential else "Student-t interval"
    low, high = (signed(each, places) for each in verdict.interval)
    return f"{mean}, 95 % {kind} {low} to {high}, n = {verdict.n}"


def _crossed_line(verdict: Verdict, crossed: Crossed | None) -> str:
    if crossed is None:
        return "not measured: it needs per-image scores of 2 paired seeds"
    places = digits((crossed.mean, crossed.low, crossed.high))
    shares = (
        f"{100 * share:.0f} % {name}"
        for name, share in (
            ("seeds", crossed.seed_share),
            ("images", crossed.image_share),
            ("the rest", crossed.rest_share),
        )
    )
    return (
        f"95 % interval {signed(crossed.low, places)} to {signed(crossed.high, places)}; variance of the mean: "
        f"{', '.join(shares)} ({crossed.replicates} seeds \N{MULTIPLICATION SIGN} {crossed.images} images, df = {crossed.df:.1f})"
    )


def _test_name(verdict: Verdict) -> str:
    if verdict.sequential:
        return "sequential test"
    return "two one-sided t-tests" if verdict.claim.kind == "equivalent" else "one-sided t-test"


def _exact_line(verdict: Verdict) -> str:
    if verdict.p_sign_flip is None:
        return "does not hold under looking" if verdict.sequential else "not computed"
    text = p_text(verdict.p_sign_flip)
    if verdict.sign_flip_needs is not None and verdict.n < verdict.sign_flip_needs:
        text += f"; it cannot reach 0.05 with fewer than {verdict.sign_flip_needs} seeds"
    return text


def _family_name(verdict: Verdict) -> str:
    return f"Holm, {verdict.family_size} claim{'s' * (verdict.family_size != 1)} of {verdict.family or 'this ablation'}"


def _holm_line(verdict: Verdict) -> str:
    if verdict.p_holm is None:
        return "not computed"
    if verdict.family_size <= 1:
        return "nothing to adjust for: the only claim of its family"
    return f"{p_text(verdict.p_holm)} after adjustment"


def _looks_line(verdict: Verdict) -> str:
    if not verdict.looks:
        return "no earlier report of this study had another number of seeds"
    return (
        f"looked {verdict.looks} time{'s' * (verdict.looks != 1)} while seeds were added; the bounds hold under looking"
    )


def _lock_line(changes: Sequence[LockDeviation]) -> str:
    if not changes:
        return "no deviation"
    said = (
        f"{getattr(each, 'what', each)}{f' ({when})' if (when := getattr(each, 'when', '')) else ''}"
        for each in changes
    )
    return "; ".join(said)


def noise_line(verdict: Verdict, floor: NoiseFloor | None) -> str:
    """Say what effect these seeds could detect, whether the difference reaches it, and how often the judge errs on A/A."""
    claim = verdict.claim
    if floor is None:
        return "not measured for this profile and data: nox -s noise_floor"
    if claim.kind in ("trend", "threshold"):  # the floor is one of differences
        places = digits((floor.sd,))
        text = f"sd between seeds of one arm: {floor.sd:.{places}f} {unit(claim.metric)}"
    else:
        arms = math.sqrt(2) if claim.kind == "interaction" else 1.0  # four arms instead of two
        smallest = arms * floor.mde_at(verdict.n)
        least = f"{smallest:.{digits((smallest, floor.sd))}f} {unit(claim.metric)}"
        text = f"smallest detectable difference at n = {verdict.n}: {least} without pairing"
        if verdict.difference is not None:
            reached = abs(verdict.difference) >= smallest
            text += ", which this one reaches" if reached else ", which this one does not reach"
    if floor.false_positive_rate is not None:
        text += f"; false SUPPORTED on arms that are alike: {100 * floor.false_positive_rate:.1f} %"
    return text
