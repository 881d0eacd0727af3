"""The page of a check, `gate.html`: one file, inline SVG, no request to anywhere; it reads in the dark and on a phone."""

from __future__ import annotations

from gitbench.gate import words
from gitbench.gate.outcome import FINE, REGRESSED, overall
from gitbench.gate.pictures import pictures
from gitbench.gate.run import Check
from gitbench.report.templates import render

_TITLES = {
    FINE: "Nothing left its band",
    REGRESSED: "This code does not do what the reference did",
}


def page(check: Check) -> str:
    """Return the whole page."""
    status = overall(check.outcomes)
    return render(
        "gate.html.j2",
        check=check,
        status=status,
        title=_TITLES.get(status, f"The gate: {status}"),
        tones={name: "good" if name == FINE else "bad" if name == REGRESSED else "open" for name in words.SYMBOLS},
        words=words,
        figures=pictures(check),
        found=[each for each in check.outcomes if each.measured is not None and each.measured.findings],
        ratios={
            quantity: ratio
            for each in check.outcomes
            if each.measured is not None
            for quantity, ratio in each.measured.details.get("ratios", {}).items()
        },
    )
