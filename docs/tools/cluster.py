"""How long a plan takes on a cluster whose GPUs are taken away now and then, and what that asks of the shared file system.

    python docs/tools/cluster.py [--runs 1000] [--gpus 64] [--seeds 5]        (a minute)

A simulation in steps of a second. A run whose GPU is taken goes on elsewhere from its last checkpoint: where launches share
a work directory once its claim is stale, where Slurm has the jobs once it considers the job again. The bound is the time in
which the GPUs that are there could have trained everything without any of that. Prints the table of `docs/machines.md`.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
from collections import deque
from dataclasses import dataclass

from gitbench.claim import BEAT, STALE
from gitbench.launch.queues import INTERVAL, PER_JOB
from gitbench.launch.session import EXAMINED, LOOK, LOOK_BUSY, LOOKED_AT
from gitbench.launch.work import EVERY

MINUTES = (4, 5, 6, 8, 12)  # of the runs of five arms
START = 15  # seconds until a run trains, each time that it is begun
CHECKPOINT = 120  # seconds of training between two checkpoints
DOWN = 600  # seconds on average until a GPU that was taken is back
REQUEUED = 120  # seconds until Slurm considers a job again
# Calls to the file server, as strace counts them: of a run; at each checkpoint; each time that it says how far it is, or
# touches its claim; of a launch for a run that is planned already, and when its turn comes while another one has it; when it
# looks whether such a run is done, or who holds it; of a launch that polls a job.
RUN, SAVED, SAID, TOUCHED, PLANNED, MET, SEEN, ASKED, POLLED = 160, 20, 7, 6, 11, 22, 1, 21, 5


@dataclass
class Gpu:
    """A GPU: there until `changes` or gone until then, and the run on it, begun at `began`."""

    changes: float = 0.0
    there: bool = False
    run: int | None = None
    began: int = 0


def simulate(runs: int, gpus: int, up: float, delay: float, rng: random.Random) -> tuple[float, float, float, float]:
    """Return (makespan in minutes, that over the bound, GPU time trained twice, calls a second of the runs).

    `up`: seconds on average until a GPU is taken away; `delay`: until a run that was on it can be begun elsewhere.
    """
    left = [60 * MINUTES[run % len(MINUTES)] for run in range(runs)]  # seconds to train, as of the last checkpoint
    needed, offered, bound = sum(left) + START * runs, 0, 0
    free, later = deque(range(runs)), list[tuple[float, int]]()
    cluster, done, lost, calls, now = [Gpu() for _ in range(gpus)], 0, 0, 0.0, 0
    while done < runs:
        now += 1
        while later and later[0][0] <= now:
            free.append(heapq.heappop(later)[1])
        for gpu in cluster:
            if now >= gpu.changes:
                gpu.there = not gpu.there
                gpu.changes = now + rng.expovariate(1 / (up if gpu.there else DOWN))
                if gpu.run is not None:
                    trained = max(0, now - gpu.began - START)
                    kept = trained - trained % CHECKPOINT
                    left[gpu.run], lost = left[gpu.run] - kept, lost + trained - kept
                    heapq.heappush(later, (now + delay, gpu.run))
                    gpu.run = None
            if not gpu.there:
                continue
            offered += 1
            if gpu.run is None and free:
                gpu.run, gpu.began = free.popleft(), now
                calls += RUN
            if gpu.run is not None:
                calls += SAVED / CHECKPOINT + SAID / EVERY + TOUCHED / BEAT
                if now - gpu.began >= START + left[gpu.run]:
                    gpu.run, done = None, done + 1
        if not bound and offered >= needed:
            bound = now
    return now / 60, now / (bound or now), lost / offered, calls / now


def main() -> None:
    """Print a row for each way and rate of preemption."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("runs", 1000), ("gpus", 64), ("seeds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    print("| way | a GPU is taken | makespan, min | over the bound | trained twice | calls a second |")
    print("|---|---|---|---|---|---|")
    look = asked.gpus * (LOOKED_AT * SEEN + EXAMINED * ASKED)
    polls = asked.runs / (INTERVAL + PER_JOB * asked.runs) * POLLED
    ways = (
        (
            "a launch a GPU, one work directory",
            STALE + LOOK,
            look / LOOK_BUSY,
            asked.gpus * asked.runs * (PLANNED + MET),
        ),
        ("one launch, Slurm", REQUEUED, polls, 0),
    )
    for name, delay, steady, once in ways:
        for hours in (1e9, 4, 1):
            found = [
                simulate(asked.runs, asked.gpus, 3600 * hours, delay, random.Random(seed))
                for seed in range(asked.seeds)
            ]
            makespan, ratio, lost, calls = (statistics.mean(column) for column in zip(*found, strict=True))
            calls += steady + once / (60 * makespan)
            often = "never" if hours > 1e6 else f"every {hours} h"
            print(f"| {name} | {often} | {makespan:.0f} | {ratio:.2f} | {lost:.1%} | {calls:.0f} |")
    print(f"\n{asked.gpus} launches that wait for the last runs: {look / LOOK:.0f} calls a second")


if __name__ == "__main__":
    main()
