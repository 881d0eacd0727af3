"""Several claims judged together: Holm's correction within a family, so that one word in it is wrong in at most 5 %.

The family of a claim is its ablation, unless the claim names another. Every claim has two p-values, to support and to
refute it (`gitbench.judge.rules`), and each side is adjusted by itself over all claims of the family (Holm 1979: the
smallest times m, the next times m - 1, ..., never falling): the probability of any false SUPPORTED in a family is at
most 5 %, and so is that of any false REFUTED, whatever the claims have in common.

A claim that is not judged (runs missing, not testable) counts as p = 1. So nothing that arrives later can take a word
back, and leaving claims out of a study's runs buys nothing. A family of one claim is not adjusted at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gitbench.judge.rules import ALPHA
from gitbench.spec import Claim


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a claim's family makes of its two p-values.

    `open_support` and `open_refute` count the claims of the family that are not (yet) supported, and not refuted: the
    divisor that Holm would apply to this one next.
    """

    family: str
    size: int = 1
    support: float
    refute: float
    open_support: int = 1
    open_refute: int = 1


def family_of(claim: Claim, ablation: str) -> str:
    """Return the name of the family that a claim is corrected in."""
    return claim.family or ablation


def members(claim: Claim, claims: Sequence[Claim], ablation: str) -> tuple[Claim, ...]:
    """Return the claims that are corrected together with `claim`; one that the study does not state stands alone."""
    if claim not in claims:
        return (claim,)
    return tuple(each for each in claims if family_of(each, ablation) == family_of(claim, ablation))


def holm(p: ArrayLike) -> np.ndarray:
    """Return Holm's adjusted p-values of families (..., claims), in the given order."""
    given = np.asarray(p, dtype=float)
    order = np.argsort(given, axis=-1)
    steps = np.take_along_axis(given, order, axis=-1) * np.arange(given.shape[-1], 0, -1)
    adjusted = np.empty_like(given)
    np.put_along_axis(adjusted, order, np.minimum(1.0, np.maximum.accumulate(steps, axis=-1)), axis=-1)
    return adjusted


def places(family: str, p: Mapping[str, tuple[float, float] | None]) -> dict[str, Place]:
    """Return claim name -> its place, from the (support, refute) p-values of a whole family; None: it is not judged."""
    pairs = [(1.0, 1.0) if each is None else each for each in p.values()]
    supports, refutes = (holm([pair[side] for pair in pairs]).tolist() for side in (0, 1))
    left = [max(1, sum(each >= ALPHA for each in side)) for side in (supports, refutes)]
    return {
        name: Place(
            family=family, size=len(p), support=support, refute=refute, open_support=left[0], open_refute=left[1]
        )
        for name, support, refute in zip(p, supports, refutes, strict=True)
    }
