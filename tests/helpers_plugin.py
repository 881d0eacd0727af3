"""A plugin: an axis, a decoder and an ablation, as somebody outside of this repository writes them."""

from __future__ import annotations

PLUGIN = '''
"""An axis that changes how strongly labels are smoothed, a decoder, and an ablation of each."""
import dataclasses
from dataclasses import dataclass

from gitbench import ablations, variants
from gitbench.axis import Axis, Touches, with_variant
from gitbench.spec import Ablation, Arm, Claim
from gitbench.variants.decoder import decoder


@dataclass(frozen=True, kw_only=True)
class SmoothingSpec:
    value: float | None = None  # None: the profile's


def apply(run, spec, planning):
    if spec.value is not None:
        run = dataclasses.replace(run, train=dataclasses.replace(run.train, label_smoothing=spec.value))
    return with_variant(run, "smoothing", SmoothingSpec())


variants.register(
    Axis(
        name="smoothing",
        spec=SmoothingSpec,
        doc="how strongly labels are smoothed",
        default="own",
        variants={"own": SmoothingSpec(), "none": SmoothingSpec(value=0.0)},
        label=lambda run, name: f"label smoothing {run.train.label_smoothing:g}",
        apply=apply,
        in_model=False,
        touches=Touches(config=("model.label_smoothing",)),
    )
)
variants.add("decoder", "mine_1x96", decoder("self", 1, 96, dropout=0.0, max_positions=64))
CLAIM = Claim(
    name="none-better", kind="better", metric="VQA", treatment="none", reference="base", margin=0.0,
    margin_unit="metric", margin_reason="any", says="No smoothing is better.", quote="-", where="-", confidence="S",
)
arms = (Arm(name="base", variants={"smoothing": "own"}), Arm(name="none", variants={"smoothing": "none"}))
ablations.register(
    Ablation(
        name="smoothing",
        title="Smoothing",
        question="Does it help?",
        axis="smoothing",
        arms={"smoke": arms},
        common={"decoder": "mine_1x96"},
        claims=(CLAIM,),
    )
)
'''
