"""The command line in a process of its own, and an import hook that forbids torch."""

from __future__ import annotations

import subprocess
import sys

GITBENCH = [sys.executable, "-m", "gitbench"]
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "timm", "torchvision"):
            raise ImportError(f"{name} is imported by a layer that must do without it")
sys.meta_path.insert(0, Block())
"""


def call(*arguments: str, timeout: float = 200) -> subprocess.CompletedProcess:
    """Run a command of gitbench."""
    return subprocess.run([*GITBENCH, *arguments], capture_output=True, text=True, timeout=timeout)


def call_without_torch(*arguments: str) -> subprocess.CompletedProcess:
    """Run a command of gitbench where torch cannot be imported."""
    code = BLOCK + f"from gitbench.cli import main\nraise SystemExit(main({arguments!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180)
