"""Where runs go on this machine, and how they are started: one a CPU core, or as many on a GPU as fit its memory.

A run goes to a GPU where what it needs (`gitbench.study.memory`) is left, and to one where no other run is in any case: the
formula may ask too much. No GPU gets more runs than its share of the CPU cores, each of which one run keeps busy. A run that
takes several GPUs has them, of one kind, for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gitbench import plugins
from gitbench.errors import GitbenchError
from gitbench.launch.mps import CLIENTS, shared
from gitbench.launch.work import SHARING
from gitbench.machine import Gpu, cpu_count, gpus
from gitbench.plan import Plan
from gitbench.processes import BY_NVML, VISIBLE
from gitbench.study.memory import measured_gib, planned_gib
from gitbench.study.store import Study


@dataclass(frozen=True, kw_only=True)
class Place:
    """The place of one run: the environment that shows its cards and says how they are shared, and the GiB it takes of each."""

    environment: Mapping[str, str]
    gib: float = 0.0


@dataclass(kw_only=True)
class _Host:
    """The cores, or one card: what is left there, and the runs that are on it."""

    kind: str = ""  # of card
    environment: Mapping[str, str]
    free_gib: float
    most: int
    runs: list[Place] = field(default_factory=list)

    @property
    def left(self) -> float:
        return self.free_gib - sum(run.gib for run in self.runs)

    def takes(self, gib: float, alone: bool) -> bool:
        return not self.runs or (not alone and len(self.runs) < self.most and gib <= self.left)


class Places:
    """The places of this machine, at most `jobs` in use at a time (None: as many as there are).

    cards: none means the CPU; needs: run folder -> GiB on a card, in the order in which runs are to begin (those it does not
    name begin as they come); shared: uuid -> environment that lets the runs of a card share it by MPS; environment: of all;
    world_size: processes of a run, on as many cards if there are any.
    Errors: GitbenchError where no card has any memory that could be used, or a run needs more cards.
    """

    def __init__(
        self,
        cards: Sequence[Gpu],
        jobs: int | None = None,
        needs: Mapping[Path, float] | None = None,
        shared: Mapping[str, Mapping[str, str]] | None = None,
        environment: Mapping[str, str] | None = None,
        world_size: int = 1,
    ) -> None:
        cores, shared, self.environment = cpu_count(), shared or {}, environment or {}
        usable = [card for card in cards if card.free_gib > 0]
        if cards and not usable:
            raise GitbenchError(
                f"no memory can be had on {' and '.join(card.name for card in cards)}: other processes hold it all; end them, "
                "set CUDA_VISIBLE_DEVICES to another card, or pass --device cpu to use the CPU"
            )
        check_cards(usable, world_size if usable else 0)
        self.needs, self.cards_a_run = needs or {}, world_size if usable else 1
        self.rank = {folder: place for place, folder in enumerate(self.needs)}
        self.limit = jobs or max(1, max(cores, len(usable)) // world_size)
        self.hosts = [_on_card(card, max(1, cores // len(usable)), shared.get(card.uuid)) for card in usable]
        if not usable:
            self.hosts = [_Host(environment={VISIBLE: ""}, free_gib=float("inf"), most=self.limit)]

    def next(self, queue: Iterable[Path]) -> tuple[Path, Place] | None:
        """Return the run of a queue that is to begin, and its place; None where there is no room for any now.

        It is the first that fits: a small run goes before a large one that has to wait.
        """
        for folder in sorted(queue, key=lambda folder: self.rank.get(folder, len(self.rank))):
            if (place := self.take(self.needs.get(folder, 0.0))) is not None:
                return folder, place
        return None

    def take(self, gib: float) -> Place | None:
        """Return a place for a run that needs so much of a card, on the emptiest; None where there is none now."""
        running = {id(run) for host in self.hosts for run in host.runs}
        if len(running) >= self.limit or not (hosts := self._hosts(gib)):
            return None
        environment = {"OMP_NUM_THREADS": "1", **hosts[0].environment, **self.environment}
        environment[VISIBLE] = ",".join(host.environment[VISIBLE] for host in hosts)
        place = Place(environment=environment, gib=gib)
        for host in hosts:
            host.runs.append(place)
        return place

    def _hosts(self, gib: float) -> list[_Host]:
        """Return the cards for a run, all of one kind; none where there is no room."""
        fitting = [host for host in self.hosts if host.takes(gib, alone=self.cards_a_run > 1)]
        emptiest = sorted(fitting, key=lambda host: (len(host.runs), -host.left))
        for kind in dict.fromkeys(host.kind for host in emptiest):
            chosen = [host for host in emptiest if host.kind == kind][: self.cards_a_run]
            if len(chosen) == self.cards_a_run:
                return chosen
        return []

    def give_back(self, place: Place) -> None:
        """Take back the place of a run that has ended."""
        for host in self.hosts:
            host.runs = [run for run in host.runs if run is not place]


def _on_card(card: Gpu, most: int, shared: Mapping[str, str] | None) -> _Host:
    served = bool(shared) or card.mps
    return _Host(
        kind=card.name,
        environment={VISIBLE: card.uuid, BY_NVML: "0", SHARING: "MPS" if served else "time slices", **(shared or {})},
        free_gib=card.free_gib,
        most=min(most, CLIENTS) if served else 1 if card.exclusive else most,
    )


def check_cards(cards: Sequence[Gpu], gpus_per_run: int) -> None:
    """Refuse runs that take more cards than there are of one kind."""
    most = max(Counter(card.name for card in cards).values(), default=0)
    if gpus_per_run > most:
        there = f"{most} of one kind" if len(cards) > most else most
        raise GitbenchError(
            f"--gpus-per-run {gpus_per_run}: this machine has {there} to use: use fewer, or --executor slurm or ray"
        )


def check_jobs(jobs: int | None) -> None:
    """Refuse a number of runs at a time that is none."""
    if jobs is not None and jobs < 1:
        raise GitbenchError(f"--jobs {jobs}: at least 1 run at a time is needed")


@contextmanager
def places_for(study: Study, jobs: int | None = None) -> Iterator[Places]:
    """Give the places for the runs that a study has still to make; where several share a card, by MPS if it can be had."""
    check_jobs(jobs)
    cards, needs, world_size = cards_for(study.plan), needs_of(study), study.plan.compute.world_size
    several = world_size == 1 and min(jobs or cpu_count(), len(needs)) > len(cards)
    with shared(cards if several else ()) as environments:
        yield Places(cards, jobs, needs, environments, plugins.environment(), world_size)


def at_once(study: Study, jobs: int | None = None) -> int:
    """Return how many runs are trained at a time: on GPUs, of those that the study has still to make.

    Of a study for GPUs that are elsewhere it is what `jobs` says, or 1.
    """
    check_jobs(jobs)
    if study.plan.compute.device == "cuda" and not gpus():
        return jobs or 1
    cards = cards_for(study.plan)
    places = Places(cards, jobs, world_size=study.plan.compute.world_size)
    if not cards:
        return places.limit
    return max(1, sum(places.take(gib) is not None for gib in needs_of(study).values()))


def cards_for(plan: Plan) -> tuple[Gpu, ...]:
    """Return the GPUs of this machine that the runs of a plan go to; none: they go to the CPU.

    Errors: GitbenchError where they are planned for a GPU, and none is in sight, or each for more than there are.
    """
    if plan.compute.device == "cpu":
        return ()
    if not (cards := gpus()):
        raise GitbenchError(
            "the runs are planned for a GPU, and none is in sight: go to a machine with one, or plan them for the CPU "
            "(`gitbench run --device cpu`)"
        )
    check_cards(cards, plan.compute.world_size)
    return cards


def needs_of(study: Study) -> dict[Path, float]:
    """Return folder -> GiB on a card of every run that is not done: replicate by replicate, the largest first.

    It is the most that finished runs of the arm took of such a card, or by formula where there are none. Of runs that start
    from the same pre-trained encoder the first is taken to make it, while the others wait for it. Without a card runs need
    nothing of one, and keep the order of the plan.
    """
    names = {card.name for card in cards_for(study.plan)}
    todo = [run for run in study.unique_runs if not study.done(run)]
    if not names:
        return {study.folder(run.run_key).path: 0.0 for run in todo}
    plan, measured = study.plan, measured_gib(study, names)
    usual = {run.run_key: measured.get(run.arm) or planned_gib(plan, run) for run in todo}
    needs, starts = {}, set()
    for run in sorted(todo, key=lambda run: (run.replicate, -usual[run.run_key])):
        start = tuple(run.resolved.variants[axis] for axis in ("encoder", "encoder_init"))
        making = 0.0 if start in starts else planned_gib(plan, run, pretrains=True)
        starts.add(start)
        needs[study.folder(run.run_key).path] = max(usual[run.run_key], making)
    return needs
