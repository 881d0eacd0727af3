"""Say in one clause why a claim got its word: which bound lies where, or what Holm's correction took back."""

from __future__ import annotations

from gitbench.judge.family import Place
from gitbench.judge.rules import ALPHA, INCONCLUSIVE, SUPPORTED, Method, least_p, words
from gitbench.scores import claim_unit, digits, orientation, signed
from gitbench.spec import Claim


def reason_for(
    claim: Claim,
    word: str,
    bounds: tuple[float, float],
    margin: float,
    p: tuple[float, float],
    place: Place,
    method: Method,
) -> str:
    """Return the reason of a word. `bounds` are one-sided 95 % and turned, as is the margin; `p` (support, refute) unadjusted."""
    if word == INCONCLUSIVE and (alone := str(words(*p))) != INCONCLUSIVE:
        own, adjusted = (p[0], place.support) if alone == SUPPORTED else (p[1], place.refute)
        return (
            f"by itself it would be {alone} (p = {own:.2g}), but among the {place.size} claims of its family it is not "
            f"(Holm: p = {adjusted:.2g})"
        )
    if method == "sign_flip":
        return _exact_reason(word, p)
    return _open(claim, bounds, margin) if word == INCONCLUSIVE else _decided(claim, word, bounds, margin)


def too_few(n: int, size: int) -> str:
    """Return why n replicates are too few for the exact test, in a family of `size` claims."""
    least, needed = least_p("sign_flip", n), n
    while min(1.0, size * 0.5**needed) >= ALPHA:
        needed += 1
    among = f", and Holm multiplies that by up to {size}" if size > 1 else ""
    return (
        f"{n} paired replicates are too few for the exact test to reach its threshold at all: its smallest p is "
        f"{least:.2g}{among}; {needed} replicates can"
    )


def _exact_reason(word: str, p: tuple[float, float]) -> str:
    if word == INCONCLUSIVE:
        return f"the exact sign-flip test leaves both answers open (p = {p[0]:.2g} to support, {p[1]:.2g} to refute)"
    return f"the exact sign-flip test decides: p = {p[0] if word == SUPPORTED else p[1]:.2g}"


def _open(claim: Claim, bounds: tuple[float, float], margin: float) -> str:
    low, high = bounds
    places = digits((low, high, margin))
    if claim.kind == "not_better" and low > 0:
        return f"there is an improvement, but it may be smaller or larger than {_margin(claim, margin, places)}"
    return f"the one-sided 95 % bounds leave both answers open (margin {margin:.{places}f})"


def _decided(claim: Claim, word: str, bounds: tuple[float, float], margin: float) -> str:
    """Say which bound decided, in the metric's own sign."""
    low, high = bounds
    places = digits((low, high, margin))
    name = _margin(claim, margin, places) if margin else "zero"
    if claim.kind == "equivalent" and word == SUPPORTED:
        return f"both one-sided 95 % bounds lie within {name} (two one-sided tests)"
    if claim.kind == "equivalent":
        upper, edge = (False, margin) if low > margin else (True, -margin)
    else:
        upper, edge = (claim.kind == "not_better") == (word == SUPPORTED), margin
    sign = orientation(claim)
    bound = sign * (high if upper else low)
    side, where = ("upper" if upper == (sign > 0) else "lower"), ("above" if bound > sign * edge else "below")
    text = f"the {side} one-sided 95 % bound, {signed(bound, places)}, lies {where} {name}"
    if claim.kind == "not_better" and word == SUPPORTED and low > 0:
        text += "; a small improvement is there, but it is credibly less than the margin"
    return text


def _margin(claim: Claim, margin: float, places: int) -> str:
    return f"the margin of {margin:.{places}f} {claim_unit(claim)}"
