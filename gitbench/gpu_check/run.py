"""All checks, one after another, each in a process of its own with a time limit; what one does stops no other. No torch."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import gitbench
from gitbench.errors import GitbenchError
from gitbench.files import ROOT, cache_variables, explain_os_errors, load_json, make_dir
from gitbench.gpu_check.listing import BUDGET, CHECKS, Check, deadlines
from gitbench.gpu_check.page import PAGE, RESULTS, WHOLE, write_page
from gitbench.gpu_check.results import FAILED, NO_CARD, NOT_RUN, TIMED_OUT, Result, append, is_proof, read
from gitbench.gpu_check.sizes import Setting
from gitbench.machine import gpus
from gitbench.processes import run_for, why_failed
from gitbench.study.provenance import environment, installed_version, now

LEAST = 5.0  # seconds below which a check is not begun
PACKED = ROOT / "packed.json"  # in an unpacked archive: the revision that it was made of
_KEPT = ("git_revision", "git_dirty", "python", "platform", "cpu", "cpu_count", "gpus")


def run_checks(
    folder: Path,
    device: Literal["cuda", "cpu"],
    checks: Sequence[Check] = CHECKS,
    budget: float = BUDGET,
    say: Callable[[str], None] = print,
) -> list[Result]:
    """Run checks in `folder`, in `budget` seconds; the page there is up to date all the time.

    What is in the folder of an earlier proof goes. Errors: GitbenchError where there is no card to prove anything on.
    """
    if device == "cuda" and not gpus():
        raise GitbenchError(
            "no GPU is in sight, so that nothing can be proven: run it on a machine with one (see `gitbench doctor`), or "
            "pass --device cpu to test the checks themselves"
        )
    _clear(folder)
    results, began = folder / RESULTS, time.monotonic()
    append(results, {"kind": "made", **made(device, checks, budget)})
    for check, deadline in zip(checks, deadlines(checks, budget), strict=True):
        left = deadline - (time.monotonic() - began)
        say(f"{check.name}: {check.doc} (up to {max(0.0, left):.0f} s)")
        started = time.monotonic()
        ended, why = _run(check, device, folder, left)
        seconds = round(time.monotonic() - started, 1)
        append(results, {"kind": "end", "check": check.name, "ended": ended, "seconds": seconds, "said": why})
        write_page(folder)
        _, found = read(results)
        for line in told(found[-1]):
            say(f"    {line}")
    return read(results)[1]


def made(device: str, checks: Sequence[Check], budget: float) -> dict[str, Any]:
    """Return where a proof is made and of what: card, driver, versions, revision."""
    here = environment()
    found = {name: here[name] for name in _KEPT} | (load_json(PACKED) or {})
    versions = {**here["packages"], "gitbench": gitbench.__version__}  # which an archive does not install
    if version := installed_version("transformers"):
        versions["transformers"] = version
    return {
        **found,
        "device": device,
        "card": found["gpus"][0] if device == "cuda" else None,
        "driver": driver_version(),
        "versions": versions,
        "started": now(),
        "budget": budget,
        "asked": [check.name for check in checks],
    }


def driver_version(told_by: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    """Return the version of NVIDIA's driver; None without one, or where nothing tells it."""
    try:
        if found := re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", told_by.read_text(encoding="utf-8")):
            return found[1]
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        return said.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def told(result: Result) -> list[str]:
    """Return a result in lines for the terminal: its outcome, then what failed."""
    end = f"{result.outcome} in {result.seconds:g} s" + (f": {result.said}" if result.said else "")
    failed = [finding for finding in result.findings if finding.passed is False]
    return [end, *(f"failed: {f.what}: {f.said or f.value} (asked: {f.asked})" for f in failed)]


def _clear(folder: Path) -> None:
    """Remove what an earlier proof left in a folder; what is no proof's stays, and is an error if it is in the way."""
    make_dir(folder)
    folders, files = ("runs", "logs"), (RESULTS, PAGE, WHOLE)
    if is_proof(folder / RESULTS):
        with explain_os_errors(folder):
            for name in folders:
                shutil.rmtree(folder / name, ignore_errors=True)
            for name in files:
                (folder / name).unlink(missing_ok=True)
    elif there := [name for name in (*folders, *files) if (folder / name).exists()]:
        raise GitbenchError(f"{folder} holds something else ({', '.join(there)}): pass another --out")


def _run(check: Check, device: Literal["cuda", "cpu"], folder: Path, seconds: float) -> tuple[str, str]:
    """Run a check in its own process; returns how that ended, and what it said if not well."""
    if check.needs_card and device == "cpu":
        return NOT_RUN, NO_CARD
    if seconds < LEAST:
        return TIMED_OUT, "no time was left: raise --budget"
    setting = Setting(device=device, folder=str(folder.resolve()))
    log = make_dir(folder / "logs") / f"{check.name}.txt"
    command = [sys.executable, "-m", "gitbench.gpu_check.child", check.name, check.module, json.dumps(asdict(setting))]
    try:
        status = run_for([*command, str((folder / RESULTS).resolve())], child_environment(folder, device), log, seconds)
    except subprocess.TimeoutExpired:
        return TIMED_OUT, f"not done after {seconds:.0f} s"
    return (FAILED, why_failed(status, log)) if status else ("done", "")


def child_environment(folder: Path, device: str) -> dict[str, str]:
    """Return the environment of a check: nothing is fetched, and nothing is written outside of the folder."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    own |= cache_variables(folder / "cache")
    return {**os.environ, **own, **({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})}
