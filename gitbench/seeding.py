"""Every random draw of a run is a function of named parts: what its study claims and plans, and one replicate number.

All seeds of a run derive from the root of its study (`gitbench.study.lock.seed_root`) and the replicate. So other claims,
arms, sizes or numbers of seeds give other, independent runs, and the arms of one study share initial values and data order.
Below, "replicate" stands for the two.

Nothing about random state is ever saved: initial values depend on (replicate, tensor), data order and augmentation on
(replicate, sample number), dropout on (replicate, iteration, rank). So a run killed anywhere continues bit-identical.
"""

from __future__ import annotations

import hashlib


def derive_seed(*parts: object) -> int:
    """Return a 64-bit seed that is a pure function of its parts, e.g. `derive_seed("dropout", replicate, iteration)`.

    The parts are hashed with BLAKE2 because Python's own `hash` differs between processes.
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
