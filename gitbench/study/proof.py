"""The single-difference proof: every arm of a study differs from its base in its axis and in nothing else.

Each arm, the blind floor too, is compared with the base of the same replicate: the config key by key, the parameters
and how each is trained, the initial value of every tensor that both have, and the first batches. `Axis.touches`
says what an axis may touch; anything else that differs is refused with one line before a run of the study is trained. Arms
with learning rates of their own (`gitbench.study.rates`) are compared with each factor taken out: what is left must be equal,
so a rate that is not the profile's, after the axis, times the arm's own factor is refused. A proof that holds is kept beside
the study and printed in its report. `gitbench.launch.prove` makes what is compared here, which is plain values: this module
needs no torch and no mmengine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.variants import get_axis

PROOF_VERSION = 2  # raise when something else is compared: studies are then proven anew
ABSENT = "absent"
# What decides nothing: names (that of a variant stands in the config beside all of its values), and where the pixels of
# training images come from, which small amounts of data may have on the GPU where large ones do not fit.
IGNORED = (
    "experiment_name",
    "work_dir",
    "variants.*",
    "train_dataloader.dataset.pixels",
    "train_dataloader.num_workers",
)


class SecondDifference(GitbenchError):
    """Two arms differ in something that no axis of theirs may touch; the text says in what."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that differs: a config key or a tensor, and what it is in the base and in the arm, as text."""

    what: str
    base: str
    arm: str


@dataclass(frozen=True, kw_only=True)
class ArmProof:
    """How one arm differs from the base, all of it allowed by its axes, and what was found equal."""

    arm: str
    axes: tuple[str, ...]  # in which it may differ
    varied: tuple[str, ...]  # of these, those in which its config does
    config: tuple[Change, ...]
    shapes: tuple[Change, ...]  # tensors added (absent in the base), removed (absent in the arm) or reshaped
    training: tuple[Change, ...]  # tensors that are trained at another rate, or not at all
    shared: int  # tensors of one name and shape: their initial values are equal bit for bit
    set_by_axis: int  # of these: what the axis sets when training begins; the proof does not wait for that
    train_images: int
    shared_images: int  # the first so many training images are the same in both
    batches_equal: bool  # the first training batches; False only where the amount of data differs
    factor: float = 1.0  # of its own learning rates, taken out before it was compared


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What was proven of a study: its arms, and its runs as the study file lists them."""

    version: int
    study: str
    base: str
    replicates: tuple[int, ...]  # of which tensors and batches were compared; configs are compared of all
    batches: tuple[str, ...]  # those compared
    found: int  # runs that were finished already when this was proven
    arms: tuple[ArmProof, ...]
    runs: tuple[Mapping[str, Any], ...]  # arm, replicate, run_key


# ---- comparing --------------------------------------------------------------------------------------------------


def compare_arm(
    name: str,
    axes: Sequence[str],
    configs: tuple[Mapping[str, Any], Mapping[str, Any]],
    fingerprints: tuple[Mapping[str, Any], Mapping[str, Any]],
) -> ArmProof:
    """Compare the configs and fingerprints (`gitbench.training.fingerprints`) of one replicate, (base, arm) each.

    Raises SecondDifference for whatever no rule of `axes` allows.
    """
    config = compare_configs(*configs, axes)
    tensors = compare_tensors(*fingerprints, axes)
    data = compare_data(*fingerprints, axes)
    varied = tuple(
        axis for axis in axes if any(_among(change.what, get_axis(axis).allowed.config) for change in config)
    )
    return ArmProof(arm=name, axes=tuple(axes), varied=varied, config=config, **tensors, **data)


def compare_configs(base: Mapping[str, Any], arm: Mapping[str, Any], axes: Sequence[str]) -> tuple[Change, ...]:
    """Return the keys in which two configs differ, all of which the axes may touch."""
    allowed = [pattern for axis in axes for pattern in get_axis(axis).allowed.config]
    first, second = dict(_flat(base)), dict(_flat(arm))
    found = []
    for key in {**first, **second}:
        one, other = first.get(key, ABSENT), second.get(key, ABSENT)
        if one == other or _among(key, IGNORED):
            continue
        if _among(key, allowed):
            found.append(Change(what=key, base=one, arm=other))
        elif not _is_variant_name(key, one, other):
            raise SecondDifference(f"{key} is {other}, not {one}")
    return tuple(found)


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted keys of a nested config with their values as text; lists of plain values are one value."""
    if isinstance(value, Mapping) and (value or not key):
        for name, each in value.items():
            yield from _flat(each, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)) and any(isinstance(each, (Mapping, list, tuple)) for each in value):
        for place, each in enumerate(value):
            yield from _flat(each, f"{key}.{place}")
    else:
        yield key, repr(list(value) if isinstance(value, tuple) else value)


