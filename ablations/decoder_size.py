"""Does a larger text decoder caption better? The paper's Table 10 says no (p. 11, "preliminary").

The small arm of the cpu profile, on which no claim rests, was 1 x 64 until five runs of a first study had been made (LOG.md,
2026-11-29); they enter nothing.
"""

from gitbench.spec import Ablation, Arm, Claim

# From the smallest to the largest; "base" is the profile's own decoder, "large" the one the claim is about.
SIZES = {
    "smoke": {"small": "self_1x64", "base": "self_2x64", "large": "self_2x96"},
    "cpu": {"small": "self_2x64", "base": "self_2x96", "large": "self_4x128"},
    "small-gpu": {"small": "self_1x64", "base": "self_4x128", "large": "self_8x256"},
    "gpu": {
        "tiny": "self_1x192",
        "small": "self_2x384",
        "base": "self_6x384",
        "deep": "self_12x384",
        "large": "self_12x512",
    },
    "paper": {
        "base": "self_6x768",
        "deep": "self_12x768",
        "deeper": "self_24x768",
        "wide": "self_6x1024",
        "wide_deep": "self_12x1024",
        "large": "self_24x1024",
    },
}

ABLATION = Ablation(
    name="decoder_size",
    title="Decoder size",
    question="Does a larger text decoder give better captions, with everything else the same?",
    axis="decoder",
    varies=("layers", "width", "heads", "ffn"),
    arms={
        profile: tuple(Arm(name=name, variants={"decoder": variant}) for name, variant in sizes.items())
        for profile, sizes in SIZES.items()
    },
    claims=(
        Claim(
            name="larger-no-better",
            kind="not_better",
            metric="CIDEr",
            treatment="large",
            reference="base",
            says="A larger text decoder brings no improvement.",
            quote="a larger decoder shows no improvement",
            where="Table 10, p. 11",
            confidence="SQ",
        ),
    ),
)
