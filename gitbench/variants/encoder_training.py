"""What captioning does to the image encoder: "trained" at the profile's rate, the paper's 1:5 (p. 6), "frozen", or
trained at another share of the decoder's rate: "ratio_1_20" and "ratio_1_1". The paper trains all parameters (p. 5).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from gitbench.axis import Axis, Planning, Touches, with_variant
from gitbench.errors import GitbenchError
from gitbench.spec import RunSpec
from gitbench.variants.adaptation import AdaptationSpec


@dataclass(frozen=True, kw_only=True)
class EncoderTrainingSpec:
    """What captioning does to the image encoder: trains it, at which share of the decoder's rate, or leaves it alone."""

    frozen: bool = False  # no gradient, eval mode, features computed once per image
    lr_ratio: float | None = None  # encoder rate / decoder rate; None: the profile's own rates (1:5)


def _apply(run: RunSpec, training: EncoderTrainingSpec, planning: Planning) -> RunSpec:
    """Turn a ratio of learning rates into the encoder's rate, so that one value decides and equal rates are one run; and so an
    adaptation that leaves the encoder frozen into that.
    """
    if run.variants["adaptation"].trains == "decoder":
        run, training = with_variant(run, "adaptation", AdaptationSpec()), dataclasses.replace(training, frozen=True)
    ratio = training.lr_ratio
    if ratio is not None:
        if ratio <= 0 or training.frozen:
            raise GitbenchError(f"an encoder rate of {ratio} x the decoder's: use one above 0, or frozen alone")
        run = dataclasses.replace(run, train=dataclasses.replace(run.train, lr_encoder=run.train.lr_decoder * ratio))
    return with_variant(run, "encoder_training", dataclasses.replace(training, lr_ratio=None))


def _label(run: RunSpec, name: str) -> str:
    if run.variants["encoder_training"].frozen:
        return "encoder frozen"
    return f"encoder trained, rates 1:{run.train.lr_decoder / run.train.lr_encoder:g}"


AXIS = Axis(
    name="encoder_training",
    spec=EncoderTrainingSpec,
    doc="what captioning does to the image encoder",
    default="trained",
    variants={
        "trained": EncoderTrainingSpec(),
        "frozen": EncoderTrainingSpec(frozen=True),
        "ratio_1_20": EncoderTrainingSpec(lr_ratio=1 / 20),
        "ratio_1_1": EncoderTrainingSpec(lr_ratio=1.0),
    },
    label=_label,
    apply=_apply,
    touches=Touches(
        config=("model.encoder_training.*", "optim_wrapper.paramwise_cfg.lr_encoder"), training=("encoder.*",)
    ),
)
