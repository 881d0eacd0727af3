"""Prove, before anything is trained, that the arms of a plan differ in their axis alone (`gitbench.study.proof`).

The arms are built and hashed in one child process, started as runs are, without a GPU; this one needs no torch. The
configs compared are those that planning writes into the folders of the runs. A proof that is there already is kept.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from gitbench import plugins
from gitbench.errors import GitbenchError
from gitbench.plan import Plan, PlannedArm, PlannedRun
from gitbench.spec import RunSpec
from gitbench.study.config import make_config
from gitbench.study.plan_file import listed_runs
from gitbench.study.proof import (
    PROOF_VERSION,
    ArmProof,
    Proof,
    SecondDifference,
    compare_arm,
    compare_configs,
)
from gitbench.study.store import Study

REPLICATES = 2  # of which tensors and batches are compared
Configs = Mapping[tuple[str, int], dict[str, Any]]  # (arm, replicate) -> config


def axes_of(plan: Plan, arm: PlannedArm) -> tuple[str, ...]:
    """Return the axes in which an arm may differ from the base: of the study's, those that either of them names."""
    if arm.role == "floor":
        return tuple(arm.variants)
    named = {**arm.variants, **plan.arm(plan.base).variants}
    return tuple(axis for axis in (plan.axis, plan.crossed_with) if axis is not None and axis in named)


def is_proven(study: Study) -> bool:
    """Tell whether the proof of exactly these runs and axes is on file."""
    return _proof_on_file(study) is not None and study.proven


def _proof_on_file(study: Study) -> Proof | None:
    """Return the proof on file if it compared these arms in these axes, with the same runs in its replicates.

    Then more replicates add no more than configs to compare: tensors and batches are compared in the first two. A
    damaged proof counts as none: it is made again.
    """
    try:
        proof = study.proof
    except GitbenchError:
        return None
    if proof is None or proof.version != PROOF_VERSION or proof.base != study.plan.base:
        return None
    compared, known = (
        [run for run in runs if run["replicate"] < REPLICATES] for runs in (listed_runs(study.plan), proof.runs)
    )
    same = compared == known and list(proof.replicates) == sorted({run["replicate"] for run in known})
    return proof if same and {arm.arm: arm.axes for arm in proof.arms} == _compared(study.plan) else None


