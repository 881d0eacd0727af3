"""Self-attention over image and text, or cross-attention to the image? The paper: it depends on the data (pp. 5, 36)."""

from gitbench.spec import Ablation, Arm, Claim

# Profile -> size of the decoder, and the amounts of data from the smallest to all of it.
SCALES = {
    "smoke": ("2x64", {"least": "n32", "all": "all"}),
    "cpu": ("2x96", {"least": "n300", "some": "n600", "all": "all"}),
    "small-gpu": ("4x128", {"least": "n300", "some": "n3000", "all": "all"}),
    "gpu": ("6x384", {"least": "n300", "some": "n3000", "all": "all"}),
    "paper": ("6x768", {"least": "n10000", "some": "n100000", "all": "all"}),
}


def arms(size: str, amounts: dict[str, str]) -> tuple[Arm, ...]:
    """Each decoder with each amount of data: self, cross at equal layers, cross with the parameters of self."""
    decoders = {"self": f"self_{size}", "cross": f"cross_{size}", "matched": f"cross_{size}_matched"}
    return tuple(
        Arm(
            name="base" if (name, level) == ("self", "all") else f"{name}_{level}",
            variants={"decoder": decoder, "amount": amount},
        )
        for level, amount in amounts.items()
        for name, decoder in decoders.items()
    )


ABLATION = Ablation(
    name="decoder_attention",
    title="Decoder attention",
    question="Does self-attention over image and text tokens caption better than cross-attention, and does data decide?",
    axis="decoder",
    varies=("attention", "ffn"),
    crossed_with="amount",
    replicates={"cpu": 8},
    arms={profile: arms(*scale) for profile, scale in SCALES.items()},
    claims=(
        Claim(
            name="cross-better-with-little-data",
            kind="better",
            metric="CIDEr",
            treatment="cross_least",
            reference="self_least",
            says="With little data the cross-attention decoder wins.",
            quote="in small-scale setting, the cross-attention based approach wins",
            where="p. 5",
            confidence="SQ",
        ),
        Claim(
            name="self-better-with-much-data",
            kind="better",
            metric="CIDEr",
            treatment="base",
            reference="cross_all",
            says="With much data the self-attention decoder wins.",
            quote="while with large-scale data, the former wins",
            where="p. 36",
            confidence="SQ",
        ),
        Claim(
            name="self-gains-more-from-data",
            kind="interaction",
            metric="CIDEr",
            treatment="base",
            treatment_from="self_least",
            reference="cross_all",
            reference_from="cross_least",
            says="Self-attention gains more from data than cross-attention does.",
            quote="while with large-scale data, the former wins",
            where="p. 36",
            confidence="SQ",
        ),
    ),
)
