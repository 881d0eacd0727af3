"""Add seeds until every claim of a study is decided: judge, add the seeds that help most, and again.

`gitbench run ABLATION --until-decided [--budget 2h] [--max-seeds N]`. The study starts as an ordinary one. After that
each batch is one more replicate of the arms of one open claim, or of several claims where there are slots for more
(`gitbench.judge.power`), the base and the blind floor with them, which tell what was learned. Other arms get nothing; so
arms may differ in their number of seeds, and the judge pairs those that are shared.

Every judge call between two batches is an interim look (`gitbench.study.interim`); the judge uses bounds that stay valid
under looking (`gitbench.judge.sequential`). A killed run goes on with the looks it had and the batch it was at.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gitbench.claim import Claim
from gitbench.errors import GitbenchError
from gitbench.formats import duration, p_text, plural
from gitbench.judge.power import next_seeds
from gitbench.judge.sequential import FIRST
from gitbench.judge.verdict import INCOMPLETE, INCONCLUSIVE, NOT_TESTABLE, Verdict
from gitbench.launch import places
from gitbench.launch.progress import estimate_seconds, mean_seconds
from gitbench.launch.scheduling import launch
from gitbench.launch.session import Outcome
from gitbench.plan import Plan
from gitbench.study.interim import Looks, verdicts_at
from gitbench.study.plan import with_seeds
from gitbench.study.plan_file import read_plan
from gitbench.study.store import Study

MAX_SEEDS = 30  # of an arm, where --max-seeds says nothing else
DECIDED, BUDGET, SEEDS, FAILED = "decided", "budget", "max seeds", "a run failed"  # why a study stopped

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
Seeds = dict[str, int]  # arm -> replicates


@contextlib.contextmanager
def alone(study: Study) -> Iterator[None]:
    """Let nobody else decide a study while the block runs: looks and seeds are one sequence. Errors: somebody does."""
    claim = Claim(study.plan_path.with_name(f".{study.name}.deciding"))
    if not claim.take():
        raise GitbenchError(
            f"{study.name} is being decided by another launch: wait for it, or stop it and give this one more machines "
            "by --executor"
        )
    try:
        yield
    finally:
        claim.release()


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How a study ended: `outcome` sums up its launches, `said` is the last line for people."""

    outcome: Outcome
    stopped: str  # one of DECIDED, BUDGET, SEEDS, FAILED
    looks: int
    said: str


