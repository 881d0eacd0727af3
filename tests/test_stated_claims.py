"""What an ablation may state: claims that could not be judged are refused before anything runs."""

import dataclasses
import math

import pytest
from helpers_errors import refused
from helpers_judge import CLAIMS, claim_of

from gitbench.ablations import check_ablation, check_claims
from gitbench.spec import Ablation, Arm, Claim, TaskSpec
from gitbench.tasks import claims_for


def stating(*claims: Claim) -> Ablation:
    return Ablation(name="ab", title="", question="", axis="decoder", arms={}, claims=claims)


@pytest.mark.parametrize(
    "claim, problem",
    [
        (claim_of("trend"), "names the arms that it runs along"),
        (claim_of("trend", along=("a", "d")), "at least 3 different arms"),
        (claim_of("trend", along=("b", "a", "d")), "use reference='b', treatment='d'"),
        (claim_of("better", along=CLAIMS["trend"].along), "a trend, and nothing else"),
        (claim_of("better", direction="down"), "swap treatment and reference"),
        (claim_of("better", margin=-1.0), "margin of -1 is no finite number"),
        (claim_of("worse"), "unknown kind of claim 'worse' of ab"),
        (claim_of("better", treatment="a", reference="a"), "its treatment and its reference are one arm, 'a'"),
        (claim_of("interaction"), "names treatment_from and reference_from"),
        (claim_of("better", margin=math.nan), "margin of nan is no finite number"),
        (claim_of("better", margin=0.3, margin_unit="learned"), "30 % of what the base arm learned, .* at most 20 %"),
        (claim_of("equivalent"), "within a margin of 0: state one above 0"),
        (claim_of("better", margin_reason=" "), "gives no margin_reason"),
        (claim_of("better", confidence="U"), "confidence 'U' is none of S, SQ, D, H, O"),
    ],
)
def test_claims_that_cannot_be_judged_are_refused(claim, problem):
    with refused(problem):
        check_claims(stating(claim))


def test_good_claims_are_accepted_and_names_must_differ():
    check_claims(stating(*CLAIMS.values()))
    assert CLAIMS["trend"].arms == ("d", "a", "b")
    with refused("two claims have one name"):
        check_claims(stating(CLAIMS["better"], CLAIMS["better"]))


def test_names_that_latex_could_not_tell_apart_are_refused():
    check_claims(stating(*(claim_of("better", name=name) for name in ("a-b", "a-c", "ab2"))))
    for names, said in (
        (("a-b", "aB"), "'a-b' and 'aB' differ in no letter"),
        (("a", "\N{GREEK SMALL LETTER BETA}"), "has no letter of a to z"),
    ):
        with refused(said):
            check_claims(stating(*(claim_of("better", name=name) for name in names)))
    arms = tuple(Arm(name=name, variants={"decoder": "self_1x64"}) for name in ("base", "Large", "large"))
    with refused("'Large' and 'large' differ in no letter: rename one"):
        check_ablation(dataclasses.replace(stating(), arms={"smoke": arms}))


def test_another_task_drops_what_is_in_points_of_captions():
    kept = claims_for(tuple(CLAIMS.values()), TaskSpec(name="vqa"))
    assert [claim.name for claim in kept] == ["better", "interaction", "trend"]
    assert {claim.metric for claim in kept} == {"VQA"}
    assert claims_for(tuple(CLAIMS.values()), TaskSpec()) == tuple(CLAIMS.values())
