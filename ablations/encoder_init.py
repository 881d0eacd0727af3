"""Does contrastive pre-training of the image encoder pay? It is the first stage of the paper's training (p. 4).

Supervised and masked pre-training take steps, batch, rate, width and depth of the contrastive recipe and were not tuned on
their own, which can only favour the contrastive one. So can how they read the image: the contrastive objective pools all tokens
by attention, the supervised one reads the class token alone, as is usual, and a captioner reads them all.
"""

from gitbench.spec import Ablation, Arm, Claim

ARMS = {
    "base": "contrastive",
    "random": "random",
    "supervised": "supervised",
    "masked": "masked",
    "tenth": "contrastive_tenth",
}


def _better_than(arm: str, other: str) -> Claim:
    return Claim(
        name=f"contrastive-better-than-{arm}",
        kind="better",
        metric="CIDEr",
        treatment="base",
        reference=arm,
        says=f"The paper chooses contrastive pre-training; this asks whether it gives better captions than {other}.",
        quote="using the contrastive task to pre-train the image encoder",
        where="p. 4",
        confidence="SQ",
        choice=True,
    )


ABLATION = Ablation(
    name="encoder_init",
    title="Encoder initialisation",
    question="Does an image encoder that was pre-trained contrastively caption better than one that was not?",
    axis="encoder_init",
    replicates={"cpu": 8},
    arms={
        profile: tuple(Arm(name=name, variants={"encoder_init": variant}) for name, variant in ARMS.items())
        for profile in ("smoke", "cpu", "small-gpu", "gpu", "paper")
    },
    claims=(
        _better_than("random", "random values"),
        _better_than("supervised", "supervised pre-training"),
        _better_than("masked", "masked autoencoding"),
    ),
)
