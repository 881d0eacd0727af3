"""How many runs share a card, and whether as processes or as stacks: chosen by measuring, once for a machine and an arm.

A small run cannot fill a GPU. Two ways to use what it leaves: several processes on the card, or several replicates
stacked in one process (`training/stacked.py`). Which wins, and at how many, depends on the card and on the arm's size,
so the plan's base arm is trained for a moment in each way that the card's memory allows, and the way with the most
replicate steps a second is taken. Rates are kept in the cache, under everything that they depend on.

On a CPU a run has one core and its products fill it, so that there one process per core is taken unmeasured
(`docs/speed.md` has the numbers); `--pack auto` measures there too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gitbench.errors import unknown_name
from gitbench.files import cache_dir, load_json, write_json
from gitbench.runs.grouping import grouped, why_alone
from gitbench.runs.machine import Gpu, cpu_count, cpu_name, gpus
from gitbench.runs.plan import Plan, PlannedRun
from gitbench.runs.provenance import package_versions
from gitbench.spec import NUMERICS_VERSION, canonical

MODES = ("auto", "processes", "stacked", "off")
PROCESSES = (1, 2, 4, 8, 16)
STACKS = (2, 4, 8)
WORTH = 1.05  # a more complicated way must be faster by this factor: less is within the noise of so short a timing


@dataclass(frozen=True, kw_only=True, order=True)
class Way:
    """So many replicates stacked in each of so many processes, on one card or on all cores."""

    stack: int = 1
    processes: int = 1

    def __str__(self) -> str:
        processes = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return processes if self.stack == 1 else f"{processes} of {self.stack} stacked"


@dataclass(frozen=True, kw_only=True)
class Packing:
    """The way chosen, the rates measured (replicate steps a second by way), and a line that says so ("" unmeasured)."""

    way: Way
    rates: Mapping[str, float] = field(default_factory=dict)
    line: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values, for provenance."""
        return {"processes": self.way.processes, "stack": self.way.stack, "rates": dict(self.rates)}


Measure = Callable[[Sequence[Way]], Mapping[str, float]]  # rates of ways; one that could not be run is left out


def unmeasured(cards: Sequence[Gpu]) -> Packing:
    """Return the packing where nothing was measured: one run on a card, or one a core."""
    return Packing(way=Way(processes=1 if cards else cpu_count()))


