"""The command `gitbench probe`: what the image encoder of a captioner sees of scenes, by linear probes."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitbench.commands.options import device_option
from gitbench.errors import GitbenchError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from gitbench.training.probes import Quality

RANDOM = "random values"  # the row of an encoder of the same size that was never trained


def add(commands: Any) -> None:
    """Add the parser of the command."""
    probe = commands.add_parser("probe", help="what the image encoder of a captioner sees: linear probes on scenes")
    probe.add_argument(
        "weights",
        nargs="+",
        type=Path,
        metavar="WEIGHTS",
        help="a finished run's folder, or any checkpoint that `gitbench caption` takes; several are set side by side",
    )
    probe.add_argument("--out", type=Path, metavar="FILE", help="write the shares with their 95 %% intervals, as CSV")
    device_option(probe)
    probe.set_defaults(run=_probe)


def _probe(arguments: argparse.Namespace) -> int:
    from torch import nn

    from gitbench.captioners.shipped import existing_weights
    from gitbench.commands.encoders import table
    from gitbench.encoders.quality import MEASURED
    from gitbench.files import write_text
    from gitbench.models.encoder import ImageEncoder
    from gitbench.models.init import initialise
    from gitbench.training.caption import load_captioner
    from gitbench.training.probes import Quality

    weights = {str(path): existing_weights(path) for path in arguments.weights}
    if len(set(weights.values())) < len(arguments.weights):
        raise GitbenchError("the same weights are named twice: name each once")
    if arguments.out is not None:
        write_text(arguments.out, "")  # before minutes of work
    device, quality = arguments.device or "cpu", functools.cache(Quality)
    head, line = table(
        [*weights, RANDOM], [name for name in MEASURED if name != "retrieval"]
    )  # which needs a text encoder
    print(head)
    found: list[tuple[str, dict[str, np.ndarray]]] = []

    def probed(name: str, encoder: ImageEncoder) -> None:
        right = _right(quality(encoder.spec.image_size), encoder.to(device).eval(), device)
        found.append((name, right))
        print(line(name, {probe: float(each.mean()) for probe, each in right.items()}), flush=True)

    specs = []
    for name, path in weights.items():
        encoder = load_captioner(path).git.encoder
        specs.append(encoder.spec)
        probed(name, encoder)
    for spec in dict.fromkeys(specs):
        encoder = ImageEncoder(spec)
        initialise(nn.ModuleDict({"encoder": encoder}), 0)  # the names of a captioner, which its values follow from
        probed(RANDOM, encoder)
    if arguments.out is not None:
        write_text(arguments.out, _csv(found))
    return 0


def _right(quality: Quality, encoder: nn.Module, device: str) -> dict[str, np.ndarray]:
    """Probe an encoder; see `Quality.right`."""
    from types import SimpleNamespace

    from gitbench.training.caption_model import ImagePreprocessor

    return quality.right(SimpleNamespace(encoder=encoder), ImagePreprocessor().to(device).normalised)


def _csv(found: list[tuple[str, dict[str, np.ndarray]]]) -> str:
    """Return the shares right as CSV, each with the Wilson interval over its test images."""
    import pandas as pd
    from statsmodels.stats.proportion import proportion_confint

    rows = []
    for name, right in found:
        for probe, each in right.items():
            low, high = proportion_confint(int(each.sum()), len(each), method="wilson")
            rows.append({
                "weights": name, "probe": probe, "right": float(each.mean()), "low": low, "high": high, "images": len(each)
            })  # fmt: skip
    return pd.DataFrame(rows).to_csv(index=False, float_format="%.4f")
