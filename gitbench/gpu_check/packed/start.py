"""The archive's own program, its `__main__.py`: `python3 gpu_check.pyz [options of gitbench gpu-check]`.

It unpacks into the current folder and runs `gitbench gpu-check` with the packages that it brought, and the torch and, where it
is installed, the numpy that are there. Nothing but the standard library is imported.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import sys
import zipfile
from pathlib import Path

LEAST = (2, 6)  # version of torch


def main() -> None:
    """Unpack and run."""
    archive = Path(sys.argv[0]).resolve()
    with zipfile.ZipFile(archive) as packed:
        made = json.loads(packed.read("packed.json"))
        here = ".".join(map(str, sys.version_info[:2]))
        if here != made["target_python"]:
            sys.exit(
                f"gpu_check: the archive is for Python {made['target_python']} and this is {here}: pack it with --python {here}"
            )
        if importlib.util.find_spec("torch") is None:
            sys.exit(f"gpu_check: {sys.executable} has no torch: start the archive with the Python that has")
        if old := too_old():
            sys.exit(
                f"gpu_check: torch {old} is installed and {'.'.join(map(str, LEAST))} is needed: install a newer one"
            )
        folder = Path.cwd() / f"{archive.stem}-{made['content']}"
        if not (folder / "packed.json").is_file():  # which comes last
            for name in packed.namelist():
                if name not in ("__main__.py", "packed.json"):
                    packed.extract(name, folder)
            packed.extract("packed.json", folder)
    own = [folder, folder / "site", *([] if has_numpy() else [folder / "numpy"])]
    paths = [*map(str, own), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "gitbench", "gpu-check", *sys.argv[1:]]
    os.execve(sys.executable, command, environment)


def too_old() -> str | None:
    """Return the version of torch if gitbench cannot use it; None if it can, or where nothing tells the version."""
    try:
        version = importlib.metadata.version("torch")
        return version if tuple(map(int, version.split(".")[:2])) < LEAST else None
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


def has_numpy() -> bool:
    """Tell whether a numpy is installed that gitbench can use."""
    try:
        return int(importlib.metadata.version("numpy").split(".")[0]) >= 2
    except importlib.metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    main()
