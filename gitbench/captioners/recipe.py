"""How the shipped captioner of scenes is made: the model of the cpu profile, six times as many images as it sees there.

`gitbench pretrain --captioner --ship` trains it as any run (one arm, one seed) and exports it.
"""

from __future__ import annotations

import dataclasses

from gitbench.profiles import CPU
from gitbench.spec import Ablation, Arm

PROFILE = dataclasses.replace(
    CPU,
    data=dataclasses.replace(CPU.data, train_images=38_400),
    text=dataclasses.replace(CPU.text, max_tokens=40),  # room for words that it has to spell
    evaluate=dataclasses.replace(CPU.evaluate, max_length=42),
    train=dataclasses.replace(CPU.train, iterations=2400, warmup=100, val_every=400),
    replicates=1,
    rates=(1.0,),
    run_seconds=6 * CPU.run_seconds,
)
ABLATION = Ablation(
    name="captioner",
    title="Captioner of scenes",
    question="none: its base arm is the captioner that ships",
    axis="decoder",
    arms={CPU.name: (Arm(name="base", variants={"decoder": "self_2x96"}),)},
)
