"""Does a run that was made again agree: exactly where predictions are equal, within the spread of repeats elsewhere."""

import pytest

from gitbench.judge.replication import (
    AGREE,
    DISAGREE,
    OPEN,
    Rerun,
    Spread,
    allowed_difference,
    compare,
    spread_of,
    verdict,
)

SPREAD = Spread(sd=0.4, df=3)
LIMIT = 3.182446 * 0.4 * 1.5**0.5  # Student's 97.5 % at 3 degrees of freedom


def record(value: float, signature: str = "s") -> dict:
    return {"metrics": {"CIDEr": {"value": value, "signature": signature}}}


def test_the_spread_is_that_of_repeats_and_more_comparisons_allow_more():
    pairs = [(record(90.0), record(90.8)), (record(70.0), record(70.0)), (record(50.0), record(49.2))]
    found = spread_of(pairs, "CIDEr")
    assert found.sd == pytest.approx((2 * 0.8**2 / 3 / 2) ** 0.5) and found.df == 3
    assert spread_of(pairs, "METEOR") is None and spread_of([], "CIDEr") is None
    assert allowed_difference(SPREAD, 1) == pytest.approx(LIMIT, rel=1e-5)
    assert allowed_difference(SPREAD, 10) > LIMIT


@pytest.mark.parametrize(
    ("difference", "identical", "spread", "signature", "word"),
    [
        (0.99 * LIMIT, False, SPREAD, "s", AGREE),
        (1.01 * LIMIT, False, SPREAD, "s", DISAGREE),
        (1e-9, True, SPREAD, "s", AGREE),
        (0.01, True, SPREAD, "s", DISAGREE),
        (0.01, True, SPREAD, "other", AGREE),  # another scorer
        (1.9, False, Spread(sd=0.0, df=3), "s", AGREE),  # repeats are alike: another machine, 2 % of 100 are allowed
        (2.1, False, Spread(sd=0.0, df=3), "s", DISAGREE),
        (0.0, False, None, "s", AGREE),
        (34.0, False, Spread(sd=20.0, df=1), "s", OPEN),  # few repeats that lie far apart say nothing
        (1000.0, False, SPREAD, "s", DISAGREE),
    ],
)
def test_other_predictions_are_measured_by_repeats_and_equal_ones_exactly(
    difference, identical, spread, signature, word
):
    here = [record(100 + difference, signature)] * 2
    found = compare(record(100.0), here, identical, {"CIDEr": spread}, 1)
    assert [each.word for each in found] == [word]


def test_nothing_is_allowed_on_the_same_machine_that_repeats_itself():
    alike = Spread(sd=0.0, df=1)
    (found,) = compare(record(100.0), [record(100.1)] * 2, False, {"CIDEr": alike}, 1, elsewhere=False)
    assert found.word == DISAGREE and found.allowed == 0


@pytest.mark.parametrize("sd", [0.0, 1.0, 5.0])
def test_a_model_that_sees_future_tokens_never_agrees(sd):
    """It scored 900, without that 180: not even a single pair of repeats makes it agree."""
    assert compare(record(900.0), [record(180.0)] * 2, False, {"CIDEr": Spread(sd=sd, df=1)}, 27)[0].word != AGREE


def test_exact_means_bit_for_bit():
    rerun = Rerun(arm="base", replicate=0, run_key="k", comparisons=compare(record(1.0), [record(1.0)], False, {}, 1))
    assert rerun.word == AGREE
    for identical, word in ((False, DISAGREE), (True, AGREE)):
        changed = {"arm": "base", "replicate": 0, "run_key": "k", "comparisons": rerun.comparisons}
        assert Rerun(**changed, exact=True, identical=identical).word == word


@pytest.mark.parametrize(
    ("differences", "word"),  # None: the run failed
    [((0.1, 0.2), AGREE), ((0.1, 50), DISAGREE), ((0.1, None), OPEN), ((50, None), DISAGREE)],
)
def test_one_disagreement_decides_and_agreement_needs_every_run(differences, word):
    def rerun(difference: float | None) -> Rerun:
        if difference is None:
            return Rerun(arm="base", replicate=0, run_key="k", failed="no memory")
        pairs = compare(record(1.0), [record(1.0 + difference)] * 2, False, {"CIDEr": Spread(sd=1.0, df=9)}, 1)
        return Rerun(arm="base", replicate=0, run_key="k", comparisons=pairs)

    assert verdict([rerun(difference) for difference in differences]) == word
