"""One run: a RunSpec becomes an mmengine config, and the config a Runner that trains, captions and stops.

Importing this package fills the registries: every part that a `config.py` names is registered here.
"""

import sys

if "mmengine.optim" not in sys.modules and "transformers" not in sys.modules:
    # mmengine looks for one optimizer in transformers, whose import takes 0.7 s of every run's start: hide it meanwhile
    sys.modules["transformers"] = None  # type: ignore[assignment]
    try:
        import mmengine.optim  # noqa: F401
    finally:
        del sys.modules["transformers"]

from gitbench.training import (
    compile,
    contrastive,
    data,
    decoder_init,
    encoder_init,
    frozen,
    hooks,
    loop,
    model,
    optimizer,
    schedule,
    vocabulary,
)

__all__ = [
    "compile",
    "contrastive",
    "data",
    "decoder_init",
    "encoder_init",
    "frozen",
    "hooks",
    "loop",
    "model",
    "optimizer",
    "schedule",
    "vocabulary",
]
