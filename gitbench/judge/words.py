"""Put verdicts into words: why a claim got its word, one sentence a verdict, and one for the ablation's question.

Computed from the verdict's own numbers, so that the words cannot drift from them.
"""

from __future__ import annotations

from collections.abc import Sequence

from gitbench.judge.statistics import Adjusted, words
from gitbench.judge.verdict import INCOMPLETE, INCONCLUSIVE, NOT_TESTABLE, REFUTED, SUPPORTED, Verdict
from gitbench.scores import claim_unit, digits, display_name, orientation, signed
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
    if verdict.claim.kind == "trend":
        judged = f"the trend {_trend(verdict)}"
    else:
        judged = "{0} ({2}) against {1} ({3})".format(*sides(verdict.claim), verdict.treatment, verdict.reference)
    if verdict.word == INCOMPLETE:
        return f"no verdict yet on {judged}: {verdict.reason}"
    measured = difference_text(verdict)
    if verdict.word == NOT_TESTABLE:
        return f"this cannot be tested on {judged}: {verdict.reason} ({measured})"
    if verdict.word == INCONCLUSIVE:
        return f"it stays open for {judged}: {measured}, {verdict.reason}; {further_seeds_text(verdict)}"
    return f"{_decided(verdict)}: {measured}; {verdict.reason}"


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
        f"{f', {kind} {interval}' * bool(interval)}, n = {verdict.n} paired seed{'s' * (verdict.n != 1)}"
    )


def further_seeds_text(verdict: Verdict) -> str:
    """Return how many further seeds would decide an inconclusive claim, and how long they take."""
    if verdict.further_seeds is None:
        return "more than 1000 further seeds would be needed to decide it if the difference is as seen here"
    plural = "s" * (verdict.further_seeds != 1)
    time = "" if verdict.further_seconds is None else f" ({_time(verdict.further_seconds)} on this kind of machine)"
    return (
        f"about {verdict.further_seeds} further seed{plural}{time} would decide it with 80 % power "
        "if difference and spread are as seen here"
    )


def _time(seconds: float) -> str:
    """Return "about 40 s", "about 12 min", "about 3.5 h" or "about 2.0 days"."""
    for most, divisor, name, places in ((100, 1, "s", 0), (6000, 60, "min", 0), (172_800, 3600, "h", 1)):
        if seconds < most:
            return f"about {seconds / divisor:.{places}f} {name}"
    return f"about {seconds / 86400:.1f} days"


# ---- what a decided claim means, and why it got its word ----------------------------------------------------------


def _trend(verdict: Verdict) -> str:
    claim = verdict.claim
    between = ", ".join(arm for arm, _ in claim.along[1:-1])
    return f"from {claim.reference} ({verdict.reference}) over {between} to {claim.treatment} ({verdict.treatment})"


def _decided(verdict: Verdict) -> str:
    """Return what a supported or refuted claim means for its arms."""
    claim = verdict.claim
    if claim.kind == "trend":
        verb = ("rises", "rise") if claim.direction == "up" else ("falls", "fall")
        says = verb[0] if verdict.word == SUPPORTED else f"does not {verb[1]}"
        size = " by more than the margin" * bool(claim.margin)
        return f"{display_name(claim.metric)} {says}{size} {_trend(verdict)}"
    treatment, reference = sides(claim)
    phrase = _PHRASES[claim.kind, verdict.word]
    return f"{treatment} ({verdict.treatment}) {phrase} {reference} ({verdict.reference})"


def reason_of(
    claim: Claim, word: str, bounds: tuple[float, float], margin: float, p: tuple[float, float], adjusted: Adjusted
) -> str:
    """Return in one clause why a claim got its word: which bound lies where, or what Holm's correction took back.

    `bounds` are one-sided 95 % and turned, as is the margin; `p` (support, refute) is unadjusted.
    """
    low, high = bounds
    places = digits((low, high, margin))
    named = f"the margin of {margin:.{places}f} {claim_unit(claim)}"
    if word != INCONCLUSIVE:
        return _bound(claim, word, bounds, margin, named if margin else "zero", places)
    if (alone := str(words(*p))) != INCONCLUSIVE:
        own, holm = (p[0], adjusted.support) if alone == SUPPORTED else (p[1], adjusted.refute)
        return (
            f"by itself it would be {alone} (p = {own:.2g}), but among the {adjusted.claims} claims of its family it is not "
            f"(Holm: p = {holm:.2g})"
        )
    if claim.kind == "not_better" and low > 0:
        return f"there is an improvement, but it may be smaller or larger than {named}"
    return f"the one-sided 95 % bounds leave both answers open (margin {margin:.{places}f})"


def _bound(claim: Claim, word: str, bounds: tuple[float, float], margin: float, named: str, places: int) -> str:
    """Say which bound decided, in the metric's own sign."""
    low, high = bounds
    if claim.kind == "equivalent" and word == SUPPORTED:
        return f"both one-sided 95 % bounds lie within {named} (two one-sided tests)"
    if claim.kind == "equivalent":
        upper, edge = (False, margin) if low > margin else (True, -margin)
    else:
        upper, edge = (claim.kind == "not_better") == (word == SUPPORTED), margin
    sign = orientation(claim)
    bound = sign * (high if upper else low)
    side, where = ("upper" if upper == (sign > 0) else "lower"), ("above" if bound > sign * edge else "below")
    text = f"the {side} one-sided 95 % bound, {signed(bound, places)}, lies {where} {named}"
    if claim.kind == "not_better" and word == SUPPORTED and low > 0:
        text += "; a small improvement is there, but it is credibly less than the margin"
    return text
