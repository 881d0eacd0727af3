"""Does the judge find what is there? Effects planted by construction, whose truth is known (`nox -s truth`)."""

from gitbench.spec import Ablation, Arm, Claim

# "twin" is "sighted" by another name and shares its runs; "unharmed" is blurred by far less than a pixel: see variants/vision.
ARMS = tuple(
    Arm(name=name, variants={"vision": variant})
    for name, variant in {"sighted": "sighted", "blurred": "blurred", "unharmed": "unharmed", "twin": "sighted"}.items()
)

# What has to come out, by claim; of a truth on the side of the claim INCONCLUSIVE is honest too.
TRUTH = {
    "sight-helps": ("SUPPORTED",),
    "blur-helps": ("REFUTED",),
    "unharmed-alike": ("SUPPORTED", "INCONCLUSIVE"),
    "unharmed-helps": ("REFUTED", "INCONCLUSIVE"),
    "twin-alike": ("NOT TESTABLE AT THIS SCALE",),
}


def _planted(name: str, kind: str, treatment: str, reference: str, says: str) -> Claim:
    return Claim(
        name=name,
        kind=kind,  # type: ignore[arg-type]
        metric="CIDEr",
        treatment=treatment,
        reference=reference,
        says=says,
        quote="(planted here, by no paper)",
        where="ablations/_truth.py",
        confidence="S",
    )


ABLATION = Ablation(
    name="_truth",
    title="Planted truth",
    question="Does the judge find effects that were planted, and none where there is none?",
    axis="vision",
    arms={"smoke": ARMS, "cpu": ARMS},
    base="sighted",
    claims=(
        _planted("sight-helps", "better", "sighted", "blurred", "Sharp images give better captions than blurred ones."),
        _planted("blur-helps", "better", "blurred", "sighted", "Blurred images give better captions than sharp ones."),
        _planted("unharmed-alike", "equivalent", "unharmed", "sighted", "A blur that nobody sees changes nothing."),
        _planted("unharmed-helps", "better", "unharmed", "sighted", "A blur that nobody sees helps."),
        _planted("twin-alike", "equivalent", "twin", "sighted", "An arm is equivalent to itself."),
    ),
)
