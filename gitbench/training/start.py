"""A checkpoint as the start of runs: its facts for planning, and its weights when training begins.

The sizes are the checkpoint's, with three exceptions. A position table for images of another size is resized, as the model itself
would do at run time, so that it computes the same; temporal embeddings are the first ones, or zeros where there are more frames;
and photographs are squares, turned upright, whatever the checkpoint was shown before (the notes of the facts say so).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from mmengine.hooks import Hook
from torch import Tensor

from gitbench.data.cache import cached
from gitbench.data.image_processor import ImageProcessor, square_processor
from gitbench.data.wordpiece import CaptionTokenizer
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir
from gitbench.models.encoder import resized
from gitbench.models.flops import flops_by_part
from gitbench.models.git import GIT
from gitbench.registry import HOOKS
from gitbench.training.adaptation import load_plain
from gitbench.training.caption import load_captioner
from gitbench.training.distributed import captioner
from gitbench.variants.start import Checkpoint
from gitbench.variants.vision import VisionSpec

POSITIONS = "encoder.pos_embed"


def described(weights: Path, tokenizer: str | None = None) -> Checkpoint:
    """Return the facts of a checkpoint of any layout; `tokenizer` (hub name, folder or file) replaces its own.

    Errors: one line for what `load_captioner` refuses, for a model that was trained without sight, and for photographs that
    are not prepared as they are here.
    """
    found = load_captioner(weights, tokenizer)
    git, words = found.git, found.tokenizer
    if git.vision != VisionSpec():
        raise GitbenchError(
            f"{weights} was trained on images that it did not see ({git.vision}): start from another one"
        )
    size, notes = square_of(found.rule, weights)
    path = cache_dir() / "tokenizers" / f"start-{words.fingerprint()[:20]}.json"
    cached(path, lambda temporary: words.save(temporary), CaptionTokenizer.load)
    return Checkpoint(
        path=str(weights.resolve() if weights.exists() else weights),  # else a name that is looked up again
        content=content_of(git),
        encoder=git.encoder.spec,
        decoder=git.decoder.spec,
        tied=git.head_weight is None,
        frames=git.num_frames,
        tokenizer=str(path.resolve()),
        vocab_size=words.vocab_size,
        image_size=size,
        flops=sum(flops_by_part(git).values()),
        notes=notes,
    )


def content_of(git: GIT) -> str:
    """Return a hash of a model's tensors, by name: 32 hex digits. It is the same in any layout, and on any device."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(git.state_dict().items()):
        array = np.ascontiguousarray(tensor.detach().cpu().float().numpy())
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def square_of(rule: ImageProcessor, weights: Path) -> tuple[int, tuple[str, ...]]:
    """Return the side of the squares that stand for a checkpoint's photographs, and what is different then.

    Errors: GitbenchError for pixels that are normalised otherwise, which no training here can do.
    """
    side = rule.crop[0] if rule.crop else rule.size if isinstance(rule.size, int) else rule.size[0] if rule.size else 0
    square = square_processor(side or 1)
    if not side or (rule.mean, rule.std, rule.resample) != (square.mean, square.std, square.resample):
        raise GitbenchError(
            f"{weights} normalises or resizes photographs otherwise than CLIP, and training cannot: give a copy of it CLIP's "
            "mean, standard deviation and bicubic resizing (preprocessor_config.json), which training adapts it to"
        )
    if (rule.size, rule.crop) == (square.size, square.crop):
        return side, ()
    return side, (f"photographs are cut to squares of {side} pixels, which the checkpoint prepares otherwise",)


@HOOKS.register_module()
class StartHook(Hook):
    """Before the first iteration, give the model the weights of its checkpoint, where it has one; a resumed run has its own.

    It comes before what begins with the encoder's weights. Errors: GitbenchError for a file that is not there any more, or
    holds other weights than the run was planned with.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner) -> None:  # type: ignore[no-untyped-def]
        model = captioner(runner)
        start = model.variants.get("start")
        if start is None or start.source == "nothing" or runner.iter:
            return
        found = load_captioner(Path(start.path), runner.train_dataloader.dataset.text_spec.tokenizer).git
        if content_of(found) != start.content:
            raise GitbenchError(
                f"{start.path} is not the checkpoint that the run was planned with: plan the study again"
            )
        load_plain(model.git, fitted(found, model.git))


def fitted(found: GIT, model: GIT) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint for a model that differs from it in image size and number of frames alone."""
    state = found.state_dict()
    theirs, ours = found.encoder.patch_embed.grid_size, model.encoder.patch_embed.grid_size
    if theirs != ours:
        table = state[POSITIONS]
        rest = resized(table[:, 1:].transpose(1, 2).reshape(1, -1, *theirs), ours).flatten(2).transpose(1, 2)
        state[POSITIONS] = torch.cat([table[:, :1], rest], dim=1)
    temporal = state.pop("temporal", None)
    if model.temporal is not None:
        kept = torch.zeros_like(model.temporal, device="cpu")
        if temporal is not None:
            frames = min(len(kept), len(temporal))
            kept[:frames] = temporal[:frames]
        state["temporal"] = kept
    return state
