"""Does a larger model gain more from more data? The paper's Figure 4 (p. 11): its Base model saturates, larger ones do not.

The figure has three models: Base with CLIP's ViT-B/16, Large with CLIP's ViT-L/14, Huge with an encoder that was not
released (Florence's). In the paper profile "small" and "base" have the first two, and "large" a ViT-H/14, larger than any
of OpenAI's, with the weights of MetaCLIP (not for commercial use), which come from other pairs than OpenAI's and six times
as many: size is not all that differs. A run of "large" takes 43 to 49 GiB of a GPU in bfloat16, by the length of the texts
(computed, not run).
"""

from gitbench.spec import Ablation, Arm, Claim

# Model size stands for the image encoder, as in Figure 4, whose models share a decoder of six layers (Table 11).
# Profile -> encoders from the smallest, and the amounts of data; "base" is the middle one with all the data.
SCALES = {
    "smoke": (
        {"small": "vit_1x64_p8_64", "base": "vit_2x64_p8_64", "large": "vit_3x64_p8_64"},
        {"least": "n32", "some": "n64", "all": "all"},
    ),
    "cpu": (
        {"small": "vit_2x64_p8_64", "base": "vit_4x96_p8_64", "large": "vit_6x128_p8_64"},
        {"least": "n300", "some": "n600", "all": "all"},
    ),
    "small-gpu": (
        {"small": "vit_2x64_p8_64", "base": "vit_4x96_p8_64", "large": "vit_6x128_p8_64"},
        {"least": "n300", "some": "n3000", "all": "all"},
    ),
    "gpu": (
        {"small": "vit_4x192_p16_128", "base": "vit_8x384_p16_128", "large": "vit_12x512_p16_128"},
        {"least": "n300", "some": "n3000", "all": "all"},
    ),
    "paper": (
        {"small": "vit_b16", "base": "vit_l14", "large": "vit_h14"},
        {"least": "n10000", "some": "n100000", "all": "all"},
    ),
}


def arms(encoders: dict[str, str], amounts: dict[str, str]) -> tuple[Arm, ...]:
    """Every encoder with every amount of data."""
    return tuple(
        Arm(
            name="base" if (name, level) == ("base", "all") else f"{name}_{level}",
            variants={"encoder": encoder, "amount": amount},
        )
        for level, amount in amounts.items()
        for name, encoder in encoders.items()
    )


AMOUNTS = ("large_least", "large_some", "large_all")
MODELS = ("small_all", "base", "large_all")


def _trend(name: str, along: tuple[str, ...], says: str) -> Claim:
    """Two readings of the figure itself: all its curves but one rise, and larger models lie above smaller ones."""
    return Claim(
        name=name,
        kind="trend",
        metric="CIDEr",
        treatment=along[-1],
        reference=along[0],
        along=along,
        says=says,
        quote="Performance with different pre-training data scales and different model sizes",
        where="Figure 4, COCO",
        confidence="D",
    )


ABLATION = Ablation(
    name="data_scale",
    title="Data scale × model size",
    question="Does a larger model gain more from more training data?",
    axis="encoder",
    varies=("layers", "width", "heads", "patch"),
    crossed_with="amount",
    replicates={"cpu": 8},
    arms={profile: arms(*scale) for profile, scale in SCALES.items()},
    claims=(
        Claim(
            name="small-saturates",
            kind="not_better",
            metric="CIDEr",
            treatment="small_all",
            reference="small_some",
            control=("large_all", "large_some"),
            says="The smallest model gains nothing from the largest data.",
            quote="Base model with limited capacity may not be able to benefit effectively",
            where="Figure 4, p. 11",
            confidence="SQ",
        ),
        Claim(
            name="large-gains-more",
            kind="interaction",
            metric="CIDEr",
            treatment="large_all",
            treatment_from="large_some",
            reference="small_all",
            reference_from="small_some",
            says="From the middle amount of data to the largest, the largest model gains more than the smallest.",
            quote="Base model with limited capacity may not be able to benefit effectively",
            where="Figure 4, p. 11",
            confidence="SQ",
        ),
        _trend(
            "large-rises-with-data",
            AMOUNTS,
            "With the largest model CIDEr rises with the amount of data.",
        ),
        _trend(
            "larger-better-with-all-data",
            MODELS,
            "With all the data CIDEr rises with the size of the model.",
        ),
    ),
)
