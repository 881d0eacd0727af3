"""What a gate is about and where it runs: a subject (which model, on what data), a device, folders. No torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The model that is gated: variants (axis -> name) beside the base's, its task and data. The default is GIT's base."""

    variants: Mapping[str, str] = field(default_factory=dict)
    task: str = "caption"
    data: str | None = None  # None: the embedded world's, as the task has it

    @property
    def usual(self) -> bool:
        """Whether it is what gitbench itself is gated by."""
        return self == Subject()

    @property
    def name(self) -> str:
        """Its folder in a reference: "git", or what it differs in."""
        if self.usual:
            return "git"
        said = [f"{axis}={name}" for axis, name in sorted(self.variants.items())]
        said += [f"task={self.task}"] if self.task != "caption" else []
        said += [f"data={self.data}"] if self.data else []
        text = "+".join(said)
        plain = re.sub(r"[^A-Za-z0-9._=+-]+", "-", text)
        return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a tier is told. `folder` is its own, kept where a check is stopped and started again."""

    folder: str
    subject: Subject = Subject()
    device: Literal["cpu", "cuda"] = "cpu"
    jobs: int = 1  # processes that may compute at once
    base: str | None = None  # the revision that `speed` compares with
    seconds: float = 600.0  # until its time limit
