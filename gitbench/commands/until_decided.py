"""Add seeds until every claim of a study is decided: judge, look, add the seeds that help most, and again.

`gitbench run ABLATION --until-decided [--budget 2h] [--max-seeds N]`. The study starts as an ordinary one. After that
each batch is one more replicate of the arms of one open claim, or of several claims where there are slots for more:
those with the best chance of being decided for a second of machine time. Arms that no open claim rests on get nothing,
nor does the blind floor, unless a claim's level is measured from it; so arms may differ in their number of seeds, and
the judge pairs those that are shared.

Every judge call between two batches is a look, kept in `studies/<study>.looks.json` (`gitbench.study.interim`); the judge
uses bounds that stay valid under looking (`gitbench.judge.sequential`). A killed run goes on with the looks it had and
the batch it was at.
"""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gitbench.commands.allocation import next_seeds, seconds_by_arm
from gitbench.commands.interim_report import look_of
from gitbench.errors import GitbenchError
from gitbench.files import load_json
from gitbench.judge.claims import INCOMPLETE, INCONCLUSIVE, NOT_TESTABLE, Verdict, judge_study
from gitbench.judge.sequential import FIRST
from gitbench.launch.estimate import estimate_seconds
from gitbench.launch.progress import duration
from gitbench.launch.scheduling import Outcome, launch, slots
from gitbench.study.interim import Looks, read_looks, write_looks
from gitbench.study.plan import Plan, with_seeds
from gitbench.study.records import build_frame, load_study, load_yardstick
from gitbench.study.store import study_file
from gitbench.tasks import claims_for

MAX_SEEDS = 30  # of an arm, where --max-seeds says nothing else
DECIDED, BUDGET, SEEDS, FAILED = "decided", "budget", "max seeds", "a run failed"  # why a study stopped

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
Seeds = dict[str, int]  # arm -> replicates


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How a study ended: `outcome` sums up its launches, `said` is the last line for people."""

    outcome: Outcome
    stopped: str  # one of DECIDED, BUDGET, SEEDS, FAILED
    looks: int
    said: str


def parse_budget(text: str) -> float:
    """Return the seconds of a length of time: "45s", "90m", "1.5h", "2d". Errors: GitbenchError for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([smhd])\s*", text, re.IGNORECASE)
    if found:
        return float(found[1]) * _UNITS[found[2].lower()]
    if re.fullmatch(r"\s*0+(?:\.0*)?\s*", text):
        return 0.0
    raise GitbenchError(f"--budget {text}: write a number with s, m, h or d, for example 45s, 90m or 1.5h")


def start_seeds(plan: Plan, asked: int | None) -> int:
    """Return the seeds that a study starts with: those asked for, else the profile's, but enough for a look."""
    return max(plan.profile.replicates, FIRST) if asked is None else asked


def check(plan: Plan, start: int, most: int) -> None:
    """Refuse what cannot be decided. Errors: GitbenchError for no claims, overridden runs, too few or too many seeds."""
    if not claims_for(plan.ablation.claims, plan.task):
        raise GitbenchError(f"{plan.ablation.name} states no claim to decide: run it without --until-decided")
    if plan.cfg_options:
        raise GitbenchError("--cfg-options with --until-decided: changed runs enter no claim, leave one of them out")
    if start < FIRST:
        raise GitbenchError(f"--seeds {start} with --until-decided: at least {FIRST} are needed for a first look")
    if most < start:
        raise GitbenchError(f"--max-seeds {most}: must be at least the {start} seeds that the study starts with")


