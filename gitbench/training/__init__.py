"""One run: a RunSpec becomes an mmengine config, and the config a Runner that trains, captions and stops.

Importing this package fills the registries: every part that a `config.py` names is registered here.
"""

from gitbench.training import (
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
