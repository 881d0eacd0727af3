"""The runs of one launch on their way: through an executor, once more where they fail, scored beside the training of others.

Several launches may share a work directory. Each begins what nobody has claimed, and what others work on it leaves to them:
once nothing else is to do it waits for those, and takes over what is left behind by a launch that is gone. Whoever writes
a run's record counts it as its own.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gitbench import claim as claims
from gitbench.claim import Claim, ClaimLost, holder
from gitbench.errors import GitbenchError
from gitbench.files import guarded, remove_leftovers
from gitbench.launch.executor import Event, Executor
from gitbench.launch.progress import Display
from gitbench.launch.records import DamagedRun
from gitbench.plan import PlannedRun
from gitbench.study.store import Study

ATTEMPTS = 2  # a failed run is tried once more
LOOK, LOOK_BUSY = 2.0, 20.0  # seconds between two looks at runs that others work on; while there is work here
LOOKED_AT, EXAMINED = 20, 2  # how many are looked at each time, and their claims read, which costs the file server more


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a launch did: runs it completed, found done, failed (arm, replicate, reason), and did not begin for want of time.

    `others`: runs that other launches completed meanwhile; `under_way`: that they still worked on when this one ended.
    """

    completed: int
    found: int
    failed: tuple[tuple[str, int, str], ...]
    left: int = 0
    others: int = 0
    under_way: int = 0


class Scorer(Protocol):
    """Makes the record of a run from what it left behind, and the ceiling of a study."""

    def score_run(self, run: PlannedRun) -> dict[str, Any]:
        """Return the record of a run that is trained."""

    def score_ceiling(self) -> None:
        """Write the ceiling of the study's data, where it has one."""


class _Elsewhere(Exception):
    """A run is being scored by another launch, or was."""


