"""What plan and specs of a study prove by themselves: that its runs follow from its claims as they stand.

A run's key is the hash of its spec, which holds the root of its seeds, which is the hash of claims and setting. So this can be
told of a study on disk and of a committed report alike, which holds no more than that of its runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from gitbench.judge.noise import NOISE_ABLATION
from gitbench.plan import Plan, PlannedRun
from gitbench.run_key import canonical, run_key
from gitbench.study.lock import claim_forms, locked_since, read_lock, seed_root
from gitbench.variants import AXES, run_spec_from_json


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a run's key is the hash of: canonical spec, numerics version and data; None where its record does not say.

    Beside it, which no key can know: the content of the pre-trained encoder that it started from.
    """

    spec: Mapping[str, Any]
    numerics: int | None = None
    data: str | None = None
    encoder: str | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Made:
        """Take it from a record. Errors: GitbenchError for one that holds no spec."""
        spec = canonical(run_spec_from_json(record.get("spec") or {}))
        numerics, data, encoder = (record.get(name) for name in ("numerics", "data_fingerprint", "encoder_content"))
        encoder = encoder if isinstance(encoder, str) else None
        if not isinstance(numerics, int) or not isinstance(data, str):
            return cls(spec=spec, encoder=encoder)
        return cls(spec=spec, numerics=numerics, data=data, encoder=encoder)

    @property
    def amount(self) -> int | None:
        """Training images; None: all that there are."""
        return self.spec["data"].get("train_images")

    @property
    def pretrained(self) -> Mapping[str, Any] | None:
        """Size and recipe of the encoder that it started from, where that was made on first use: not by its content."""
        start = self.spec["variants"].get("encoder_init", {})
        if start.get("source") != "pretrained" or "content" in start:
            return None
        return {"encoder": self.spec["variants"].get("encoder"), "recipe": start.get("recipe")}


def made_to_json(made: Mapping[str, Made]) -> dict[str, Any]:
    """Return run key -> how it was made as JSON values; what runs share but their replicate stands there once."""
    specs: list[dict[str, Any]] = []
    runs = {}
    for key, each in made.items():
        spec = {name: value for name, value in each.spec.items() if name != "replicate"}
        if spec not in specs:
            specs.append(spec)
        own = {"replicate": each.spec["replicate"], "numerics": each.numerics, "data": each.data}
        own |= {"encoder": each.encoder} if each.encoder else {}
        runs[key] = {"spec": str(specs.index(spec))} | own
    return {"specs": {str(number): spec for number, spec in enumerate(specs)}, "runs": runs}


def made_from_json(values: Mapping[str, Any]) -> dict[str, Made]:
    """Read it back. Errors: KeyError, TypeError, AttributeError for values that are none."""
    found = {}
    for key, run in values["runs"].items():
        spec = values["specs"][run["spec"]] | {"replicate": run["replicate"]}
        found[key] = Made(spec=spec, numerics=run["numerics"], data=run["data"], encoder=run.get("encoder"))
    return found


def planned_root(plan: Plan) -> str | None:
    """Return what the seeds of a plan's runs derive from; None for a plan of an earlier version."""
    if not plan.setting or plan.design == "fixed" and plan.seeds is None:
        return None
    return seed_root(plan.ablation, plan.claim_hashes, plan.setting, plan.design, plan.seeds)


def stated_beforehand(plan: Plan, runs: Iterable[PlannedRun], made: Mapping[str, Made]) -> bool:
    """Tell whether the finished `runs` of a plan follow from the claims as they stand: then these were stated before."""
    return planned_root(plan) is not None and not [*plan_findings(plan), *runs_findings(plan, runs, made)]


def as_locked(plan: Plan) -> dict[str, str]:
    """Return the claims of a plan that today's claims.lock has as they are, each with the day since which it does."""
    hashes, since = read_lock(), locked_since()
    names = {claim.name: f"{plan.ablation}/{claim.name}" for claim in plan.claims}
    return {
        claim: since.get(name, "")
        for claim, name in names.items()
        if name in hashes and hashes[name] == plan.claim_hashes.get(name)
    }


def lock_findings(plan: Plan) -> tuple[str, ...]:
    """Return a line for every claim of a plan's ablation that today's claims.lock has otherwise, if it has any of it."""
    locked = {name: each for name, each in read_lock().items() if name.startswith(f"{plan.ablation}/")}
    names = sorted({*locked, *plan.claim_hashes, *(f"{plan.ablation}/{claim.name}" for claim in plan.claims)})
    return tuple(
        f"claim {name} is not as today's claims.lock has it"
        for name in names
        if locked and locked.get(name) != plan.claim_hashes.get(name, "")
    )


