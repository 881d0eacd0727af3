"""One work in a process of its own: `python -m gitbench.bench.child JSON`, called by `run.py`.

Memory, allocator and caches of one work never touch the next. What it measured goes to the file that the JSON names; a
failed check ends it with status 2 and one line, and no file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from gitbench.bench.plan import WORKS
from gitbench.bench.rows import Row, to_json
from gitbench.bench.shapes import get_shape
from gitbench.errors import GitbenchError
from gitbench.files import write_json


def main(order: dict[str, Any]) -> None:
    """Measure what the order says: work, shape, peers, official, repeats, threads, out; of scoring: images, captions."""
    rates: dict[str, float] = {}
    rows: list[Row]
    if order["work"] == "scoring":
        from gitbench.bench.scoring import scoring_rows

        rows = scoring_rows(order["repeats"], images=order["images"], data=order["captions"])
    else:
        import torch

        from gitbench.bench.workloads import make_setting, measure

        torch.set_num_threads(order["threads"])
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if device.type == "cuda":  # float32 is float32, for every program
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        setting = make_setting(device, order["repeats"], Path(order["official"]) if order["official"] else None)
        rows = measure(WORKS[order["work"]], get_shape(order["shape"]), order["peers"], setting)
        rates = setting.rates
    write_json(order["out"], {"rows": [to_json(row) for row in rows], "rates": rates})


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except GitbenchError as problem:
        print(f"gitbench: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)
