"""The command `gitbench finetune`: train a checkpoint on data by the paper's recipe, tested before and after."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitbench.commands.data_options import data_options
from gitbench.commands.memory import hold_memory, memory_option
from gitbench.commands.options import (
    at_once,
    check_executor,
    compute_of,
    compute_options,
    data_of,
    executor_of,
    executor_options,
    report_options,
    run_options,
    study_words,
    task_of,
    work_dir_of,
)
from gitbench.commands.printing import print_data_notes, print_memory, print_plan
from gitbench.commands.run import finish
from gitbench.commands.tracking import trackers_of

if TYPE_CHECKING:
    from gitbench.plan import Plan
    from gitbench.study.finetune import Asked
    from gitbench.study.store import Study

PROFILE = "finetune"
_NUMBERS: dict[str, tuple[type, str]] = {
    "epochs": (float, "passes over the training images (default: 10, of questions 20)"),
    "batch": (int, "images of a step (default: 64, of little data a sixteenth, at least 8)"),
    "lr": (float, "the decoder's learning rate; the encoder's is a fifth (default: 5e-5, of narrow decoders more)"),
    "image-size": (int, "pixels (default: the checkpoint's own; of questions 480 or 420)"),
    "train-images": (int, "the first so many alone (default: all)"),
    "val-images": (int, "likewise"),
    "test-images": (int, "likewise"),
}


def add(commands: Any) -> None:
    """Add the parser of the command."""
    tune = commands.add_parser("finetune", help="fine-tune a checkpoint on your data by the paper's recipe, and report")
    tune.add_argument(
        "weights", type=Path, metavar="WEIGHTS", help="what `gitbench caption --weights` takes: of any layout"
    )
    tune.add_argument("--data", required=True, metavar="NAME|PATH", help="as of `gitbench run`")
    tune.add_argument("--task", metavar="NAME", help="caption (default), vqa, video, classify or read")
    data_options(tune)
    tune.add_argument("--work-dir", type=Path, metavar="DIR", help="where runs are kept (default: work_dirs)")
    recipe = tune.add_argument_group("in the place of the recipe's")
    for name, (kind, said) in _NUMBERS.items():
        recipe.add_argument(f"--{name}", type=kind, metavar="N", help=said)
    tune.add_argument("--seeds", type=int, metavar="N", help="trainings, which differ in their seed (default: 1)")
    tune.add_argument(
        "--tokenizer", metavar="NAME|PATH", help="the checkpoint's, where it has none beside it that is found"
    )
    run_options(tune)
    executor_options(tune)
    report_options(tune)
    compute_options(tune)
    memory_option(tune, "all of the smallest GPU here")
    tune.add_argument("--dry-run", action="store_true", help="print the plan, time and memory, train nothing")
    tune.add_argument("--no-report", action="store_true", help="train and score only")
    tune.set_defaults(run=_finetune, profile=PROFILE, encoder=None, start=None)


def _finetune(arguments: argparse.Namespace) -> int:
    from gitbench.machine import gpus

    if arguments.device is None:
        arguments.device = "cuda" if gpus() else "cpu"
    check_executor(arguments)
    study = _planned(arguments)
    print_data_notes(study)
    if arguments.dry_run:
        print_plan(study, at_once(study, arguments))
        print_memory(study)
        return 0
    from gitbench.launch.scheduling import launch

    executor = executor_of(arguments, work_dir_of(arguments))
    outcome = launch(study, arguments.jobs, arguments.plain, executor=executor, trackers=trackers_of(arguments))
    return finish(arguments, study, outcome)


def _planned(arguments: argparse.Namespace) -> Study:
    """Read the facts of the checkpoint and plan the study, for the cards here. Errors: those of either."""
    from gitbench.machine import gpus
    from gitbench.study.finetune import ABLATION, recipe
    from gitbench.study.plan import make_plan
    from gitbench.study.store import Study
    from gitbench.training.start import described

    found = described(arguments.weights, arguments.tokenizer)
    data, task = data_of(arguments), task_of(arguments)
    asked = _asked(arguments)
    profile = recipe(found, data, task, asked, arguments.device)

    def planned() -> Plan:
        return make_plan(
            ABLATION,
            profile,
            data,
            replicates=arguments.seeds,
            task_name=task,
            compute=compute_of(arguments),
            command=_command(arguments),
        )

    cards = gpus() if arguments.device == "cuda" and arguments.gpus_per_run is None and not arguments.cuda_graph else ()
    hold_memory(arguments, planned, min((card.total_gib for card in cards), default=None))
    return Study(work_dir_of(arguments), planned())


def _asked(arguments: argparse.Namespace) -> Asked:
    from gitbench.study.finetune import Asked

    return Asked(**{name.replace("-", "_"): getattr(arguments, name.replace("-", "_")) for name in _NUMBERS})


def _command(arguments: argparse.Namespace) -> str:
    """Return the command that gives this study again; the checkpoint by its name alone."""
    words = ["gitbench", "finetune", arguments.weights.name, *study_words(arguments)[2:]]  # it has one profile
    for name in _NUMBERS:
        value = getattr(arguments, name.replace("-", "_"))
        words += [] if value is None else [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)