def plan_findings(plan: Plan) -> Iterator[str]:
    """Claims that the seeds do not follow from; replicates that are missing, too many, or one run under two numbers."""
    place = f"studies/{plan.name}.json"
    if planned_root(plan) is None:
        yield f"{place}: planned by an earlier version of gitbench: its seeds do not follow from its claims"
    stated = {f"{plan.ablation}/{claim.name}": claim_forms(claim, plan.task) for claim in plan.claims}
    for name, forms in stated.items():
        if plan.claim_hashes.get(name) not in forms:
            yield f"{place}: claim {name} is not the one that the seeds of the runs follow from"
    if plan.task == "caption":  # other tasks leave claims out
        for name in sorted(set(plan.claim_hashes) - set(stated)):
            yield f"{place}: claim {name} was dropped after the runs were planned"
    for rate in plan.tuned:
        if rate.factor != rate.best:
            yield f"{place}: arm {rate.arm} has rates x {rate.factor:g}, its tuning runs choose {rate.best}"
    for arm in plan.arms:
        numbers = sorted(run.replicate for run in plan.runs if run.arm == arm.name)
        count = plan.seeds if plan.design == "fixed" and plan.ablation != NOISE_ABLATION else None
        count = count if count is None or arm.seeds is None else min(count, arm.seeds)
        if numbers != list(range(len(numbers) if count is None else count)):
            wanted = "without a gap" if count is None else f"0 to {count - 1}"
            said = ", ".join(map(str, numbers)) or "none"
            yield f"{place}: arm {arm.name} lists the replicates {said}, planned were all {wanted}"
        keys = Counter(run.run_key for run in plan.runs if run.arm == arm.name)
        for key in sorted(key for key, times in keys.items() if times > 1):
            yield f"{place}: arm {arm.name} lists the run {key} under {keys[key]} replicate numbers"


def runs_findings(plan: Plan, runs: Iterable[PlannedRun], made: Mapping[str, Made]) -> Iterator[str]:
    """What the specs of finished runs say otherwise than their keys and the plan; a line begins with the run's name."""
    most = most_images(made.values())
    for run in runs:
        own = made.get(run.run_key)
        found = ["nothing says how it was made"] if own is None else _run_findings(plan, run, own, most)
        for said in (*found, *(_start_findings(own, made.values()) if own else ())):
            yield f"{run.arm} seed {run.replicate}: {said}"


def _start_findings(own: Made, made: Iterable[Made]) -> Iterator[str]:
    """An encoder made on first use that nothing names, or another than the first run with its size and recipe had."""
    if own.pretrained is None:
        return
    if own.encoder is None:
        yield "its record does not name the encoder that it began with: made by an earlier version of gitbench, or taken out"
        return
    first = next(each.encoder for each in made if each.encoder is not None and each.pretrained == own.pretrained)
    if own.encoder != first:
        yield (
            f"it began with the encoder {own.encoder[:8]}, another run with {first[:8]} of the same recipe: encoders made on "
            "another machine are others"
        )


def most_images(made: Iterable[Made]) -> int | None:
    """Return the training images of a study's data; a run with as many takes all of them. None: not known."""
    sizes = [each.spec["data"] for each in made]
    amounts = [size.get("vocabulary_images") or size.get("train_images") for size in sizes]
    known = [each for each in amounts if isinstance(each, int)]
    return max(known) if known and len(known) == len(amounts) else None


def _sets_rate(plan: Plan) -> bool:
    """Tell whether an axis of the study, a plugin's, sets the decoder's learning rate itself."""
    axes = (plan.axis, plan.crossed_with, *plan.common)
    patterns = [pattern for axis in axes if axis in AXES for pattern in AXES[axis].allowed.config]
    return any(fnmatchcase("optim_wrapper.paramwise_cfg.lr_decoder", pattern) for pattern in patterns)


def _run_findings(plan: Plan, run: PlannedRun, made: Made, most: int | None) -> Iterator[str]:
    numerics, data, whole = made.numerics, made.data, made.amount == most
    if numerics is None or data is None:
        yield "its record names no numerics version and data: made by an earlier version of gitbench, or taken out"
        numerics, data = None, plan.data_fingerprint if whole else None
    if data is not None and run_key(made.spec, data, numerics) != run.run_key:
        yield "its spec and data do not give its run key: it was changed, or another version made it"
    if whole and data != plan.data_fingerprint:
        yield "it was made on other data than the study's"
    if (replicate := made.spec["replicate"]) != run.replicate:
        yield f"it was made as seed {replicate}: it was renumbered, or paired anew"
    rate, chosen = made.spec["train"]["lr_decoder"], plan.rates and plan.factor(run.arm) * plan.rates.lr_decoder
    if chosen is not None and rate != chosen and not made.spec.get("cfg_options") and not _sets_rate(plan):
        yield f"its decoder was trained at a learning rate of {rate:g}, the plan says {chosen:g}"
    root = planned_root(plan)
    if root is not None and made.spec.get("seed_root") != root:
        yield "its seeds do not follow from the claims, the setting and the number of seeds of this study"
    if (task := made.spec.get("task", {}).get("name", "caption")) != plan.task:
        yield f"it was made for the task {task}, the study's is {plan.task}"
