"""Plant each mistake of `tests/planted` in a copy of this tree and see which tier of the gate turns red: `nox -s planted`.

    python docs/tools/planted.py [--only NAME,...] [--tiers TIER,...] [--jobs N] [--device cuda] [--out DIR]

A patch says in its first line what is wrong, and then which part is at fault and which tier is expected to see it first.
Tiers are tried in their order up to the first that is red; `speed` last, alone on the machine. Controls, the tree as it is
and the harmless changes of `tests/planted/controls`, must be green in every tier. The copies start from the cache that the
unpatched tree left, as a developer's does: what a changed reader makes is not to be found there.

What was measured stands in OUT/results.jsonl, to which lines are only added: a campaign that was stopped goes on, and leaves
lines of another tree or patch aside. Ends with 1 where a mistake was missed or a control red.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.files import load_json, write_text
from gitbench.gate.listing import chosen
from gitbench.gate.outcome import FINE, PARTS, REGRESSED, UNMEASURED
from gitbench.machine import cpu_count

ROOT = Path(__file__).resolve().parents[2]
PLANTED = ROOT / "tests" / "planted"
COPIED = ("gitbench", "ablations", "gate", "reports/paper", "reports/templates", "claims.lock", "pyproject.toml")
UNPATCHED = "unpatched"
ALONE = "speed"  # the tier that bears no company
CHEAP = ("exact", "trajectory")

Line = dict[str, Any]  # of results.jsonl: how one tier ended on one planted tree


@dataclass(frozen=True, kw_only=True)
class Plant:
    """A change to be planted. `part` and `tier` are what is expected of a mistake; controls have none."""

    name: str
    says: str
    patch: str  # a unified diff; "" for none
    part: str = ""
    tier: str = ""

    @property
    def control(self) -> bool:
        return not self.tier

    @property
    def digest(self) -> str:
        """A hash of what is planted."""
        return hashlib.sha256(self.patch.encode()).hexdigest()[:16]


def read_plant(path: Path) -> Plant:
    """Read a patch. Errors: GitbenchError for one whose head does not say what it is."""
    head, start, diff = path.read_text(encoding="utf-8").partition("--- a/")
    says, *lines = head.strip().splitlines() or [""]
    expected = dict(line.split(": ", 1) for line in lines if ": " in line)
    wanted = set() if path.parent.name == "controls" else {"part", "tier"}
    if not says or not diff or set(expected) != wanted:
        raise GitbenchError(
            f"{path}: begin with a line in words, then `part: ...` and `tier: ...` (controls have neither)"
        )
    if wanted and expected["part"] not in PARTS:
        raise GitbenchError(f"{path}: the part '{expected['part']}' is none of {', '.join(PARTS)}")
    if wanted:
        chosen(expected["tier"])
    return Plant(name=path.stem, says=says, patch=start + diff, **expected)


def read_plants() -> tuple[Plant, ...]:
    """Return the tree as it is, the controls, and the mistakes, each by name."""
    nothing = Plant(name=UNPATCHED, says="Nothing is changed.", patch="")
    files = [*sorted((PLANTED / "controls").glob("*.patch")), *sorted(PLANTED.glob("*.patch"))]
    return (nothing, *map(read_plant, files))


def apply(patch: str, tree: Path, check: bool = False) -> None:
    """Apply a patch to a tree, or try whether it can be. Errors: GitbenchError where it does not fit."""
    # a repository further up would make git leave out what is not in it
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.resolve().parent)}
    command = ["git", "apply", *(["--check"] if check else []), "-"]
    done = subprocess.run(command, input=patch, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise GitbenchError(f"the patch does not fit {tree}: {' '.join(done.stderr.split())}")


class Campaign:
    """A campaign in a folder: the unpatched tree as a repository of its own, copies of it, and results."""

    def __init__(self, out: Path, jobs: int, device: str) -> None:
        self.out, self.jobs, self.device = out.resolve(), jobs, device
        self.base, self.results = self.out / "base", self.out / "results.jsonl"
        self._writing = threading.Lock()
        shutil.rmtree(self.out / "copies", ignore_errors=True)
        shutil.rmtree(self.base, ignore_errors=True)
        for name in COPIED:
            source, target = ROOT / name, self.base / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)
        git = ["git", "-c", "user.name=planted", "-c", "user.email=planted@localhost", "-C", str(self.base)]
        for command in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-q", "-m", "the unpatched tree"]):
            subprocess.run([*git, *command], check=True)
        self.cache = self.out / f"cache-{self.tree}"  # as the unpatched tree left it
        for old in set(self.out.glob("cache-*")) - {self.cache}:
            shutil.rmtree(old)

    @cached_property
    def tree(self) -> str:
        """A hash of all that is copied."""
        digest = hashlib.sha256()
        for path in sorted(path for name in COPIED for path in [self.base / name, *(self.base / name).rglob("*")]):
            if path.is_file():
                digest.update(f"{path.relative_to(self.base)}\0".encode() + path.read_bytes() + b"\0")
        return digest.hexdigest()[:16]

    def _own(self, plant: Plant) -> Line:
        """Return what tells the lines of a plant from all others."""
        return {"tree": self.tree, "device": self.device, "plant": plant.name, "patch": plant.digest}

    def lines_of(self, plant: Plant, tiers: Sequence[str]) -> list[Line]:
        """Return what is known of a plant: of each tier the last line, up to the first that is red (of a control: of all)."""
        found, own = dict[str, Line](), self._own(plant)
        for text in self.results.read_text(encoding="utf-8").splitlines() if self.results.is_file() else ():
            with contextlib.suppress(ValueError):  # half a line, of a campaign that was killed
                line = json.loads(text)
                if own.items() <= line.items():
                    found[line["tier"]] = line
        lines = [found[tier] for tier in tiers if tier in found]
        red = [place for place, line in enumerate(lines, start=1) if line["status"] == REGRESSED and not plant.control]
        return lines[: min(red, default=len(lines))]

    def measure(self, plant: Plant, tiers: Sequence[str], processes: int) -> None:
        """Try the tiers on a plant up to the first that is red (a control: all), those aside that were measured before."""
        copy: Path | None = None
        for tier in tiers:
            known = self.lines_of(plant, [tier])
            line = known[0] if known and known[0]["status"] != UNMEASURED else None
            if line is None:
                copy = copy or self._copy(plant)
                line = self._gate(plant, copy, tier, processes)
                self._add(line)
                print(f"{plant.name}: {tier}: {line['status']} ({line['seconds']:.0f} s) {line['said']}", flush=True)
            if line["status"] == REGRESSED and not plant.control:
                break
        if copy is not None:
            if plant.name == UNPATCHED and not self.cache.exists():
                (copy.parent / "cache").rename(self.cache)
            shutil.rmtree(copy.parent, ignore_errors=True)

    def _copy(self, plant: Plant) -> Path:
        """Make a copy of the unpatched tree, a clone of it, with the patch as a change that is not committed."""
        own = self.out / "copies" / plant.name
        shutil.rmtree(own, ignore_errors=True)
        (own / "cache").mkdir(parents=True)
        if self.cache.is_dir():  # links, as its files are replaced and never changed
            others = shutil.ignore_patterns(".*.claim")
            shutil.copytree(self.cache, own / "cache", copy_function=os.link, ignore=others, dirs_exist_ok=True)
        subprocess.run(["git", "clone", "-q", "--shared", str(self.base), str(own / "tree")], check=True)
        if plant.patch:
            apply(plant.patch, own / "tree")
        return own / "tree"

    def _gate(self, plant: Plant, copy: Path, tier: str, processes: int) -> Line:
        """Check one tier in a copy, as a user would, and return its line."""
        out = copy.parent / tier
        asked = f"--tiers {tier} --base HEAD --device {self.device} --jobs {processes}".split()
        asked += ["--out", str(out), "--references", str(self.base / "gate")]
        command = [sys.executable, "-m", "gitbench", "gate", "check", *asked]
        environment = {**os.environ, "PYTHONPATH": str(copy), "GITBENCH_CACHE": str(copy.parent / "cache")}
        for name in ("GITBENCH_LOCAL_CACHE", "GITBENCH_PLUGINS", "GITHUB_STEP_SUMMARY"):
            environment.pop(name, None)
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
        outcomes = (load_json(out / "gate.json") or {}).get("outcomes") or [{}]
        outcome, said = outcomes[0], " ".join((done.stderr or done.stdout).strip().splitlines()[-1:])
        findings = (outcome.get("measured") or {}).get("findings") or ()
        first = findings[0] if findings else {}
        return {
            **self._own(plant),
            "tier": tier,
            "status": outcome.get("status", UNMEASURED),
            "seconds": outcome.get("seconds", 0.0),
            "findings": len(findings),
            "part": first.get("part", ""),
            "quantity": first.get("quantity", ""),
            "said": first.get("said") or "; ".join(outcome.get("why", [said])),
        }

    def _add(self, line: Line) -> None:
        with self._writing, open(self.results, "a+", encoding="utf-8") as file:
            file.seek(0)
            whole = file.read()
            file.write(("" if not whole or whole.endswith("\n") else "\n") + json.dumps(line) + "\n")


def right(plant: Plant, lines: Sequence[Line], tiers: Sequence[str]) -> bool:
    """Tell whether a plant came out as it should: a mistake with a red tier, a control fine in all of them."""
    if plant.control:
        return len(lines) == len(tiers) and all(line["status"] == FINE for line in lines)
    return bool(lines) and lines[-1]["status"] == REGRESSED


def table(campaign: Campaign, plants: Sequence[Plant], tiers: Sequence[str]) -> Iterator[str]:
    """Yield the lines of Markdown: what was caught in all, then each plant."""
    found = {plant.name: campaign.lines_of(plant, tiers) for plant in plants}
    mistakes, controls = ([plant for plant in plants if plant.control == kind] for kind in (False, True))
    caught = [plant for plant in mistakes if right(plant, found[plant.name], tiers)]
    last = {plant.name: found[plant.name][-1] for plant in caught}
    cheap = [plant for plant in caught if last[plant.name]["tier"] in CHEAP]
    named = [plant for plant in caught if last[plant.name]["part"] == plant.part]
    green = sum(right(plant, found[plant.name], tiers) for plant in controls)
    share = f"{100 * len(cheap) / len(mistakes):.0f} %" if mistakes else "none"
    yield f"{len(caught)} of {len(mistakes)} mistakes caught, {len(cheap)} of them ({share}) by {' or '.join(CHEAP)}; "
    yield f"the part at fault was named in {len(named)}. {green} of {len(controls)} controls green."
    yield ""
    yield "| mistake | expected | caught by | part named | first quantity | seconds |"
    yield "|---|---|---|---|---|---:|"
    for plant in (*mistakes, *controls):
        lines = found[plant.name]
        seconds = f"{sum(line['seconds'] for line in lines):.0f}"
        if not right(plant, lines, tiers):
            ends = ", ".join(f"{line['tier']}: {line['status']}" for line in lines)
            seen = (f"**{ends or 'not tried'}**", "", "")
        else:
            seen = ("green", "", "") if plant.control else tuple(lines[-1][key] for key in ("tier", "part", "quantity"))
        expected = "green" if plant.control else f"{plant.tier}, {plant.part}"
        cells = (f"{plant.says.rstrip('.')} (`{plant.name}`)", expected, *seen, seconds)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def run(campaign: Campaign, plants: Sequence[Plant], tiers: Sequence[str]) -> None:
    """Measure plants. Errors: GitbenchError where the tree as it is turns out other than fine: nothing follows then."""
    cores, together = cpu_count(), [tier for tier in tiers if tier != ALONE]
    nothing = read_plants()[0]
    campaign.measure(nothing, together, cores)
    for line in campaign.lines_of(nothing, together):
        if line["status"] != FINE:
            how = f"{line['tier']} of the unpatched tree is not fine ({line['status']}: {line['said']})"
            raise GitbenchError(f"{how}: mend that first")
    with ThreadPoolExecutor(campaign.jobs) as pool:
        done = [pool.submit(campaign.measure, plant, together, max(1, cores // campaign.jobs)) for plant in plants]
        try:
            for each in done:
                each.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    if ALONE in tiers:
        for plant in plants:
            if plant.control or not right(plant, campaign.lines_of(plant, together), together):
                campaign.measure(plant, [ALONE], cores)


def main(arguments: list[str] | None = None) -> int:
    """0: every mistake caught and every control green; 1: not; 2: it could not be said."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", metavar="NAME,...", help="some of the patches (default: all, and the controls)")
    parser.add_argument("--tiers", metavar="TIER,...", help="some of the tiers (default: all)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="patches at a time (default: 1)")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where the gate computes (default: cpu)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "work_dirs" / "planted", metavar="DIR")
    given = parser.parse_args(arguments)
    try:
        plants, tiers = read_plants(), [tier.name for tier in chosen(given.tiers)]
        if given.only:
            names = {name.strip() for name in given.only.split(",") if name.strip()}
            if unknown := names - {plant.name for plant in plants}:
                raise GitbenchError(f"--only {', '.join(sorted(unknown))}: there is no such patch in {PLANTED}")
            plants = tuple(plant for plant in plants if plant.name in names)
        campaign = Campaign(given.out, max(1, given.jobs), given.device)
        run(campaign, plants, tiers)
    except GitbenchError as error:
        print(f"planted: {error}", file=sys.stderr)
        return 2
    page = "\n".join(table(campaign, plants, tiers)) + "\n"
    write_text(campaign.out / "planted.md", page)
    print(page)
    return 0 if all(right(plant, campaign.lines_of(plant, tiers), tiers) for plant in plants) else 1


if __name__ == "__main__":
    sys.exit(main())
