"""What the commands about a study share: the options that name it, and how they are read and written again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gitbench.commands.data_options import data_options
from gitbench.commands.starts import profile_of, start_options
from gitbench.commands.tracking import track_option, trackers_of
from gitbench.errors import GitbenchError
from gitbench.files import DEFAULT_WORK_DIR

if TYPE_CHECKING:
    from gitbench.launch.executor import Executor
    from gitbench.spec import Ablation, Compute
    from gitbench.study.store import Study


def study_options(parser: argparse.ArgumentParser, work_dir: bool = True) -> None:
    """Add the options that name a study, and where it lies."""
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help="smoke, cpu, small-gpu, gpu or paper (default: gpu where CUDA is available, else cpu)",
    )
    parser.add_argument(
        "--task",
        metavar="NAME",
        help="caption (default), vqa, video, classify or read: what the model is asked for",
    )
    parser.add_argument(
        "--data",
        metavar="NAME|PATH",
        help="scenes (default; scenes-motion for video), scenes-shifted, a folder, whose layout is found, SET:FOLDER for a "
        "published set, or hub:OWNER/NAME (`gitbench data` says what it is taken for)",
    )
    data_options(parser)
    if work_dir:
        parser.add_argument("--work-dir", type=Path, metavar="DIR", help="where runs are kept (default: work_dirs)")


def training_options(parser: argparse.ArgumentParser, seeds: str) -> None:
    """Add the options of commands that plan a study, train it and write its report; `seeds` says what --seeds counts."""
    study_options(parser)
    parser.add_argument("--seeds", type=int, metavar="N", help=seeds)
    run_options(parser)
    executor_options(parser)
    report_options(parser)
    start_options(parser)
    compute_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and the estimated time, train nothing")
    parser.add_argument("--no-report", action="store_true", help="train and score only")


def compute_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what the runs compute on, where profile and machine do not say it."""
    device_option(parser)
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        help="of training on a GPU (default: bfloat16, float16 for cards without; likelihoods are float32 in any case)",
    )
    parser.add_argument(
        "--gpus-per-run", type=int, metavar="N", help="GPUs that train a run together, sharing each batch (default: 1)"
    )
    parser.add_argument(
        "--cuda-graph",
        action="store_true",
        help="record the training steps of a GPU and launch each as one call, to the same bits; no GPU has tried it yet",
    )
    parser.add_argument(
        "--micro-batch",
        type=int,
        metavar="N",
        help="images that a step takes at a time, adding up gradients (default: all)",
    )
    parser.add_argument(
        "--checkpointing",
        action="store_true",
        help="keep less of each block for the backward pass and compute it again, to the same bits",
    )


def device_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that says what a profile computes on."""
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        help="what computes, here or where the runs will go (default: what the profile is made for)",
    )


def run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that train runs."""
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: one per CPU core or GPU share)")
    parser.add_argument("--plain", action="store_true", help="plain progress lines, no bar")
    track_option(parser)


def executor_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where runs are executed."""
    parser.add_argument(
        "--executor",
        choices=("local", "slurm", "ray"),
        default="local",
        help="where runs are executed: by this machine (default), or as jobs of a cluster that shares the work directory",
    )
    parser.add_argument(
        "--slurm",
        metavar="OPTION=VALUE,...",
        help="of --executor slurm: options of sbatch, e.g. partition=gpu,time=120",
    )
    parser.add_argument(
        "--runs-per-gpu", type=int, metavar="N", help="of --executor slurm and ray: runs that share a GPU (default: 1)"
    )


def report_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a report goes."""
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--out", type=Path, metavar="DIR", help="where the report goes (default: in the work directory)")
    place.add_argument("--publish", action="store_true", help="put the report under reports/results, to be committed")


def data_of(arguments: argparse.Namespace) -> str:
    """Return the data asked for, or the task's own."""
    from gitbench.tasks import get_task

    return get_task(task_of(arguments)).data if arguments.data is None else arguments.data


def task_of(arguments: argparse.Namespace) -> str:
    """Return the task asked for, or captions."""
    return arguments.task or "caption"


def with_own(arguments: argparse.Namespace, ablation: Ablation) -> argparse.Namespace:
    """Return the arguments with what an ablation has by itself where it is not asked for: its one task, its start and data.

    Errors: GitbenchError for another task than its one.
    """
    found = dict(vars(arguments))
    if ablation.task is not None:
        if arguments.task not in (None, ablation.task):
            raise GitbenchError(
                f"--task {arguments.task}: {ablation.name} can be asked of the task {ablation.task} alone: leave --task out"
            )
        found["task"] = ablation.task
    own = ablation.starts_on.get(profile_of(arguments))
    if own is not None and (arguments.start, arguments.encoder, arguments.data, arguments.tokenizer) == (None,) * 4:
        found["start"], found["data"] = Path(own[0]), own[1]
    return argparse.Namespace(**found)


