"""The section on learning rates: the grid, the winner, and on which side of its margin a claim lies at each rate."""

import dataclasses
import re

import pytest

from gitbench.plan import ArmRate, Rates, Trial
from gitbench.report.latex_table import table_text
from gitbench.report.page import page
from gitbench.report.rates import LearningRates
from gitbench.report.templates import render
from gitbench.report.view import View
from gitbench.spec import Claim

MEANS = {  # arm -> its likelihood at 0.5, 1 and 2 times the profile's rates
    "blind": (3.6, 3.5, 3.55),
    "small": (3.1, 3.0, 2.9),
    "base": (2.78, 2.7, 2.75),
    "large": (2.684, 2.742, None),
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
    assert re.search(r"\| \*\*2.684\*\* \| 2.742 \| diverged \|", text)
    assert "of 0.5, 1, 2 times the profile's (encoder 0.0004, decoder 0.002)" in text and "2 tuning seeds" in text
    ends = re.search(r"The grid ends at the rates of (.*?): beyond", text)
    assert ends and len(ends[1].split(", ")) == 2 and "blind" not in ends[1]  # small and large
    claims = [each.name for each in tuned.plan.claims]
    assert f"there may be better ones. That concerns {', '.join(claims)}." in text  # of large against base
    assert '<div id="rates">' in html and "<b>2.900</b>" in html and "diverged" in html


def changed(**means: tuple[float | None, ...]) -> Rates:
    """Return the rates with other likelihoods of some arms."""
    return dataclasses.replace(TUNED, arms=tuple(rate(*each) for each in (MEANS | means).items()))


def claims_at(view: View, rates: Rates, *claims: Claim):
    """Return what is said of claims, by default of large against base with a margin of 10 %."""
    return LearningRates.of(with_rates(view, rates, claims=claims or view.plan.claims).plan, str).claims


def test_the_side_of_the_margin_is_told_at_each_rate_as_a_share_of_what_the_base_learned(view):
    (found,) = claims_at(view, TUNED)  # of 0.82 and 0.80 that the base learned
    assert found.cells == (
        "better, +12 % (+12 to +12)",
        "within, \N{MINUS SIGN}5 % (\N{MINUS SIGN}5 to \N{MINUS SIGN}5)",
        "\N{EN DASH}",
    )
    assert found.own == "within, +2 % (+2 to +2)" and found.margin == "10 %" and found.depends
    text, html = markdown(with_rates(view, TUNED)), page(with_rates(view, TUNED), {})
    row = " | ".join((found.claim.name, *found.cells, found.own, "10 %", "depends on the rates"))
    assert f"| {row} |" in text
    assert f"the difference of <code>{found.claim.name}</code> is on another side of the margin" in html
    (same,) = claims_at(view, changed(large=(2.6, 2.5, 2.6)))
    assert same.own.startswith("better, +25 %") and not same.depends
    assert "on another side" not in page(with_rates(view, changed(large=(2.6, 2.5, 2.6))), {})


def test_one_sign_at_all_rates_may_be_two_answers_and_two_signs_one(view):
    """57, 19 and 4 % of what was learned are not the same to a margin of 10 %; a hair above and below nothing is."""
    base = {"blind": (1.715, 1.655, 1.638), "base": (1.411, 1.179, 1.097)}
    (found,) = claims_at(view, changed(**base, large=(1.237, 1.089, 1.076)))
    assert [cell.split(" (")[0] for cell in found.cells] == ["better, +57 %", "better, +19 %", "within, +4 %"]
    assert found.depends and found.own == found.cells[2]
    (even,) = claims_at(view, changed(**base, large=(1.4111, 1.1789, 1.0971)))
    assert not even.depends and {cell.split(",")[0] for cell in even.cells} == {"within"}


def test_the_tuning_seeds_are_shown_one_by_one(view):
    apart = dataclasses.replace(
        rate("large", MEANS["large"]),
        trials=tuple(
            Trial(factor=factor, seed=seed, run_key="k", val_nll=2.7 + 0.1 * seed - 0.05)
            for factor in (0.5, 1.0, 2.0)
            for seed in range(2)
        ),
    )
    arms = tuple(apart if arm.arm == "large" else arm for arm in TUNED.arms)
    (found,) = claims_at(view, dataclasses.replace(TUNED, arms=arms))
    assert found.cells[1] == "within, 0 % (\N{MINUS SIGN}5 to +5)"


def test_where_the_base_arm_learned_nothing_there_is_no_margin(view):
    (found,) = claims_at(view, changed(base=(3.6, 2.7, 2.75), large=(2.9, 2.1, 2.2)))
    assert found.cells[0] == "the base arm learned nothing" and not found.depends


def test_an_interaction_and_a_trend_are_weighed_as_the_claim_weighs_them(view):
    own = view.plan.claims[0]
    gains = dataclasses.replace(own, kind="interaction", treatment_from="small", reference_from="blind")
    trend = dataclasses.replace(own, kind="trend", reference="small", along=("small", "base", "large"))
    falls = dataclasses.replace(trend, direction="down")
    points = dataclasses.replace(own, margin=3.0, margin_unit="metric", margin_reason="any")
    found = claims_at(view, TUNED, gains, trend, falls, points)
    cells = [each.cells[1].split(" (")[0] for each in found]
    assert cells[0] == "smaller, \N{MINUS SIGN}68 %"  # (large - small) - (base - blind): 0.26 - 0.8, of 0.8
    assert cells[1:3] == ["its way, +32 %", "the other way, \N{MINUS SIGN}32 %"]
    assert found[3].margin == "10 %"  # points of CIDEr are no margin of a likelihood


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
