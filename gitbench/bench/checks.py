"""Equal before timed: two programs must give the same results on the very inputs that are timed, in float32.

Training: the logits at every text position, the loss, and the gradient of the first trained parameter, to which all
others contribute. Hugging Face smooths no labels, so the losses are compared with our smoothing set to the peer's; it is
timed as gitbench trains. Versions of it that shift labels twice are compared with one shift (`gitbench.bench.peers`).
Generation: the ids. Two sequences may differ where rounding decides between two texts that are
worth the same: then both are weighed by our model and must be. A failed check is an error and no time is written.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gitbench.bench.ours import Gitbench
from gitbench.bench.program import BOS, Batch, Program
from gitbench.bench.workloads import STEPS
from gitbench.errors import GitbenchError

# Of the largest value: sums of thousands of float32 products in another order, through up to 18 layers.
TOLERANCES = {"logits": 1e-4, "loss": 1e-5, "gradient": 1e-3}
WORTH = 1e-3  # nats of a whole text


def check_training(ours: Gitbench, peer: Program, batch: Batch, frozen: bool = False) -> str:
    """Compare logits, loss and gradient, then take the step. Returns what was found, in words."""
    with torch.no_grad():
        mine, theirs = ours.logits(batch), peer.logits(batch)
    real = batch.texts != 0
    found = [_close("logits", mine[real], theirs[real], peer)]
    smoothing, ours.git.label_smoothing = ours.git.label_smoothing, peer.smoothing
    try:
        losses: list[Tensor] = []
        for side in (ours, peer):
            side.start_training(frozen)
            loss = side.loss(side.inputs(batch))
            loss.backward()
            losses.append(loss.detach())
    finally:
        ours.git.label_smoothing = smoothing
    found.append(_close("loss", losses[0], losses[1], peer))
    gradients = [side.first_weight(frozen).grad for side in (ours, peer)]
    assert gradients[0] is not None and gradients[1] is not None
    found.append(_close("gradient", gradients[0], gradients[1], peer))
    for side in (ours, peer):  # the optimizer's state is made in its first step: that is the warm-up
        side.optimizer.step()
        side.optimizer.zero_grad()
    smoothed = ["without label smoothing in the check"] if peer.smoothing != smoothing else []
    return ", ".join([*found, *smoothed])


def check_texts(ours: Gitbench, peer: Program, images: Tensor, mine: Tensor, theirs: Tensor) -> str:
    """Compare what both wrote about the images (N, L). Returns what was found, in words."""
    written = STEPS - 1  # the official rule weighs the last token and does not write it
    mine, theirs = mine[:, :written], theirs[:, :written]
    if mine.shape != theirs.shape or mine.shape[1] != written:
        raise GitbenchError(
            f"{peer.name} wrote {theirs.shape[1]} tokens and gitbench {mine.shape[1]} where {written} were due: "
            "nothing is timed"
        )
    differ = (mine != theirs).any(1)
    count = int(differ.sum())
    if not count:
        return f"all {len(mine)} texts of {written} tokens equal"
    gap = (_worth(ours, images[differ], mine[differ]) - _worth(ours, images[differ], theirs[differ])).abs().max()
    if gap > WORTH:
        raise GitbenchError(
            f"{peer.name} and gitbench write different texts about {count} of {len(mine)} images, apart by {gap:.2g} "
            "nats: nothing is timed; run the test suite"
        )
    return f"{len(mine) - count} of {len(mine)} texts equal, the others worth the same to {gap:.1g} nats"


@torch.no_grad()
def _worth(ours: Gitbench, images: Tensor, texts: Tensor) -> Tensor:
    """The log-probability of texts (N, L), weighed with the best token behind each as the search does: (N,)."""
    tokens = torch.cat([torch.full_like(texts[:, :1], BOS), texts], dim=1)
    log_p = ours.git.logits(images, tokens).log_softmax(-1)
    said = log_p[:, :-1].gather(-1, tokens[:, 1:, None]).squeeze(-1).sum(1)
    return said + log_p[:, -1].amax(-1)


def _close(what: str, mine: Tensor, theirs: Tensor, peer: Program) -> str:
    gap = ((mine - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12)).item()
    if not gap <= TOLERANCES[what]:
        raise GitbenchError(
            f"the {what} of {peer.name} and gitbench differ by {gap:.2g} of the largest, more than {TOLERANCES[what]:g}: "
            "nothing is timed; run the test suite"
        )
    return f"{what} equal to {gap:.0e}" if gap else f"{what} equal"
