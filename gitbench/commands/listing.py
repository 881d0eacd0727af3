"""The command `gitbench list`: ablations, arms, claims, profiles, tasks, data sets and axes. Imports no mmengine."""

from __future__ import annotations

import argparse
import re
import textwrap
from typing import Any

WIDTH = 110


def add(commands: Any) -> None:
    """Add the parser of the command."""
    listing = commands.add_parser("list", help="ablations, arms, claims, profiles, data sets and variants")
    listing.set_defaults(run=_list)


def _list(arguments: argparse.Namespace) -> int:
    from gitbench.ablations import ablation_names, load_ablation, summary
    from gitbench.data import data_names
    from gitbench.data.published import SETS
    from gitbench.profiles import PROFILES
    from gitbench.tasks import TASKS
    from gitbench.variants import AXES

    print("ablations")
    for name in ablation_names():
        print(f"  {name:<20} {summary(name)}")
        ablation = load_ablation(name)
        for size, arms in ablation.arms.items():
            _wrapped(f"    {size:<6} ", [f"{arm.name} ({', '.join(arm.variants.values())})" for arm in arms])
        if "start" in ablation.common:
            own = {size: ablation.starts_on.get(size) for size in ablation.arms}
            for each in dict.fromkeys(own.values()):
                sizes = ", ".join(size for size in own if own[size] == each)
                print(f"    start  {sizes}: {' on '.join(each) if each else 'needs --start WEIGHTS'}")
        for claim in ablation.claims:
            print(f"    claim  {claim.name}: {claim.says} ({claim.where})")
    print("profiles")
    for profile in PROFILES.values():
        print(f"  {profile.name:<20} {profile.doc}")
    print("tasks")
    for name, task in TASKS.items():
        print(f"  {name:<20} {task.doc}")
    print("data sets")
    for name in data_names():
        print(f"  {name:<20} registered: needs no folder")
    print("  SET:FOLDER           a folder that holds a published set, read by its rules:")
    for name, known in SETS.items():
        print(f"    {name:<18} {known.doc} (--task {known.task})")
    print(
        "  FOLDER               any folder whose layout is known: COCO, Parquet, CSV, JSONL, WebDataset, classes, ...\n"
        "                       (`gitbench data FOLDER` says what it is taken for)\n"
        "  hub:OWNER/NAME       a data set of Hugging Face's hub"
    )
    print("axes and their variants")
    for axis in AXES.values():
        print(f"  {axis.name:<20} {axis.doc}")
        for family in _families(list(axis.variants)):
            _wrapped("    ", family)
    return 0


def _families(names: list[str]) -> list[list[str]]:
    """Return names in groups whose members are alike but for their numbers: one group a line."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    alone = [group[0] for group in groups.values() if len(group) == 1]
    return [group for group in groups.values() if len(group) > 1] + ([alone] if alone else [])


def _wrapped(start: str, items: list[str]) -> None:
    """Print items after `start`, in lines of at most `WIDTH` columns that break between items."""
    whole = ", ".join(item.replace(" ", "\N{NO-BREAK SPACE}") for item in items)
    indent = " " * len(start)
    text = textwrap.fill(
        whole, WIDTH, initial_indent=start, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    print(text.replace("\N{NO-BREAK SPACE}", " "))
