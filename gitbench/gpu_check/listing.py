"""The checks in their order, and the time that each may take. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gitbench.errors import GitbenchError, unknown_name

BUDGET = 480.0  # seconds of all checks: what each may take is an estimate for an H100, which no card has checked


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check: a module with a function `check(setting, report)`.

    `seconds`: its share of `BUDGET`. `needs_card`: there is nothing in it that a CPU could do. `judges`: something is asked in
    it; a check that only measures does not fail the proof when its time is over.
    """

    name: str
    doc: str
    seconds: float
    needs_card: bool = False
    judges: bool = True
    within: str = "gitbench.gpu_check.checks"  # the package of its module, which has its name

    @property
    def module(self) -> str:
        """The module's full name."""
        return f"{self.within}.{self.name}" if self.within else self.name


CHECKS = (
    Check(name="card", doc="versions, the card, its rates; images for what follows", seconds=40),
    Check(name="attention", doc="which attention is used, and what a new length of texts costs", seconds=30, needs_card=True),
    Check(name="repeat", doc="20 steps twice: the same bits, no error in strict mode", seconds=45),
    Check(name="agree", doc="GPU against CPU: logits, loss, gradients, beams", seconds=25, needs_card=True),
    Check(name="resume", doc="a run of 300 steps, and the same killed in the middle; memory", seconds=60),
    Check(name="arms", doc="steps per second, calls and busy share of every arm; padding", seconds=45),
    Check(name="compile", doc="steps per second with torch.compile", seconds=30, needs_card=True, judges=False),
    Check(name="graph", doc="CUDA graphs: the bits of plain steps, steps per second", seconds=25, needs_card=True),
    Check(name="sharing", doc="1, 2, 4, 8 processes on the card, with and without MPS", seconds=65),
    Check(name="waiting", doc="how often the host waits for the card", seconds=20, needs_card=True),
    Check(name="peers", doc="Hugging Face's GIT in bf16, GIT-base; share of the matrix rate", seconds=50),
    Check(name="uuid", doc="a worker that is given its card by uuid", seconds=20, needs_card=True),
    Check(name="ddp", doc="a run on two cards against one", seconds=25),
)  # fmt: skip


def chosen(names: Sequence[str] | None) -> tuple[Check, ...]:
    """Return the checks of these names, in their order; all for None. Errors: GitbenchError for an unknown name, and none."""
    known = {check.name: check for check in CHECKS}
    if names is not None and not names:
        raise GitbenchError("--only names no check: name some (--list tells them), or leave it out to run all")
    for name in names or ():
        if name not in known:
            raise unknown_name("check", name, known)
    return tuple(check for check in CHECKS if names is None or check.name in names)


def deadlines(checks: Sequence[Check], budget: float) -> list[float]:
    """Return the seconds after the start by which each check must have ended: what one leaves over, the next ones have."""
    ends, spent = [], 0.0
    for check in checks:
        spent += check.seconds * budget / BUDGET
        ends.append(spent)
    return ends