def parse_budget(text: str) -> float:
    """Return the seconds of a length of time: "45s", "90m", "1.5h", "2d". Errors: GitbenchError for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([smhd]?)\s*", text, re.IGNORECASE)
    if found and (found[2] or float(found[1]) == 0):
        return float(found[1]) * _UNITS.get(found[2].lower(), 0.0)
    raise GitbenchError(f"--budget {text}: write a number with s, m, h or d, for example 45s, 90m or 1.5h")


def check(plan: Plan, start: int, most: int) -> None:
    """Refuse what cannot be decided. Errors: GitbenchError for no claims, overridden runs, too few or too many seeds."""
    if not plan.claims:
        raise GitbenchError(f"{plan.ablation} states no claim to decide: run it without --until-decided")
    if plan.cfg_options:
        raise GitbenchError("--cfg-options with --until-decided: changed runs enter no claim, leave one of them out")
    if start < FIRST:
        raise GitbenchError(f"--seeds {start} with --until-decided: at least {FIRST} are needed for a first look")
    if most < start:
        raise GitbenchError(f"--max-seeds {most}: must be at least the {start} seeds that the study starts with")


def seeds_now(full: Study, start: int) -> Seeds:
    """Return the seeds of every arm to begin with: `start`, or what the plan on file has, the batch it was at included.

    Before the first look, seeds that were planned but not finished are not taken over.
    """
    keys = {run.run_key for run in full.plan.runs}
    there = read_plan(full.plan_path).runs if full.plan_path.is_file() else ()
    listed = Counter(run.arm for run in there if run.run_key in keys)
    looks = full.looks
    seeds = {arm: max(start, min(listed[arm], count)) for arm, count in _finished(full).items()}
    if looks and looks.looks:
        last = looks.looks[-1].seeds
        seeds = {arm: max(count, listed[arm], last.get(arm, 0)) for arm, count in seeds.items()}
    most = max(run.replicate for run in full.plan.runs) + 1
    return {arm: min(count, most) for arm, count in seeds.items()}


def _finished(full: Study) -> Seeds:
    """Return for each arm how many of its first replicates are finished, without a gap."""
    finished: Seeds = {}
    for arm in dict.fromkeys(run.arm for run in full.plan.runs):
        own = sorted((run for run in full.plan.runs if run.arm == arm), key=lambda run: run.replicate)
        finished[arm] = next((at for at, run in enumerate(own) if not full.done(run)), len(own))
    return finished


class UntilDecided:
    """A study under way: its seeds, its looks, and the time that is left.

    `budget` is in seconds of `run`, by `clock`. No batch is begun that is not expected to end within it, and of the
    first one no run; what runs is never cut off.
    """

    def __init__(
        self,
        full: Study,
        start: int,
        budget: float | None = None,
        jobs: int | None = None,
        plain: bool = False,
        *,
        launch: Callable[..., Outcome] = launch,
        at_once: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.full, self.jobs, self.plain, self.launch, self.clock = full, jobs, plain, launch, clock
        self.budget = math.inf if budget is None else budget
        self.ends = math.inf if budget is None else clock() + budget
        self.at_once = places.at_once(full, jobs) if at_once is None else at_once
        self.seeds = seeds_now(full, start)
        self.most = max(run.replicate for run in full.plan.runs) + 1
        self.looks = full.looks or Looks(study=full.name)
        self.outcome = Outcome(completed=0, found=0, failed=())

    def run(self) -> Decision:
        """Train, judge and add seeds until every claim is decided, the seeds of `full` are used up or the time is.

        Errors: those of `launch`; KeyboardInterrupt loses nothing.
        """
        while True:
            late = self._train()
            if self.outcome.failed:
                return self._stop(FAILED, f"stopped after {plural(len(self.looks.looks), 'look')}: a run failed twice")
            if late and not self._settle():
                return self._stop(BUDGET, f"{late}; no verdict yet, the same command goes on from here")
            verdicts = self._look()
            open_ones = [verdict for verdict in verdicts if verdict.word == INCONCLUSIVE]
            if not open_ones:
                return self._stop(
                    DECIDED, f"no claim is open after {plural(len(self.looks.looks), 'look')}{_unjudged(verdicts)}"
                )
            still = f"{plural(len(open_ones), 'claim')} still open"
            if late:
                return self._stop(BUDGET, f"{late}; {still}")
            grown = next_seeds(open_ones, self.seeds, mean_seconds(self.full), self.most, self.at_once)
            if grown == self.seeds:
                return self._stop(SEEDS, f"{still} at {self.most} seeds: raise --max-seeds to go on")
            added = ", ".join(arm for arm in grown if grown[arm] > self.seeds[arm])
            self.seeds = grown
            need, _ = estimate_seconds(self._batch(), self.at_once)
            print(f"  adding seeds of {added}: about {duration(need)}", flush=True)

    def _batch(self) -> Study:
        """Return the study with its present seeds."""
        return Study(self.full.work_dir, with_seeds(self.full.plan, self.seeds))

    def _train(self) -> str:
        """Run what is planned and not done; returns "", or why the time does not allow all of it."""
        study, used_up = self._batch(), f"the budget of {duration(self.budget)} is used up"
        todo = [run for run in study.plan.runs if not study.done(run)]
        need, left = estimate_seconds(study, self.at_once)[0], max(0.0, self.ends - self.clock())
        first, seconds = not self.looks.looks, mean_seconds(self.full)
        longest = max((seconds[run.arm] for run in todo), default=0.0)
        if todo and (longest if first else need) > left:
            return f"{used_up} ({plural(len(todo), 'run')} more need about {duration(need)}, {duration(left)} is left)"
        outcome = self._launch(study, None if math.isinf(self.ends) else self.ends - longest * first)
        left = outcome.left + outcome.under_way
        return f"{used_up} with {plural(left, 'run')} to go" if left else ""

    def _launch(self, study: Study, until: float | None = None) -> Outcome:
        outcome, before = self.launch(study, self.jobs, self.plain, until), self.outcome
        found = before.found if before.completed or before.found else outcome.found
        self.outcome = dataclasses.replace(outcome, completed=before.completed + outcome.completed, found=found)
        return outcome

    def _settle(self) -> bool:
        """Take the seeds for the study that are finished; False where these are too few for a look."""
        finished = _finished(self.full)
        self.seeds = {arm: min(count, finished[arm]) for arm, count in self.seeds.items()}
        if min(self.seeds.values()) < FIRST:
            return False
        self._launch(self._batch())
        return not self.outcome.failed

    def _look(self) -> tuple[Verdict, ...]:
        """Judge the study on file, and record the look unless it is the last one again."""
        study = Study.open(self.full.work_dir, self.full.name)
        self.looks = study.looks or self.looks  # a report may have looked meanwhile
        looks = self.looks.with_look(self.seeds)
        count, verdicts = len(looks.looks), verdicts_at(study, looks)
        self.looks = dataclasses.replace(self.looks.with_look(self.seeds, verdicts, "until-decided"), stopped="")
        self.full.write_looks(self.looks)
        seeds = ", ".join(f"{arm} {each}" for arm, each in self.seeds.items())
        print(f"{self.full.name}: look {count}, seeds {seeds}", flush=True)
        for each in verdicts:
            p = f", {p_text(each.p_holm)}" if each.p_holm is not None else ""  # as it decides, adjusted
            beside = f"; by likelihood {each.likelihood.word}" if each.likelihood else ""
            print(f"  {each.claim.name}: {each.word} (n = {each.n}{p}){beside}", flush=True)
        return verdicts

    def _stop(self, why: str, said: str) -> Decision:
        if self.looks.looks:
            self.full.write_looks(dataclasses.replace(self.looks, stopped=why))
        return Decision(outcome=self.outcome, stopped=why, looks=len(self.looks.looks), said=said)


def _unjudged(verdicts: Sequence[Verdict]) -> str:
    """Name the claims that no seeds decide: those that cannot be judged, or not at this scale."""
    named = [f"{each.claim.name}: {each.reason}" for each in verdicts if each.word in (INCOMPLETE, NOT_TESTABLE)]
    return f", but not judged: {'; '.join(named)}" if named else ""