def _compared(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return the arms that are compared with the base, each with the axes in which it may differ from it."""
    present = {run.arm for run in plan.runs} - {plan.base}
    return {arm.name: axes_of(plan, arm) for arm in plan.arms if arm.name in present}


def prove(study: Study, context: Any) -> Proof:
    """Compare every arm with the base and write the proof; `context` starts the child process.

    Configs are compared in all replicates, tensors and batches in the first two: where these are proven already, no
    arm is built. A replicate that the base itself does not run is compared with the base as it would be.
    Errors: GitbenchError naming ablation, arm and what differs; nothing is written then.
    """
    plan = study.plan
    base, axes, configs = plan.base, _compared(plan), _configs(plan)
    for (name, replicate), config in configs.items():
        if name in axes:
            with _named(plan, name, axes[name], replicate):
                compare_configs(configs[base, replicate], config, axes[name])
    known = _proof_on_file(study)
    if known is not None:
        extended = dataclasses.replace(known, runs=tuple(listed_runs(plan)))
        study.write_proof(extended)
        return extended
    replicates = sorted({replicate for _, replicate in configs})[:REPLICATES]
    order = [(name, replicate) for replicate in replicates for name in (base, *axes) if (name, replicate) in configs]
    sizes = [run.resolved.data.train_images for run in plan.runs]
    amounts = sorted({size for size in sizes if size is not None})
    made = _fingerprints({each: configs[each] for each in order}, amounts, context)
    found: dict[str, ArmProof] = {}
    batches: tuple[str, ...] = ()
    for replicate in replicates:
        reference = next(made)
        batches = tuple(reference["batches"])
        for name in (each for each in axes if (each, replicate) in configs):  # an arm may have fewer seeds
            with _named(plan, name, axes[name], replicate):
                pair = (configs[base, replicate], configs[name, replicate])
                each = compare_arm(name, axes[name], pair, (reference, next(made)))
                found.setdefault(name, dataclasses.replace(each, factor=plan.factor(name)))
    proof = Proof(
        version=PROOF_VERSION,
        study=plan.name,
        base=base,
        replicates=tuple(replicates),
        batches=batches,
        found=sum(study.done(run) for run in study.unique_runs),
        arms=tuple(found.values()),
        runs=tuple(listed_runs(plan)),
    )
    study.write_proof(proof)
    return proof


def _configs(plan: Plan) -> Configs:
    """Return the config of every run, and of the base in every replicate that any arm runs."""
    first = next(run for run in plan.runs if run.arm == plan.base)
    planned = {(run.arm, run.replicate): run for run in plan.runs}
    for replicate in sorted({run.replicate for run in plan.runs}):
        spec = dataclasses.replace(first.resolved, replicate=replicate)
        planned.setdefault((first.arm, replicate), dataclasses.replace(first, replicate=replicate, spec=spec))
    specs = {each: _at_common_rates(plan, run) for each, run in planned.items()}
    return {each: make_config(spec, plan.vocabulary, planned[each].run_key).to_dict() for each, spec in specs.items()}


def _at_common_rates(plan: Plan, run: PlannedRun) -> RunSpec:
    """Return the spec of a run with its arm's own factor taken out of the learning rates, to 12 digits."""
    spec, factor = run.resolved, plan.factor(run.arm)
    if not plan.tuned:
        return spec
    encoder, decoder = (float(f"{rate / factor:.12g}") for rate in (spec.train.lr_encoder, spec.train.lr_decoder))
    return dataclasses.replace(spec, train=dataclasses.replace(spec.train, lr_encoder=encoder, lr_decoder=decoder))


@contextmanager
def _named(plan: Plan, arm: str, axes: Sequence[str], replicate: int) -> Iterator[None]:
    """Give a second difference the names of ablation and arm, and the fix."""
    tuned = f", its tuned factor of {plan.factor(arm):g} taken out" if plan.tuned else ""
    try:
        yield
    except SecondDifference as error:
        raise GitbenchError(
            f"{plan.ablation}: arm '{arm}' differs from '{plan.base}' in more than its {' and '.join(axes) or 'name'} "
            f"(replicate {replicate}{tuned}): {error}: an arm may differ in one thing, remove the other"
        ) from None


def _fingerprints(configs: Configs, amounts: Sequence[int], context: Any) -> Iterator[dict[str, Any]]:
    """Yield the fingerprint of each config, in order, as the child process makes them."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_make_fingerprints, args=(list(configs.values()), amounts, plugins.environment(), theirs), daemon=True
    )
    process.start()
    theirs.close()
    try:
        for arm, _ in configs:
            kind, value = ours.recv()
            if kind == "error":
                raise GitbenchError(f"arm '{arm}': {value}")
            yield value
    except EOFError:
        process.join()
        raise GitbenchError(
            f"the process that compares the arms was ended from outside (exit status {process.exitcode}): "
            "free some memory and run again"
        ) from None
    finally:
        process.kill()
        process.join()
        ours.close()


def _make_fingerprints(
    configs: Sequence[dict[str, Any]], amounts: Sequence[int], environment: Mapping[str, str], connection: Connection
) -> None:
    """The child: send one fingerprint a config; where the launcher is gone, sending fails and ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides: it gets the same Ctrl-C
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported
    os.environ.update(environment)
    try:
        plugins.load()
        from gitbench.training.fingerprints import fingerprint

        for config in configs:
            connection.send(("made", fingerprint(config, amounts)))
    except GitbenchError as error:
        connection.send(("error", str(error)))
    except OSError:
        sys.exit(3)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(place.filename)}, line {place.lineno}"
        text = f"it could not be built ({type(error).__name__}: {error}; {where}): check its variants and --cfg-options"
        connection.send(("error", text))
