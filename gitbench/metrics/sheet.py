"""Captions on their way to a result: the prepared job, and the sheet that the metrics fill in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gitbench import __version__
from gitbench.metrics.base import SCALE, Score, signature, span
from gitbench.metrics.java import java_version
from gitbench.metrics.tokenize import TOKENIZER, library_version

if TYPE_CHECKING:
    from gitbench.data.scenes.graph import SceneGraph


@dataclass(frozen=True, kw_only=True)
class Job:
    """Captions to score, one entry an image, raw and tokenized; `ceiling` names how they came about if as a ceiling."""

    ids: list[str]
    raw: list[str]
    raw_references: list[list[str]]
    predictions: list[str]
    references: list[list[str]]
    graphs: list[SceneGraph] | None
    ceiling: str | None


@dataclass(kw_only=True)
class Sheet:
    """The result while it is being filled."""

    job: Job
    values: dict[str, Score] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, fraction: float, head: str, *, undefined: int = 0, ptb: bool = True, **said: Any) -> None:
        """Add a score under `name`; `head` opens its signature, `ptb` says whether it is made of tokenized captions.

        The library in the signature is the one that defines the score; ours equals it (`metrics.captions`), so that a
        score keeps its signature whichever of the two computes it.
        """
        library = {"lib": f"gitbench-{__version__}"}
        if ptb:
            library = {"lib": library_version(), "tok": TOKENIZER, "java": java_version()}
        made = signature(
            head,
            **said,
            **library,
            n=len(self.job.ids),
            undefined=undefined or None,
            refs=span([len(refs) for refs in self.job.references]),
            ceiling=self.job.ceiling,
        )
        self.values[name] = Score(name=name, value=SCALE * fraction, signature=made)

    def add_mean(self, name: str, fractions: np.ndarray, head: str, **said: Any) -> None:
        """Add a metric that is a mean over images: its column, and a score if it is defined for any image."""
        self.columns[name] = SCALE * fractions
        undefined = int(np.isnan(fractions).sum())
        if undefined < len(fractions):
            self.add(name, float(np.nanmean(fractions)), head, undefined=undefined, **said)
        else:
            self.absent[name] = "it is defined for no image of this set"
