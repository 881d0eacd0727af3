"""Slurm as an executor, by submitit: one array of jobs, each a pack of runs, which go on by themselves after a time limit.

A job that is preempted or comes to its time limit is queued again and goes on from the last checkpoint of its runs.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError, installing
from gitbench.launch.queues import Pack, QueueExecutor
from gitbench.spec import Compute

MINUTES = 60  # of a job where --slurm names no time: what takes longer is queued again and goes on
ASKED = 30.0  # seconds between two calls of squeue
MOST = 1000  # jobs of an array: Slurm's usual limit


def slurm_executor(
    work_dir: Path, options: Mapping[str, str], jobs: int | None = None, pack: int = 1, cluster: str = "slurm"
) -> QueueExecutor:
    """Return Slurm as an executor: at most `jobs` jobs at a time, `pack` runs each; `options` are those of sbatch.

    submitit keeps its files in `work_dir`/slurm. `cluster`: "local" for submitit's own stand-in, processes of this machine.
    Errors: GitbenchError where submitit or Slurm is missing, or for a time that is none.
    """
    return QueueExecutor(_Slurm(work_dir, options, jobs, cluster), pack, limit=jobs if cluster == "local" else None)


def parse_options(text: str) -> dict[str, str]:
    """Return the options of "partition=gpu,time=2:00:00,nodelist=a,b". Errors: GitbenchError for anything else."""
    found = {}
    for item in re.split(r",(?=[\w-]+=)", text):
        name, equals, value = item.partition("=")
        if not equals or not re.fullmatch(r"[\w-]+", name) or not value:
            raise GitbenchError(
                f"--slurm {text}: write OPTION=VALUE,... as of sbatch, for example partition=gpu,time=120"
            )
        found[name.replace("_", "-")] = value
    parse_time(found.get("time", "1"))
    return found


def for_runs(options: Mapping[str, str], compute: Compute, pack: int = 1) -> dict[str, str]:
    """Add what a job asks for, unless the options say it: the GPUs of its runs, and a core for each of their processes.

    `gres=none` asks for none, where a partition's nodes are given whole.
    """
    wanted = {}
    if not any(name in ("cpus-per-gpu", "tres-per-task") for name in options):  # Slurm takes one of them alone
        wanted["cpus-per-task"] = str(max(compute.world_size, pack))
    if compute.device == "cuda" and not any(name.startswith(("gres", "gpus", "tres")) for name in options):
        wanted["gres"] = f"gpu:{compute.world_size}"
    return {name: value for name, value in (wanted | dict(options)).items() if (name, value) != ("gres", "none")}


def parse_time(text: str) -> int:
    """Return the minutes of a time as Slurm writes it: "90", "90:00", "2:00:00", "1-12", "1-12:30:00"."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        raise GitbenchError(f"--slurm time={text}: write minutes, HOURS:MINUTES:SECONDS or DAYS-HOURS")
    days, *parts = (int(part) if part else None for part in match.groups())
    numbers = [part for part in parts if part is not None]
    if days is None and len(numbers) < 3:
        numbers = [0, *numbers]  # minutes first
    hours, minutes, seconds = [*numbers, 0, 0][:3]
    return max(1, math.ceil(((days or 0) * 24 + hours) * 60 + minutes + seconds / 60))


