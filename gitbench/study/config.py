"""RunSpec -> mmengine Config: an ordinary text config that names its variants and holds every value in full.

No torch here: the planner writes `config.py` files before any run starts. `Runner.from_cfg(Config.fromfile(...,
lazy_import=False)).train()` trains the same run again, into a work_dir of its own.
"""

from __future__ import annotations

import dataclasses
import math
from pprint import pformat
from typing import Any

from mmengine.config import Config

from gitbench import plugins
from gitbench.compute import ROW_MULTIPLE
from gitbench.data import SPLITS
from gitbench.errors import GitbenchError
from gitbench.plan import Vocabulary
from gitbench.run_key import typed_fields
from gitbench.seeding import derive_seed
from gitbench.spec import DataSpec, RunSpec, TaskSpec, TextSpec
from gitbench.tasks import TASKS
from gitbench.variants import AXES

_SPECS = {"data_spec": DataSpec, "text_spec": TextSpec, "task": TaskSpec}  # of a data set's config
# What planning decides, or a run's folder does.
_DECIDED: tuple[str, ...] = (
    "work_dir",
    "experiment_name",
    "default_scope",
    "custom_imports",
    "variants",
    "compute",
    "optim_wrapper.precision",
    "launcher",
    "model_wrapper_cfg",
    "resume",
    "load_from",
)
_DECIDED += tuple(
    f"model.{name}" for name in ("vocab_size", "pad_id", "bos_id", "eos_id", "num_frames", "encoder_init", "start")
)
_COUNTS = (
    "batch_size",
    "max_iters",
    "val_interval",
    "interval",
    "beam_size",
    "max_length",
    "captions_per_image",
    "layers",
)
RESIDENT_LIMIT = 2 * 2**30  # bytes of training images that a run keeps on its GPU (`gitbench.training.resident`)
_LEAST = {"num_workers": 0, **dict.fromkeys(_COUNTS, 1)}


