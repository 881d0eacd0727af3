"""Lay a report out as one self-contained HTML page: inline SVG, inline PNG, no request to anywhere.

Its one script sorts tables and opens folded sections; without it nothing is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gitbench.metric_info import lower_is_better
from gitbench.report.figures import curve_splits
from gitbench.report.paper import CONFIDENCE
from gitbench.report.templates import render
from gitbench.report.view import View
from gitbench.study.proof import ABSENT, ArmProof, Change, numbers_in

LOSSES = {"train": "training captions (with label smoothing)", "val": "validation captions"}

_PARTS = ("model.", "optim_wrapper.paramwise_cfg.", "data_spec.")


def page(view: View, figures: Mapping[str, tuple[str, ...]], board: str | None = None) -> str:
    """Return the whole page.

    `figures` maps the names of `build` to SVG, one a figure, or a wide one and one for phones; `board` is the way to the
    claims board, where there is one.
    """
    plan, frame, proof = view.plan, view.frame, view.study.proof
    counts = {row["n"] for row in view.rows if row["n"] is not None}
    signed = frame.dropna(subset=["signature"])
    return render(
        "report.html.j2",
        view=view,
        plan=plan,
        figures=figures,
        board=board,
        floor=any(arm.role == "floor" for arm in plan.arms),
        seeds=counts.pop() if len(counts) == 1 else None,
        runs=_runs(view),
        losses=[LOSSES[split] for split in curve_splits(view)],
        lead=view.answer.partition(":")[0] + ":",  # what stands above several verdicts
        noise={name: view.study.noise_floors[name] for name in view.scores if name in view.study.noise_floors},
        proof=proof,
        proven=view.study.proven,
        compact=_compact,
        tensors=_tensors,
        plain=_plain,
        lower=any(map(lower_is_better, view.scores)),
        machines=[*sorted(set(frame["machine"].dropna()) | set(frame["device"].dropna())), *_precisions(view)],
        confidence=CONFIDENCE,
        replicates=sorted({run.replicate for run in view.study.finished}),
        signatures={metric: sorted(set(rows["signature"])) for metric, rows in signed.groupby("metric", sort=False)},
        pictured=any(sample.image is not None for sample in view.samples),
        scored=any(caption.score is not None for sample in view.samples for caption in sample.captions),
        packages={name[8:]: versions for name, versions in view.provenance.items() if name.startswith("package ")},
    )


def _precisions(view: View) -> list[str]:
    """Say in which precision runs on GPUs were trained, and on how many; nothing of runs on CPUs, which know one precision."""
    specs = [(view.study.record(run.run_key) or {}).get("spec", {}) for run in view.study.finished]
    computes = [spec["compute"] for spec in specs if spec.get("compute")]
    found = {(each["precision"], each.get("world_size", 1)) for each in computes if each["device"] == "cuda"}
    return [
        f"trained in {precision}" + (f", {cards} GPUs a run" if cards > 1 else "") for precision, cards in sorted(found)
    ]


def _runs(view: View) -> list[dict[str, Any]]:
    """Return arm, replicate, run_key and values of each finished run, arm by arm; `first` marks the first of its arm."""
    values: dict[tuple[str, int], dict[str, float]] = {}
    for row in view.frame.dropna(subset=["replicate", "value"]).to_dict("records"):
        values.setdefault((row["arm"], row["replicate"]), {})[row["metric"]] = row["value"]
    found: list[dict[str, Any]] = []
    for arm in view.arms:
        own = sorted((run for run in view.study.finished if run.arm == arm.name), key=lambda run: run.replicate)
        found += [
            {"arm": arm.name, "replicate": run.replicate, "run_key": run.run_key, "first": run is own[0]}
            | {"measured": values.get((run.arm, run.replicate), {})}
            for run in own
        ]
    return found


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
    found: dict[str, list[Change]] = {"added": [], "removed": [], "reshaped": []}
    for change in arm.shapes:
        found["added" if change.base == ABSENT else "removed" if change.arm == ABSENT else "reshaped"].append(change)
    said = [f"{len(own):,} {kind} ({_numbers(own)} numbers)" for kind, own in found.items() if own]
    return said + ([f"{len(arm.training):,} trained otherwise"] if arm.training else [])


def _numbers(changes: Sequence[Change]) -> str:
    """Count the numbers of tensors that are in one arm only; of reshaped ones, before and after."""
    before, after = sum(numbers_in(each.base) for each in changes), sum(numbers_in(each.arm) for each in changes)
    return f"{before:,} → {after:,}" if before and after else f"{before + after:,}"