def _is_variant_name(key: str, *values: str) -> bool:
    """Tell whether a key of the model names a variant ("decoder/self_2x96"): its values stand beside it."""
    parts = key.split(".")
    return (parts[0], parts[-1], len(parts)) == ("model", "type", 3) and all(f"'{parts[1]}/" in each for each in values)


def compare_tensors(base: Mapping[str, Any], arm: Mapping[str, Any], axes: Sequence[str]) -> dict[str, Any]:
    """Compare two models tensor by tensor: shape, how it is trained, initial value. Returns fields of an `ArmProof`."""
    rules = [get_axis(axis).allowed for axis in axes]
    first, second = base["tensors"], arm["tensors"]
    known = {each["training"] for each in first.values()}
    shapes, training, shared, set_by_axis = [], [], 0, 0
    for name in {**first, **second}:
        one, other = first.get(name), second.get(name)
        shape = Change(what=name, base=_shape(one), arm=_shape(other))
        if shape.base != shape.arm:
            if not _among(name, [pattern for rule in rules for pattern in rule.shapes]):
                raise SecondDifference(f"the tensor {name} has shape {shape.arm}, not {shape.base}")
            free = _among(name, [pattern for rule in rules for pattern in rule.training])
            if other and other["training"] not in known and not free:
                raise SecondDifference(f"the tensor {name} has {other['training']}, which none has there")
            shapes.append(shape)
        if one is None or other is None:
            continue
        if one["training"] != other["training"]:
            if not _among(name, [pattern for rule in rules for pattern in rule.training]):
                raise SecondDifference(f"the tensor {name} has {other['training']}, not {one['training']}")
            training.append(Change(what=name, base=one["training"], arm=other["training"]))
        if shape.base == shape.arm:
            if one["hash"] != other["hash"]:
                raise SecondDifference(f"the tensor {name} has another initial value")
            shared += 1
            set_by_axis += _among(name, [pattern for rule in rules for pattern in rule.values])
    _same(base, arm, "optimizer")
    return dict(shapes=tuple(shapes), training=tuple(training), shared=shared, set_by_axis=set_by_axis)


def compare_data(base: Mapping[str, Any], arm: Mapping[str, Any], axes: Sequence[str]) -> dict[str, Any]:
    """Compare vocabulary, dropout seed and first batches. Returns fields of an `ArmProof`.

    Arms with unequal amounts of data cannot have equal training batches: there the smaller data must be the first
    images of the larger, the same in id, pixels and tokens, in batches of the same number of images and captions.
    """
    _same(base, arm, "vocabulary")
    _same(base, arm, "dropout_seed")
    counts = (base["train_images"], arm["train_images"])
    same_amount = counts[0] == counts[1]
    if not same_amount and not any(get_axis(axis).allowed.amount for axis in axes):
        raise SecondDifference(f"there are {counts[1]} training images, not {counts[0]}")
    for batch, contents in base["batches"].items():
        other = arm["batches"][batch]
        if batch.startswith("training") and not same_amount:
            for name in ("images", "tokens"):  # captions of other images have another length, the last dimension
                if contents[name]["shape"][:2] != other[name]["shape"][:2]:
                    raise SecondDifference(
                        f"{batch} has {name} of shape {other[name]['shape']}, not {contents[name]['shape']}"
                    )
        elif contents != other:
            names = [name for name in {**contents, **other} if contents.get(name) != other.get(name)]
            raise SecondDifference(f"{batch} has other {', '.join(names)}")
    shared = min(counts)
    if base["first_images"][shared] != arm["first_images"][shared]:
        raise SecondDifference(f"the first {shared} training images are others")
    return dict(train_images=counts[1], shared_images=shared, batches_equal=same_amount)


def _same(base: Mapping[str, Any], arm: Mapping[str, Any], part: str) -> None:
    if base[part] != arm[part]:
        raise SecondDifference(f"the {part.replace('_', ' ')} is {arm[part]}, not {base[part]}")


def _shape(tensor: Mapping[str, Any] | None) -> str:
    return ABSENT if tensor is None else json.dumps(list(tensor["shape"]))


def numbers_in(shape: str) -> int:
    """Count the numbers in a tensor whose shape is the text of a `Change`; 0 where it is absent."""
    return 0 if shape == ABSENT else math.prod(json.loads(shape))


def _among(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
