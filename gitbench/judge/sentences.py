"""Put verdicts into words: why a claim got its word, one sentence a verdict, and one for the ablation's question.

Computed from the verdict's own numbers, so that the words cannot drift from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gitbench.formats import digits, duration, p_text, plural, signed
from gitbench.judge.statistics import decide
from gitbench.judge.verdict import INCOMPLETE, INCONCLUSIVE, NOT_TESTABLE, REFUTED, SUPPORTED, Verdict
from gitbench.metric_info import claim_unit, display_name, orientation
from gitbench.spec import Claim, Plan

# What a decided claim means for the pair, by kind and word: "<treatment> <phrase> <reference>".
_PHRASES = {
    ("better", SUPPORTED): "is better than",
    ("better", REFUTED): "is not better than",
    ("not_better", SUPPORTED): "brings no improvement that reaches the margin over",
    ("not_better", REFUTED): "is better than",
    ("equivalent", SUPPORTED): "is equivalent to",
    ("equivalent", REFUTED): "differs from",
    ("interaction", SUPPORTED): "is a greater gain than",
    ("interaction", REFUTED): "is not a greater gain than",
}

_MEASURED = {"interaction": "difference of the gains", "trend": "slope"}


def answer(plan: Plan, verdicts: Sequence[Verdict]) -> str:
    """Return the answer to the study's question in one sentence, with n, units and interval where there is one."""
    where = f"On {plan.data} at the {plan.profile} profile"
    if not verdicts:
        return f"{where}, this ablation states no claim to judge: see the table."
    if len(verdicts) == 1:
        return f"{where}, {verdict_clause(verdicts[0])}."
    counts = {word: sum(each.word == word for each in verdicts) for word in (SUPPORTED, REFUTED, INCONCLUSIVE)}
    open_ones = len(verdicts) - sum(counts.values())
    parts = [f"{count} {word.lower()}" for word, count in counts.items() if count]
    parts += [f"{open_ones} not judged"] * bool(open_ones)
    return f"{where}, of {len(verdicts)} claims {', '.join(parts)}: " + "; ".join(map(verdict_clause, verdicts)) + "."


def verdict_sentence(verdict: Verdict) -> str:
    """Return one verdict as a sentence of its own; the name of an arm that begins it stays as it is."""
    clause = verdict_clause(verdict)
    named = clause.startswith(f"{verdict.claim.treatment} (")
    return (clause if named else clause[0].upper() + clause[1:]) + "."


def verdict_clause(verdict: Verdict) -> str:
    """Return one verdict as a clause: what holds, the difference with interval and n, and what decided."""
    claim, supported = verdict.claim, verdict.word == SUPPORTED
    labels = (verdict.treatment, verdict.reference)
    treatment, reference = (f"{name} ({label})" for name, label in zip(sides(claim), labels, strict=True))
    if claim.kind == "trend":
        trend = f"from {reference} over {', '.join(arm for arm, _ in claim.along[1:-1])} to {treatment}"
        judged, size = f"the trend {trend}", " by more than the margin" * bool(claim.margin)
        rises, rise = ("rises", "rise") if claim.direction == "up" else ("falls", "fall")
        decided = f"{display_name(claim.metric)} {rises if supported else f'does not {rise}'}{size} {trend}"
    else:
        judged = f"{treatment} against {reference}"
        decided = f"{treatment} {_PHRASES.get((claim.kind, verdict.word))} {reference}"
    if verdict.word == INCOMPLETE:
        return f"no verdict yet on {judged}: {verdict.reason}"
    measured = difference_text(verdict)
    if verdict.word == NOT_TESTABLE:
        return f"this cannot be tested on {judged}: {verdict.reason} ({measured})"
    if verdict.word == INCONCLUSIVE:
        return f"it stays open for {judged}: {measured}, {verdict.reason}; {further_seeds_text(verdict)}"
    return f"{decided}: {measured}; {verdict.reason}"


def sides(claim: Claim) -> tuple[str, str]:
    """Return what a claim compares, treatment and reference: names of arms, or the two steps of an interaction."""
    if claim.kind != "interaction":
        return claim.treatment, claim.reference
    return (
        f"the step from {claim.treatment_from} to {claim.treatment}",
        f"the step from {claim.reference_from} to {claim.reference}",
    )


