"""The short trainings of the tier `trajectory`: what is trained, and what makes one round otherwise. No torch.

Sizes are the cpu profile's with few images, so that a few steps hold several epochs, a warm-up, the whole cosine, clipped
gradients and dropout. Between them the usual trainings go through both decoders, a frozen encoder, captions, questions, films
and read text, random crops, and encoders that start from three places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gitbench.compute import compute_for
from gitbench.gate.setting import Subject
from gitbench.plan import Plan, PlannedRun
from gitbench.profiles import CPU
from gitbench.spec import Ablation, Arm, Profile
from gitbench.study.plan import make_plan
from gitbench.tasks import TASKS

ASKED, OBSERVED = "asked.json", "observed.json"  # what processes of trainings are asked, and what they saw of one
DROPOUT = {"model.decoder.dropout": 0.1}  # the small decoders have none
# Of an encoder that does not ship: enough of a pre-training to go through its code.
PRETRAINING = {"images": 64, "iterations": 4, "batch_images": 8, "warmup": 1}


@dataclass(frozen=True, kw_only=True)
class Training:
    """One short training. `resumed`: it is also begun again from the middle, as if it had been stopped there."""

    name: str
    variants: Mapping[str, str] = field(default_factory=dict)  # axis -> name, beside the cpu profile's
    task: str = "caption"
    data: str | None = None  # None: the task's own
    replicate: int = 0
    crops: bool = False
    resumed: bool = False
    steps: int = 48
    images: int = 144

    @property
    def middle(self) -> int:
        """The step after which it is validated, and stopped where it is to be begun again."""
        return self.steps // 2


USUAL = (
    Training(name="base", resumed=True),
    Training(name="cross", variants={"decoder": "cross_2x96", "encoder_training": "frozen"}, replicate=1),
    Training(name="vqa", task="vqa", variants={"encoder_init": "masked"}),
    Training(name="video", task="video", replicate=1),
    Training(name="read", task="read", variants={"encoder_init": "random"}, crops=True),
)


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """What makes a training round otherwise: a seed that moves its first weights, what its libraries are told."""

    name: str
    nudge: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


NONE = Disturbance(name="undisturbed")
NUDGES = 8
# Older processors, as far as this one can play them: torch's own kernels, oneDNN's, MKL's, numpy's.
PROCESSORS = (
    Disturbance(
        name="sse",
        environment={
            "ATEN_CPU_CAPABILITY": "default",
            "ONEDNN_MAX_CPU_ISA": "SSE41",
            "MKL_CBWR": "COMPATIBLE",
            "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
        },
    ),
    Disturbance(
        name="avx2", environment={"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}
    ),
    Disturbance(name="avx2-torch", environment={"ATEN_CPU_CAPABILITY": "avx2"}),
)


def disturbances(device: str) -> tuple[Disturbance, ...]:
    """Return how the trainings of a reference are repeated, to see how far rounding moves them."""
    nudges = tuple(Disturbance(name=f"nudge-{seed}", nudge=seed) for seed in range(1, NUDGES + 1))
    return (*PROCESSORS, *nudges) if device == "cpu" else nudges


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a process of trainings is asked for. `said`: training -> what a reference holds of its captions, to be scored."""

    trainings: tuple[Training, ...]
    disturbance: Disturbance = NONE
    device: Literal["cpu", "cuda"] = "cpu"
    said: Mapping[str, Any] = field(default_factory=dict)


def trainings_of(subject: Subject) -> tuple[Training, ...]:
    """Return what is trained for a subject: several for the usual one, any other alone."""
    if subject.usual:
        return USUAL
    own = Training(
        name=subject.name, variants=dict(subject.variants), task=subject.task, data=subject.data, resumed=True
    )
    return (own,)


def profile_of(training: Training, pretraining: bool = True) -> Profile:
    """Return the cpu profile, cut down; without `pretraining` also its recipe of an encoder."""
    data = dataclasses.replace(
        CPU.data,
        train_images=training.images,
        val_images=max(2, training.images // 9),
        test_images=max(2, training.images // 6),
        crop_scale=(0.6, 1.0) if training.crops else None,
    )
    recipe = dataclasses.replace(
        CPU.train,
        iterations=training.steps,
        batch_images=min(8, training.images),
        warmup=training.steps // 8,
        val_every=training.middle,
        checkpoint_every=1e9,  # seconds: one is made when it is asked for
    )
    shorter = CPU.pretraining if pretraining else dataclasses.replace(CPU.pretraining, **PRETRAINING)  # type: ignore[arg-type]
    return dataclasses.replace(
        CPU,
        data=data,
        train=recipe,
        evaluate=dataclasses.replace(CPU.evaluate, batch_images=16),
        pretraining=shorter,
        frames=2,
        rates=(1.0,),
    )


def planned(training: Training, device: str) -> tuple[Plan, PlannedRun]:
    """Plan a training as a study is; returns the plan and its run. Errors: GitbenchError as planning has them."""
    plan, run = _planned(training, profile_of(training), device)
    init = run.resolved.variants.get("encoder_init")
    if init is not None and init.source == "pretrained" and init.content is None:  # none ships: minutes
        return _planned(training, profile_of(training, pretraining=False), device)
    return plan, run


def _planned(training: Training, profile: Profile, device: str) -> tuple[Plan, PlannedRun]:
    ablation = Ablation(
        name="gate",
        title="The regression gate",
        question="Does it train as it did?",
        axis="decoder",
        arms={profile.name: (Arm(name="base", variants={}),)},
        common=training.variants,
    )
    plan = make_plan(
        ablation,
        profile,
        training.data or TASKS[training.task].data,
        task_name=training.task,
        replicates=training.replicate + 1,
        cfg_options=DROPOUT,
        compute=compute_for(profile, device),
    )
    return plan, next(run for run in plan.runs if (run.arm, run.replicate) == ("base", training.replicate))