def shares(plan: Plan, card: Gpu) -> int:
    """Return how many runs fit the free memory of a card, at least 1."""
    return max(1, int(card.free_gib // plan.profile.gpu_gib))


def ways(plan: Plan, cards: Sequence[Gpu], mode: str, jobs: int | None = None) -> list[Way]:
    """Return the ways to be tried, the plainest first: no more runs at once than memory, `jobs` and the plan allow."""
    todo = [run for run in {run.key: run for run in plan.runs}.values() if not run.done]
    fitting = [shares(plan, card) for card in cards] or [cpu_count()]
    most = min(max(fitting), len(todo) or 1, jobs or len(todo) or 1)
    base = base_run(plan)
    replicates = max((len(group) for group in grouped(todo, max(STACKS))), default=1)
    stackable = why_alone(base.spec) is None
    found = [Way(processes=n) for n in sorted({*PROCESSES, most}) if n <= most]
    stacks: list[Way] = []
    if stackable:
        at_once = 1 if cards else min(cpu_count(), jobs or cpu_count())
        for size in sorted({*STACKS, min(replicates, max(STACKS))} - {1}):
            # a stack must fit any card; on a CPU memory does not bind, and every core has a stack of its own
            if size <= replicates and (size <= min(fitting) or not cards) and size <= (jobs or size):
                stacks.append(Way(stack=size, processes=max(1, min(at_once, len(todo) // size))))
    if mode == "off":
        return [Way(processes=1 if cards else most)]
    if mode == "processes":
        return found
    if mode == "stacked":
        return stacks or found
    return found + stacks


def base_run(plan: Plan) -> PlannedRun:
    """Return the first run of the plan's base arm, whose shape is measured."""
    return next((run for run in plan.runs if run.arm.name == plan.ablation.base), plan.runs[0])


def check_mode(mode: str | None) -> None:
    """Raise an error for a mode that there is not."""
    if mode is not None and mode not in MODES:
        raise unknown_name("way to pack", mode, MODES)


def choose(plan: Plan, mode: str | None, jobs: int | None, measure: Measure | None = None) -> Packing:
    """Return how a plan's runs share a card: measured where `mode` (one of MODES; None: the machine's own) wants it.

    `measure` times ways, by default in processes of their own. Errors: GitbenchError for an unknown mode.
    """
    check_mode(mode)
    cards = gpus()
    if (mode is None and not cards) or all(run.done for run in plan.runs):
        return unmeasured(cards)
    candidates = ways(plan, cards, mode or "auto", jobs)
    if len(candidates) == 1:
        alone = why_alone(base_run(plan).spec)
        why = f": {alone}" if mode == "stacked" and alone is not None else ""
        return Packing(way=candidates[0], line=f"packing: {candidates[0]}, the only way here{why}" if mode else "")
    place = rates_file(plan, cards)
    known = _read(place)
    missing = [way for way in candidates if str(way) not in known]
    if missing:
        if measure is None:
            from gitbench.runs.trial import measure_ways

            measure = measure_ways(plan, cards)
        known = {**known, **{str(way): 0.0 for way in missing}, **measure(missing)}  # 0: not possible, or past the best
        write_json(place, {"rates": known})
    rates = {str(way): known[str(way)] for way in candidates if known[str(way)] > 0}
    best = fastest(candidates, rates)
    return Packing(way=best, rates=rates, line=_line(best, rates, cards))


def remembered(plan: Plan, cards: Sequence[Gpu], jobs: int | None = None) -> Packing:
    """Return what `choose` would, as far as its measurements are in the cache; nothing is measured."""
    if not cards:
        return unmeasured(cards)
    candidates, known = ways(plan, cards, "auto", jobs), _read(rates_file(plan, cards))
    rates = {str(way): known[str(way)] for way in candidates if known.get(str(way), 0.0) > 0}
    return Packing(way=fastest(candidates, rates), rates=rates)


def fastest(candidates: Sequence[Way], rates: Mapping[str, float]) -> Way:
    """Return the way with the highest rate; a later one must beat the plainer ones before it by the factor `WORTH`."""
    best = candidates[0]
    for way in candidates[1:]:
        if rates.get(str(way), 0.0) > rates.get(str(best), 0.0) * WORTH:
            best = way
    return best


def _line(best: Way, rates: Mapping[str, float], cards: Sequence[Gpu]) -> str:
    said = ", ".join(f"{way} {rate:.3g}" for way, rate in rates.items())
    where = f"a card ({cards[0].name})" if cards else f"{cpu_count()} cores"
    return f"packing on {where}, replicate steps a second: {said}; chosen: {best}"


def rates_file(plan: Plan, cards: Sequence[Gpu]) -> Path:
    """Return the cache file of the rates of a plan's base arm here: named by machine, shape and versions."""
    spec = canonical(base_run(plan).spec)
    spec.pop("replicate", None)
    spec["train"] = {key: spec["train"][key] for key in ("batch_images", "captions_per_image", "clip_grad")}
    packages = package_versions()
    versions = [packages["torch"], packages["gitbench"], NUMERICS_VERSION]
    machine: list[Any] = [card.name for card in cards] or [cpu_name(), cpu_count()]
    text = json.dumps([spec, plan.vocabulary.size, versions, machine], sort_keys=True, default=str)
    return cache_dir() / "packing" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _read(path: Path) -> dict[str, float]:
    """Read rates; what is missing or damaged is measured again."""
    held = load_json(path)
    rates = held.get("rates") if isinstance(held, dict) else None
    if not isinstance(rates, dict) or not all(isinstance(rate, (int, float)) for rate in rates.values()):
        return {}
    return {str(way): float(rate) for way, rate in rates.items()}
