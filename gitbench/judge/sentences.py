"""Put verdicts into words: why a claim got its word, one sentence a verdict, and one for the ablation's question.

Computed from the verdict's own numbers, so that the words cannot drift from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gitbench.formats import digits, duration, p_text, plural, signed
from gitbench.judge.rules import Tests
from gitbench.judge.statistics import MIN_REPLICATES, decide
from gitbench.judge.verdict import (
    AGREE,
    CONTRADICT,
    INCOMPLETE,
    INCONCLUSIVE,
    NEITHER,
    NOT_TESTABLE,
    ONE_DECIDES,
    REFUTED,
    SUPPORTED,
    Collapse,
    Verdict,
)
from gitbench.metric_info import display_name, orientation, unit
from gitbench.plan import Plan
from gitbench.spec import Claim

ONE_PERCENT = 0.01
_MEASURED = {"interaction": "difference of the gains", "trend": "change from first to last arm"}
_DIRECTIONS = {  # what better and worse are called in a finding
    ("interaction", "up"): ("GREATER", "SMALLER"),
    ("trend", "up"): ("RISING", "FALLING"),
    ("trend", "down"): ("FALLING", "RISING"),
}
_CLAIMED = {
    SUPPORTED: "the claim is SUPPORTED",
    REFUTED: "the claim is REFUTED",
    INCONCLUSIVE: "the claim is open (INCONCLUSIVE)",
}


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
    """Return one verdict as a clause: the measured difference first, then the words for it and for the claim."""
    claim = verdict.claim
    labels = (verdict.treatment, verdict.reference)
    treatment, reference = (f"{name} ({label})" for name, label in zip(sides(claim), labels, strict=True))
    judged = f"{treatment} against {reference}"
    if claim.kind == "trend":
        judged = f"from {reference} over {', '.join(claim.along[1:-1])} to {treatment}"
    if verdict.word == INCOMPLETE:
        return f"no verdict yet on {judged}: {verdict.reason}"
    seen = f"{judged}: {difference_text(verdict)}{share_text(verdict)}"
    if verdict.finding:
        seen += f", {finding_text(verdict)}"
    beside = f"; {likelihood_text(verdict)}" if verdict.likelihood else ""
    if verdict.word == NOT_TESTABLE:
        return f"{seen}; {NOT_TESTABLE}: {verdict.reason}{beside}"
    tail = f"; {further_seeds_text(verdict)}" if verdict.word == INCONCLUSIVE else ""
    return f"{seen}: {_CLAIMED[verdict.word]} ({verdict.reason}){tail}{beside}"


def likelihood_text(verdict: Verdict) -> str:
    """Return the word by likelihood that stands beside a verdict, its numbers, and whether the two agree; "" for none."""
    beside = verdict.likelihood
    if beside is None:
        return ""
    why = "" if beside.word in _CLAIMED or beside.reason == verdict.reason else f"; {beside.reason}"
    return f"by likelihood {beside.word} ({difference_text(beside, short=True)}{why}): {agreement_text(verdict)}"


def agreement_text(verdict: Verdict) -> str:
    """Say how the word by likelihood and that by the claim's own metric go together."""
    own = display_name(verdict.claim.metric)
    which = (own, "the likelihood") if verdict.word in (SUPPORTED, REFUTED) else ("the likelihood", own)
    return {
        AGREE: "both metrics say so",
        CONTRADICT: f"{own} and the likelihood CONTRADICT each other",
        ONE_DECIDES: f"{which[0]} decides, {which[1]} does not",
        NEITHER: f"neither {own} nor the likelihood decides",
    }[verdict.agreement]


def finding_text(verdict: Verdict) -> str:
    """Return the word for what is seen of a difference, with the margin where it is part of it."""
    margin = verdict.margin or 0.0
    named = f"of {margin:.{digits((margin,))}f} {unit(verdict.claim.metric)}"
    up, down = _DIRECTIONS.get((verdict.claim.kind, verdict.claim.direction), ("BETTER", "WORSE"))
    found, mean, typical = (
        each.replace("BETTER", up).replace("WORSE", down)
        for each in (verdict.finding, verdict.mean_finding, verdict.typical_finding)
    )
    found = f"{found} {named}" if "MARGIN" in found else found
    return found if mean == typical else f"{found} (mean alone: {mean}; typical seed alone: {typical})"


