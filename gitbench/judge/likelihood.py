"""A claim by the test likelihood: what it becomes there. It stands beside the claim in its own metric, co-primary with it.

The likelihood mostly varies less over seeds than CIDEr does (docs/judge.md), but nobody reads it in a caption: so neither
decides for both.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from gitbench.metric_info import quality_sign
from gitbench.metrics.aggregate import LOSS
from gitbench.spec import MARGIN, Claim


def by_likelihood(claim: Claim) -> Claim:
    """Return a claim as one about the loss on the test captions, less of which is better.

    Its margin is the same share of what the base arm learned, in nats. One in points of its own metric means nothing there:
    the common 10 % takes its place. A trend upwards becomes one downwards.
    """
    turned: dict[str, Any] = {}
    if claim.margin_unit == "metric":
        turned = {"margin": MARGIN, "margin_unit": "learned", "margin_reason": ""}
    if claim.kind == "trend" and quality_sign(claim.metric) != quality_sign(LOSS):
        turned["direction"] = "down" if claim.direction == "up" else "up"
    return dataclasses.replace(claim, metric=LOSS, **turned)
