"""One pre-trained encoder as one safetensors file, small enough to ship: 8 bits a weight, and notes on how it was made.

The weights of layers (two or four dimensions) are whole numbers from -127 to 127 with one float32 scale an output, so
each is off by at most half a scale; everything else (norms, biases, class token, positions) stays float32. What is
measured of an encoder is measured on what is stored. The content of a file is the hash of its tensors: notes, such as the
seconds it took, are no part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gitbench.errors import GitbenchError
from gitbench.files import atomic_path

FORMAT = "gitbench-encoder-1"
STEPS = 127  # whole numbers on either side of 0
_SCALE = ".scale"  # what the name of the scales ends in

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class StoredEncoder:
    """What a file holds: the state dict of an `ImageEncoder` as float32 arrays, notes (JSON), and the content's hash."""

    state: dict[str, np.ndarray]
    notes: dict[str, Any]
    content: str


def quantised(state: Tensors) -> dict[str, np.ndarray]:
    """Return the tensors of a file: int8 weights with their scales, the rest as float32."""
    packed: dict[str, np.ndarray] = {}
    for name, value in state.items():
        tensor = np.ascontiguousarray(value, dtype=np.float32)
        if tensor.ndim not in (2, 4):
            packed[name] = tensor
            continue
        rows = tensor.reshape(len(tensor), -1)
        scale = (np.abs(rows).max(1) / STEPS).astype(np.float32)
        steps = np.rint(rows / np.where(scale > 0, scale, 1)[:, None])
        packed[name] = steps.astype(np.int8).reshape(tensor.shape)
        packed[name + _SCALE] = scale
    return packed


def restored(packed: Tensors) -> dict[str, np.ndarray]:
    """Return the state dict that the tensors of a file stand for, float32."""
    state = {}
    for name, tensor in packed.items():
        if tensor.dtype == np.int8:
            scale = packed[name + _SCALE]
            state[name] = tensor.astype(np.float32) * scale.reshape(-1, *[1] * (tensor.ndim - 1))
        elif not name.endswith(_SCALE):
            state[name] = tensor
    return state


def content_of(packed: Tensors) -> str:
    """Hash the tensors of a file: sha256, 64 hex digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(packed.items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
        digest.update(np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()


def write_encoder(path: Path, state: Tensors, notes: Mapping[str, Any]) -> str:
    """Write an encoder's state dict with notes, atomically; returns the hash of its content."""
    from safetensors.numpy import save

    packed = quantised(state)
    content = content_of(packed)
    metadata = {"format": FORMAT, "content": content, "notes": json.dumps(notes, allow_nan=False)}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(packed, metadata))
    return content


def is_encoder(path: Path) -> bool:
    """Tell whether a file, if it is whole, is one that `write_encoder` wrote."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError, ValueError):
        return False


def read_encoder(path: Path, content: str | None = None) -> StoredEncoder:
    """Read an encoder file; `content` is the hash that it must have.

    Errors: one line for a file that is missing, damaged, something else, or another encoder than the one asked for.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise GitbenchError(f"{path} does not exist: make it with `gitbench pretrain`")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            packed = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if metadata.get("format") != FORMAT:
            raise GitbenchError(f"{path} is no encoder of gitbench: pass a file that `gitbench pretrain` wrote")
        found, state, notes = content_of(packed), restored(packed), json.loads(metadata["notes"])
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise GitbenchError(f"{path} is damaged ({type(error).__name__}): delete it and make it again") from None
    if found != metadata.get("content"):
        raise GitbenchError(f"{path} is damaged (its weights are not those that were written): make it again")
    if content is not None and found != content:
        raise GitbenchError(f"{path} holds another encoder than the one asked for: install the version that made it")
    return StoredEncoder(state=state, notes=notes, content=found)