def seeds_now(full: Plan, start: int) -> Seeds:
    """Return the seeds of every arm to begin with: `start`, or what the study on file has, the batch it was at included.

    Of a study that was no such one yet, seeds that it planned but did not finish are not taken over.
    """
    listed, looked = _listed(full), read_looks(full.work_dir, full.study)
    done = _finished(full)
    seeds = {arm: max(start, min(listed.get(arm, 0), count)) for arm, count in done.items()}
    for look in (looked.looks if looked and looked.until_decided else ())[-1:]:
        seeds = {arm: max(count, listed.get(arm, 0), look.seeds.get(arm, 0)) for arm, count in seeds.items()}
    most = max(run.replicate for run in full.runs) + 1
    return {arm: min(count, most) for arm, count in seeds.items()}


def _listed(full: Plan) -> Counter[str]:
    """Return the runs of each arm in the study file, as far as they are those of this plan."""
    described = load_json(study_file(full.work_dir, full.study))
    keys = {run.key for run in full.runs}
    runs = described.get("runs", []) if isinstance(described, dict) else []
    return Counter(run["arm"] for run in runs if run["run_key"] in keys)


def _finished(full: Plan) -> Seeds:
    """Return for each arm how many of its first replicates are finished, without a gap."""
    finished: Seeds = {}
    for arm in dict.fromkeys(run.arm.name for run in full.runs):
        own = sorted((run for run in full.runs if run.arm.name == arm), key=lambda run: run.replicate)
        finished[arm] = next((at for at, run in enumerate(own) if not run.done), len(own))
    return finished


def run_until_decided(
    full: Plan, start: int, command: str, budget: float | None = None, jobs: int | None = None, plain: bool = False
) -> Decision:
    """Train, judge and add seeds until every claim is decided, the seeds of `full` are used up or the time is.

    `budget` is in seconds of this call. No batch is begun that is not expected to end within it, and of the first one
    no run; what runs is never cut off. Errors: those of `launch`; KeyboardInterrupt loses nothing.
    """
    return _Study(full, start, command, budget, jobs, plain).work()


