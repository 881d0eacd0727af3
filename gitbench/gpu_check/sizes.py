"""The runs that are checked: on a card those of the gpu profile, on a CPU those of the smoke profile; no torch.

Their encoders start from random values, so that nothing has to be pre-trained, and there are a few images where the profile
has thousands: neither changes what a step computes.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmengine.config import Config

from gitbench.ablations import load_ablation
from gitbench.compute import compute_for
from gitbench.data.tasks import open_task
from gitbench.data.tokenizer import tokenizer_for
from gitbench.files import write_text
from gitbench.plan import Vocabulary
from gitbench.profiles import GPU, SMOKE
from gitbench.run_folder import RunFolder
from gitbench.spec import Compute, Profile, RunSpec, TaskSpec
from gitbench.study.config import config_text, make_config
from gitbench.variants import AXES

STUDY = "decoder_size"  # whose arms are timed
CROSS = {"gpu": "cross_6x384", "smoke": "cross_2x64"}  # the base arm with the other kind of attention


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where a check runs: the device, and the folder of the proof."""

    device: Literal["cuda", "cpu"]
    folder: str

    @property
    def on_card(self) -> bool:
        """Whether this is a proof, and not the test of it on a CPU."""
        return self.device == "cuda"

    @property
    def profile(self) -> Profile:
        """The sizes of the runs."""
        if self.on_card:
            data = dataclasses.replace(GPU.data, train_images=1280, val_images=64, test_images=256)
            return dataclasses.replace(GPU, on_scenes={}, data=data)
        data = dataclasses.replace(SMOKE.data, train_images=32, val_images=8, test_images=8)
        return dataclasses.replace(SMOKE, on_scenes={}, data=data)

    @property
    def compute(self) -> Compute:
        """What the runs compute on, and in which precision."""
        return compute_for(self.profile, self.device)

    def path(self, *names: str) -> Path:
        """Return a path in the folder of the proof."""
        return Path(self.folder, *names)


def showing(card: str) -> dict[str, str]:
    """Return the environment in which a process sees one card, by its uuid or the beginning of it, as in a place of a launch."""
    return {"CUDA_VISIBLE_DEVICES": card, "PYTORCH_NVML_BASED_CUDA_CHECK": "0"}


def arms(setting: Setting) -> dict[str, dict[str, str]]:
    """Return arm -> its variants (axis -> name), of the study whose arms are timed, and the blind one."""
    of_profile = load_ablation(STUDY).arms[setting.profile.name]
    return {arm.name: dict(arm.variants) for arm in of_profile} | {"blind": {"vision": "blind"}}


def config_of(
    setting: Setting, variants: dict[str, str] | None = None, compute: Compute | None = None, **train: Any
) -> Config:
    """Return the config of a run of the base arm with other variants (axis -> name); `train` replaces fields of its recipe.

    `compute`: where it is not the setting's.
    """
    spec = base_spec(setting.profile, variants or {})
    recipe = dataclasses.replace(spec.train, **train)
    spec = dataclasses.replace(spec, train=recipe, compute=compute or setting.compute)
    return make_config(spec, _vocabulary(setting), "gpu-check")


def base_spec(profile: Profile, variants: Mapping[str, str]) -> RunSpec:
    """Return what a run of a profile's base arm is, on the CPU, with other variants (axis -> name)."""
    names = {axis.name: axis.default for axis in AXES.values() if axis.in_model and axis.default is not None}
    names |= {**profile.variants, **variants}
    return RunSpec(
        variants={axis: AXES[axis].resolve(name) for axis, name in names.items()},
        data=profile.data,
        text=profile.text,
        train=profile.train,
        evaluate=profile.evaluate,
        replicate=0,
        variant_names=names,
    )


@functools.cache
def _vocabulary(setting: Setting) -> Vocabulary:
    """Return the vocabulary of the runs, trained on the captions of their images."""
    sizes = setting.profile
    words = tokenizer_for(sizes.text, open_task("scenes", "train", sizes.data.train_images, TaskSpec()))
    return Vocabulary(size=words.vocab_size, pad_id=words.pad_id, bos_id=words.bos_id, eos_id=words.eos_id)


def write_run(folder: Path, config: Config) -> RunFolder:
    """Write a run that a worker can execute; return its folder."""
    run = RunFolder(folder)
    write_text(run.config, config_text(config))
    return run
