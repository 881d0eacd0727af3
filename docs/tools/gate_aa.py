"""False alarms of the gate: checks of code that did not change, one after another, on an idle or a busy machine.

    python docs/tools/gate_aa.py --tiers speed --checks 200 --busy 1 --csv docs/gate_aa.csv [--write docs/gate_calibration.md]

Run it in a clone without changes: `speed` compares HEAD with itself, the others compare it with their references. A line of the
CSV is a tier of a check, with the revision that was checked; what is there already counts, so that a series may be stopped and
goes on, and another machine, load or revision is added to it. `--busy N`: so many endless loops compute beside the checks; `--beside WORDS` names what else does.
`--checks 0` only makes the tables.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from scipy import stats
from simulate import table, write_into

from gitbench.gate.listing import Tier, chosen
from gitbench.gate.outcome import FINE, REGRESSED, STALE, UNMEASURED, Outcome
from gitbench.gate.ratios import LEAST
from gitbench.gate.reference import default_folder
from gitbench.gate.run import run_check
from gitbench.gate.setting import Setting
from gitbench.machine import cpu_count, cpu_name, machine_label

BEGIN = "<!-- made by docs/tools/gate_aa.py -->"
BY, ALL = ["machine", "busy", "tier"], "all"


def checks(count: int, tiers: Sequence[Tier], busy: int, beside: str | None, minutes: float, csv: Path) -> None:
    """Check tiers so many times beside so many busy loops; each outcome is a line that is added to the CSV.

    beside: what else computes meanwhile, in words, which the CSV has in place of the number of loops.
    """
    with tempfile.TemporaryDirectory(prefix="gitbench-") as folder, loops(busy):
        for number in range(1, count + 1):
            setting = Setting(folder="", jobs=cpu_count(), base="HEAD")
            found = run_check(
                Path(folder) / "gate", setting, tiers, default_folder(), 60 * minutes, say=lambda line: None
            )
            of = {"machine": f"{cpu_name()}, {machine_label()}", "busy": beside or busy, "revision": (found.revision or "")[:10]}
            rows = pd.DataFrame([of | row_of(each) for each in found.outcomes])
            rows.to_csv(csv, mode="a", header=not csv.is_file(), index=False)
            print(
                f"{number} of {count}: " + ", ".join(f"{each.tier} {each.status}" for each in found.outcomes),
                flush=True,
            )


@contextlib.contextmanager
def loops(count: int) -> Iterator[None]:
    """Let so many endless loops compute while the block runs."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


def row_of(outcome: Outcome) -> dict[str, object]:
    """Return what the CSV keeps of an outcome; `ratios`: of `speed`, in JSON, (low, high) of what had pairs enough."""
    measured = outcome.measured
    ratios = measured.details.get("ratios", {}) if measured else {}
    return {
        "tier": outcome.tier,
        "status": outcome.status,
        "seconds": outcome.seconds,
        "compared": measured.compared if measured else 0,
        "said": "; ".join([*outcome.why, *(each.said for each in (measured.findings if measured else ()))]),
        "ratios": json.dumps(
            {
                name: [round(each["low"], 4), round(each["high"], 4)]
                for name, each in ratios.items()
                if each["of"] == "memory" or len(each["pairs"]) >= LEAST
            }
        ),
    }


def alarms(found: pd.DataFrame) -> str:
    """Return the table of false alarms with exact (Clopper-Pearson) 95 % intervals: by tier, machine and load; by tier in all."""
    rows = []
    whole = [((ALL, ALL, tier), of_one) for tier, of_one in found.groupby("tier", sort=False)]
    for (machine, busy, tier), of_one in [*found.groupby(BY, sort=False), *whole]:
        count = of_one["status"].value_counts()
        red = int(count.get(REGRESSED, 0))
        ends = stats.binomtest(red, len(of_one)).proportion_ci(0.95, method="exact")
        others = [str(count.get(status, 0)) for status in (FINE, UNMEASURED, STALE)]
        rate = f"{100 * red / len(of_one):.1f} ({100 * ends.low:.1f} to {100 * ends.high:.1f})"
        seconds = f"{of_one['seconds'].median():.0f} ({of_one['seconds'].max():.0f})"
        rows.append([tier, machine, str(busy), str(len(of_one)), str(red), rate, *others, seconds])
    head = ["tier", "machine", "busy loops beside", "checks", "red", "false alarms, % (95 %)", FINE, UNMEASURED, STALE]
    return table([*head, "seconds, median (most)"], rows)


def widths(found: pd.DataFrame) -> str:
    """Return the table of how exact `speed` is: half the width of intervals in per cent, and the smallest red increase."""
    rows = []
    for (machine, busy, _), of_one in found[found["tier"] == "speed"].groupby(BY, sort=False):
        checks = [json.loads(each) for each in of_one["ratios"]]
        for name in dict.fromkeys(name for each in checks for name in each):
            ends = [each[name] for each in checks if name in each]
            half = sorted(50 * math.log(high / low) for low, high in ends)
            highest = max(high for _, high in ends)
            cells = [
                f"{statistics.median(half):.1f}",
                f"{half[-1]:.1f}",
                f"{100 * (max(low for low, _ in ends) - 1):+.1f}",
            ]
            rows.append(
                [name, machine, str(busy), f"{len(ends)} of {len(checks)}", *cells, f"{100 * (highest - 1):+.1f}"]
            )
    head = [
        "quantity",
        "machine",
        "busy loops beside",
        "with an interval",
        "half width, %: median",
        "most",
        "highest lower end, %",
    ]
    return table([*head, "highest upper end, %"], rows)


def report(csv: Path) -> str:
    """Return the tables of a CSV."""
    found = pd.read_csv(csv, dtype={"revision": str}, keep_default_na=False)
    revisions = f"Revisions: {', '.join(found['revision'].unique())}."
    return "\n\n".join([alarms(found), *([widths(found)] if (found["tier"] == "speed").any() else []), revisions])


def main(arguments: Sequence[str] | None = None) -> None:
    """Check, add to the CSV, print the tables or write them into a page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tiers", metavar="NAME,...", help="(default: all)")
    parser.add_argument("--checks", type=int, default=20, metavar="N")
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="endless loops beside the checks")
    parser.add_argument("--beside", metavar="WORDS", help="what else computes meanwhile, for the table")
    parser.add_argument("--minutes", type=float, default=15.0, metavar="M", help="of a check at most")
    parser.add_argument("--csv", type=Path, required=True, metavar="FILE")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this Markdown file")
    given = parser.parse_args(arguments)
    checks(given.checks, chosen(given.tiers), given.busy, given.beside, given.minutes, given.csv)
    if given.write is None:
        print(report(given.csv))
    else:
        write_into(given.write, report(given.csv), BEGIN)


if __name__ == "__main__":
    main()
