"""Tier 4, speed and memory: the base revision and this code in turns, in one job; red where a whole interval lies beyond 10 %.

Each activity of `workload.py` is done by two processes, one with the code of either side (`base.py`, `sides.py`), of which one
computes at a time: blocks of half a second, pair after pair (`compared.py`), until the interval of their ratio (`ratios.py`)
is narrow and lies on one side of 10 %, or time is up. What looks red is measured again by fresh
processes: one runs a few per cent faster or slower than the next of the same code. Times are those of a clock on the wall;
on a machine that is too busy for it to tell, of processor time. What the base can do and the change cannot, twice, is red. A
quantity that cannot be told with all the time there is, or since the base cannot do it, leaves the tier without an answer,
unless another is red.
"""

from __future__ import annotations

import compileall
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gitbench.files import ROOT, make_dir
from gitbench.gate.base import Base, base_of, has_code_of, python_for, unpack
from gitbench.gate.compared import NEEDED, Comparison, Ratios
from gitbench.gate.outcome import BEYOND, Finding, Measured
from gitbench.gate.ratios import ALLOWED, Ratio
from gitbench.gate.setting import Setting
from gitbench.gate.sides import Failed, Side

ENDS, GIVEN_UP = 0.87, 0.93  # shares of the time limit: measuring ends; processes that do not answer are given up
SHARES = {"train": 4, "caption": 4, "score": 2, "start": 4, "listing": 2}  # activity -> its share of the time
AT_CODE = "name another --base, or let gitbench/gate/workload.py do it with the code of both"
AT_MACHINE = "take a machine that does less, or has more memory and disk"
OF_STEP = 0.5  # share of a step's increase from which on waiting for data is to blame for it


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A quantity: whose ratio it is, the part that is likely at fault, its unit, and how an increase is said."""

    activity: str
    ratio: str  # of `compared.Ratios`
    part: str
    unit: str
    says: str


_STEP = {"activity": "train", "unit": "seconds a training step"}
QUANTITIES = {  # what lies upstream first
    "waiting for data": Quantity(
        **_STEP, ratio="wait", part="data", says="waiting for data makes a training step {} longer"
    ),
    "start of a run": Quantity(
        activity="start",
        ratio="time",
        part="data",
        unit="seconds to the first step",
        says="a run takes {} longer to its first step",
    ),
    "start of a command": Quantity(
        activity="listing",
        ratio="time",
        part="data",
        unit="seconds of `gitbench list`",
        says="`gitbench list` takes {} longer",
    ),
    "training step": Quantity(**_STEP, ratio="time", part="decoder", says="a training step takes {} longer"),
    "training memory": Quantity(
        activity="train", ratio="memory", part="decoder", unit="bytes", says="training holds {} more memory"
    ),
    "captioning": Quantity(
        activity="caption",
        ratio="time",
        part="search",
        unit="seconds a batch of captions",
        says="captioning takes {} longer",
    ),
    "captioning memory": Quantity(
        activity="caption", ratio="memory", part="search", unit="bytes", says="captioning holds {} more memory"
    ),
    "scoring": Quantity(
        activity="score", ratio="time", part="metric", unit="seconds a set of captions", says="scoring takes {} longer"
    ),
}


def check(setting: Setting, values: Mapping[str, Any]) -> Measured:
    """Compare this code with its base revision; there are no values of a reference.

    Errors: GitbenchError where there is no base, or one that cannot plan the run that is measured.
    """
    began, folder = time.monotonic(), make_dir(Path(setting.folder)).resolve()
    base = base_of(ROOT, setting.base)
    for left in folder.glob("sides-*"):  # by a check that was killed
        shutil.rmtree(left, ignore_errors=True)
    place = Path(tempfile.mkdtemp(prefix="sides-", dir=folder))
    try:
        before, notes = side_of(base, place / "base", folder)
        after = Side(name="change", tree=ROOT, python=sys.executable, folder=make_dir(place / "change"), logs=folder)
        asked = asdict(setting.subject) | {"device": setting.device}
        comparison = Comparison(before, after, asked, began + GIVEN_UP * setting.seconds, setting.jobs)
        found = in_time(comparison, began + ENDS * setting.seconds) if comparison.prepare() else {}
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return measured(found, comparison.failed, comparison.seconds, f"{base.short}, {base.said}", notes)


def side_of(base: Base, folder: Path, logs: Path) -> tuple[Side, list[str]]:
    """Unpack the base revision into a folder; return it as a side, and what is to be said of its code and environment."""
    unpack(ROOT, base, folder / "tree")
    compileall.compile_dir(folder / "tree" / "gitbench", quiet=2)  # as the change is: else its imports held more
    python, note = python_for(ROOT, folder / "tree", folder / "venv")
    side = Side(name="base", tree=folder / "tree", python=python, folder=folder, logs=logs)
    same = "the base has the very code of this tree: what differs is noise" if has_code_of(ROOT, base) else None
    return side, [said for said in (same, note) if said]


def in_time(comparison: Comparison, until: float) -> dict[str, Ratios]:
    """Measure all activities, each in its share of the time that is left: what one leaves over, the next ones have.

    What all leave over those have again that have something to tell. An activity that a side cannot do is not returned.
    """
    found, asked = dict[str, Ratios](), list(SHARES)
    while asked:
        for place, activity in enumerate(asked):
            share = SHARES[activity] / sum(SHARES[each] for each in asked[place:])
            ratios = comparison.ratios(activity, (until - time.monotonic()) * share)
            found.pop(activity, None)
            if ratios is not None:
                found[activity] = ratios
        more = until - time.monotonic() >= NEEDED
        asked = [activity for activity in asked if more and not _told(found.get(activity))]
    return found


def _told(ratios: Ratios | None) -> bool:
    """Tell whether an activity needs no more time: all of its quantities are told, or a side cannot do it (None)."""
    return ratios is None or bool(ratios) and all(ratio.told for ratio in ratios.values())


def measured(
    found: Mapping[str, Ratios], failed: Mapping[str, Failed], seconds: Mapping[str, float], base: str, notes: list[str]
) -> Measured:
    """Return what was found of ratios, and of activities that a side cannot do.

    `seconds`: of a unit of each activity in the base, which is told in words.
    """
    ratios = {
        name: found[quantity.activity][quantity.ratio]
        for name, quantity in QUANTITIES.items()
        if quantity.ratio in found.get(quantity.activity, {})
    }
    unclear = [
        f"{name} could not be told: {each.low:.2f} to {each.high:.2f} times the base after {len(each.pairs)} pairs"
        for name, each in ratios.items()
        if not each.told
    ]
    timeless = [f"{activity} was left out: no time was left" for activity, each in found.items() if not each]
    broken, left_out = failures(failed)
    busy = [
        f"{name}: this machine is too busy for a clock to tell, so processor time is compared, in which sleeping and waiting "
        "(for a disk, a lock, another process) are not seen"
        for name, each in ratios.items()
        if each.of == "processor time"
    ]
    pairs = sum(len(each["time"].pairs) for each in found.values() if each)
    return Measured(
        compared=len(ratios) - len(unclear) + len(broken),
        did=f"{len(ratios)} quantities beside those of {base}; {pairs} pairs of blocks in turns",
        findings=(*broken, *(finding(name, ratios) for name, each in ratios.items() if each.red)),
        notes=(*notes, *busy),
        untold=(
            *left_out,
            *(f"{each}: take a machine that does less, or raise --minutes" for each in (*unclear, *timeless)),
        ),
        finds=", ".join(f"{name} +{100 * (each.found - 1):.0f} %" for name, each in ratios.items() if each.found),
        details={"ratios": {name: _plain(name, ratio, seconds) for name, ratio in ratios.items()}},
    )


def failures(failed: Mapping[str, Failed]) -> tuple[list[Finding], list[str]]:
    """Return what is said of activities that a side cannot do: findings where the change's code cannot, else what is left out."""
    findings, left_out = list[Finding](), list[str]()
    timed = {each.activity: (name, each.part) for name, each in QUANTITIES.items() if each.ratio == "time"}
    for activity, error in failed.items():
        if error.side == "base" or not error.of_code:
            left_out.append(f"{activity} was left out: {error}: {AT_CODE if error.of_code else AT_MACHINE}")
            continue
        name, part = timed.get(activity, ("plan of a run", "data"))
        findings.append(
            Finding(
                quantity=name,
                part=part,
                value="it fails",
                reference="the base can do it",
                excess=BEYOND,
                said=f"{error}; the base can",
            )
        )
    return findings, left_out


