"""Does contrastive pre-training of the image encoder pay? It is the first stage of the paper's training (p. 4)."""

from gitbench.spec import Ablation, Arm, Claim

ARMS = {"base": "random", "contrastive": "contrastive"}

ABLATION = Ablation(
    name="encoder_init",
    title="Encoder initialisation",
    question="Does an image encoder that was pre-trained contrastively on the same data caption better than a random one?",
    axis="encoder_init",
    replicates={"cpu": 8},
    arms={
        profile: tuple(Arm(name=name, variants={"encoder_init": variant}) for name, variant in ARMS.items())
        for profile in ("smoke", "cpu", "gpu", "paper")
    },
    claims=(
        Claim(
            name="contrastive-better-than-random",
            kind="better",
            metric="CIDEr",
            treatment="contrastive",
            reference="base",
            says="The image encoder is first pre-trained with the contrastive task.",
            quote="using the contrastive task to pre-train the image encoder",
            where="p. 4",
            confidence="SQ",
        ),
    ),
)
