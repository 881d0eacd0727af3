"""Where the image encoder's first values come from: random, pre-trained by a recipe, or weights that others trained.

The weights of others are a file, or a name of timm's that its loader fetches from the hub, with the shape of OpenAI's
CLIP: timm's own names, OpenAI's and open_clip's are understood. A position table of another size is resized; layers,
width and patch must be the encoder's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from mmengine.hooks import Hook
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from gitbench.encoders.manifest import load_shipped
from gitbench.encoders.store import is_encoder, read_encoder
from gitbench.errors import GitbenchError, unknown_name
from gitbench.models.checkpoint import check_names, plain_names, read_tensors
from gitbench.models.encoder import ImageEncoder
from gitbench.registry import HOOKS
from gitbench.run_key import PRETRAIN_VERSION
from gitbench.training.distributed import captioner
from gitbench.training.frozen import FrozenEncoder
from gitbench.training.pretrain import Pretraining, pretrained_encoder
from gitbench.variants.encoder import EncoderSpec

SOURCES = ("random", "pretrained", "file")
Progress = Callable[[int, int], None]  # iterations done, of how many


@HOOKS.register_module()
class EncoderInitHook(Hook):
    """Before the first iteration, give the image encoder the values that the model's `encoder_init` asks for.

    A resumed run has them in its checkpoint. Pre-training and what a frozen encoder makes of all images come first, so that
    their time does not count as the run's training. It is in `seconds` and `encode_seconds`: the same for all runs that
    share an encoder, whichever of them made it. `content` is the hash of the pre-trained encoder itself, since the same
    recipe gives others elsewhere.
    """

    priority = "VERY_HIGH"
    progress: Progress | None = None  # of pre-training; set by the process that runs the runner

    def __init__(self, workers: int = 0) -> None:
        self.workers = workers  # data-loading processes of a pre-training
        self.seconds: float | None = None  # None: nothing was pre-trained, or by a version that took no note
        self.encode_seconds = 0.0  # 0: nothing was encoded beforehand
        self.content: str | None = None  # of the pre-trained encoder; None as `seconds`

    def before_train(self, runner) -> None:  # type: ignore[no-untyped-def]
        model = captioner(runner)
        if not runner.iter:
            self._start(model, runner.train_dataloader)
        encoder, vision = model.git.encoder, model.git.vision
        if isinstance(encoder, FrozenEncoder) and not vision.blind and not vision.blur:  # which are other images
            prepare = model.data_preprocessor.normalised
            asked = {runner.train_loop: runner.optim_wrapper.precision, runner.val_loop: "float32"}
            if encoder.pos_embed.device.type == "cpu":  # where other runs reuse it; here the test asks once
                asked[runner.test_loop] = "float32"
            self.encode_seconds = sum(
                encoder.keep(loop.dataloader.dataset, prepare, precision) for loop, precision in asked.items() if loop
            )

    def _start(self, model: Any, loader: Any) -> None:
        init, encoder = model.variants["encoder_init"], model.git.encoder
        if init.source not in SOURCES:
            raise unknown_name("encoder_init source", init.source, SOURCES)
        if init.source == "random":
            return
        if init.source == "file":
            _check_content(init.path, init.content)
            encoder.load_state_dict(encoder_weights(init.path, encoder.spec))
            return
        if init.recipe is None:
            raise GitbenchError("encoder_init has no recipe: choose the variant encoder_init/contrastive")
        if init.content is not None:
            made = load_shipped(init.content)
        elif init.version != PRETRAIN_VERSION:
            raise GitbenchError(
                f"the run was planned with version {init.version} of pre-training, this is {PRETRAIN_VERSION}: use the version "
                "of gitbench that planned it, or plan the study again"
            )
        else:
            progress = self.progress
            made = pretrained_encoder(
                Pretraining(
                    encoder=encoder.spec,
                    recipe=init.recipe,
                    data=loader.dataset.source.data,
                    device=next(encoder.parameters()).device,
                    workers=self.workers,
                    progress=None if progress is None else lambda done, total, loss: progress(done, total),
                )
            )
        encoder.load_state_dict({name: torch.from_numpy(array) for name, array in made.state.items()})
        self.seconds, self.content = made.notes["seconds"], made.content

    def before_save_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
        if self.seconds is not None:
            checkpoint["meta"]["pretrain_seconds"] = self.seconds
            checkpoint["meta"]["encoder_content"] = self.content

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
        self.seconds = checkpoint["meta"].get("pretrain_seconds")
        self.content = checkpoint["meta"].get("encoder_content")


def encoder_weights(source: str | None, spec: EncoderSpec) -> dict[str, Tensor]:
    """Return the state dict of an `ImageEncoder` from a file or a timm name; a classifier or projection is left out.

    Errors: one line for a name that is unknown or cannot be fetched, a file that cannot be read, and weights of another
    shape or with other tensors.
    """
    if not source:
        raise GitbenchError("encoder_init has no path: pass --encoder with a file or a timm name")
    return _fitted(_tensors(source, fetch=True), spec, source, "the encoder")


def check_weights(source: str, arms: Mapping[str, EncoderSpec]) -> None:
    """Refuse what `encoder_weights` would for an arm's encoder (name -> size), before anything is trained or fetched."""
    tensors = _tensors(source, fetch=False)
    for arm, spec in arms.items():
        _fitted(tensors, spec, source, f"arm {arm}")