def finding(name: str, ratios: Mapping[str, Ratio]) -> Finding:
    """Return the finding of a quantity that is red. A step that is longer because it waits is the data's fault."""
    ratio, quantity, part = ratios[name], QUANTITIES[name], QUANTITIES[name].part
    waiting = ratios.get("waiting for data")
    if name == "training step" and waiting and waiting.estimate - 1 > OF_STEP * (ratio.estimate - 1):
        part = "data"
    longer = quantity.says.format(f"{100 * (ratio.estimate - 1):.0f} %")
    said = f"{longer} ({100 * (ratio.low - 1):.0f} to {100 * (ratio.high - 1):.0f} %), {100 * (ALLOWED - 1):.0f} % are allowed"
    return Finding(
        quantity=name,
        part=part,
        value=f"{ratio.estimate:.2f} times the base",
        reference=f"at most {ALLOWED:.2f} times",
        excess=(ratio.estimate - 1) / (ALLOWED - 1),
        said=said,
    )


def _plain(name: str, ratio: Ratio, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return a ratio as plain values; `base`: what the quantity took there, where it is a time."""
    quantity = QUANTITIES[name]
    values = {"pairs": [round(each, 4) for each in ratio.pairs], "estimate": ratio.estimate}
    found = {
        **values,
        "low": ratio.low,
        "high": ratio.high,
        "unit": quantity.unit,
        "of": ratio.of,
        "found": ratio.found,
    }
    return found | ({"base": seconds[quantity.activity]} if quantity.ratio == "time" else {})
