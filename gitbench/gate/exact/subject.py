"""A run in small: planned as any run is, with its config, batches and model, which is given constant weights in float64."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from gitbench.gate.exact.constant import fill
from gitbench.gate.setting import Setting, Subject
from gitbench.metrics.meteor import Meteor
from gitbench.profiles import SMOKE
from gitbench.registry import MODELS
from gitbench.spec import Ablation, Arm, Compute, EvaluateSpec, TextSpec, TrainSpec
from gitbench.study.config import make_config
from gitbench.study.plan import make_plan
from gitbench.tasks import get_task
from gitbench.training.caption_model import CaptionModel
from gitbench.training.data import CaptionData
from gitbench.training.optimizer import DeviceOptimWrapper
from gitbench.training.resident import copied
from gitbench.training.run import PlainRunner

# Three batches an epoch, three of an image's five captions at a time, a schedule from its warm-up to its end. No value is a
# default of what it is handed to, so that one that gets lost shows.
PROFILE = dataclasses.replace(
    SMOKE,
    on_scenes={},
    data=dataclasses.replace(SMOKE.data, train_images=12, val_images=4, test_images=5),
    text=TextSpec(vocab_size=160, max_tokens=24),
    train=TrainSpec(
        iterations=10,
        batch_images=4,
        captions_per_image=3,
        lr_encoder=4e-4,
        lr_decoder=2e-3,
        warmup=3,
        weight_decay=0.02,
        betas=(0.85, 0.98),
        clip_grad=0.5,
        label_smoothing=0.15,
        val_every=4,
    ),
    evaluate=EvaluateSpec(beam_size=3, length_penalty=0.8, max_length=12, batch_images=3),
    replicates=2,
    frames=3,
)
SIZE = 0.25  # of its weights


class Small:
    """A subject's runs of two replicates: `configs`, and of the first one batches and model."""

    def __init__(self, subject: Subject, device: str) -> None:
        init_default_scope("gitbench")
        self.subject, self.device = subject, device
        ablation = Ablation(
            name="gate",
            title="Gate",
            question="Does it compute what it did?",
            axis="decoder",
            arms={PROFILE.name: (Arm(name="base", variants=dict(subject.variants)),)},
        )
        self.plan = make_plan(
            ablation,
            PROFILE,
            subject.data or get_task(subject.task).data,
            task_name=subject.task,
            compute=Compute(device=device),  # type: ignore[arg-type]
        )
        self.runs = [run for run in self.plan.runs if run.arm == "base"]
        self.configs = [make_config(run.resolved, self.plan.vocabulary, run.run_key) for run in self.runs]
        self.config = self.configs[0]

    @cached_property
    def loaders(self) -> dict[str, Any]:
        """The loaders of train, val and test."""
        return {
            split: PlainRunner.build_dataloader(self.config[f"{split}_dataloader"])
            for split in ("train", "val", "test")
        }

    def data(self, split: str) -> CaptionData:
        return self.loaders[split].dataset

    def batches(self, split: str, count: int) -> list[dict[str, Any]]:
        """Return the first batches of a split."""
        return list(islice(self.loaders[split], count))

    def model(self) -> CaptionModel:
        """Return the model with constant weights, in eval mode and float64."""
        model: CaptionModel = MODELS.build(self.config.model)
        model.to(self.device).double().eval()
        fill(model.git, SIZE)
        train = self.data("train")
        if not train.pixels:  # on a GPU
            model.data_preprocessor.resident = {train.image_set: copied(train.images, torch.device(self.device))}
        return model

    def optimizer(self, model: CaptionModel) -> DeviceOptimWrapper:
        """Return the optimizer wrapper of a model, as a runner builds it."""
        return build_optim_wrapper(model, self.config.optim_wrapper)


@dataclasses.dataclass(kw_only=True)
class Place:
    """Where the tier computes: its setting, its folder, METEOR's process, and the small runs that were planned so far."""

    setting: Setting
    folder: Path
    meteor: Meteor = dataclasses.field(default_factory=Meteor)
    planned: dict[str, Small] = dataclasses.field(default_factory=dict)

    @property
    def device(self) -> str:
        return self.setting.device

    def small(self, task: str = "caption", variants: Mapping[str, str] | None = None, data: str | None = None) -> Small:
        """Return the small run of a subject, planned once."""
        subject = Subject(task=task, variants=variants or {}, data=data)
        if subject.name not in self.planned:
            self.planned[subject.name] = Small(subject, self.device)
        return self.planned[subject.name]

    @property
    def subject(self) -> Small:
        """The small run of the subject that the setting names."""
        own = self.setting.subject
        return self.small(own.task, own.variants, own.data)
