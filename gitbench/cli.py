"""The command line: `gitbench list | run | report | scenes | caption | doctor`.

Parsing and `list` import neither torch nor pandas; each command imports what it needs. Errors meant for people end
with one line on stderr and a non-zero status; Ctrl-C ends with 130 and loses nothing.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gitbench import cli_bundle, cli_lock, cli_noise, cli_report
from gitbench.errors import GitbenchError

if TYPE_CHECKING:
    from gitbench.runs.launch import Outcome
    from gitbench.runs.plan import Plan


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line: what is wrong and where help is."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 not all done, 2 an error to mend, 130 interrupted)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows ASCII alone gets "?" for "×", not a traceback
            stream.reconfigure(errors="replace")
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except GitbenchError as error:
        print(f"gitbench: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("gitbench: stopped; what was done is kept, the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `gitbench list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gitbench",
        description="Reproducible benchmarks and ablations of GIT, the Generative Image-to-text Transformer.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    listing = commands.add_parser("list", help="ablations, arms, claims, profiles, data sets and variants")
    listing.set_defaults(run=_list)

    run = commands.add_parser("run", help="train, evaluate and report an ablation")
    run.add_argument(
        "ablation", metavar="ABLATION", help="a name from `gitbench list`, or the path of an ablation file"
    )
    _study_options(run)
    run.add_argument("--seeds", type=int, metavar="N", help="replicates per arm (default: the profile's)")
    run.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: one per CPU core or GPU share)")
    run.add_argument("--out", type=Path, metavar="DIR", help="where the report goes (default: reports/results/...)")
    run.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="override config values, as in mmengine; such runs enter no claim",
    )
    run.add_argument(
        "--tokenizer", metavar="NAME|PATH", help="a BERT tokenizer instead of the profile's: hub name, folder or file"
    )
    run.add_argument(
        "--until-decided",
        action="store_true",
        help="add seeds where they help most until every claim is decided, with a test that is valid under looking",
    )
    run.add_argument("--budget", metavar="TIME", help="of --until-decided: 45s, 90m, 2h (default: no limit)")
    run.add_argument("--max-seeds", type=int, metavar="N", help="of --until-decided: per arm, at most (default: 30)")
    run.add_argument("--dry-run", action="store_true", help="print the plan and the estimated time, train nothing")
    run.add_argument("--no-report", action="store_true", help="train and score only")
    run.add_argument("--plain", action="store_true", help="plain progress lines, no bar")
    run.set_defaults(run=_run)

    report = commands.add_parser("report", help="rebuild a report from the run folders (needs no torch)")
    report.add_argument("ablation", nargs="?", metavar="ABLATION|BUNDLE")
    _study_options(report)
    report.add_argument("--out", type=Path, metavar="DIR")
    report.add_argument("--bundle", type=Path, metavar="FILE", help="an archive that `gitbench bundle` wrote")
    cli_report.add_board(report)
    report.set_defaults(run=_report)
    cli_report.add(commands, _study_options)

    cli_bundle.add(commands, _study_options)

    cli_noise.add(commands, _study_options)
    cli_lock.add(commands)

    scenes = commands.add_parser("scenes", help="draw scenes of the embedded world with their captions")
    scenes.add_argument("--show", type=int, default=16, metavar="N", help="how many (default 16)")
    scenes.add_argument("--split", default="train", choices=("train", "val", "test"))
    scenes.add_argument("--size", type=int, default=64, metavar="PX", help="pixels a scene is rendered at (default 64)")
    scenes.add_argument("--out", type=Path, default=Path("scenes.png"), metavar="FILE")
    scenes.set_defaults(run=_scenes)

    caption = commands.add_parser("caption", help="caption photographs with a checkpoint of any format")
    caption.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    caption.add_argument(
        "--weights",
        required=True,
        type=Path,
        metavar="PATH",
        help="folder of a finished run, of an official model (snapshot/model.pt) or of save_pretrained, or the file in it",
    )
    caption.add_argument("--beam", type=int, default=4, metavar="N", help="beam size (default 4)")
    caption.add_argument(
        "--tokenizer", metavar="NAME|PATH", help="instead of the checkpoint's own, or BERT's for an official one"
    )
    caption.add_argument("--question", metavar="TEXT", help="answer this about each image (VQA checkpoints)")
    caption.add_argument("--frames", action="store_true", help="the images are the frames of one video, in order")
    caption.set_defaults(run=_caption)

    doctor = commands.add_parser("doctor", help="check this machine: torch, GPUs, Java, disk, packages")
    doctor.set_defaults(run=_doctor)
    return parser


def _study_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile", metavar="NAME", help="smoke, cpu, gpu or paper (default: gpu where CUDA is available, else cpu)"
    )
    parser.add_argument(
        "--task",
        default="caption",
        metavar="NAME",
        help="caption (default), vqa, video, classify or read: what the model is asked for",
    )
    parser.add_argument(
        "--data",
        metavar="NAME|PATH",
        help="scenes (default; scenes-motion for video), or a folder: Parquet shards, COCO layout, questions",
    )
    parser.add_argument("--work-dir", type=Path, metavar="DIR", help="where runs are kept (default: work_dirs)")


def _plan(arguments: argparse.Namespace, replicates: int | None = None) -> Plan:
    from gitbench.ablations import load_ablation
    from gitbench.profiles import get_profile
    from gitbench.runs.plan import make_plan
    from gitbench.runs.store import DEFAULT_WORK_DIR

    ablation = load_ablation(arguments.ablation)
    profile = get_profile(arguments.profile or _default_profile())
    return make_plan(
        ablation,
        profile,
        _data(arguments),
        arguments.work_dir or DEFAULT_WORK_DIR,
        replicates=replicates or getattr(arguments, "seeds", None),
        cfg_options=_cfg_options(arguments.cfg_options),
        tokenizer_path=arguments.tokenizer,
        task_name=arguments.task,
    )


def _data(arguments: argparse.Namespace) -> str:
    from gitbench.tasks import get_task

    return arguments.data or get_task(arguments.task).data


def _default_profile() -> str:
    from gitbench.runs.machine import gpus

    return "gpu" if gpus() else "cpu"


def _cfg_options(items: list[str]) -> dict[str, Any]:
    """Parse KEY=VALUE the way mmengine does: numbers, booleans, None, lists as [a,b] or a,b, else text."""
    from mmengine.config import DictAction

    options = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise GitbenchError(f"--cfg-options {item}: write KEY=VALUE, for example train_cfg.max_iters=100")
        try:
            options[key] = DictAction._parse_iterable(value)
        except AssertionError:
            raise GitbenchError(f"--cfg-options {item}: the brackets of the value do not match: close them") from None
    return options


def _command(arguments: argparse.Namespace, plan: Plan) -> str:
    """Return the command that gives this study again, with defaults that depend on the machine written out."""
    words = ["gitbench", "run", arguments.ablation, "--profile", plan.profile.name]
    if arguments.task != "caption":
        words += ["--task", arguments.task]
    if arguments.data is not None:
        words += ["--data", Path(arguments.data).name if Path(arguments.data).is_dir() else arguments.data]
    if arguments.seeds is not None:
        words += ["--seeds", str(arguments.seeds)]
    if arguments.tokenizer is not None:
        words += [
            "--tokenizer",
            Path(arguments.tokenizer).name if Path(arguments.tokenizer).exists() else arguments.tokenizer,
        ]
    if arguments.cfg_options:
        words += ["--cfg-options", *arguments.cfg_options]
    if arguments.until_decided:
        words += ["--until-decided"]
    if arguments.budget is not None:
        words += ["--budget", arguments.budget]
    if arguments.max_seeds is not None:
        words += ["--max-seeds", str(arguments.max_seeds)]
    return shlex.join(words)


def _list(arguments: argparse.Namespace) -> int:
    from gitbench.ablations import ablation_files, load_ablation, summary
    from gitbench.data import data_names
    from gitbench.profiles import PROFILES
    from gitbench.tasks import TASKS
    from gitbench.variants import axes

    print("ablations")
    for name, path in ablation_files().items():
        print(f"  {name:<20} {summary(path)}")
        ablation = load_ablation(name)
        for size, arms in ablation.arms.items():
            shown = ", ".join(f"{arm.name} ({', '.join(arm.variants.values())})" for arm in arms)
            print(f"    {size:<6} {shown}")
        for claim in ablation.claims:
            print(f"    claim  {claim.name}: {claim.says} ({claim.where})")
    print("profiles")
    for profile in PROFILES.values():
        print(f"  {profile.name:<20} {profile.doc}")
    print("tasks")
    for name, task in TASKS.items():
        print(f"  {name:<20} {task.doc}")
    print("data sets")
    for name in data_names():
        print(f"  {name:<20} part of gitbench: rendered, with captions, questions and graphs; no file, no network")
    print(
        "  FOLDER               Parquet shards ({train,val,test}*.parquet with image, captions), or COCO layout (images/ +\n"
        "                       JSON); vqa: images/ + questions.json; read: Parquet with text; classify: with label"
    )
    print("variants")
    for axis, names in axes().items():
        print(f"  {axis:<20} {', '.join(names)}")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    if arguments.until_decided:
        return _run_until_decided(arguments)
    for option, value in (("--budget", arguments.budget), ("--max-seeds", arguments.max_seeds)):
        if value is not None:
            raise GitbenchError(f"{option} belongs to --until-decided: add that, or leave {option} out")
    plan = _plan(arguments)
    if arguments.dry_run:
        _print_plan(plan, arguments.jobs)
        return 0
    from gitbench.runs.launch import launch

    return _finish(arguments, plan, launch(plan, _command(arguments, plan), arguments.jobs, arguments.plain))


def _run_until_decided(arguments: argparse.Namespace) -> int:
    from gitbench.runs.decide import MAX_SEEDS, check, parse_budget, run_until_decided, seeds_now, start_seeds
    from gitbench.runs.plan import with_seeds
    from gitbench.runs.progress import duration

    budget = None if arguments.budget is None else parse_budget(arguments.budget)
    most = MAX_SEEDS if arguments.max_seeds is None else arguments.max_seeds
    first = _plan(arguments)
    start = start_seeds(first, arguments.seeds)
    check(first, start, most)
    full = _plan(arguments, most)
    if arguments.dry_run:
        _print_plan(with_seeds(full, seeds_now(full, start)), arguments.jobs)
        within = "" if budget is None else f" within {duration(budget)}"
        print(f"  then seeds are added to the arms of open claims{within}, up to {most} an arm")
        return 0
    decision = run_until_decided(full, start, _command(arguments, full), budget, arguments.jobs, arguments.plain)
    print(f"{full.study}: {decision.said}")
    return _finish(arguments, full, decision.outcome, judged=decision.looks > 0)


def _finish(arguments: argparse.Namespace, plan: Plan, outcome: Outcome, judged: bool = True) -> int:
    """Sum up, write the report and name what failed; returns the exit status."""
    print(f"{plan.study}: {outcome.completed} runs trained, {outcome.found} found done, {len(outcome.failed)} failed")
    if not arguments.no_report and outcome.completed + outcome.found and judged:
        from gitbench.runs.publish import publish

        print(f"report: {publish(plan.work_dir, plan.study, arguments.out) / 'report.html'}")
    for arm, replicate, reason in outcome.failed:
        print(f"gitbench: {arm} seed {replicate} failed twice: {reason}", file=sys.stderr)
    return 0 if judged and not outcome.failed else 1


def _print_plan(plan: Plan, jobs: int | None) -> None:
    from gitbench.runs.estimate import estimate_seconds
    from gitbench.runs.launch import slots
    from gitbench.runs.progress import duration

    runs = {run.key: run for run in plan.runs}.values()
    done = [run for run in runs if run.done]
    print(f"{plan.study}: {len(runs)} runs, {len(done)} done, {len(runs) - len(done)} to do")
    for arm in dict.fromkeys(run.arm.name for run in plan.runs):
        states = "".join("x" if run.done else "." for run in plan.runs if run.arm.name == arm)
        first = next(run for run in plan.runs if run.arm.name == arm)
        print(f"  {arm:<12} {first.spec.variant_names[plan.ablation.axis]:<16} [{states}]")
    at_once = len(slots(plan, jobs))
    seconds, measured = estimate_seconds(plan, at_once)
    source = "from finished runs" if measured else "a first guess; no run is finished here yet"
    print(f"  about {duration(seconds)} with {at_once} at a time ({source})")


def _report(arguments: argparse.Namespace) -> int:
    from gitbench.runs.publish import find_study, publish
    from gitbench.runs.store import DEFAULT_WORK_DIR

    if arguments.all:
        return cli_report.board(arguments)
    bundle = cli_bundle.asked_for(arguments)
    if bundle is not None:
        print(f"report: {cli_bundle.report_bundle(bundle, arguments.work_dir, arguments.out) / 'report.html'}")
        return 0
    work_dir = arguments.work_dir or DEFAULT_WORK_DIR
    profile = arguments.profile or _default_profile()
    study = find_study(work_dir, arguments.ablation, profile, _data(arguments), arguments.task)
    print(f"report: {publish(work_dir, study, arguments.out) / 'report.html'}")
    return 0


def _scenes(arguments: argparse.Namespace) -> int:
    from gitbench.data.scene_sheet import draw_contact_sheet

    draw_contact_sheet(arguments.show, arguments.split, arguments.out, arguments.size)
    print(f"{arguments.show} scenes: {arguments.out}")
    return 0


def _caption(arguments: argparse.Namespace) -> int:
    from gitbench.training.caption import caption_files

    captions = caption_files(
        arguments.images,
        arguments.weights,
        arguments.beam,
        tokenizer=arguments.tokenizer,
        question=arguments.question,
        frames=arguments.frames,
    )
    for images, caption in captions:
        print(f"{images}\t{caption}")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from gitbench.doctor import main as diagnose

    return diagnose()


if __name__ == "__main__":
    sys.exit(main())
