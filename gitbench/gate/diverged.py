"""A training whose loss is no number any more: a finding, whatever the tier that trains. No torch."""

from __future__ import annotations

import re

from gitbench.errors import GitbenchError
from gitbench.gate.outcome import BEYOND, Finding, Measured

_SAID = re.compile(r"the \w+ loss is (\S+) in iteration \d+")  # of `training.hooks.Diverged`


def diverged(error: GitbenchError) -> Measured | None:
    """Return what is found where a training failed because its loss was no number; None where it failed otherwise.

    The advice of the error, lower rates, is left out: with these rates the reference did train.
    """
    if (said := _SAID.search(str(error))) is None:
        return None
    finding = Finding(
        quantity="training",
        part="optimizer",
        value=f"loss {said.group(1)}",
        reference="a finite loss",
        excess=BEYOND,
        said=str(error)[: said.end()],
    )
    return Measured(compared=1, did="a training diverged", findings=(finding,))