class _Study:
    """A study under way: its seeds, its looks, and the clock."""

    def __init__(
        self, full: Plan, start: int, command: str, budget: float | None, jobs: int | None, plain: bool
    ) -> None:
        self.full, self.command, self.jobs, self.plain = full, command, jobs, plain
        self.ends = math.inf if budget is None else time.monotonic() + budget
        self.budget = budget
        self.most = max(run.replicate for run in full.runs) + 1
        self.at_once = len(slots(full, jobs))
        self.seeds = seeds_now(full, start)
        self.completed = self.found = 0
        self.failed: tuple[tuple[str, int, str], ...] = ()

    def work(self) -> Decision:
        while True:
            fits = self._train()
            if self.failed:
                return self._stop(FAILED, f"stopped after {_plural(self._count(), 'look')}: a run failed twice")
            if fits is not None and not self._settle():
                return self._stop(BUDGET, f"{fits}; no verdict yet, the same command goes on from here")
            verdicts = self._look()
            open_ones = [verdict for verdict in verdicts if verdict.word == INCONCLUSIVE]
            if not open_ones:
                return self._stop(
                    DECIDED, f"no claim is open after {_plural(self._count(), 'look')}{_unjudged(verdicts)}"
                )
            if fits is not None:
                return self._stop(BUDGET, f"{fits}; {_plural(len(open_ones), 'claim')} still open")
            grown = next_seeds(open_ones, self.seeds, seconds_by_arm(self.full), self.most, self.at_once)
            if grown == self.seeds:
                said = f"{_plural(len(open_ones), 'claim')} still open at {self.most} seeds: raise --max-seeds to go on"
                return self._stop(SEEDS, said)
            self._say_batch(grown)
            self.seeds = grown

    def _train(self) -> str | None:
        """Run what is planned and not done; returns None, or why the time does not allow all of it."""
        plan = with_seeds(self.full, self.seeds)
        todo = [run for run in plan.runs if not run.done]
        need, left = estimate_seconds(plan, self.at_once)[0], self.ends - time.monotonic()
        first = not self._count()
        longest = max((seconds_by_arm(self.full)[run.arm.name] for run in todo), default=0.0)
        if todo and (longest if first else need) > max(0.0, left):
            more = f"{_plural(len(todo), 'run')} more need about {duration(need)}, {duration(max(0.0, left))} is left"
            return f"the budget of {duration(self.budget or 0)} is used up ({more})"
        until = None if math.isinf(self.ends) else self.ends - (longest if first else 0.0)
        outcome = launch(plan, self.command, self.jobs, self.plain, until)
        self._count_runs(outcome)
        if outcome.left:
            return f"the budget of {duration(self.budget or 0)} is used up with {_plural(outcome.left, 'run')} to go"
        return None

    def _count_runs(self, outcome: Outcome) -> None:
        if not self.completed and not self.found:
            self.found = outcome.found
        self.completed += outcome.completed
        self.failed = outcome.failed

    def _settle(self) -> bool:
        """Take the seeds for the study that are finished; False where these are too few for a look."""
        finished = _finished(self.full)
        self.seeds = {arm: min(count, finished[arm]) for arm, count in self.seeds.items()}
        if min(self.seeds.values()) < FIRST:
            return False
        self._count_runs(launch(with_seeds(self.full, self.seeds), self.command, self.jobs, self.plain))
        return not self.failed

    def _look(self) -> list[Verdict]:
        """Judge, and record the look unless it is the last one again."""
        before = read_looks(self.full.work_dir, self.full.study) or Looks(study=self.full.study)
        again = bool(before.looks) and dict(before.looks[-1].seeds) == self.seeds
        count = len(before.looks) + (not again)
        verdicts = judge_plan(self.full, count)
        if not again:
            before = dataclasses.replace(before, looks=(*before.looks, look_of(dict(self.seeds), verdicts)))
        write_looks(self.full.work_dir, dataclasses.replace(before, stopped="", until_decided=True))
        print(f"{self.full.study}: look {count}, seeds {_seeds_text(self.seeds)}", flush=True)
        for each in verdicts:
            p = f", p {each.p_holm:.2g}" if each.p_holm is not None else ""  # as it decides, within the family
            print(f"  {each.claim.name}: {each.word} (n = {each.n}{p})", flush=True)
        return verdicts

    def _say_batch(self, grown: Seeds) -> None:
        plan = with_seeds(self.full, grown)
        added = [arm for arm in grown if grown[arm] > self.seeds[arm]]
        need, _ = estimate_seconds(plan, self.at_once)
        print(f"  adding seeds of {', '.join(added)}: about {duration(need)}", flush=True)

    def _count(self) -> int:
        found = read_looks(self.full.work_dir, self.full.study)
        return len(found.looks) if found else 0

    def _stop(self, why: str, said: str) -> Decision:
        found = read_looks(self.full.work_dir, self.full.study)
        if found is not None:
            write_looks(self.full.work_dir, dataclasses.replace(found, stopped=why))
        outcome = Outcome(completed=self.completed, found=self.found, failed=self.failed)
        return Decision(outcome=outcome, stopped=why, looks=self._count(), said=said)


def judge_plan(plan: Plan, looks: int) -> list[Verdict]:
    """Judge the study on file of a plan with the bounds that hold under looking; this is look number `looks`."""
    study = load_study(plan.work_dir, plan.ablation.name, plan.profile.name, plan.label)
    kind = (load_yardstick(plan.work_dir, study) or {}).get("kind")
    return judge_study(study, build_frame(plan.work_dir, [study]), kind, looks=looks)


def _unjudged(verdicts: Sequence[Verdict]) -> str:
    """Name the claims that no seeds decide: those that cannot be judged, or not at this scale."""
    named = [f"{each.claim.name}: {each.reason}" for each in verdicts if each.word in (INCOMPLETE, NOT_TESTABLE)]
    return f", but not judged: {'; '.join(named)}" if named else ""


def _seeds_text(seeds: Mapping[str, int]) -> str:
    return ", ".join(f"{arm} {count}" for arm, count in seeds.items())


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
