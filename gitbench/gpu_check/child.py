"""One check in a process of its own: `python -m gitbench.gpu_check.child NAME MODULE SETTING FILE`."""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from pathlib import Path

from gitbench.errors import in_short
from gitbench.gpu_check.results import Report
from gitbench.gpu_check.sizes import Setting
from gitbench.processes import leave


def main(name: str, module: str, setting: str, file: str) -> int:
    """Run the check of a module, whose findings go to a file; returns 0, or 1 with the error as the last line of stderr."""
    try:
        importlib.import_module(module).check(Setting(**json.loads(setting)), Report(name, Path(file)))
        return 0
    except Exception as error:
        traceback.print_exc()
        print(in_short(error), file=sys.stderr)
        return 1


if __name__ == "__main__":
    leave(main(*sys.argv[1:]))
