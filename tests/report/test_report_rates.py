"""The section on learning rates: the grid, the winner, and whether the sign of a claim's difference hangs on the rates."""

import dataclasses
import re

import pytest

from gitbench.plan import ArmRate, Rates, Trial
from gitbench.report.latex_table import table_text
from gitbench.report.page import page
from gitbench.report.rates import LearningRates
from gitbench.report.templates import render
from gitbench.report.view import View

MEANS = {  # arm -> its likelihood at 0.5, 1 and 2 times the profile's rates
    "blind": (3.6, 3.5, 3.55),
    "small": (3.1, 3.0, 2.9),
    "base": (2.8, 2.7, 2.75),
    "large": (2.7, 2.72, None),
}


def rate(arm: str, means: tuple[float | None, ...]) -> ArmRate:
    """Return an arm of two tuning seeds, 0.02 apart."""
    trials = tuple(
        Trial(factor=factor, seed=seed, run_key="k", val_nll=None if mean is None else mean + 0.02 * seed - 0.01)
        for factor, mean in zip((0.5, 1.0, 2.0), means, strict=True)
        for seed in range(2)
    )
    found = ArmRate(arm=arm, factor=1.0, trials=trials)
    return dataclasses.replace(found, factor=found.best or 0.0)


TUNED = Rates(grid=(0.5, 1.0, 2.0), lr_encoder=4e-4, lr_decoder=2e-3, arms=tuple(rate(*each) for each in MEANS.items()))


def with_rates(view: View, rates: Rates | None, **changes) -> View:
    return dataclasses.replace(view, plan=dataclasses.replace(view.plan, rates=rates, **changes))


def markdown(view: View) -> str:
    return render("table.md.j2", view=view, plan=view.plan)


def test_the_grid_and_the_winner_of_each_arm_are_shown(view):
    tuned = with_rates(view, TUNED)
    text, html = markdown(tuned), page(tuned, {})
    assert "| blind | 3.600 | **3.500** | 3.550 |" in text
    assert re.search(r"\| 1 x \S+ \| 3.100 \| 3.000 \| \*\*2.900\*\* \|", text)
    assert re.search(r"\| \*\*2.700\*\* \| 2.720 \| diverged \|", text)
    assert "of 0.5, 1, 2 times the profile's (encoder 0.0004, decoder 0.002)" in text and "2 tuning seeds" in text
    ends = re.search(r"The grid ends at the rates of (.*?): beyond", text)
    assert ends and len(ends[1].split(", ")) == 2 and "blind" not in ends[1]  # small and large
    assert '<div id="rates">' in html and "<b>2.900</b>" in html and "diverged" in html


def test_the_difference_of_a_claim_is_shown_at_each_rate_and_its_sign_told(view):
    (found,) = LearningRates.of(with_rates(view, TUNED).plan, str).claims  # large against base
    assert found.cells == ("\N{MINUS SIGN}0.100", "+0.020", "\N{EN DASH}") and found.own == "0.000"
    assert found.depends
    text, html = markdown(with_rates(view, TUNED)), page(with_rates(view, TUNED), {})
    assert f"| {found.claim.name} | \N{MINUS SIGN}0.100 | +0.020 | \N{EN DASH} | 0.000 | depends on the rates |" in text
    assert f"the difference of <code>{found.claim.name}</code> has another sign" in html
    steady = dataclasses.replace(
        TUNED, arms=tuple(rate(a, m if a != "large" else (2.6, 2.5, 2.6)) for a, m in MEANS.items())
    )
    (same,) = LearningRates.of(with_rates(view, steady).plan, str).claims
    assert same.own == "\N{MINUS SIGN}0.200" and not same.depends
    assert "has another sign" not in page(with_rates(view, steady), {})


def test_an_interaction_is_weighed_as_the_claim_weighs_it(view):
    claim = dataclasses.replace(view.plan.claims[0], kind="interaction", treatment_from="small", reference_from="blind")
    (found,) = LearningRates.of(with_rates(view, TUNED, claims=(claim,)).plan, str).claims
    assert found.cells[1] == "+0.520"  # (large - small) - (base - blind): -0.28 + 0.8


@pytest.mark.parametrize(
    ("rates", "changes", "said"),
    [
        (None, {}, "All arms were trained at the profile's rates: the profile has no grid"),
        (dataclasses.replace(TUNED, arms=()), {}, "All arms were trained at the profile's rates (--rates shared)."),
        (
            dataclasses.replace(TUNED, arms=()),
            {"cfg_options": {"a.b": "1"}},
            "that --cfg-options change are not tuned.",
        ),
    ],
)
def test_rates_that_all_arms_share_are_said_to_be_so(view, rates, changes, said):
    shared = with_rates(view, rates, **changes)
    html = page(shared, {}).replace("&#39;", "'")
    assert said in markdown(shared) and said in html and "at each factor" not in html
    assert "its own tuned rates" not in html


def test_the_caption_of_a_papers_table_says_which_rates(view):
    assert "Each arm at learning rates of its own" in table_text(with_rates(view, TUNED))
    assert "(--rates shared)" in table_text(with_rates(view, dataclasses.replace(TUNED, arms=())))
    assert "rates" not in table_text(with_rates(view, None))
