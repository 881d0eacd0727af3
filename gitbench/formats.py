"""How numbers are written for people: one function for each kind of number, for tables, sentences and the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable


def digits(values: Iterable[float]) -> int:
    """Return the decimals that print `values` at about three significant digits, from the largest of them."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return 1 if largest >= 10 else 2 if largest >= 1 else 3


def signed(value: float, places: int) -> str:
    """Format with an explicit sign, a true minus, and no sign on zero."""
    text = f"{value:+.{places}f}"
    return (text[1:] if float(text) == 0 else text).replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Return a length of time for people: "40 s", "12 min", "3.5 h" or "2.0 days"."""
    for most, divisor, name, places in ((100, 1, "s", 0), (6000, 60, "min", 0), (172_800, 3600, "h", 1)):
        if seconds < most:
            return f"{seconds / divisor:.{places}f} {name}"
    return f"{seconds / 86400:.1f} days"


def plus_minus(mean: float, half_width: float | None, places: int) -> str:
    """Return "114.5 \N{PLUS-MINUS SIGN} 9.8": a mean and the half-width of its interval, where it has one."""
    text = f"{mean:.{places}f}".replace("-", "\N{MINUS SIGN}")
    return text + ("" if half_width is None else f" \N{PLUS-MINUS SIGN} {half_width:.{places}f}")


def p_text(p: float | None) -> str:
    """Return "p = 0.022", "p < 0.001" or "not computed"."""
    if p is None:
        return "not computed"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def plural(number: int, noun: str) -> str:
    """Return "1 claim" or "3 claims"."""
    return f"{number} {noun}{'s' * (number != 1)}"
