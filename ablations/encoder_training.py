"""Does it pay to train the image encoder along with the decoder? The paper does, unlike Flamingo (p. 5).

What is trained or left frozen was pre-trained, as in the paper: with a folder of photographs on that folder's own training
images, by the profile's recipe (on CPUs this takes hours), unless `--encoder` names weights; in the paper profile by CLIP.
"""

from gitbench.spec import Ablation, Arm, Claim

PROFILES = ("smoke", "cpu", "small-gpu", "gpu", "paper")
ARMS = {"base": "trained", "frozen": "frozen", "ratio_1_1": "ratio_1_1"}

ABLATION = Ablation(
    name="encoder_training",
    title="Encoder training",
    question="Does training the pre-trained image encoder give better captions than leaving it frozen?",
    axis="encoder_training",
    common={"encoder_init": {profile: "contrastive" for profile in PROFILES if profile != "paper"}},  # which has CLIP
    replicates={"cpu": 8},
    arms={
        profile: tuple(Arm(name=name, variants={"encoder_training": variant}) for name, variant in ARMS.items())
        for profile in PROFILES
    },
    claims=(
        Claim(
            name="trained-better-than-frozen",
            kind="better",
            metric="CIDEr",
            treatment="base",
            reference="frozen",
            says="The paper updates all parameters; this asks whether that gives better captions than a frozen encoder.",
            quote="In our GIT, all parameters are updated to better fit the VL tasks.",
            where="p. 5",
            confidence="SQ",
            choice=True,
        ),
    ),
)
