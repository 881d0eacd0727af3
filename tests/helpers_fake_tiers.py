"""A plugin whose tiers do in a moment what real ones may do in minutes: pass, fail, crash, hang, write half a result."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.gate import listing
from gitbench.gate.listing import Tier
from gitbench.gate.outcome import Finding, Measured, Stale
from gitbench.gate.setting import Setting


def measure(setting: Setting) -> dict[str, Any]:
    """The value that the test has put into the environment."""
    made(setting, "measured")
    return {"value": float(os.environ.get("FAKE_VALUE", "1"))}


def passes(setting: Setting, values: dict[str, Any]) -> Measured:
    """Compare the value with the reference's."""
    made(setting, "checked")
    here, there = measure(setting)["value"], values["value"]
    said = f"the value is {here:g} | not <{there:g}>"
    finding = Finding(
        quantity="value", part="decoder", value=f"{here:g}", reference=f"{there:g}", excess=here / there, said=said
    )
    return Measured(compared=1, did="one value", findings=(finding,) if here != there else ())


def hangs(setting: Setting, values: dict[str, Any]) -> Measured:
    """As `passes`, and then wait, as long as a file is there."""
    measured = passes(setting, values)
    Path(os.environ["FAKE_HANG"]).with_name("pid").write_text(str(os.getpid()))
    while Path(os.environ["FAKE_HANG"]).exists():
        time.sleep(0.02)
    return measured


def crashes(setting: Setting, values: dict[str, Any]) -> Measured:
    raise ValueError("no such\nthing")


def refuses(setting: Setting, values: dict[str, Any]) -> Measured:
    raise GitbenchError("the base cannot be found: name one with --base")


def dies(setting: Setting, values: dict[str, Any]) -> Measured:
    os.kill(os.getpid(), 9)
    raise AssertionError


def halves(setting: Setting, values: dict[str, Any]) -> Measured:
    """Write half a result, and end well."""
    (Path(setting.folder) / "result.json").write_text('{"compared": 3, "did": ')
    os._exit(0)


def misspells(setting: Setting, values: dict[str, Any]) -> Measured:
    """Write a result of another kind, and end well."""
    (Path(setting.folder) / "result.json").write_text('{"compared": "three", "did": "this"}')
    os._exit(0)


def idles(setting: Setting, values: dict[str, Any]) -> Measured:
    return Measured(compared=0, did="nothing at all")


def wavers(setting: Setting, values: dict[str, Any]) -> Measured:
    return Measured(compared=1, did="two values", untold=("one of two could not be told",))


def outdates(setting: Setting, values: dict[str, Any]) -> Measured:
    raise Stale("it is of another study: record it again")


def explodes(setting: Setting, values: dict[str, Any]) -> Measured:
    """Find what a broken model gives: no number, and infinity."""
    inf, nan = float("inf"), float("nan")
    finding = Finding(quantity="loss", part="decoder", value="nan", reference="1", excess=inf, said="the loss is nan")
    curve = {"steps": [1, 2], "value": [1.0, nan], "reference": [1.0, 1.0], "low": [0.9, 0.9], "high": [1.1, inf]}
    return Measured(compared=2, did="two steps", findings=(finding,), details={"curves": {"base": curve}})


def made(setting: Setting, what: str) -> None:
    """Leave a mark in the tier's folder, and one for the test."""
    with open(Path(setting.folder) / "work.txt", "a") as file:
        file.write(f"{what}\n")
    if log := os.environ.get("FAKE_LOG"):
        with open(log, "a") as file:
            file.write(f"{what} {Path(setting.folder).name}\n")


CHECKS = (passes, hangs, crashes, refuses, dies, halves, misspells, idles, wavers, outdates, explodes)
listing.TIERS = tuple(
    Tier(name=check.__name__, doc="a fake", limit=20.0, has_reference=check is not refuses) for check in CHECKS
)
listing.BY_NAME.clear()
listing.BY_NAME.update({tier.name: tier for tier in listing.TIERS})
for check in CHECKS:
    module: Any = ModuleType(f"gitbench.gate.{check.__name__}")
    module.measure, module.check = measure, check
    sys.modules[module.__name__] = module
