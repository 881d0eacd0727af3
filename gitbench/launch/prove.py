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
from multiprocessing.connection import Connection
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.spec import Arm
from gitbench.study.config import make_config
from gitbench.study.plan import Plan, PlannedRun
from gitbench.study.proof import (
    PROOF_VERSION,
    ArmProof,
    Proof,
    SecondDifference,
    compare_arm,
    compare_configs,
    read_proof,
    write_proof,
)

REPLICATES = 2  # of which tensors and batches are compared
Configs = Mapping[tuple[str, int], dict[str, Any]]  # (arm, replicate) -> config


def axes_of(plan: Plan, arm: Arm) -> tuple[str, ...]:
    """Return the axes in which an arm may differ from the base: of the study's, those that either of them names."""
    if arm.role == "floor":
        return ("vision",)
    named = {**arm.variants, **_base(plan).arm.variants}
    study = (plan.ablation.axis, plan.ablation.crossed_with)
    return tuple(axis for axis in study if axis is not None and axis in named)


def _base(plan: Plan) -> PlannedRun:
    for run in plan.runs:
        if run.arm.name == plan.ablation.base:
            return run
    raise GitbenchError(
        f"{plan.ablation.name} has no arm '{plan.ablation.base}' in profile {plan.profile.name}: name one so"
    )


def is_proven(plan: Plan) -> bool:
    """Tell whether the proof of exactly these runs and axes is on file."""
    proof = load_proof(plan)
    return proof is not None and _same_arms(plan, proof) and list(proof.runs) == _runs(plan)


def load_proof(plan: Plan) -> Proof | None:
    """Return the proof on file; None where there is none, or a damaged one, which is made again."""
    try:
        return read_proof(plan.work_dir, plan.study)
    except GitbenchError:
        return None


def _same_arms(plan: Plan, proof: Proof) -> bool:
    """Tell whether a proof compared these arms with this base in these axes, in the way it is done now."""
    if proof.version != PROOF_VERSION or proof.base != plan.ablation.base:
        return False
    proven = {arm.arm: arm.axes for arm in proof.arms}
    return proven == {arm.name: axes_of(plan, arm) for arm in _other_arms(plan)}


def _known(plan: Plan) -> Proof | None:
    """Return the proof on file if it is of these arms and axes, and of the same runs in the replicates it compared.

    Then more replicates add no more than configs to compare: tensors and batches are compared in the first two.
    """
    proof = load_proof(plan)
    if proof is None or not _same_arms(plan, proof):
        return None
    compared = [run for run in _runs(plan) if run["replicate"] < REPLICATES]
    known = [run for run in proof.runs if run["replicate"] < REPLICATES]
    return (
        proof if compared == known and list(proof.replicates) == sorted({run["replicate"] for run in known}) else None
    )


def _other_arms(plan: Plan) -> list[Arm]:
    arms = {run.arm.name: run.arm for run in plan.runs}
    return [arm for arm in arms.values() if arm.name != plan.ablation.base]


def _runs(plan: Plan) -> list[dict[str, Any]]:
    return [{"arm": run.arm.name, "replicate": run.replicate, "run_key": run.key} for run in plan.runs]


def prove(plan: Plan, context: Any) -> Proof:
    """Compare every arm with the base and write the proof; `context` starts the child process.

    Configs are compared in all replicates, tensors and batches in the first two: where these are proven already, no
    arm is built. A replicate that the base itself does not run is compared with the base as it would be.
    Errors: GitbenchError naming ablation, arm and what differs; nothing is written then.
    """
    base, others = _base(plan).arm, _other_arms(plan)
    configs = _configs(plan)
    for name, replicate in configs:
        arm = next((arm for arm in others if arm.name == name), None)
        if arm is not None:
            with _Named(plan, arm, replicate):
                compare_configs(configs[base.name, replicate], configs[name, replicate], axes_of(plan, arm))
    known = _known(plan)
    if known is not None:
        extended = dataclasses.replace(known, runs=tuple(_runs(plan)))
        write_proof(plan.work_dir, extended)
        return extended
    replicates = sorted({replicate for _, replicate in configs})[:REPLICATES]
    order = [(arm.name, replicate) for replicate in replicates for arm in (base, *others)]
    amounts = sorted({run.spec.data.train_images for run in plan.runs if run.spec.data.train_images is not None})
    made = _fingerprints({each: configs[each] for each in order}, amounts, context)
    found: dict[str, ArmProof] = {}
    batches: tuple[str, ...] = ()
    for replicate in replicates:
        reference = next(made)
        batches = tuple(reference["batches"])
        for arm in others:
            with _Named(plan, arm, replicate):
                pair = (configs[base.name, replicate], configs[arm.name, replicate])
                each = compare_arm(arm.name, axes_of(plan, arm), pair, (reference, next(made)))
                found.setdefault(arm.name, each)
    proof = Proof(
        version=PROOF_VERSION,
        study=plan.study,
        base=base.name,
        replicates=tuple(replicates),
        batches=batches,
        found=sum(run.done for run in {run.key: run for run in plan.runs}.values()),
        arms=tuple(found.values()),
        runs=tuple(_runs(plan)),
    )
    write_proof(plan.work_dir, proof)
    return proof


def _configs(plan: Plan) -> Configs:
    """Return the config of every run, and of the base in every replicate that any arm runs."""
    first = _base(plan)
    planned = {(run.arm.name, run.replicate): run for run in plan.runs}
    for replicate in sorted({run.replicate for run in plan.runs}):
        spec = dataclasses.replace(first.spec, replicate=replicate)
        planned.setdefault((first.arm.name, replicate), dataclasses.replace(first, replicate=replicate, spec=spec))
    return {each: make_config(run.spec, plan.vocabulary, run.key).to_dict() for each, run in planned.items()}


class _Named:
    """Give a second difference the names of ablation and arm, and the fix."""

    def __init__(self, plan: Plan, arm: Arm, replicate: int) -> None:
        self.plan, self.arm, self.replicate = plan, arm, replicate

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, SecondDifference):
            axes = " and ".join(axes_of(self.plan, self.arm)) or "name"
            raise GitbenchError(
                f"{self.plan.ablation.name}: arm '{self.arm.name}' differs from '{self.plan.ablation.base}' in more "
                f"than its {axes} (replicate {self.replicate}): {error}: an arm may differ in one thing, remove the other"
            ) from None


def _fingerprints(configs: Configs, amounts: Sequence[int], context: Any) -> Iterator[dict[str, Any]]:
    """Yield the fingerprint of each config, in order, as the child process makes them."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_make_fingerprints, args=(list(configs.values()), amounts, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        for arm, _ in configs:
            kind, value = ours.recv()
            if kind == "error":
                raise GitbenchError(f"arm '{arm}': {value}")
            if kind == "fault":
                raise RuntimeError(f"arm '{arm}' could not be built:\n{value}")
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


def _make_fingerprints(configs: Sequence[dict[str, Any]], amounts: Sequence[int], connection: Connection) -> None:
    """The child: send one fingerprint a config; where the launcher is gone, sending fails and ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides: it gets the same Ctrl-C
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported
    try:
        from gitbench.training.fingerprints import fingerprint

        for config in configs:
            connection.send(("made", fingerprint(config, amounts)))
    except GitbenchError as error:
        connection.send(("error", str(error)))
    except OSError:
        sys.exit(3)
    except Exception:
        connection.send(("fault", traceback.format_exc()))