def shape_of(source: str) -> tuple[int, int, int]:
    """Return layers, width and patch of the ViT whose weights `source` holds; nothing is fetched. Errors: it holds none."""
    if (found := _shape(_tensors(source, fetch=False))) is None:
        raise GitbenchError(f"{source} holds no image encoder: pass a CLIP-shaped ViT")
    return found


def _tensors(source: str, fetch: bool) -> dict[str, Tensor]:
    """Return the tensors of a file, or of a model of timm's: without values (meta) where they are not to be fetched."""
    path = Path(source)
    if not path.is_file():
        return _from_timm(source, fetch)
    if is_encoder(path):
        return {name: torch.from_numpy(array) for name, array in read_encoder(path).state.items()}
    return plain_names(read_tensors(path))


def _fitted(tensors: Mapping[str, Tensor], spec: EncoderSpec, source: str, whose: str) -> dict[str, Tensor]:
    """Return the tensors as the state dict of an encoder of that size; `whose` it is, for errors."""
    if (found := _shape(tensors)) is not None and found != spec.shape:
        (layers, width, patch), needed = found, spec.shape
        raise GitbenchError(
            f"{source} is a {layers} x {width} ViT of {patch}-pixel patches, {whose} needs {needed[0]} x {needed[1]} of "
            f"{needed[2]}-pixel patches: choose weights of that shape"
        )
    model = ImageEncoder(spec)
    own = model.state_dict()
    try:
        fitted = checkpoint_filter_fn(dict(tensors), model)
    except (RuntimeError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        raise GitbenchError(
            f"{source} holds no image encoder ({type(error).__name__}): pass a CLIP-shaped ViT"
        ) from None
    fitted = {name: tensor for name, tensor in fitted.items() if not name.startswith(("head.", "fc_norm."))}
    check_names(fitted, own, f"{source} does not fit {whose}")
    for name, tensor in fitted.items():
        if tensor.shape != own[name].shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(own[name].shape)}"
            raise GitbenchError(f"{source} does not fit {whose} ({name} is {shapes}): choose weights to match")
        if not tensor.is_floating_point() or not (tensor.is_meta or tensor.isfinite().all()):  # meta: not fetched
            kind = "not finite" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")
            raise GitbenchError(
                f"{source}: {name} is {kind}: pass weights in floating point, without infinities and NaN"
            )
    return {name: tensor.float() for name, tensor in fitted.items()}


def _shape(tensors: Mapping[str, Tensor]) -> tuple[int, int, int] | None:
    """Return layers, width and patch of the ViT in these tensors, whichever way they are named; None where there is none."""
    for name, tensor in tensors.items():
        patches = re.fullmatch(r"(.*?)(patch_embed\.proj|conv1)\.weight", name)
        if patches is not None and tensor.ndim == 4:
            block = re.compile(re.escape(patches[1]) + r"(?:transformer\.res)?blocks\.(\d+)\.")
            layers = {found[1] for each in tensors if (found := block.match(each))}
            if layers:
                return len(layers), tensor.shape[0], tensor.shape[-1]
    return None


def _check_content(source: str | None, content: str | None) -> None:
    """Refuse a file that is not the one with which the run was planned."""
    path = Path(source or "")
    if path.is_file() and content is not None:
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != content:
                raise GitbenchError(f"{path} is not the file that the run was planned with: plan the study again")


def _from_timm(name: str, fetch: bool) -> dict[str, Tensor]:
    model, _, tag = name.partition(".")
    if not timm.is_model(model):
        raise GitbenchError(f"encoder weights '{name}': neither an existing file nor a model of timm: correct the name")
    if name not in (known := timm.list_pretrained(f"{model}.*")):
        why = (
            "timm knows no such tag" if tag else "without a tag it stands for other weights in another release of timm"
        )
        raise GitbenchError(f"encoder weights '{name}': {why}: choose one of {', '.join(known) or '(none)'}")
    try:
        with torch.device("cpu" if fetch else "meta"):
            made = timm.create_model(name, pretrained=fetch, num_classes=0)
    except Exception as error:  # no network, no permission: one cure
        raise GitbenchError(
            f"encoder weights '{name}' could not be fetched from the hub ({type(error).__name__}): "
            "download the file and pass its path as --encoder"
        ) from None
    acts = {type(module).__name__ for name, module in made.named_modules() if name.endswith("mlp.act")}
    if acts - {"QuickGELU"}:
        quick = name.replace("_clip_", "_clip_quickgelu_")
        hint = f"choose {quick}" if quick in timm.list_pretrained() else "choose one whose name has quickgelu"
        raise GitbenchError(
            f"encoder weights '{name}': timm runs them with {', '.join(acts)}, GIT's encoder has QuickGELU: {hint}"
        )
    return made.state_dict()
