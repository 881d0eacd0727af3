"""What to train of a captioner on a small card? Everything, a part of it, or adapters; ours, asked of no paper.

    gitbench run adaptation --start WEIGHTS --data DATA

By themselves the small profiles adapt the captioner that ships to 300 images of a world of which it knows half the words;
any other checkpoint and data will do. Each arm is trained for equal steps and for equal time, which is as many steps as
take the counted operations of training everything (`gitbench.flops`): seconds are measured beside it. Each has rates of its
own from the grid, which stands four times as high for adapters, and eight times for norms and biases: few numbers need
larger steps.
"""

from gitbench.spec import Ablation, Arm, Claim

PROFILES = ("smoke", "cpu", "small-gpu", "gpu", "paper")
LITTLE = {"smoke": "n32", "cpu": "n300", "small-gpu": "n300", "gpu": "n300", "paper": "n10000"}  # images
PARTS = ("frozen_encoder", "frozen_decoder", "last_1", "norms_biases", "lora_4", "lora_16")


def _claim(name: str, kind: str, treatment: str, reference: str, says: str, reason: str) -> Claim:
    return Claim(
        name=name,
        kind=kind,  # type: ignore[arg-type]
        metric="CIDEr",
        treatment=treatment,
        reference=reference,
        says=says,
        quote=reason,
        where="ours",
        confidence="O",
    )


ABLATION = Ablation(
    name="adaptation",
    title="Adaptation",
    question="Which part of a captioner gives, trained alone, captions of other images as good as training everything?",
    axis="adaptation",
    crossed_with="steps",
    common={"start": "given", "amount": LITTLE},
    starts_on=dict.fromkeys(("smoke", "cpu", "small-gpu"), ("scenes-captioner", "scenes-shifted")),
    arms={
        profile: (
            Arm(name="base", variants={"adaptation": "everything", "steps": "all"}),
            *(Arm(name=part, variants={"adaptation": part, "steps": "all"}) for part in PARTS),
            Arm(name="everything_time", variants={"adaptation": "everything", "steps": "equal_time"}),  # the same runs
            *(Arm(name=f"{part}_time", variants={"adaptation": part, "steps": "equal_time"}) for part in PARTS),
        )
        for profile in PROFILES
    },
    claims=(
        _claim(
            "adapters-as-everything",
            "equivalent",
            "lora_16",
            "base",
            "At equal steps LoRA of rank 16 in attention captions as well as training everything.",
            "LoRA was made to match full fine-tuning (Hu et al. 2021), and 300 images hold little to learn.",
        ),
        _claim(
            "vectors-below-everything",
            "better",
            "base",
            "norms_biases",
            "At equal steps training norms and biases alone captions worse than training everything.",
            "New words and looks need new directions, and norms and biases only scale and shift those that are there.",
        ),
        _claim(
            "frozen-encoder-no-better",
            "not_better",
            "frozen_encoder",
            "base",
            "At equal steps a frozen image encoder captions no better than a trained one.",
            "The backgrounds and colours are new to the encoder, so what it sees has to be learned, too.",
        ),
        _claim(
            "encoder-alone-no-better-in-equal-time",
            "not_better",
            "frozen_decoder_time",
            "base",
            "In equal time training the image encoder alone captions no better than training everything.",
            "New words have to be written, and a frozen decoder writes what it knows.",
        ),
    ),
)
