"""What a study's runs compute on, and in which precision: decided when it is planned, since it is part of every run's key.

A CPU computes in float32. A GPU trains in bfloat16 where all cards in sight can; float16, with a scaled loss, on those
that have tensor cores and no bfloat16 (V100, T4); float32 on older ones.
"""

from __future__ import annotations

from gitbench.errors import GitbenchError
from gitbench.machine import gpus
from gitbench.spec import Compute, Profile

BFLOAT16, TENSOR_CORES = (8, 0), (7, 0)  # the first compute capabilities that have them: Ampere, Volta
ROW_MULTIPLE = 16  # to which rows of text are filled up on GPUs: each length is a kernel's or a plan's own there
USUAL = Compute(device="cuda", precision="bfloat16")  # of profiles that are made for GPUs


def compute_for(
    profile: Profile,
    device: str | None = None,
    precision: str | None = None,
    *,
    gpus_per_run: int | None = None,
    cuda_graph: bool = False,
    micro_batch: int = 0,
    checkpointing: bool = False,
) -> Compute:
    """Return what the runs of a study compute on: as asked for, else what the profile and the cards of this machine suggest.

    Where no card is in sight, a study for GPUs is planned for others elsewhere, in bfloat16 if nothing is said.
    Errors: GitbenchError for a precision that a CPU, or a card of this machine, has not; for several GPUs a run, or CUDA graphs,
    on a CPU, and for both at once; and for steps in parts, or with checkpointing, together with either of them.
    """
    chosen, world_size = device or profile.device, 1 if gpus_per_run is None else gpus_per_run
    if micro_batch < 0:
        raise GitbenchError(f"--micro-batch {micro_batch}: use the number of images that are taken at a time")
    for option in ["--micro-batch"] * bool(micro_batch) + ["--checkpointing"] * checkpointing:
        for other, given in (("--gpus-per-run", world_size > 1), ("--cuda-graph", cuda_graph)):
            if given:
                raise GitbenchError(f"{option} with {other}: they do not go together yet: leave one out")
    if world_size < 1:
        raise GitbenchError(f"--gpus-per-run {world_size}: a run for GPUs needs at least 1")
    if chosen == "cpu":
        if world_size > 1:
            raise GitbenchError(
                f"--gpus-per-run {world_size}: the runs are planned for the CPU: add --device cuda, or leave it out"
            )
        if cuda_graph:
            raise GitbenchError("--cuda-graph: a CPU records none: add --device cuda, or leave it out")
        if precision not in (None, "float32"):
            raise GitbenchError(
                f"--precision {precision}: a CPU computes in float32: add --device cuda, or leave it out"
            )
        return Compute(micro_batch=micro_batch, checkpointing=checkpointing)
    if cuda_graph and world_size > 1:
        raise GitbenchError(
            f"--cuda-graph with --gpus-per-run {world_size}: steps of several processes are not recorded: leave one out"
        )
    cards = gpus()
    if precision is None:
        precision = best_precision(min(card.capability for card in cards)) if cards else USUAL.precision
    elif device is None:  # with --device it may be for other machines than this one
        for card in cards:
            if lacks(card.capability, precision):
                raise GitbenchError(
                    f"--precision {precision}: {card.name} has no {precision}: leave it out, or hide that card "
                    "(CUDA_VISIBLE_DEVICES)"
                )
    return Compute(
        device="cuda",
        precision=precision,  # type: ignore[arg-type]
        world_size=world_size,
        cuda_graph=cuda_graph,
        micro_batch=micro_batch,
        checkpointing=checkpointing,
    )


def best_precision(capability: tuple[int, int]) -> str:
    """Return the fastest precision that a card has units for."""
    return "bfloat16" if capability >= BFLOAT16 else "float16" if capability >= TENSOR_CORES else "float32"


def lacks(capability: tuple[int, int], precision: str) -> bool:
    """Tell whether a card has no units for a precision: torch would compute it all the same, slower than float32."""
    return capability < {"bfloat16": BFLOAT16, "float16": TENSOR_CORES}.get(precision, (0, 0))


def compute_mark(profile: Profile, compute: Compute) -> str:
    """Return what tells a study from that of the profile's usual compute, as the end of its label: "" for that one."""
    usual = USUAL if profile.device == "cuda" else Compute()
    shared = f"+gpus-{compute.world_size}" if compute.world_size > 1 else ""
    shared += f"+micro-{compute.micro_batch}" if compute.micro_batch else ""
    if (compute.device, compute.precision) == (usual.device, usual.precision):
        return shared
    return ("+cpu" if compute.device == "cpu" else f"+cuda-{compute.precision}") + shared


def in_words(compute: Compute) -> str:
    """Return a compute for people: "CPU, float32", "GPU, trained in bfloat16" or "set of 2 GPUs, trained in bfloat16"."""
    if compute.device == "cpu":
        return "CPU, float32"
    cards = "GPU" if compute.world_size == 1 else f"set of {compute.world_size} GPUs"
    return f"{cards}, trained in {compute.precision}"