def make_config(spec: RunSpec, vocabulary: Vocabulary, key: str) -> Config:
    """Return the complete mmengine config of a run, `cfg_options` applied.

    Errors: an option that names no existing key gives a GitbenchError with the keys that are there.
    """
    train, on_gpu = spec.train, spec.compute.device == "cuda"
    config = Config(
        dict(
            default_scope="gitbench",
            custom_imports=dict(imports=["gitbench.training", *plugins.modules()], allow_failed_imports=False),
            experiment_name=key,
            variants={axis: name for axis, name in spec.variant_names.items() if not AXES[axis].in_model},
            work_dir=f"work_dirs/again/{key}",
            compute=dataclasses.asdict(spec.compute),
            model=_model(spec, vocabulary),
            train_dataloader=_loader(spec, "train"),
            val_dataloader=_loader(spec, "val"),
            train_cfg=dict(
                type="CountedTrainLoop",
                max_iters=train.iterations,
                val_interval=train.val_every or max(1, train.iterations),
                dropout_seed=_seed("dropout", spec),
                **({"validates_first": True} if _has_checkpoint(spec) or not train.iterations else {}),
            ),
            val_cfg=dict(type="ValLoop"),
            val_evaluator=dict(type="PerImage", name="val_nll"),
            test_dataloader=None if spec.tuning else _loader(spec, "test"),
            test_cfg=None if spec.tuning else dict(type="TestLoop"),
            test_evaluator=None if spec.tuning else dict(type="PerImage", name="test_nll"),
            optim_wrapper=dict(
                type="DeviceOptimWrapper",
                constructor="EncoderDecoderOptim",
                precision=spec.compute.precision,
                optimizer=dict(type="AdamW", betas=train.betas, weight_decay=train.weight_decay),
                paramwise_cfg=dict(lr_encoder=train.lr_encoder, lr_decoder=train.lr_decoder),
                clip_grad=dict(max_norm=train.clip_grad),
            ),
            param_scheduler=[
                dict(type="WarmupCosineLR", warmup=train.warmup, total=train.iterations, by_epoch=False)
                | ({} if train.iterations else {"end": 1})  # mmengine wants one
            ],
            default_hooks=dict(
                timer=dict(type="IterTimerHook"),
                logger=dict(type="LoggerHook", interval=max(1, train.iterations // 20), log_metric_by_epoch=False),
                param_scheduler=dict(type="ParamSchedulerHook"),
                checkpoint=dict(type="AtomicCheckpointHook", seconds=train.checkpoint_every),
                sampler_seed=None,
                runtime_info=dict(type="RuntimeInfoHook"),
            ),
            custom_hooks=[
                dict(type="StartHook"),
                dict(type="EncoderInitHook", **({"workers": spec.data.workers} if spec.data.workers else {})),
                dict(type="DecoderInitHook"),
                *([dict(type="ClosedVocabularyHook")] if TASKS[spec.task.name].closed else []),
                *([dict(type="ResidentImagesHook")] if on_gpu else []),
                *([dict(type="EarlyLookHook", images=train.looks)] if train.looks else []),
                dict(type="CurveHook", interval=max(1, train.iterations // 200)),
                dict(type="ComputeHook"),
            ],
            log_processor=dict(type="PlainLogProcessor", by_epoch=False, window_size=10),
            env_cfg=dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0)),
            randomness=dict(seed=_seed("global", spec) % 2**32, deterministic=on_gpu),
            launcher="pytorch" if spec.compute.world_size > 1 else "none",  # of torchrun
            model_wrapper_cfg=dict(type="gitbench.SharedModel") if spec.compute.world_size > 1 else None,
            resume=False,
            load_from=None,
        )
    )
    apply_options(config, dict(spec.cfg_options))
    return config


def _has_checkpoint(spec: RunSpec) -> bool:
    """Tell whether a run starts from a checkpoint, so that its likelihood before the first iteration means something."""
    start = spec.variants.get("start")
    return start is not None and start.source == "checkpoint"


def share_of_batch(spec: RunSpec) -> int:
    """Return how many images of a training batch each process of a run takes. Errors: they cannot be shared out evenly."""
    images, world = spec.train.batch_images, spec.compute.world_size
    if images % world:
        able = [each for each in range(2, images + 1) if images % each == 0]
        raise GitbenchError(
            f"--gpus-per-run {world}: a batch of {images} images cannot be shared out evenly: use "
            f"{', '.join(map(str, able))} or leave it out"
        )
    if spec.compute.micro_batch >= images:
        raise GitbenchError(
            f"--micro-batch {spec.compute.micro_batch}: a step has {images} images: use fewer, or leave it out"
        )
    return images // world


def _seed(purpose: str, spec: RunSpec) -> int:
    """Return the seed of a run for one purpose: of its replicate, and of its study's root where it has one."""
    parts = (spec.seed_root, spec.replicate) if spec.seed_root else (spec.replicate,)
    return derive_seed(purpose, *parts)


def config_text(config: Config) -> str:
    """Return a config as the Python text of `config.py`; mmengine's own `pretty_text` spends seconds on its layout."""
    return "".join(f"{key} = {pformat(value)}\n" for key, value in sorted(config.to_dict().items()))


def apply_options(config: Config, options: dict[str, Any]) -> None:
    """Apply `--cfg-options` to a config in place.

    Errors: GitbenchError for a key that does not exist (a typing error, most likely), or a value that cannot stand there.
    """
    for dotted, value in options.items():
        if dotted.startswith(_DECIDED):
            raise GitbenchError(
                f"--cfg-options {dotted}: planning decides it, and it cannot be overridden: leave it out"
            )
        node: Any = config._cfg_dict
        parts = dotted.split(".")
        for part in parts:
            if isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
                node = node[int(part)]
            elif isinstance(node, dict) and part in node:
                node = node[part]
            else:
                there = ", ".join(sorted(node)) if isinstance(node, dict) else f"a {type(node).__name__}"
                raise GitbenchError(f"--cfg-options {dotted}: '{part}' is not there; there is: {there}")
        if value is None and not {*AXES, *_SPECS}.isdisjoint(parts):
            continue  # fields of specs say by their types whether they may be None
        if wanted := _wanted(node, value, least=_LEAST.get(parts[-1])):
            raise GitbenchError(f"--cfg-options {dotted}={value}: its value is {wanted} ({node!r} now): pass one")
    config.merge_from_dict(options)
    if options:
        _check_specs(config)


def _wanted(now: Any, value: Any, least: int | None = None) -> str | None:
    """Say what kind of value a key wants, where `value` is of another; None where it may stand there."""
    if least is not None and type(value) is int and value < least:
        return f"{least} or more"
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    kinds = (
        (bool, (bool,), "True or False"),
        (int, (int,), "a whole number"),
        (float, (int, float), "a number"),
        (str, (str,), "a text"),
        ((list, tuple), (list, tuple), "a list"),
        (dict, (dict,), "a part of the config, of which keys can be set"),
    )
    wanted, allowed = next(((words, fitting) for kind, fitting, words in kinds if isinstance(now, kind)), ("", None))
    if allowed is None:
        return None
    fits: bool = isinstance(value, allowed) and not (isinstance(value, bool) and bool not in allowed)
    if not fits:
        return wanted
    if isinstance(now, (list, tuple)) and any(_wanted(one, its) for one, its in zip(now, value, strict=False)):
        return f"a list as {list(now)}"
    return None


def _check_specs(config: Config) -> None:
    """Read the specs that stand in a config as the run will. Errors: GitbenchError for values that are none of theirs."""
    for axis in AXES.values():
        if values := dict(config.model.get(axis.name, {})):
            axis.build(values.pop("type").partition("/")[2], **values)
    for split in SPLITS:
        for name, spec in _SPECS.items():
            try:
                typed_fields(spec, config[f"{split}_dataloader"]["dataset"][name])
            except (TypeError, ValueError) as error:
                raise GitbenchError(
                    f"{split}_dataloader.dataset.{name}: {error}: give a value as its type says"
                ) from None


def _model(spec: RunSpec, vocabulary: Vocabulary) -> dict[str, Any]:
    axes = {
        axis: dict(type=f"{axis}/{spec.variant_names[axis]}", **dataclasses.asdict(value))
        for axis, value in spec.variants.items()
        if AXES[axis].in_model
    }
    own = dict(
        type="CaptionModel",
        vocab_size=vocabulary.size,
        pad_id=vocabulary.pad_id,
        bos_id=vocabulary.bos_id,
        eos_id=vocabulary.eos_id,
        label_smoothing=spec.train.label_smoothing,
        init_seed=_seed("init", spec),
        generation=dict(
            beam_size=spec.evaluate.beam_size,
            length_penalty=spec.evaluate.length_penalty,
            max_length=spec.evaluate.max_length,
        ),
        data_preprocessor=dict(type="ImagePreprocessor"),
        num_frames=spec.task.frames,
    )
    if taken := sorted(axes.keys() & own.keys()):
        raise GitbenchError(
            f"the model's config has a '{taken[0]}' of its own: give the axis another name, or in_model=False"
        )
    return own | axes


def resident_bytes(spec: RunSpec) -> int:
    """Return the most bytes of training images that a run keeps on its GPU; 0 where they come from the host.

    Those of random crops do, whole splits of unknown size, and more than the limit.
    """
    data = spec.data
    if spec.compute.device == "cpu" or data.crop_scale or data.train_images is None:
        return 0
    needed = data.train_images * max(1, spec.task.frames) * 3 * data.image_size**2
    return needed if needed <= RESIDENT_LIMIT else 0


def _loader(spec: RunSpec, split: str) -> dict[str, Any]:
    """Return a loader's config; its batch size is that of each process."""
    training, on_gpu = split == "train", spec.compute.device == "cuda"
    resident = training and resident_bytes(spec) > 0
    images = share_of_batch(spec) if training else spec.evaluate.batch_images
    in_order = dict(type="BatchesInOrder", batch=images)
    return dict(
        batch_size=images,
        num_workers=spec.data.workers if training and not resident else 0,
        persistent_workers=False,
        drop_last=False,
        sampler=dict(type="CountedSampler") if training else in_order,
        dataset=dict(
            type="CaptionData",
            data=spec.data_name,
            split=split,
            data_spec={k: v for k, v in dataclasses.asdict(spec.data).items() if k != "workers"},
            text_spec=dataclasses.asdict(spec.text),
            task=dataclasses.asdict(spec.task),
            seed=_seed("data", spec),
            captions_per_image=spec.train.captions_per_image if training else None,
            **({"pixels": False} if resident else {}),
        ),
        pin_memory=on_gpu,  # copies of pinned batches run beside the computation
        collate_fn=dict(
            type="gitbench.caption_collate",
            multiple=ROW_MULTIPLE if on_gpu else 1,
            **({"everywhere": True} if on_gpu and training else {}),
        ),
    )
