"""Define, Judge and Show import without torch, and so do planning and the command line."""

import pkgutil
import subprocess
import sys

from helpers_cli import BLOCK

import gitbench.data
import gitbench.judge
import gitbench.report
import gitbench.study
import gitbench.variants


def submodules(package) -> list[str]:
    return [
        package.__name__,
        *(module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")),
    ]


MODULES = [
    *(f"gitbench.{name}" for name in ("spec", "profiles", "ablations", "registry", "metrics", "cli")),
    *(f"gitbench.commands.{name}" for name in ("report", "replicate", "until_decided", "judge")),
    "gitbench.launch.scheduling",
    *submodules(gitbench.variants),
    *submodules(gitbench.judge),
    *submodules(gitbench.report),
    *submodules(gitbench.study),
    *(name for name in submodules(gitbench.data) if name != "gitbench.data.dataset"),
]


def test_define_judge_show_and_planning_import_without_torch():
    code = BLOCK + "\n".join(f"import {name}" for name in MODULES) + "\nassert 'torch' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]


def test_the_block_itself_works():
    result = subprocess.run([sys.executable, "-c", BLOCK + "import torch"], capture_output=True, text=True, timeout=60)
    assert result.returncode != 0 and "must do without it" in result.stderr