class _Slurm:
    """The queue of Slurm, or submitit's stand-in."""

    def __init__(self, work_dir: Path, options: Mapping[str, str], jobs: int | None, cluster: str) -> None:
        try:
            import submitit
        except ImportError:
            raise GitbenchError(f"--executor slurm needs submitit: {installing('submitit')}") from None
        self.cluster, folder = cluster, work_dir.resolve() / "slurm"
        others = {name: value for name, value in options.items() if name != "time"}
        minutes = parse_time(options["time"]) if "time" in options else MINUTES
        kind = submitit.LocalExecutor if cluster == "local" else submitit.SlurmExecutor
        try:
            self.executor: Any = kind(folder, max_num_timeout=MOST)
        except RuntimeError:
            raise GitbenchError(
                "--executor slurm: srun is not here: start gitbench on a host that can submit"
            ) from None
        if cluster == "slurm":
            _answers()
        if cluster == "local":
            self.executor.update_parameters(timeout_min=minutes)
        else:
            self.executor.update_parameters(
                job_name="gitbench",
                time=minutes,
                array_parallelism=jobs or MOST,
                stderr_to_stdout=True,
                # srun does not ask sbatch
                srun_args=[f"--{name}={value}" for name, value in others.items() if name == "cpus-per-task"],
                additional_parameters=others,
            )
        self.asked = time.monotonic()
        self.listed: set[str] | None = None  # jobs in the queue when it was asked; None where it did not answer

    def start(self, packs: Sequence[Pack]) -> list[_Job]:
        """Queue the packs as arrays."""
        started = []
        for at in range(0, len(packs), MOST):
            try:
                with self.executor.batch():
                    started += [self.executor.submit(pack) for pack in packs[at : at + MOST]]
            except Exception as error:  # submitit passes on what sbatch says
                self.cancel([_Job(self, job) for job in started if hasattr(job, "job_id")])
                said = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
                why = next((line for line in said if "sbatch: error" in line), said[-1])
                raise GitbenchError(f"Slurm refused the jobs ({why.strip()}): correct --slurm") from None
        return [_Job(self, job) for job in started]

    def cancel(self, jobs: Sequence[_Job]) -> None:
        """End jobs, or take them out of the queue."""
        if self.cluster == "local":
            for each in jobs:
                each.job.cancel()
        for at in range(0, len(jobs) if self.cluster == "slurm" else 0, 100):
            subprocess.run(["scancel", *(each.job.job_id for each in jobs[at : at + 100])], check=False)

    def seen(self, job: Any) -> tuple[float, bool]:
        """Return whether a job was in the queue when it was last asked for, and when that was."""
        if self.cluster == "local":
            return time.monotonic(), not job.done()
        if time.monotonic() - self.asked > ASKED:
            self.asked, self.listed = time.monotonic(), _listed()
        return self.asked, self.listed is None or job.job_id in self.listed


class _Job:
    """A job of Slurm."""

    def __init__(self, slurm: _Slurm, job: Any) -> None:
        self.slurm, self.job = slurm, job
        self.seen, self.missed = time.monotonic(), 0

    def statuses(self) -> list[int] | None:
        """Return the exit statuses of its runs, None while it waits or runs; see `queues.Job`."""
        if self.job.paths.result_pickle.exists():
            try:
                return self.job.result()
            except Exception as error:  # of submitit, of whatever the job raised
                raise GitbenchError(
                    f"{self._named} failed ({_last_line(error)}), see {self.job.paths.stdout}"
                ) from None
        asked, there = self.slurm.seen(self.job)
        if asked > self.seen:
            self.seen, self.missed = asked, 0 if there else self.missed + 1
        if self.missed > 1:  # a result may be seen later than the end, over a network
            raise GitbenchError(f"{self._named} was ended from outside, see {self.job.paths.stdout}")
        return None

    @property
    def _named(self) -> str:
        return f"job {self.job.job_id} of {'Slurm' if self.slurm.cluster == 'slurm' else 'submitit'}"


def _answers() -> None:
    """Refuse a cluster that does not answer."""
    try:
        said = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, timeout=60)
        why = (said.stderr.strip().splitlines() or [""])[-1] if said.returncode else None
    except (OSError, subprocess.SubprocessError) as error:
        why = str(error)
    if why is not None:
        raise GitbenchError(
            f"--executor slurm: Slurm does not answer here ({why}): start gitbench on a host that can submit"
        )


def _listed() -> set[str] | None:
    """Return the jobs of this user that wait or run, as submitit names them; None where squeue does not answer."""
    try:
        command = ["squeue", f"--user={os.getuid()}", "--noheader", "--array", "--format=%i"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return set(found.stdout.split())


def _last_line(error: Exception) -> str:
    """Return the line of a job's traceback that says what it raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    raised = (line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception|Exit)\b", line))
    return next(raised, lines[0] if lines else type(error).__name__)
