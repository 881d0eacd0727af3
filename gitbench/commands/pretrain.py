"""The command `gitbench pretrain`: make the image encoders from which a profile's ablations start."""

from __future__ import annotations

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitbench.commands.options import device_option
from gitbench.commands.starts import profile_of
from gitbench.errors import GitbenchError, unknown_name

if TYPE_CHECKING:
    from gitbench.encoders.wanted import Wanted


def add(commands: Any) -> None:
    """Add the parser of the command."""
    pretrain = commands.add_parser("pretrain", help="make the image encoders that a profile's ablations start from")
    pretrain.add_argument(
        "--profile", metavar="NAME", help="smoke, cpu, small-gpu, gpu or paper (default: as of `run`)"
    )
    pretrain.add_argument(
        "--only", nargs="+", action="extend", metavar="NAME", help="these encoders alone (names of `gitbench encoders`)"
    )
    pretrain.add_argument("--jobs", type=int, metavar="N", help="encoders at a time (default: one per CPU core)")
    device_option(pretrain)
    pretrain.add_argument(
        "--ship", action="store_true", help="put them into the package of this clone, with their page"
    )
    pretrain.add_argument(
        "--captioner",
        action="store_true",
        help="instead of encoders, train the captioner of scenes that ships, as a run of work_dirs",
    )
    pretrain.set_defaults(run=_pretrain)


def _pretrain(arguments: argparse.Namespace) -> int:
    from gitbench.compute import compute_for
    from gitbench.encoders import manifest
    from gitbench.encoders.ship import check_clone, ship
    from gitbench.encoders.wanted import wanted_encoders
    from gitbench.files import results_folder
    from gitbench.machine import cpu_count, gpus
    from gitbench.profiles import PROFILES, get_profile
    from gitbench.report.encoders import write_encoder_page

    if arguments.captioner:
        return _captioner(arguments)
    if arguments.ship:
        check_clone()
    profile = get_profile(profile_of(arguments))
    wanted = {each.name: each for each in wanted_encoders(profile)}
    for name in arguments.only or ():
        if name not in wanted:
            raise unknown_name("encoder of this profile", name, wanted)
    chosen = [wanted[name] for name in arguments.only or wanted]
    device = compute_for(profile, arguments.device).device  # runs look for encoders that were made on their own
    if device == "cuda" and not gpus():
        raise GitbenchError(
            "the encoders are to be made on a GPU, and none is in sight: pass --device cpu to use the CPU"
        )
    jobs = (1 if device == "cuda" else cpu_count()) if arguments.jobs is None else arguments.jobs
    if jobs < 1:
        raise GitbenchError(f"--jobs {jobs}: use 1 or more")
    made = _make_all(chosen, min(jobs, len(chosen)), profile.data.workers, device)
    if arguments.ship:
        everywhere = [each for profile in PROFILES.values() for each in wanted_encoders(profile)]
        page = write_encoder_page(results_folder() / "encoders", ship(made, everywhere, manifest.FOLDER))
        print(f"shipped; their page: {page}")
    return 0


def _captioner(arguments: argparse.Namespace) -> int:
    """Train the captioner that ships, or go on with it; the export of its run's folder is what ships."""
    from gitbench.captioners import recipe
    from gitbench.commands.printing import print_outcome
    from gitbench.compute import compute_for
    from gitbench.files import DEFAULT_WORK_DIR
    from gitbench.launch.scheduling import launch
    from gitbench.study.part import Part
    from gitbench.study.plan import make_plan
    from gitbench.study.store import Study

    for option in ("profile", "only", "jobs", "ship"):
        if getattr(arguments, option):
            raise GitbenchError(f"--{option} is about encoders: leave it out, or --captioner")
    compute = compute_for(recipe.PROFILE, arguments.device)
    plan = make_plan(
        recipe.ABLATION, recipe.PROFILE, "scenes", compute=compute, command="gitbench pretrain --captioner"
    )
    study = Study(DEFAULT_WORK_DIR, plan)
    base = Part(arms=(plan.base,))
    outcome = launch(study, 1, part=base)
    print_outcome(study, outcome)
    if not outcome.failed:
        (run,) = base.within(study).unique_runs
        print(f"as others load it: gitbench export {study.folder(run.run_key).path} --to huggingface DIR")
    return 1 if outcome.failed else 0


def _make_all(chosen: list[Wanted], jobs: int, workers: int, device: str) -> dict[str, Path]:
    """Make encoders, so many at a time; return name -> file."""
    from gitbench.processes import end_with_parent

    if jobs == 1:
        return {each.name: _make(each, workers, device) for each in chosen}
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), end_with_parent)
    try:
        tasks = {each.name: pool.submit(_make, each, workers, device) for each in chosen}
        return {name: task.result() for name, task in tasks.items()}
    finally:
        pool.shutdown(cancel_futures=True)  # what is under way ends with the same Ctrl-C, or is finished


def _make(wanted: Wanted, workers: int, device: str) -> Path:
    """Make one encoder, or find it; say how far it is, a line about every minute; return its file."""
    import torch

    from gitbench.formats import duration
    from gitbench.training.pretrain import Pretraining, pretrained_encoder, pretrained_path

    began: list[tuple[float, int]] = []
    spoken = [-math.inf]

    def progress(done: int, total: int, loss: float) -> None:
        now = time.monotonic()
        if not began and done:
            began.append((now, done))
        if now - spoken[0] < 60 and done < total:
            return
        spoken[0] = now
        left = ""
        if began and done > began[0][1]:
            seconds = (now - began[0][0]) / (done - began[0][1]) * (total - done)
            left = f", about {duration(seconds)} left" if done < total else ""
        said = f", loss {loss:.3f}" if math.isfinite(loss) else ""
        print(f"  {wanted.name}: {done:,} of {total:,} iterations{said}{left}", flush=True)

    job = Pretraining(
        encoder=wanted.encoder,
        recipe=wanted.recipe,
        device=torch.device(device),
        progress=progress,
        workers=workers,
        measured=True,
    )
    found = pretrained_encoder(job)
    path = pretrained_path(job)
    print(f"{wanted.name}: {duration(found.notes['seconds'])} of training, {path}", flush=True)
    return path
