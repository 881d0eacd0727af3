"""Where the image encoder's first values come from: random, pre-trained by a recipe, or weights that others trained.

The weights of others are a file, or a name of timm's that its loader fetches from the hub, with the shape of OpenAI's
CLIP: timm's own names, OpenAI's and open_clip's are understood. A position table of another size is resized.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
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
from gitbench.models.checkpoint import check_names, read_tensors
from gitbench.models.encoder import ImageEncoder
from gitbench.registry import HOOKS
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
    share an encoder, whichever of them made it.
    """

    priority = "VERY_HIGH"
    progress: Progress | None = None  # of pre-training; set by the process that runs the runner

    def __init__(self) -> None:
        self.seconds: float | None = None  # None: nothing was pre-trained, or by a version that took no note
        self.encode_seconds = 0.0  # 0: nothing was encoded beforehand

    def before_train(self, runner) -> None:  # type: ignore[no-untyped-def]
        if not runner.iter:
            self._start(runner.model, runner.train_dataloader)
        encoder, vision = runner.model.git.encoder, runner.model.git.vision
        if isinstance(encoder, FrozenEncoder) and not vision.blind and not vision.blur:  # which are other images
            loops = (runner.train_loop, runner.val_loop, runner.test_loop)

            def prepare(images: Tensor) -> Tensor:
                return runner.model.data_preprocessor({"images": images})["images"]

            self.encode_seconds = sum(encoder.keep(loop.dataloader.dataset, prepare) for loop in loops if loop)

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
        else:
            progress = self.progress
            made = pretrained_encoder(
                Pretraining(
                    encoder=encoder.spec,
                    recipe=init.recipe,
                    data=loader.dataset.source.data,
                    device=next(encoder.parameters()).device,
                    workers=loader.num_workers,
                    progress=None if progress is None else lambda done, total, loss: progress(done, total),
                )
            )
        encoder.load_state_dict({name: torch.from_numpy(array) for name, array in made.state.items()})
        self.seconds = made.notes["seconds"]

    def before_save_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
        if self.seconds is not None:
            checkpoint["meta"]["pretrain_seconds"] = self.seconds

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
        self.seconds = checkpoint["meta"].get("pretrain_seconds")


def encoder_weights(source: str | None, spec: EncoderSpec) -> dict[str, Tensor]:
    """Return the state dict of an `ImageEncoder` from a file or a timm name; a classifier or projection is left out.

    Errors: one line for a name that is unknown or cannot be fetched, a file that cannot be read, and weights of another
    shape, with the tensors that do not fit.
    """
    if not source:
        raise GitbenchError("encoder_init has no path: pass --encoder with a file or a timm name")
    path = Path(source)
    if path.is_file() and is_encoder(path):
        found = {name: torch.from_numpy(array) for name, array in read_encoder(path).state.items()}
    else:
        found = read_tensors(path) if path.is_file() else _from_timm(source)
    model = ImageEncoder(spec)
    own = model.state_dict()
    try:
        fitted = checkpoint_filter_fn(found, model)
    except (RuntimeError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        raise GitbenchError(
            f"{source} holds no image encoder ({type(error).__name__}): pass a CLIP-shaped ViT"
        ) from None
    fitted = {name: tensor for name, tensor in fitted.items() if not name.startswith(("head.", "fc_norm."))}
    check_names(fitted, own, f"{source} does not fit the encoder")
    for name, tensor in fitted.items():
        if tensor.shape != own[name].shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(own[name].shape)}"
            raise GitbenchError(f"{source} does not fit the encoder ({name} is {shapes}): choose weights to match")
    return {name: tensor.float() for name, tensor in fitted.items()}


def _check_content(source: str | None, content: str | None) -> None:
    """Refuse a file that is not the one with which the run was planned."""
    path = Path(source or "")
    if path.is_file() and content is not None:
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != content:
                raise GitbenchError(f"{path} is not the file that the run was planned with: plan the study again")


def _from_timm(name: str) -> dict[str, Tensor]:
    if not timm.is_model(name.partition(".")[0]):
        raise GitbenchError(f"encoder weights '{name}': neither an existing file nor a model of timm: correct the name")
    try:
        return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    except Exception as error:  # no network, no such tag, no permission: one cure
        raise GitbenchError(
            f"encoder weights '{name}' could not be fetched from the hub ({type(error).__name__}): "
            "download the file and pass its path as --encoder"
        ) from None