def share_text(verdict: Verdict) -> str:
    """Return ", +14 % of what the base arm learned (+9 to +19 %; margin 10 %)"; "" where that is not known."""
    if verdict.share is None or verdict.claim.kind == "trend" and verdict.claim.margin_unit == "metric":
        return ""
    numbers = [signed(100 * each, 0) for each in (verdict.share, *(verdict.share_interval or ()))]
    interval = f"{' to '.join(numbers[1:])} %" if numbers[1:] else "interval unknown"
    margin = f"; margin {100 * verdict.claim.margin:g} %" if verdict.claim.margin_unit == "learned" else ""
    return f", {numbers[0]} % of what the base arm learned ({interval}{margin})"


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
    name, units = display_name(verdict.claim.metric), unit(verdict.claim.metric)
    interval = " to ".join(numbers[1:])
    if short:
        return f"{name} {numbers[0]} {units}{f' ({interval})' * bool(interval)}, n = {verdict.n}"
    kind = "95 % interval valid under looking" if verdict.sequential else "95 % interval"
    return (
        f"{name} {_MEASURED.get(verdict.claim.kind, 'difference')} {numbers[0]} {units}"
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


def reason_of(verdict: Verdict, tests: Tests) -> str:
    """Return in one clause why a claim got its word, or why it got none although a difference was measured."""
    claim = verdict.claim
    alone = str(decide(*tests.p))
    if verdict.word != INCONCLUSIVE:
        return _decided(verdict)
    if alone != INCONCLUSIVE:
        own, holm = (verdict.p, verdict.p_holm) if alone == SUPPORTED else (verdict.p_refute, verdict.p_refute_holm)
        return (
            f"by itself it would be {alone} ({p_text(own)}), but among the {verdict.family_size} claims of its family "
            f"it is not (Holm: {p_text(holm)})"
        )
    by_mean, typical = (
        str(decide(getattr(tests.support, each), getattr(tests.refute, each))) for each in ("mean", "typical")
    )
    if by_mean != typical:
        return (
            f"mean and typical seed do not say the same: by the mean it would be {by_mean}, by the median of "
            f"{number_text(verdict.typical)} {typical}"
        )
    return "its interval leaves both answers open" + (
        " (each step must go its way by itself)" * (claim.kind == "trend")
    )


def _decided(verdict: Verdict) -> str:
    """Return which bound of the 95 % interval decided, in the metric's own sign or as a share of what was learned."""
    claim, sign, supported = verdict.claim, orientation(verdict.claim), verdict.word == SUPPORTED
    if claim.kind == "trend":
        verb, way = ("rise", "up") if claim.direction == "up" else ("fall", "down")
        if supported:
            return f"every step goes {way}, and the whole by more than the margin"
        return f"a step does not {verb}, or the whole falls short of the margin"
    ends, margin, units = verdict.share_interval, claim.margin, "%"
    if claim.margin_unit == "metric" or ends is None:
        turned = sorted(sign * end for end in verdict.interval or (-math.inf, math.inf))
        ends, margin, units = (turned[0], turned[1]), verdict.margin or 0.0, unit(claim.metric)
    low, high = ends
    if claim.kind == "equivalent" and supported:
        return f"the whole 95 % interval lies within {_edge_text(margin, units)} on both sides"
    upper, edge = (claim.kind == "not_better") == supported, margin
    if claim.kind == "equivalent":
        upper, edge = (False, margin) if low > margin else (True, -margin)
    bound = high if upper else low
    beyond, at = ("less", "most") if upper else ("more", "least")
    named = _edge_text(edge, units, bound)
    return f"with 95 % confidence the improvement is {beyond} than {named}: at {at} {_edge_text(bound, units, edge)}"


def _edge_text(value: float, units: str, other: float = math.inf) -> str:
    """Return a bound or a margin with enough digits to tell it from the other."""
    if units == "%":
        places = 0 if abs(value - other) >= ONE_PERCENT else 1
        return f"{signed(100 * value, places)} % of what was learned"
    return f"{signed(value, digits((value, other) if math.isfinite(other) else (value,)))} {units}"


def number_text(value: float | None) -> str:
    """Return a number with its sign, at a sensible number of digits."""
    return "none" if value is None else signed(value, digits((value,)))


def generalises(verdict: Verdict, own_encoders: bool = False) -> str:
    """Return what a verdict's interval and words are about; `own_encoders`: its arms start from different pre-trainings."""
    seeds = "the typical one of other seeds"
    if own_encoders:
        seeds += " of captioners on these encoders (each was pre-trained once)"
    if verdict.images is None:
        return f"{seeds} on these test images alone"
    return f"{seeds} and other test images of this kind ({verdict.images} were used)"


def typical_text(verdict: Verdict) -> str:
    """Return "+9.1 points (95 % interval +5.2 to +13.0); ahead in 5 of 5 seeds, P(ahead) 0.48 to 1.00"."""
    if verdict.typical is None or verdict.ahead_interval is None:
        return "not measured"
    ends = verdict.typical_interval or ()
    numbers = [signed(each, digits((verdict.typical, *ends))) for each in (verdict.typical, *ends)]
    interval = f" (95 % interval {numbers[1]} to {numbers[2]})" if ends else ""
    low, high = verdict.ahead_interval
    return (
        f"{numbers[0]} {unit(verdict.claim.metric)}{interval}; ahead in {verdict.ahead} of {plural(verdict.n, 'seed')}, "
        f"P(ahead) {low:.2f} to {high:.2f}"
    )


def collapse_text(collapse: Collapse) -> str:
    """Return "small: 1 of 5 seeds collapsed (#3; 1 to 72 % of seeds may)"."""
    named = f"{', '.join(f'#{seed}' for seed in collapse.seeds)}; " if collapse.seeds else ""
    ends = (
        f"{100 * collapse.low:.0f} to {100 * collapse.high:.0f} %"
        if collapse.seeds
        else f"up to {100 * collapse.high:.0f} %"
    )
    return f"{collapse.arm}: {len(collapse.seeds)} of {collapse.n} seeds collapsed ({named}{ends} of seeds may)"


def leave_one_out_text(verdict: Verdict) -> str:
    """Return what becomes of a decided claim without any one of its seeds."""
    if verdict.word not in (SUPPORTED, REFUTED):
        return "no word to lose"
    if verdict.n <= MIN_REPLICATES:
        return f"not asked of {verdict.n} seeds"
    if not verdict.hangs_on:
        return "the word stands without any one of the seeds"
    named = ", ".join(f"#{seed}" for seed in verdict.hangs_on)
    named = named if len(verdict.hangs_on) == 1 else f"any one of {named}"
    return f"one seed decides this: without {named} the claim would be open"
