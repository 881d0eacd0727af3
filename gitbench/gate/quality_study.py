"""The study of the quality tier: the subject alone, at a size at which it sees, trained and scored as every study is.

It lies in the tier's folder, so that a check that was stopped goes on. So does the cache: images, tokens and tokenizers are
made by the code that is checked, and not taken from what an earlier one left.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gitbench.compute import compute_for
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir, cache_variables, make_dir
from gitbench.gate.noninferiority import Rule
from gitbench.gate.setting import Setting, Subject
from gitbench.launch.records import StudyScorer
from gitbench.launch.scheduling import execute_runs, local_executor, prepare_images
from gitbench.metrics import CaptionScorer
from gitbench.plan import Plan
from gitbench.processes import variables
from gitbench.profiles import CPU
from gitbench.spec import Ablation, Arm, Profile
from gitbench.study.plan import make_plan
from gitbench.study.store import Study
from gitbench.tasks import get_task

BASE, BLIND = "base", "blind"  # the arms of the plan: the subject, and the same that never sees an image

# Nine tenths of the cpu profile's training, at its rates: fewer iterations make seeds vary more than they save.
SIZE = dataclasses.replace(
    CPU,
    name="gate",
    doc="seeds of one arm that sees, each in 40 s of one CPU core",
    data=dataclasses.replace(CPU.data, train_images=5760, val_images=32, test_images=400),
    train=dataclasses.replace(CPU.train, iterations=360, warmup=36, val_every=0),
    rates=(1.0,),
    run_seconds=40,
)


LEAST_SEEDS = 20  # of a reference


@dataclasses.dataclass(frozen=True, kw_only=True)
class Design:
    """How large the study is, and how it is decided. Errors: GitbenchError for a reference of too few seeds."""

    profile: Profile = SIZE
    rule: Rule = Rule()
    reference_seeds: int = 40  # the noise of their mean is in every check
    floor_seeds: int = 3

    def __post_init__(self) -> None:
        if self.reference_seeds < self.least:
            raise GitbenchError(f"a reference of quality takes {self.least} seeds, not {self.reference_seeds}")

    @property
    def least(self) -> int:
        """Seeds that a reference has at least: those that are compared with them, one by one, are no more."""
        return max(LEAST_SEEDS, self.rule.most)


DESIGN = Design()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seeds:
    """What seeds of one arm, from seed 0 on, gave: digests of their predictions, and metric -> values."""

    digests: tuple[str, ...]
    scores: dict[str, tuple[float, ...]]


class QualityStudy:
    """Trains and scores seeds; those that are done already are read."""

    def __init__(self, setting: Setting, design: Design) -> None:
        self.folder, self.jobs, self.design = Path(setting.folder), setting.jobs, design
        self.metrics = tuple(dict.fromkeys(("test_nll", get_task(setting.subject.task).metric, "SceneF1")))
        with own_cache(self.folder):
            self.plan = plan_of(setting.subject, design, setting.device)

    def seeds(self, arm: str, count: int) -> Seeds:
        """Train and score the first `count` seeds of an arm. Errors: GitbenchError where a run fails."""
        runs = tuple(run for run in self.plan.runs if run.arm == arm and run.replicate < count)
        study = Study(self.folder / "study", dataclasses.replace(self.plan, runs=runs))
        if any(not study.done(run) for run in runs):
            with own_cache(self.folder), local_executor(study, self.jobs) as executor:
                outcome = execute_runs(study, executor, plain=True, scorer=self._scorer)
            if outcome.failed:
                name, seed, why = outcome.failed[0]
                raise GitbenchError(f"{name} seed {seed} failed: {why}")
        records = [record for run in runs if (record := study.record(run.run_key)) is not None]
        files = [study.folder(run.run_key).predictions for run in runs]
        return Seeds(
            digests=tuple(hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files),
            scores={
                name: tuple(record["metrics"][name]["value"] for record in records)
                for name in self.metrics
                if all(name in record["metrics"] for record in records)
            },
        )

    @functools.cached_property
    def _scorer(self) -> StudyScorer:
        """The scorer of all runs, and the images that they share; METEOR would take 10 s to start."""
        prepare_images(self.plan)
        return _NoCeiling(Study(self.folder / "study", self.plan), CaptionScorer(meteor=False, spice=False))


class _NoCeiling(StudyScorer):
    """A ceiling costs seconds, and nothing here is set beside it."""

    def score_ceiling(self) -> None:
        """Score none."""


def plan_of(subject: Subject, design: Design, device: str = "cpu") -> Plan:
    """Return the plan of a subject's seeds and of its blind floor's. No claim is stated, so none decides the seeds.

    Errors: GitbenchError for a variant, task or data that are not known.
    """
    profile, axis = design.profile, "decoder"
    decoder = subject.variants.get(axis, profile.variants[axis])
    ablation = Ablation(
        name="gate-quality",
        title="Quality",
        question="Is this code as good as the reference?",
        axis=axis,
        arms={profile.name: (Arm(name=BASE, variants={axis: decoder}),)},
        common={name: variant for name, variant in subject.variants.items() if name != axis},
    )
    return make_plan(
        ablation,
        profile,
        subject.data or get_task(subject.task).data,
        replicates=design.reference_seeds,
        sequential=True,  # seeds are added, and those that are there stay
        task_name=subject.task,
        compute=compute_for(profile, device),
    )


@contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """Keep what is made once for all runs in `folder`. Pre-trained encoders, which may take hours, stay the user's."""
    encoders = make_dir(cache_dir() / "encoders")
    own = make_dir(folder / "cache")
    if not (own / "encoders").is_symlink():
        (own / "encoders").symlink_to(encoders.resolve(), target_is_directory=True)
    with variables(cache_variables(own)):
        yield
