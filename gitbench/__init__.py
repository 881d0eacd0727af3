"""gitbench: a reproducible benchmarking and ablation suite for GIT, the Generative Image-to-text Transformer.

Layers that talk through frozen values and files: Define (`spec`, `variants`, `profiles`, `ablations/`), Study (`study`),
Run (`launch`, `training`, `models`, `data`, `metrics`), Judge (`judge`) and Show (`report`).
Only Run imports torch; the two names below that need more than the standard library are loaded on first use.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["build_model", "load_frame"]


def __getattr__(name: str) -> Any:
    if name == "build_model":
        from gitbench.models import build_model

        return build_model
    if name == "load_frame":
        from gitbench.study.find import load_frame

        return load_frame
    raise AttributeError(f"module 'gitbench' has no attribute '{name}'")
