"""What the single-difference proof compares of one arm: hashes of its tensors, of its first batches, of its images.

The arm is built from its config as a run builds it, on the CPU, and thrown away: only hashes are kept. Nothing is
trained, and no hook is called, so an encoder that starts from weights, pre-trained or given, still has random values.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from gitbench.data.base import content_hash
from gitbench.models.packed import PackedTexts
from gitbench.registry import MODELS, SCOPE
from gitbench.training.adaptation import plain_name
from gitbench.training.caption_model import CaptionModel
from gitbench.training.data import CaptionData

TRAINING_BATCHES = 2
PIXELS_OF = 500  # images of an amount whose pixels are hashed, evenly spaced: beyond it 224-pixel images take minutes
_GIT = "git."


def fingerprint(config: Mapping[str, Any], amounts: Iterable[int]) -> dict[str, Any]:
    """Build one arm from the plain values of its config and return what is compared of it, as plain values.

    tensors: name -> shape, hash of the initial value, and how it is trained; optimizer: its other settings; vocabulary:
    the tokenizer's fingerprint; dropout_seed; train_images; batches: name -> entry -> shape and hash;
    first_images: count -> hash of the first so many training images, for each of `amounts` and for all.
    """
    config = copy.deepcopy(dict(config))
    with DefaultScope.overwrite_default_scope(SCOPE):
        model = MODELS.build(config["model"])
        optimizer = build_optim_wrapper(model, config["optim_wrapper"]).optimizer
        # without worker processes and pinned memory, on which what a loader yields does not depend; and with pixels
        plain = {"num_workers": 0, "persistent_workers": False, "pin_memory": False}
        loaders = [{**config[f"{split}_dataloader"], **plain} for split in ("train", "test")]
        loaders[0]["dataset"] = {**loaders[0]["dataset"], "pixels": True}
        training, test = map(Runner.build_dataloader, loaders)
    dataset = training.dataset
    assert isinstance(model, CaptionModel) and isinstance(dataset, CaptionData)
    count = len(dataset)
    batches = {f"training batch {n}": batch for n, batch in enumerate(islice(training, TRAINING_BATCHES), start=1)}
    batches["test batch 1"] = next(iter(test))
    return {
        "tensors": _tensors(model, optimizer),
        "optimizer": repr(sorted((key, value) for key, value in optimizer.defaults.items())),
        "vocabulary": dataset.tokenizer.fingerprint(),
        "dropout_seed": config["train_cfg"]["dropout_seed"],
        "train_images": count,
        "batches": {name: {key: _entry(value) for key, value in batch.items()} for name, batch in batches.items()},
        "first_images": {n: first_images(dataset, n) for n in {count, *(min(count, n) for n in amounts)}},
    }


def _tensors(model: CaptionModel, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """Describe every parameter and buffer, under the names that they have in a `GIT`."""
    training = {
        id(parameter): f"learning rate {group['lr']!r} and weight decay {group['weight_decay']!r}"
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    tensors = {name: (tensor, training.get(id(tensor), "no training")) for name, tensor in model.named_parameters()}
    tensors |= {name: (tensor, "no training") for name, tensor in model.named_buffers()}
    return {
        plain_name(name.removeprefix(_GIT)): {
            "shape": list(tensor.shape),
            "hash": tensor_hash(tensor),
            "training": trained,
        }
        for name, (tensor, trained) in tensors.items()
    }


def tensor_hash(tensor: torch.Tensor) -> str:
    """Hash the bits of a tensor and its type: 32 hex digits."""
    digest = hashlib.blake2b(str(tensor.dtype).encode(), digest_size=16)
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _entry(value: Any) -> dict[str, Any]:
    """Describe one entry of a batch: a tensor, packed texts, or a list of ids."""
    if isinstance(value, PackedTexts):
        return {"shape": list(value.visible.shape), "hash": content_hash(map(tensor_hash, value.tensors))}
    if isinstance(value, torch.Tensor):
        return {"shape": list(value.shape), "hash": tensor_hash(value)}
    return {"shape": [len(value)] if isinstance(value, (list, tuple)) else [], "hash": content_hash([repr(value)])}


def first_images(dataset: CaptionData, count: int) -> str:
    """Hash the first images of a split: ids and tokens of all `count`, pixels of at most `PIXELS_OF`, as stored."""
    texts = dataset.encoded
    images = texts.images[: count + 1]
    offsets = texts.captions[: images[-1] + 1]
    arrays = (images, offsets, texts.ids[: offsets[-1]], texts.prefixes[: images[-1]])
    shown = np.unique(np.linspace(0, count - 1, min(count, PIXELS_OF)).astype(int))
    return content_hash(
        [
            *(dataset.source.image_id(index) for index in range(count)),
            *(array.tobytes() for array in arrays),
            *(np.ascontiguousarray(dataset.images[index]).tobytes() for index in shown),
        ]
    )
