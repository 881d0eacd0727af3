"""The proof that the arms differ in one thing, as the report shows it: a row an arm, and everything in full below.

The proof itself is made and checked by the Run layer before training (`gitbench.study.proof`); nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gitbench.study.proof import ABSENT, ArmProof, Change, Proof, numbers_in
from gitbench.study.records import Study

MOST_KEYS = 3  # config keys that a row of the table shows
_PARTS = ("model.", "optim_wrapper.paramwise_cfg.", "data_spec.")


def proof_view(proof: Proof | None, study: Study) -> dict[str, Any]:
    """Return what the template shows: `missing` (why there is no proof, else ""), `said`, `rows` and `notes`."""
    if proof is None:
        why = "No proof was recorded for this study: its runs were planned before the program compared arms."
        return {"missing": why, "said": "", "rows": [], "notes": []}
    planned = [{"arm": run.arm, "replicate": run.replicate, "run_key": run.run_key} for run in study.runs]
    if planned != list(proof.runs):
        why = "The proof on record is of other runs than these: running the ablation again makes it anew."
        return {"missing": why, "said": "", "rows": [], "notes": []}
    return {"missing": "", "said": _said(proof), "rows": [_row(arm) for arm in proof.arms], "notes": _notes(proof)}


def _said(proof: Proof) -> str:
    """Say in two sentences what was compared."""
    replicates = " and ".join(map(str, proof.replicates))
    plural = "s" if len(proof.replicates) > 1 else ""
    training = sum(name.startswith("training") for name in proof.batches)
    start = "Every" if proof.found else "Before anything was trained, every"
    return (
        f"{start} arm was built and compared with {proof.base} in replicate{plural} "
        f"{replicates}: the config key by key, the parameters and how each is trained, the initial value of every tensor "
        f"that both have, the vocabulary, the dropout seed, the first {training} training batches and the first test "
        "batch. All that differs is listed here and belongs to the axis of its arm; any other difference would have "
        "stopped the study."
    )


def _notes(proof: Proof) -> list[str]:
    notes = []
    if proof.found:
        runs = len({run["run_key"] for run in proof.runs})
        notes.append(
            f"{proof.found} of the {runs} runs were there already when this was proven: they are known by their run "
            "keys, which hash all that decides a result."
        )
    if any(not arm.batches_equal for arm in proof.arms):
        notes.append(
            "Arms with unequal amounts of data have other training batches, of the same number of images and captions: "
            "there the smaller data were found to be the first images of the larger, with the same ids and tokens, and "
            "the same pixels in up to 500 images spaced evenly over them."
        )
    for arm in proof.arms:
        if arm.set_by_axis:
            notes.append(
                f"{arm.arm}: {arm.set_by_axis} of the {arm.shared} tensors are equal only until training begins, when "
                f"{' and '.join(arm.axes)} sets them; the proof does not wait for that."
            )
    return notes


def _row(arm: ArmProof) -> dict[str, Any]:
    keys = _compact(arm.config)
    return {
        "arm": arm.arm,
        "varied": " and ".join(arm.varied) or "nothing",
        "keys": keys[:MOST_KEYS],
        "more": len(keys) - len(keys[:MOST_KEYS]),
        "tensors": _tensors(arm) or ["the same"],
        "shared": f"{arm.shared:,} of {arm.shared:,} equal",
        "batches": "equal" if arm.batches_equal else f"first {arm.shared_images:,} images equal",
        "config": [(change.what, _plain(change.base), _plain(change.arm)) for change in arm.config],
        "groups": [*_grouped(arm.shapes), *_trained(arm.training)],
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


def _tensors(arm: ArmProof) -> list[str]:
    """Say how the tensors of an arm differ from those of the base."""
    added = [change for change in arm.shapes if change.base == ABSENT]
    removed = [change for change in arm.shapes if change.arm == ABSENT]
    reshaped = [change for change in arm.shapes if ABSENT not in (change.base, change.arm)]
    said = [
        f"{len(changes):,} {word} ({_numbers(changes)} numbers)"
        for word, changes in (("added", added), ("removed", removed), ("reshaped", reshaped))
        if changes
    ]
    return said + ([f"{len(arm.training):,} trained otherwise"] if arm.training else [])


def _numbers(changes: Sequence[Change]) -> str:
    """Count the numbers of tensors that are in one arm only; of reshaped ones, before and after."""
    before, after = (
        sum(map(numbers_in, side)) for side in zip(*((each.base, each.arm) for each in changes), strict=True)
    )
    return f"{before:,} → {after:,}" if before and after else f"{before + after:,}"


def _grouped(shapes: Iterable[Change]) -> list[str]:
    """Sum tensors up by layer: one line for each layer and kind of change."""
    groups: dict[tuple[str, str], list[Change]] = {}
    for change in shapes:
        kind = "added" if change.base == ABSENT else "removed" if change.arm == ABSENT else "reshaped"
        groups.setdefault((_layer(change.what), kind), []).append(change)
    return [
        f"{layer}: {_count(len(changes))} {kind} ({_numbers(changes)} numbers)"
        for (layer, kind), changes in groups.items()
    ]


def _trained(training: Iterable[Change]) -> list[str]:
    groups: dict[tuple[str, str, str], int] = {}
    for change in training:
        key = (change.what.partition(".")[0], change.base, change.arm)
        groups[key] = groups.get(key, 0) + 1
    return [f"{part}: {_count(count)}, {base} → {arm}" for (part, base, arm), count in groups.items()]


def _count(tensors: int) -> str:
    return "1 tensor" if tensors == 1 else f"{tensors:,} tensors"


def _layer(name: str) -> str:
    """Return the layer that a tensor belongs to: "decoder.layers.2", or "embedding" outside of numbered layers."""
    parts = name.split(".")
    numbered = [place for place, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbered[0] + 1]) if numbered else parts[0]
