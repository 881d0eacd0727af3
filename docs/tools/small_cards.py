"""The tables of "Steps that fit a small card" in docs/gpus.md: what the released models take, and how well that is counted.

    python docs/tools/small_cards.py [--write docs/gpus.md]        (a minute)

Everything is computed, as by `gpus.py`; no GPU has run any of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from cuda_memory import training_peak
from gpus import BERT, config_of
from simulate import table, write_into

from gitbench.errors import GitbenchError
from gitbench.profiles import FINETUNE
from gitbench.study.memory import GIB, fit, peak_bytes, training_bytes, with_allowances

BEGIN = "<!-- made by docs/tools/small_cards.py -->"
TOKENS = 80  # of five captions of COCO, in rows of whole sixteens
CARDS = (8, 12, 16, 24)  # GiB
MODELS = {"GIT-base": ("vit_b16", (224, 384, 480)), "GIT-large": ("vit_l14", (224, 378, 420, 476))}
SHAPES = (  # model, pixels, micro-batch, checkpointing, frozen
    ("GIT-base", 224, 0, False, False),
    ("GIT-base", 224, 0, True, False),
    ("GIT-base", 384, 11, False, False),
    ("GIT-base", 480, 22, True, False),
    ("GIT-base", 480, 16, False, True),
    ("GIT-large", 224, 11, False, False),
    ("GIT-large", 224, 2, True, False),
    ("GIT-large", 420, 16, True, False),
    ("GIT-large", 476, 11, False, False),
)


def config_for(model: str, pixels: int, micro: int = 0, again: bool = False, frozen: bool = False) -> Any:
    """Return the config of fine-tuning a released model at a size of images."""
    names = {"encoder": MODELS[model][0], "decoder": "self_6x768"} | ({"encoder_training": "frozen"} if frozen else {})
    config = config_of(FINETUNE, BERT, **names)
    config["train_dataloader"]["dataset"]["data_spec"]["image_size"] = pixels
    config["compute"].update(micro_batch=micro, checkpointing=again)
    return config


def fitting() -> Iterator[list[str]]:
    """Yield the rows of what fits which card."""
    for model, (_, sizes) in MODELS.items():
        for pixels in sizes:
            config = config_for(model, pixels)
            whole = with_allowances(peak_bytes(config, TOKENS, 2))
            yield [model, str(pixels), f"{whole:.1f}", *(_chosen(config, gib) for gib in CARDS)]


def _chosen(config: Any, gib: float) -> str:
    try:
        micro, again = fit(config, TOKENS, 2, gib)
    except GitbenchError:
        return "no"
    return f"{micro or 'all 64'}{' c' if again else ''}"


def counted() -> Iterator[list[str]]:
    """Yield the rows of how well the formula counts."""
    for model, pixels, micro, again, frozen in SHAPES:
        config = config_for(model, pixels, micro, again, frozen)
        for dtype, b in ((torch.bfloat16, 2), (torch.float32, 4)):
            found, formula = training_peak(config, TOKENS, dtype), training_bytes(config, TOKENS, b)
            words = [f"{micro or 64} images", *["checkpointing"] * again, *["frozen encoder"] * frozen, str(dtype)[6:]]
            yield [
                f"{model} at {pixels}, {', '.join(words)}",
                f"{found / GIB:.2f}",
                f"{formula / GIB:.2f}",
                f"{100 * (formula / found - 1):+.1f} %",
            ]


def main() -> None:
    """Print the tables, or write them into a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this Markdown file")
    given = parser.parse_args()
    fits = table(["model", "pixels", "whole batch, GiB", *(f"{gib} GiB" for gib in CARDS)], list(fitting()))
    text = f"{fits}\n\n{table(['case', 'counted, GiB', 'formula, GiB', 'difference'], list(counted()))}"
    if given.write is None:
        print(text)
    else:
        write_into(given.write, text, BEGIN)


if __name__ == "__main__":
    main()
