"""Does contrastive pre-training of the image encoder pay? It is the first stage of the paper's training (p. 4)."""

from gitbench.spec import Ablation, Arm, Claim

ARMS = {
    "base": "contrastive",
    "random": "random",
    "supervised": "supervised",
    "masked": "masked",
    "tenth": "contrastive_tenth",
}


def _better_than(arm: str, says: str) -> Claim:
    return Claim(
        name=f"contrastive-better-than-{arm}",
        kind="better",
        metric="CIDEr",
        treatment="base",
        reference=arm,
        says=says,
        quote="using the contrastive task to pre-train the image encoder",
        where="p. 4",
        confidence="SQ",
    )


ABLATION = Ablation(
    name="encoder_init",
    title="Encoder initialisation",
    question="Does an image encoder that was pre-trained contrastively caption better than one that was not?",
    axis="encoder_init",
    replicates={"cpu": 8},
    arms={
        profile: tuple(Arm(name=name, variants={"encoder_init": variant}) for name, variant in ARMS.items())
        for profile in ("smoke", "cpu", "gpu", "paper")
    },
    claims=(
        _better_than("random", "The image encoder is first pre-trained with the contrastive task."),
        _better_than("supervised", "The task of the first stage is the contrastive one, not classification."),
        _better_than(
            "masked", "The task of the first stage is the contrastive one, not self-supervision on images alone."
        ),
    ),
)
