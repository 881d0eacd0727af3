"""Every random draw of a run is a function of named parts: one replicate number gives all its seeds.

Nothing about random state is ever saved: initial values depend on (replicate, tensor), data order and augmentation on
(replicate, sample number), dropout on (replicate, iteration, rank). So a run killed anywhere continues bit-identical.
"""

from __future__ import annotations

import hashlib


def derive_seed(*parts: str | int) -> int:
    """Return a 63-bit seed that is a pure function of its parts, e.g. `derive_seed("dropout", replicate, iteration)`."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
