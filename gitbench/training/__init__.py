"""One run: an mmengine config becomes a Runner that trains, captions and stops.

Importing this package fills the registries with every part that a `config.py` names.
"""

from gitbench.training import (  # noqa: F401 - imported for what they register
    caption_model,
    data,
    device,
    distributed,
    early,
    encoder_init,
    evaluation,
    hooks,
    loop,
    optimizer,
    resident,
    start,
    track,
)
