"""Does a run that was made again agree: exactly where predictions are equal, within the noise of seeds elsewhere."""

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

SPREAD = Spread(sd=4.0, df=2, source="spread of the arm's 3 replicates")
LIMIT = 4.302653 * 4 * 2**0.5  # Student's 97.5 % at 2 degrees of freedom


def record(value: float, signature: str = "s") -> dict:
    return {"metrics": {"CIDEr": {"value": value, "signature": signature}}}


def test_the_spread_is_that_of_the_replicates_and_more_comparisons_allow_more():
    assert spread_of([record(value) for value in (90.0, 94.0, 98.0)], "CIDEr") == SPREAD
    assert spread_of([record(1.0)], "CIDEr") is None
    assert allowed_difference(SPREAD, 1) == pytest.approx(LIMIT, rel=1e-5)
    assert allowed_difference(SPREAD, 10) > LIMIT


@pytest.mark.parametrize(
    ("difference", "identical", "noise", "signature", "word"),
    [
        (0.99 * LIMIT, False, SPREAD, "s", AGREE),
        (1.01 * LIMIT, False, SPREAD, "s", DISAGREE),
        (1e-9, True, SPREAD, "s", AGREE),
        (0.01, True, SPREAD, "s", DISAGREE),
        (0.01, True, SPREAD, "other", AGREE),  # another scorer: within the noise
        (0.01, False, None, "s", OPEN),
        (0.0, False, None, "s", AGREE),
    ],
)
def test_other_predictions_are_measured_by_the_noise_and_equal_ones_exactly(
    difference, identical, noise, signature, word
):
    found = compare(record(100.0), record(100 + difference, signature), identical, {"CIDEr": noise}, 1)
    assert [each.word for each in found] == [word]


@pytest.mark.parametrize(
    ("differences", "word"),  # None: the run failed
    [((0.1, 0.2), AGREE), ((0.1, 50), DISAGREE), ((0.1, None), OPEN), ((50, None), DISAGREE)],
)
def test_one_disagreement_decides_and_agreement_needs_every_run(differences, word):
    def rerun(difference: float | None) -> Rerun:
        if difference is None:
            return Rerun(arm="base", replicate=0, run_key="k", failed="no memory")
        pairs = compare(record(1.0), record(1.0 + difference), False, {"CIDEr": Spread(sd=1.0, df=9, source="")}, 1)
        return Rerun(arm="base", replicate=0, run_key="k", comparisons=pairs)

    assert verdict([rerun(difference) for difference in differences]) == word