def compute_of(arguments: argparse.Namespace) -> Compute:
    """Return what the runs of the study asked for compute on."""
    from gitbench.compute import compute_for
    from gitbench.profiles import get_profile

    return compute_for(
        get_profile(profile_of(arguments)),
        arguments.device,
        arguments.precision,
        gpus_per_run=arguments.gpus_per_run,
        cuda_graph=arguments.cuda_graph,
        micro_batch=0 if arguments.micro_batch is None else arguments.micro_batch,
        checkpointing=arguments.checkpointing,
    )


def work_dir_of(arguments: argparse.Namespace) -> Path:
    """Return the work directory asked for, or the default one."""
    return arguments.work_dir or DEFAULT_WORK_DIR


def study_of(arguments: argparse.Namespace, ablation: str | None = None) -> Study:
    """Open the one study that `ablation` (default: the argument of that name) and the options name; one with marks is told."""
    from gitbench.study.find import find_study
    from gitbench.study.store import study_names

    name, place = ablation or arguments.ablation, work_dir_of(arguments)
    found = find_study(place, name, arguments.profile, arguments.data, arguments.task)
    beside = [each for each in study_names(place) if each.startswith(f"{found.name}+")]
    if beside:
        label = beside[0].split(".", 2)[2]
        print(f"gitbench: this is {found.name}; for {', '.join(beside)} pass --data, as {label}", file=sys.stderr)
    return found


def check_executor(arguments: argparse.Namespace) -> None:
    """Refuse options of another executor, those that contradict each other, and trackers that are not there."""
    trackers_of(arguments)
    kind, share = arguments.executor, arguments.runs_per_gpu
    if arguments.slurm is not None and kind != "slurm":
        raise GitbenchError(f"--slurm {arguments.slurm} belongs to --executor slurm: add that, or leave --slurm out")
    if kind == "local":
        if share is not None:
            raise GitbenchError(f"--runs-per-gpu {share}: here as many share a GPU as fit its memory: leave it out")
        return
    from gitbench.launch.places import check_jobs

    check_jobs(arguments.jobs)
    if share is not None and share < 1:
        raise GitbenchError(f"--runs-per-gpu {share}: at least 1 run is needed")
    world_size = compute_of(arguments).world_size
    if share is not None and world_size > 1:
        raise GitbenchError(
            f"--runs-per-gpu {share} with --gpus-per-run {world_size}: a run that takes several GPUs shares none: "
            "leave one of them out"
        )
    if arguments.slurm is not None:
        from gitbench.launch.slurm import parse_options

        parse_options(arguments.slurm)


def executor_of(arguments: argparse.Namespace, work_dir: Path) -> Executor | None:
    """Return the executor asked for, None for this machine; a queue keeps its files in `work_dir`.

    `check_executor` has passed the options. Errors: GitbenchError where its package or the cluster is missing.
    """
    if arguments.executor == "local":
        return None
    compute, pack = compute_of(arguments), 1 if arguments.runs_per_gpu is None else arguments.runs_per_gpu
    if arguments.executor == "ray":
        from gitbench.launch.ray import ray_executor

        return ray_executor(compute, arguments.jobs, pack)
    from gitbench.launch.slurm import for_runs, parse_options, slurm_executor

    options = parse_options(arguments.slurm) if arguments.slurm else {}
    return slurm_executor(work_dir, for_runs(options, compute, pack), arguments.jobs, pack)


def at_once(study: Study, arguments: argparse.Namespace) -> int:
    """Return how many runs of a study are executed at a time; a cluster is taken to have room for all."""
    if arguments.executor != "local":
        return arguments.jobs or len(study.unique_runs)
    from gitbench.launch.places import at_once

    return at_once(study, arguments.jobs)


def without_folder(given: str) -> str:
    """Return what an option names, a hub's name or a path, as what is passed on may have it: of a path its last part."""
    path = Path(given)
    return path.name if path.exists() else given


def study_words(arguments: argparse.Namespace) -> list[str]:
    """Return the options that name this study again: defaults of this machine written out, folders by name alone."""
    from gitbench.data.address import by_name

    words = ["--profile", profile_of(arguments)]
    if arguments.task is not None:
        words += ["--task", arguments.task]
    if arguments.data is not None:
        words += ["--data", by_name(arguments.data)]
    if arguments.seeds is not None:
        words += ["--seeds", str(arguments.seeds)]
    words += _compute_words(arguments)
    for option in ("tokenizer", "encoder"):
        if (given := getattr(arguments, option)) is not None:
            words += [f"--{option}", without_folder(given)]
    if arguments.start is not None:
        words += ["--start", arguments.start.name]
    return words


def _compute_words(arguments: argparse.Namespace) -> list[str]:
    """Return the options that give the compute again on any machine; none where the profile alone does."""
    from gitbench.profiles import get_profile

    compute = compute_of(arguments)
    words = [] if compute.device == get_profile(profile_of(arguments)).device else ["--device", compute.device]
    words += ["--precision", compute.precision] if compute.device == "cuda" else []
    words += ["--gpus-per-run", str(compute.world_size)] if compute.world_size > 1 else []
    words += ["--micro-batch", str(compute.micro_batch)] if compute.micro_batch else []
    return words + ["--checkpointing"] * compute.checkpointing
