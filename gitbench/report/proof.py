"""The proof that the arms differ in one thing, as the report shows it: a row an arm, and everything in full below.

The proof itself is made and checked by the Run layer before training (`gitbench.study.proof`); nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gitbench.spec import Plan
from gitbench.study.proof import ABSENT, ArmProof, Change, Proof, numbers_in

MOST_KEYS = 3  # config keys that a row of the table shows
_PARTS = ("model.", "optim_wrapper.paramwise_cfg.", "data_spec.")


def is_of(proof: Proof, plan: Plan) -> bool:
    """Tell whether a proof is of the very runs of a plan."""
    proven = [(run["arm"], run["replicate"], run["run_key"]) for run in proof.runs]
    return proven == [(run.arm, run.replicate, run.run_key) for run in plan.runs]


def proof_row(arm: ArmProof) -> dict[str, Any]:
    """Return what the table shows of one arm, and its differences in full (`changes`)."""
    keys = _compact(arm.config)
    return {
        "arm": arm.arm,
        "varied": " and ".join(arm.varied) or "nothing",
        "keys": keys[:MOST_KEYS],
        "more": len(keys) - len(keys[:MOST_KEYS]),
        "tensors": _tensors(arm) or ["the same"],
        "shared": f"{arm.shared:,} of {arm.shared:,} equal",
        "batches": "equal" if arm.batches_equal else f"first {arm.shared_images:,} images equal",
        "changes": [
            (change.what, _plain(change.base), _plain(change.arm))
            for change in (*arm.config, *arm.shapes, *arm.training)
        ],
    }


def _compact(config: Sequence[Change]) -> list[tuple[str, str, str]]:
    """Shorten keys, name each once where all three loaders have it, and leave out the names of variants."""
    found: dict[tuple[str, str, str], None] = {}
    for change in sorted(config, key=lambda change: ABSENT in (change.base, change.arm)):
        if any(other.what.startswith(change.what + ".") for other in config):
            continue  # nothing there, in the place of a whole group
        key = change.what.split("_dataloader.dataset.")[-1]
        for part in _PARTS:
            key = key.removeprefix(part)
        if not key.endswith(".type"):
            found[key, _plain(change.base), _plain(change.arm)] = None
    return list(found)


def _plain(value: str) -> str:
    """Return a config value without quotes, and a path without its folders."""
    value = value.strip("'\"")
    return "…/" + value.rpartition("/")[2] if value.startswith("/") else value


def _by_kind(shapes: Iterable[Change]) -> dict[str, list[Change]]:
    """Return the tensors that are added, removed and reshaped, where there are any."""
    found: dict[str, list[Change]] = {"added": [], "removed": [], "reshaped": []}
    for change in shapes:
        found["added" if change.base == ABSENT else "removed" if change.arm == ABSENT else "reshaped"].append(change)
    return {kind: changes for kind, changes in found.items() if changes}


def _tensors(arm: ArmProof) -> list[str]:
    """Say how the tensors of an arm differ from those of the base."""
    said = [f"{len(own):,} {kind} ({_numbers(own)} numbers)" for kind, own in _by_kind(arm.shapes).items()]
    return said + ([f"{len(arm.training):,} trained otherwise"] if arm.training else [])


def _numbers(changes: Sequence[Change]) -> str:
    """Count the numbers of tensors that are in one arm only; of reshaped ones, before and after."""
    before, after = sum(numbers_in(each.base) for each in changes), sum(numbers_in(each.arm) for each in changes)
    return f"{before:,} → {after:,}" if before and after else f"{before + after:,}"
