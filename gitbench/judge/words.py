"""Put verdicts into words: one sentence a verdict, and one sentence for the ablation's question.

Computed from the verdict's own numbers, so that the words cannot drift from them.
"""

from __future__ import annotations

from collections.abc import Sequence

from gitbench.judge.claims import INCOMPLETE, INCONCLUSIVE, NOT_TESTABLE, REFUTED, SUPPORTED, Verdict
from gitbench.scores import claim_unit, digits, display_name, level_text, signed
from gitbench.spec import Claim
from gitbench.study.records import Study

# What a decided claim means for the pair, by kind and verdict: "<treatment> <phrase> <reference>".
_PHRASES = {
    ("better", SUPPORTED): "is better than",
    ("better", REFUTED): "is not better than",
    ("not_better", SUPPORTED): "brings no improvement that reaches the margin over",
    ("not_better", REFUTED): "is better than",
    ("equivalent", SUPPORTED): "is equivalent to",
    ("equivalent", REFUTED): "differs from",
    ("interaction", SUPPORTED): "is a greater gain than",
    ("interaction", REFUTED): "is not a greater gain than",
    ("threshold", SUPPORTED): "lies {side} the level of",
    ("threshold", REFUTED): "does not lie {side} the level of",
}

_MEASURED = {"interaction": "difference of the gains", "trend": "slope", "threshold": "distance from the level"}


def answer(study: Study, verdicts: Sequence[Verdict]) -> str:
    """Return the answer to the study's question in one sentence, with n, units and interval where there is one."""
    where = f"On {study.data} at the {study.profile} profile"
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
    pair = _pair(verdict)
    if verdict.word == INCOMPLETE:
        return f"no verdict yet on {pair}: {verdict.reason}"
    measured = measured_difference(verdict)
    if verdict.word == NOT_TESTABLE:
        return f"this cannot be tested on {pair}: {verdict.reason} ({measured})"
    if verdict.word == INCONCLUSIVE:
        return f"it stays open for {pair}: {measured}, {verdict.reason}; {further_seeds(verdict)}"
    return f"{_decided(verdict)}: {measured}; {verdict.reason}"


def sides(claim: Claim) -> tuple[str, str]:
    """Return what a claim compares, treatment and reference: names of arms, the two steps of an interaction, or a level."""
    if claim.kind == "threshold":
        return claim.treatment, level_text(claim)
    if claim.kind != "interaction":
        return claim.treatment, claim.reference
    return (
        f"the step from {claim.treatment_from} to {claim.treatment}",
        f"the step from {claim.reference_from} to {claim.reference}",
    )


def _pair(verdict: Verdict) -> str:
    """Return what is judged: "a (label) against b (label)", a trend by its arms."""
    claim = verdict.claim
    treatment, reference = sides(claim)
    if claim.kind == "trend":
        return f"the trend {_trend(verdict)}"
    if claim.kind == "threshold":
        return f"{treatment} ({verdict.treatment}) against the level of {reference}"
    return f"{treatment} ({verdict.treatment}) against {reference} ({verdict.reference})"


def _trend(verdict: Verdict) -> str:
    claim = verdict.claim
    between = ", ".join(arm for arm, _ in claim.along[1:-1])
    return f"from {claim.reference} ({verdict.reference}) over {between} to {claim.treatment} ({verdict.treatment})"


def _decided(verdict: Verdict) -> str:
    """Return what a supported or refuted claim means for its arms."""
    claim = verdict.claim
    treatment, reference = sides(claim)
    supported = verdict.word == SUPPORTED
    if claim.kind == "trend":
        verb = ("rises", "rise") if claim.direction == "up" else ("falls", "fall")
        size = " by more than the margin" * bool(claim.margin)
        says = verb[0] if supported else f"does not {verb[1]}"
        return f"{display_name(claim.metric)} {says}{size} {_trend(verdict)}"
    phrase = _PHRASES[claim.kind, verdict.word].format(side="above" if claim.direction == "up" else "below")
    if claim.kind == "threshold":
        return f"{treatment} ({verdict.treatment}) {phrase} {reference}"
    return f"{treatment} ({verdict.treatment}) {phrase} {reference} ({verdict.reference})"


def measured_difference(verdict: Verdict) -> str:
    """Return "CIDEr difference +1.2 points, 95 % interval -0.3 to +2.7, n = 5 paired seeds"; of a trend the slope."""
    if verdict.difference is None:
        return "no difference measured"
    metric, spread = verdict.claim.metric, verdict.interval or (verdict.difference,)
    places = digits((verdict.difference, verdict.margin or 0.0, *spread))
    what = _MEASURED.get(verdict.claim.kind, "difference")
    text = f"{display_name(metric)} {what} {signed(verdict.difference, places)} {claim_unit(verdict.claim)}"
    if verdict.interval:
        kind = "95 % interval valid under looking" if verdict.sequential else "95 % interval"
        text += f", {kind} {signed(verdict.interval[0], places)} to {signed(verdict.interval[1], places)}"
    paired = "" if verdict.claim.kind == "threshold" and verdict.claim.level_unit == "metric" else "paired "
    return f"{text}, n = {verdict.n} {paired}seed{'s' * (verdict.n != 1)}"


def further_seeds(verdict: Verdict) -> str:
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