# ---- numbers --------------------------------------------------------------------------------------------------------


def difference_numbers(verdict: Verdict) -> tuple[str, ...]:
    """Return the difference and the ends of its 95 % interval, all with the same decimals and a sign.

    The difference alone where there is no interval, and nothing where nothing was measured.
    """
    if verdict.difference is None:
        return ()
    numbers = (verdict.difference, *(verdict.interval or ()))
    places = digits((*numbers, verdict.margin or 0.0))
    return tuple(signed(each, places) for each in numbers)


def difference_text(verdict: Verdict, *, short: bool = False) -> str:
    """Return "CIDEr difference +1.2 points, 95 % interval -0.3 to +2.7, n = 5 paired seeds"; of a trend the slope.

    `short`: "CIDEr +1.2 points (-0.3 to +2.7), n = 5".
    """
    numbers = difference_numbers(verdict)
    if not numbers:
        return "no difference measured"
    name, unit = display_name(verdict.claim.metric), claim_unit(verdict.claim)
    interval = " to ".join(numbers[1:])
    if short:
        return f"{name} {numbers[0]} {unit}{f' ({interval})' * bool(interval)}, n = {verdict.n}"
    kind = "95 % interval valid under looking" if verdict.sequential else "95 % interval"
    return (
        f"{name} {_MEASURED.get(verdict.claim.kind, 'difference')} {numbers[0]} {unit}"
        f"{f', {kind} {interval}' * bool(interval)}, n = {plural(verdict.n, 'paired seed')}"
    )


def further_seeds_text(verdict: Verdict) -> str:
    """Return how many further seeds would decide an inconclusive claim, and how long they take."""
    if verdict.further_seeds is None:
        return "more than 1000 further seeds would be needed to decide it if the difference is as seen here"
    time = (
        ""
        if verdict.further_seconds is None
        else f" (about {duration(verdict.further_seconds)} on this kind of machine)"
    )
    return (
        f"about {plural(verdict.further_seeds, 'further seed')}{time} would decide it with 80 % power "
        "if difference and spread are as seen here"
    )


# ---- why a claim got its word -----------------------------------------------------------------------------------------


def reason_of(verdict: Verdict, p: tuple[float, float]) -> str:
    """Return in one clause why a claim got its word: which bound lies where, or what Holm's correction took back.

    `p` (support, refute) is unadjusted.
    """
    claim, margin, sign = verdict.claim, verdict.margin or 0.0, orientation(verdict.claim)
    low, high = sorted(sign * bound for bound in verdict.bounds or (-math.inf, math.inf))  # turned, as the margin is
    places = digits((low, high, margin))
    named = f"the margin of {margin:.{places}f} {claim_unit(claim)}"
    small_gain = claim.kind == "not_better" and low > 0
    if verdict.word == INCONCLUSIVE:
        if (alone := str(decide(*p))) != INCONCLUSIVE:
            own, holm = (p[0], verdict.p_holm) if alone == SUPPORTED else (p[1], verdict.p_refute_holm)
            return (
                f"by itself it would be {alone} ({p_text(own)}), but among the {verdict.family_size} claims of its family "
                f"it is not (Holm: {p_text(holm)})"
            )
        if small_gain:
            return f"there is an improvement, but it may be smaller or larger than {named}"
        return f"the one-sided 95 % bounds leave both answers open (margin {margin:.{places}f})"
    supported = verdict.word == SUPPORTED
    if claim.kind == "equivalent" and supported:
        return f"both one-sided 95 % bounds lie within {named} (two one-sided tests)"
    if claim.kind == "equivalent":
        upper, edge = (False, margin) if low > margin else (True, -margin)
    else:
        upper, edge = (claim.kind == "not_better") == supported, margin
    bound = sign * (high if upper else low)
    side, where = ("upper" if upper == (sign > 0) else "lower"), ("above" if bound > sign * edge else "below")
    text = f"the {side} one-sided 95 % bound, {signed(bound, places)}, lies {where} {named if margin else 'zero'}"
    if supported and small_gain:
        text += "; a small improvement is there, but it is credibly less than the margin"
    return text
