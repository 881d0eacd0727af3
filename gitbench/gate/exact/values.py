"""Values: what the exact tier takes of the code, under a readable name and with the part that it is about; and their digest.

Three kinds. "equal": texts, ids and counts, which must be the same. "near": numbers in floating point, which may differ by
rounding. "most": a cost, of which only more than in the reference is a finding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from gitbench.gate.exact.constant import noise
from gitbench.gate.exact.faults import of_machine
from gitbench.training.hooks import torch_write_errors

FIRST = 1  # entries of a tensor that stand beside its sums
LEAST_SHARE = 1e-3  # of the largest tensor of a group: the scale of one that is all but zero


@dataclass(frozen=True, kw_only=True)
class Value:
    """One quantity. `value` is plain JSON, of "near" a list of floats.

    `scale`: of "near", what its rounding is relative to. `precision`: the type that it was computed in. `room`: of "most", the
    share by which it may be above the reference.
    """

    name: str
    part: str  # of outcome.PARTS
    kind: Literal["equal", "near", "most"]
    value: Any
    scale: float = 0.0
    precision: str = "float64"
    room: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What raised an error, and which."""

    name: str
    part: str
    error: str


@dataclass(kw_only=True)
class Values:
    """The values taken so far, in order; those that are added belong to the part of the block that adds them."""

    found: list[Value | Failure] = field(default_factory=list)
    part: str = ""

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Let the values that the block adds be about a part."""
        before, self.part = self.part, part
        try:
            yield
        finally:
            self.part = before

    def equal(self, name: str, value: Any) -> None:
        """Add texts, ids or counts: anything that JSON can say."""
        self._add(Value(name=name, part=self.part, kind="equal", value=json.loads(json.dumps(value))))

    def near(self, name: str, numbers: Any, scale: float | None = None, precision: str = "float64") -> None:
        """Add numbers (a tensor, an array, a list or one number); `scale` None: the largest of them."""
        array = numbers.detach().cpu().double().numpy() if isinstance(numbers, Tensor) else np.asarray(numbers, float)
        flat = array.reshape(-1).tolist()
        size = max((abs(one) for one in flat), default=0.0) if scale is None else scale
        size = float(f"{size:.2g}")  # of what is only an order of magnitude
        self._add(Value(name=name, part=self.part, kind="near", value=flat, scale=size, precision=precision))

    def tensor(self, name: str, tensor: Tensor, scale: float = 0.0, precision: str = "float64") -> None:
        """Add what tells a large tensor from another: its sums, plain, of absolute values and weighted, and its first entries.

        The weights are constant and irregular, so that exchanged entries show. `scale`: the least that rounding is relative to.
        """
        told = summary(tensor)
        self.near(name, told, max(told[1], scale), precision)

    def tensors(self, name: str, tensors: Mapping[str, Tensor], precision: str = "float64") -> None:
        """Add a group of tensors by name: one whose values are all but zero is compared on the scale of the largest."""
        least = LEAST_SHARE * max((summary(value)[1] for value in tensors.values()), default=0.0)
        for key, value in tensors.items():
            self.tensor(f"{name}: {key}", value, least, precision)

    def most(self, name: str, number: int, room: float = 0.0) -> None:
        """Add a cost, of which more than a share `room` above the reference is a finding."""
        self._add(Value(name=name, part=self.part, kind="most", value=number, room=room))

    def attempt(self, name: str, part: str, take: Callable[[], None]) -> None:
        """Let `take` add its values; an error of the code is a failure of `name`, and what it added before stands.

        Errors: those of the machine.
        """
        with self.of(part):
            try:
                with torch_write_errors():
                    take()
            except Exception as error:
                if of_machine(error):
                    raise
                text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                self.found.append(Failure(name=name, part=self.part, error=text))

    def _add(self, value: Value) -> None:
        if any(value.name == each.name for each in self.found):
            raise ValueError(f"two values are called {value.name}")
        self.found.append(value)


def gradient(parameter: Tensor) -> Tensor:
    """Return a tensor's gradient, zeros where it has none."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Return the gradients of a model's parameters by name."""
    return {name: gradient(each) for name, each in model.named_parameters()}


def shapes(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return names and shapes of tensors: "head_bias 40"."""
    return [f"{name} {'x'.join(map(str, value.shape))}" for name, value in tensors.items()]


def summary(tensor: Tensor) -> list[float]:
    """Return sum, sum of absolute values, weighted sum, and the first entries of a tensor, in float64."""
    flat = tensor.detach().cpu().double().reshape(-1)
    weights = torch.from_numpy(noise("weights of a sum", (flat.numel(),)))
    return [flat.sum().item(), flat.abs().sum().item(), (flat * weights).sum().item(), *flat[:FIRST].tolist()]


def digest_of(values: Iterable[Value]) -> str:
    """Return a hash of all values but costs, to the last bit of their floats, in whatever order: 64 hex digits."""
    said = {value.name: value.value for value in values if value.kind != "most"}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
