"""Chains of hashes: each item carries a hash over itself and the item before it, so none can be edited or dropped unseen."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any


def chained(item: Any, field: str, before: str) -> str:
    """Return the hash over a dataclass in which the hash of the item before stands in the place of its own: 64 hex digits."""
    said = dataclasses.asdict(dataclasses.replace(item, **{field: before}))
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def first_unchained(items: Sequence[Any], field: str) -> int | None:
    """Return the number of the first item, from 1, whose `field` is not what its `chained` gives; None where all are."""
    before = ""
    for number, item in enumerate(items, start=1):
        if getattr(item, field) != item.chained(before):
            return number
        before = getattr(item, field)
    return None
