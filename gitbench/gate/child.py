"""One tier in a process of its own: `python -m gitbench.gate.child TIER SETTING VALUES RESULT`.

VALUES is the JSON file of a reference's values, or "-" to measure what a reference is to hold. The result is JSON in a file;
of a reference of something else it is {"stale": why}.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gitbench import plugins
from gitbench.errors import in_short
from gitbench.files import read_json, write_json
from gitbench.gate.listing import BY_NAME
from gitbench.gate.outcome import BEYOND, Measured, Stale
from gitbench.gate.setting import Setting
from gitbench.processes import end_with_parent, leave
from gitbench.run_key import from_json

STALE_BY = "stale"


def main(tier: str, setting: str, values: str, result: str) -> int:
    """Measure or check; returns 0, or 1 with the error as the last line of stderr."""
    end_with_parent(os.getppid())
    try:
        plugins.load()
        module = importlib.import_module(BY_NAME[tier].module)
        given = from_json(Setting, json.loads(setting))
        if values == "-":
            write_json(result, module.measure(given))
        else:
            write_json(result, as_json(module.check(given, read_json(values))))
        return 0
    except Stale as error:
        write_json(result, {STALE_BY: str(error)})
        return 0
    except Exception as error:
        traceback.print_exc()
        print(in_short(error), file=sys.stderr)
        return 1


def as_json(measured: Measured) -> dict[str, Any]:
    """Return what was measured as JSON can hold it: no number and infinities, which a broken model gives, are null.

    An excess of that kind is `BEYOND`.
    """
    values = _finite(asdict(measured))
    for finding in values["findings"]:
        finding["excess"] = BEYOND if finding["excess"] is None else finding["excess"]
    return values


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    leave(main(*sys.argv[1:]))
