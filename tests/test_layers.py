"""Define, Judge and Show import without torch, and so do planning and the command line."""

import pkgutil
import subprocess
import sys

import pytest
from helpers_cli import BLOCK, call_without_torch

import gitbench.judge
import gitbench.report
import gitbench.study
import gitbench.variants


def submodules(package) -> list[str]:
    return [
        package.__name__,
        *(f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)),
    ]


DEFINE = [
    "gitbench",
    "gitbench.spec",
    "gitbench.profiles",
    "gitbench.ablations",
    "gitbench.registry",
    *submodules(gitbench.variants),
]
JUDGE, SHOW = submodules(gitbench.judge), submodules(gitbench.report)
PLAN = [
    "gitbench.cli",
    "gitbench.launch.scheduling",
    "gitbench.commands.report",
    "gitbench.commands.replicate",
    "gitbench.commands.until_decided",
    *submodules(gitbench.study),
    "gitbench.metrics",
    "gitbench.data",
]


@pytest.mark.parametrize("modules", [DEFINE, JUDGE, SHOW, PLAN], ids=["define", "judge", "show", "plan"])
def test_layer_imports_without_torch(modules):
    code = (
        BLOCK + "\n".join(f"import {name}" for name in modules) + "\nassert 'torch' not in sys.modules\nprint('fine')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "fine", result.stderr[-2000:]


def test_the_block_itself_works():
    result = subprocess.run([sys.executable, "-c", BLOCK + "import torch"], capture_output=True, text=True, timeout=60)
    assert result.returncode != 0 and "must do without it" in result.stderr


def test_listing_needs_no_torch_and_names_what_there_is():
    result = call_without_torch("list")
    assert result.returncode == 0, result.stderr
    for expected in ("decoder_size", "larger-no-better", "smoke", "scenes", "self_6x768", "vit_b16"):
        assert expected in result.stdout
