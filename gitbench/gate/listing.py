"""The tiers of the gate, cheapest first. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from gitbench.errors import GitbenchError, lookup


@dataclass(frozen=True, kw_only=True)
class Tier:
    """One tier: what it does in a line, its module, and the seconds after which it is stopped."""

    name: str
    doc: str
    limit: float
    has_reference: bool = True

    @property
    def module(self) -> str:
        """The module that does it."""
        return f"gitbench.gate.{self.name}"


TIERS = (
    Tier(name="exact", doc="values of tiny models, and of all around them, against stored ones", limit=120),
    Tier(name="trajectory", doc="the losses of short trainings against a band", limit=240),
    Tier(name="quality", doc="scores of models that see, seed by seed, against reference seeds", limit=900),
    Tier(name="speed", doc="this code and the base revision in turns: time and memory", limit=400, has_reference=False),
)
BY_NAME = {tier.name: tier for tier in TIERS}


def chosen(names: str | None) -> tuple[Tier, ...]:
    """Return the tiers that are named, separated by commas, in their order; None: all. Errors: GitbenchError."""
    if names is None:
        return TIERS
    wanted = {lookup("tier", name.strip(), BY_NAME).name for name in names.split(",") if name.strip()}
    if not wanted:
        raise GitbenchError(f"--tiers names none: use some of {', '.join(BY_NAME)}")
    return tuple(tier for tier in TIERS if tier.name in wanted)