class Session:
    """Brings the runs of a launch to their end, in the executor and then in a thread of this process that scores them."""

    def __init__(self, study: Study, executor: Executor, scorer: Scorer, display: Display, wait: bool = True) -> None:
        self.study, self.executor, self.scorer, self.display, self.wait = study, executor, scorer, display, wait
        self.attempts: dict[str, int] = {}
        self.waiting: dict[Path, PlannedRun] = {}  # in the executor
        self.scores: dict[Future, PlannedRun] = {}
        self.elsewhere: deque[PlannedRun] = deque()  # other launches work on these
        self.looked = time.monotonic()
        self.trained: dict[str, float] = {}  # key -> when it was first seen to wait for its scores
        self.completed = self.others = self.left = 0
        self.failed: list[tuple[str, int, str]] = []

    def run(self, todo: Sequence[PlannedRun], until: float | None) -> None:
        """Bring every run to its end; begin none after `until`, and do not wait for those of others then."""
        with ThreadPoolExecutor(1) as self.pool:
            ceiling = self.pool.submit(self.scorer.score_ceiling)
            try:
                for run in todo:
                    self._begin(run)
                while self.waiting or self.scores or self._waited_for(until):
                    if until is not None and time.monotonic() >= until:
                        for folder in self.executor.cancel(running=False):
                            del self.waiting[folder]
                            self.left += 1
                    for event in self.executor.poll(0.5 if self.waiting else 0.05):
                        self._hear(event)
                    self._collect_scores()
                    self._look_elsewhere()
            except BaseException:
                self.display.stopping()
                self.executor.cancel()
                for future in self.scores:
                    future.cancel()
                raise
            ceiling.result()
            self.study.adopt()

    def outcome(self, found: int) -> Outcome:
        """Sum up what was done; `found` runs were done before."""
        return Outcome(
            completed=self.completed,
            found=found,
            failed=tuple(self.failed),
            left=self.left,
            others=self.others,
            under_way=len(self.elsewhere),
        )

    def _begin(self, run: PlannedRun) -> None:
        """Score a run that has its captions, submit any other."""
        self.attempts[run.run_key] = self.attempts.get(run.run_key, 0) + 1
        folder = self.study.folder(run.run_key)
        if folder.captioned:
            self._score(run)
        else:
            self.waiting[folder.path] = run
            self.executor.submit(folder.path)

    def _hear(self, event: Event) -> None:
        run = self.waiting[event.folder]
        if event.kind == "elsewhere":
            del self.waiting[event.folder]
            self._leave(run)
        elif event.kind != "ended":
            self.display.training(run, *event.values)
        else:
            del self.waiting[event.folder]
            if event.values[0]:
                self._fail(run, event.values[0])
            else:
                self._score(run)

    def _score(self, run: PlannedRun) -> None:
        self.display.scoring(run)
        self.scores[self.pool.submit(self._scored, run)] = run

    def _scored(self, run: PlannedRun) -> dict[str, Any]:
        """Score a run under its claim, in the thread that scores. Errors: _Elsewhere, and those of the scorer."""
        folder = self.study.folder(run.run_key)
        claim = Claim(folder.claim)
        if not claim.take():
            raise _Elsewhere
        try:
            if folder.completed_record() is not None:
                raise _Elsewhere
            remove_leftovers(folder.path)
            with guarded(folder.path, claim.check):
                return self.scorer.score_run(run)
        except DamagedRun:  # its captions cannot be read: they are made again
            for path in (folder.trained, folder.predictions):
                path.unlink(missing_ok=True)
            raise
        except ClaimLost:
            raise _Elsewhere from None
        finally:
            claim.release()

    def _collect_scores(self) -> None:
        for future in [future for future in self.scores if future.done()]:
            run = self.scores.pop(future)
            error = future.exception()
            if error is None:
                self.completed += 1
                self.study.adopt([run])
                self.display.finished(run, future.result())
            elif isinstance(error, _Elsewhere):
                self._leave(run)
            else:
                self._fail(run, str(error) if isinstance(error, GitbenchError) else f"{type(error).__name__}: {error}")

    def _fail(self, run: PlannedRun, message: str) -> None:
        last = self.attempts[run.run_key] >= ATTEMPTS
        self.display.failed(run, message, last)
        if last:
            self.failed.append((run.arm, run.replicate, message))
        else:
            self._begin(run)

    # ---- runs of other launches -------------------------------------------------------------------------------------

    def _leave(self, run: PlannedRun) -> None:
        """Leave a run to whoever works on it; that is no attempt of this launch."""
        self.attempts[run.run_key] -= 1
        self.display.left(run)
        self.elsewhere.append(run)

    def _waited_for(self, until: float | None) -> bool:
        """Tell whether this launch is to wait for others; where it is not, look at what they work on a last time."""
        if not self.elsewhere:
            return False
        if self.wait and (until is None or time.monotonic() < until):
            self.display.waiting(len(self.elsewhere))
            return True
        self._look(len(self.elsewhere), len(self.elsewhere))
        return bool(self.waiting or self.scores)

    def _look_elsewhere(self) -> None:
        pause = LOOK_BUSY if self.waiting or self.scores else LOOK
        if self.elsewhere and time.monotonic() - self.looked >= pause:
            self.looked = time.monotonic()
            self._look(LOOKED_AT, EXAMINED)

    def _look(self, most: int, examined: int) -> None:
        """Look at runs that others work on: count those that are done, begin again those that nobody works on any more."""
        later = []
        for run in [self.elsewhere.popleft() for _ in range(min(most, len(self.elsewhere)))]:
            if self.study.done(run):
                self.others += 1
                self.display.done_elsewhere(run)
            elif examined == 0:
                later.append(run)
            else:
                examined -= 1
                if holder(self.study.folder(run.run_key).claim) is not None or self._is_new(run):
                    self.elsewhere.append(run)
                else:
                    self._begin(run)
        self.elsewhere.extendleft(reversed(later))

    def _is_new(self, run: PlannedRun) -> bool:
        """Tell whether a run was trained just now: the launch that trained it is about to score it."""
        if not self.study.folder(run.run_key).captioned:
            return False
        now = time.monotonic()
        return now - self.trained.setdefault(run.run_key, now) < claims.STALE
