"""The command line, in this process or in one of its own, and an import hook that forbids torch."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys

from gitbench.cli import main

GITBENCH = [sys.executable, "-m", "gitbench"]
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "timm", "torchvision"):
            raise ImportError(f"{name} is imported by a layer that must do without it")
sys.meta_path.insert(0, Block())
"""


def call(*arguments: str) -> subprocess.CompletedProcess:
    """Run a command of gitbench in this process, whose METEOR and fork server it shares with other calls."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(list(arguments))
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def error_of(*arguments: str) -> str:
    """Run a command that must end with status 2 and one line, and return this line."""
    result = call(*arguments)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result.stdout + result.stderr
    assert result.stderr.startswith("gitbench: ")
    return result.stderr


def call_without_torch(*arguments: str, first: str = "") -> subprocess.CompletedProcess:
    """Run a command of gitbench in a process of its own where torch cannot be imported, some code `first`."""
    code = BLOCK + first + f"\nfrom gitbench.cli import main\nraise SystemExit(main({arguments!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180)
