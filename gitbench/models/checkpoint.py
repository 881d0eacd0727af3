"""Checkpoint files: which one a path means, the tensors in it, and whose they are.

Three programs leave GIT weights, and their files differ in name, nesting and tensor names:

* gitbench: a run folder's `model.pth`, tensors under `state_dict`;
* official: `snapshot/model.pt` in the folder of a released model, tensors under `model` or bare, some with `module.`;
* Hugging Face: what `save_pretrained` writes, `model.safetensors` (also in shards) or `pytorch_model.bin`.

How a file is read is decided by its first bytes, and whose tensors they are by their names. Pickled code is never run.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from gitbench.captioners.shipped import existing_weights
from gitbench.errors import GitbenchError

GITBENCH, OFFICIAL, HUGGINGFACE = "gitbench", "official", "huggingface"
# Any one of these names tells the format; what else is missing is then named by the conversion.
_MARKS = {
    GITBENCH: ("encoder.cls_token", "embedding.words.weight"),
    OFFICIAL: ("image_encoder.conv1.weight", "textual.embedding.words.weight"),
    HUGGINGFACE: (
        "git.embeddings.word_embeddings.weight",
        "git.image_encoder.vision_model.embeddings.patch_embedding.weight",
    ),
}
# Files of a folder that hold its weights; where there is none, any other of PyTorch's.
_PLACES = ("model.pth", "model*.safetensors", "pytorch_model*.bin", "snapshot/model.pt", "model.pt")
_OTHERS = ("*.pt", "*.pth")
_SHARD = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<ending>\.\w+)")
_SHOWN = 3  # names in an error


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take `module.` (a wrapper's trace) off the front of every name. Errors: a tensor that is there with and without it."""
    plain = {name: re.sub(r"^(module\.)+", "", name) for name in state}
    if len(set(plain.values())) < len(plain):
        twice = next(name for name in plain if name != plain[name] and plain[name] in plain)
        raise GitbenchError(f"these weights hold {plain[twice]} and {twice}: delete one of them")
    return {plain[name]: value for name, value in state.items()}


def format_of(state: Mapping[str, Tensor]) -> str:
    """Tell whose tensors these are, by name: "gitbench", "official" or "huggingface"; anything else is an error."""
    names = plain_names(state)
    for kind, marks in _MARKS.items():
        if any(mark in names for mark in marks):
            return kind
    shown = _listed(sorted(names))
    raise GitbenchError(
        f"these {len(names)} tensors ({shown}) are no GIT of gitbench, of the official code or of Hugging Face: pass "
        "the checkpoint of one of these"
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def check_names(names: Iterable[str], expected: Iterable[str], problem: str, optional: str | None = None) -> None:
    """Raise an error that begins with `problem` and lists the missing and unexpected names, if there are any."""
    names, expected = set(names), set(expected)
    missing, unexpected = sorted(expected - names), sorted(names - expected - {optional})
    lists = (("missing", missing), ("unexpected", unexpected))
    found = [f"{len(wrong)} {word} ({_listed(wrong)})" for word, wrong in lists if wrong]
    if found:
        raise GitbenchError(f"{problem}: {'; '.join(found)}; check which model the file belongs to")


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Refuse weights with which nothing can be computed. Errors: GitbenchError that names the first such tensor."""
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise GitbenchError(f"{name} holds infinities or NaN: pass another checkpoint")


def checkpoint_files(path: Path) -> list[Path]:
    """Return the files that hold a checkpoint's weights: the file itself, or those of a folder in a known layout.

    A captioner that ships is named by its name alone, where nothing else lies under it.
    Errors: GitbenchError for what does not exist, a folder with the weights of none or of more than one, and a set that lacks a
    shard.
    """
    path = existing_weights(path)
    if path.is_file():
        return [path]
    found = _checkpoints_in(path, _PLACES) or _checkpoints_in(path, _OTHERS)
    if len(found) > 1:
        names = ", ".join(str(files[0].relative_to(path)) for files in found)
        raise GitbenchError(
            f"{path} holds {len(found)} checkpoints ({names}): pass the file that is meant, or move the others away"
        )
    if found:
        return found[0]
    raise GitbenchError(
        f"{path} holds no weights (no model.pth of a finished run, model.safetensors, pytorch_model.bin or .pt file): "
        "pass a folder or file that does"
    )


def _checkpoints_in(folder: Path, patterns: Iterable[str]) -> list[list[Path]]:
    """Return the files of each checkpoint in a folder; the shards of a set are one. Errors: a set that lacks a shard."""
    found: dict[str, list[Path]] = {}
    for file in (file for pattern in patterns for file in sorted(folder.glob(pattern)) if file.is_file()):
        shard = _SHARD.fullmatch(file.name)
        name = "{name}-of-{count}{ending}".format(**shard.groupdict()) if shard else str(file.relative_to(folder))
        found.setdefault(name, []).append(file)
    for files in found.values():
        shard = _SHARD.fullmatch(files[0].name)
        if shard and len(files) < (count := int(shard["count"])):
            there = ", ".join(file.name for file in files)
            raise GitbenchError(
                f"{folder} holds {len(files)} of the {count} files of its weights ({there}): download it again, whole"
            )
    return list(found.values())


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], Path]:
    """Read all tensors of a folder or file, and say which (first) file they are from. Errors: a tensor in two files."""
    files = checkpoint_files(path)
    state: dict[str, Tensor] = {}
    for file in files:
        found = read_tensors(file)
        if both := sorted(state.keys() & found.keys()):
            raise GitbenchError(
                f"{path} holds {both[0]} in {file.name} and in another file of its weights: save it again"
            )
        state |= found
    return state, files[0]


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read the tensors of one safetensors or PyTorch file, by its content; no pickled code is run.

    A PyTorch file may hold them bare, or under `model` or `state_dict` beside other things, which are left out.
    """
    from safetensors.torch import load_file

    try:
        with open(file, "rb") as handle:
            start = handle.read(9)
        if start[8:] == b"{":  # 8 bytes of length, then a JSON header; neither a zip nor a pickle has a brace there
            return load_file(file)
        if start.startswith((b"PK", b"\x80")):  # a zip of torch.save, or the bare pickle of its early versions
            # of a zip the tensors stay in the file until they are used
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", UserWarning
                )  # of the pickle's protocol: what cannot be read is an error
                payload = torch.load(file, "cpu", weights_only=True, mmap=start.startswith(b"PK"))
        else:
            raise ValueError
    except Exception as error:  # each format has its own family of errors
        code = re.search(r"Unsupported global: GLOBAL ([\w.]+)", str(error))
        why = f"it holds Python objects, {code[1]}" if code else type(error).__name__
        why = "neither a safetensors nor a PyTorch file" if type(error) is ValueError else why
        fix = "save its tensors alone, as a dict" if code else "download it again or pass another file"
        raise GitbenchError(f"{file} cannot be read as weights ({why}): {fix}") from error
    outer = payload if isinstance(payload, Mapping) else {}
    for state in (
        outer.get("model"),
        outer.get("state_dict"),
        outer,
    ):  # beside either may stand tensors, of a step or a scale
        if isinstance(state, Mapping):
            tensors = {str(name): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
            if tensors:
                return tensors
    raise GitbenchError(f"{file} holds no tensors under their names: pass a checkpoint with a state dict")
