"""The device of a run: the one that was planned, computing the same bits every time, and described as torch sees it.

What "deterministic" takes on a GPU (torch 2.15, from its sources):

* strict mode (`use_deterministic_algorithms`, no `warn_only`): scatters, `index_put` and gradients of embeddings add in a
  fixed order; an operation that has no deterministic kernel is an error. Of what a run does that is one alone, the
  gradient of bicubic resizing (`ImageEncoder.positions` goes another way);
* attention: flash and memory-efficient attention have a backward pass in a fixed order in strict mode, and in strict mode
  alone; the written-out one always. cuDNN's has none, and builds a plan for each new shape: it is off. Flash takes no mask,
  no float32 and no card before Ampere. So under bfloat16 or float16 the image encoder and the image stream run on flash,
  the text stream with its mask on memory-efficient attention; in float32 (validation, test, captions) all of it does;
* cuBLAS with a workspace of a fixed size, which it reads from the environment when it starts; cuDNN without timing of
  algorithms;
* sums over several GPUs in rings: NVLS, which NCCL chooses on cards with NVSwitch, gives other bits from call to call
  (NVIDIA/nccl issue 1497).

Float32 means float32: TF32 is off, also in the convolution that embeds patches, where torch has it on.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

# Before CUDA starts; results depend on them, so they are nobody's choice.
os.environ.update(CUBLAS_WORKSPACE_CONFIG=":4096:8", NCCL_ALGO="Ring")

import mmengine.device.utils
import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import LogProcessor

from gitbench.compute import best_precision, lacks
from gitbench.errors import GitbenchError
from gitbench.machine import cpu_name
from gitbench.registry import HOOKS, LOG_PROCESSORS
from gitbench.spec import Compute
from gitbench.training.distributed import rank_here

# Of a run, on every device. On CPUs the order of float sums depends on it; a GPU's host has nothing to share out, and
# threads that wait for work would take the cores of other runs.
THREADS = 1


def settle(compute: Compute) -> None:
    """Make this process compute as a run was planned: on that device (of several processes each on its own), deterministically.

    Errors: GitbenchError where torch sees no GPU, fewer than the run has processes, or one without the run's precision.
    """
    torch.set_num_threads(THREADS)
    mmengine.device.utils.DEVICE = compute.device  # a constant of its import, which may have seen other cards
    if compute.device == "cpu":
        return
    if not torch.cuda.is_available():
        raise GitbenchError(
            "the run was planned for a GPU, and torch finds none here: plan it with --device cpu, or see `gitbench doctor`"
        )
    if compute.world_size > 1:
        if (there := torch.cuda.device_count()) < compute.world_size:
            raise GitbenchError(
                f"the run was planned for {compute.world_size} GPUs, and torch finds {there} here: show it as many "
                "(CUDA_VISIBLE_DEVICES, gres=gpu:N of Slurm), or plan it with another --gpus-per-run"
            )
        torch.cuda.set_device(rank_here())
    if lacks(torch.cuda.get_device_capability(), compute.precision):
        raise GitbenchError(
            f"the run was planned in {compute.precision}, which {torch.cuda.get_device_name()} has not: plan it with another "
            "--precision, or run it on another card"
        )
    deterministic()


def deterministic() -> None:
    """Let this process use no algorithm on a GPU that may give other bits for the same numbers; see above."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # a kernel for each tensor
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def pretraining_precision(device: torch.device) -> str:
    """Return the type of matrix products in pre-training: of a GPU the best, on CPUs with units for it bfloat16, else float32.

    Elsewhere on CPUs bfloat16 is 10 to 100 times slower than float32.
    """
    if device.type == "cuda":
        return best_precision(torch.cuda.get_device_capability(device))
    units = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return "bfloat16" if units() else "float32"


def processor_name(device: torch.device) -> str:
    """Return the name of a GPU, or of the CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """Return the context in which a forward pass computes in a precision; in float32 it changes nothing."""
    low = precision != "float32"
    return torch.autocast(device, getattr(torch, precision) if low else torch.bfloat16, enabled=low)


def scaler(device: str, precision: str) -> torch.amp.GradScaler:
    """Return what scales the loss of training in float16, whose small gradients would be 0; else it passes all through."""
    return torch.amp.GradScaler(device, enabled=precision == "float16")


def on_device(device: torch.device, numbers: Sequence[float]) -> torch.Tensor:
    """Return numbers as a tensor on a device; a GPU is not waited for."""
    found = torch.tensor(numbers)
    return found.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else found


def described() -> dict[str, Any]:
    """Return what this process computes on: `name`, and of a GPU uuid, total memory in bytes and compute capability."""
    if mmengine.device.utils.DEVICE != "cuda":
        return {"name": "cpu"}
    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "name": card.name,
        "uuid": str(getattr(card, "uuid", "")),
        "memory_bytes": card.total_memory,
        "capability": f"{card.major}.{card.minor}",
    }


def peak_memory(cuda_graph: bool = False) -> int:
    """Return the most bytes that this process has held: of tensors on the GPU it computes on, else of memory.

    The memory of CUDA graphs is in no tensor while they wait: with them it is what torch has reserved.
    """
    if mmengine.device.utils.DEVICE == "cuda":
        return torch.cuda.max_memory_reserved() if cuda_graph else torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@HOOKS.register_module()
class ComputeHook(Hook):
    """Does what `settle` does for runners that others start (`Runner.from_cfg(...).train()`).

    Errors: as `settle`; another number of processes than was planned; and a model that is on another device, where mmengine
    put it.
    """

    priority = "VERY_HIGH"

    def before_run(self, runner) -> None:  # type: ignore[no-untyped-def]
        compute = planned(runner.cfg)
        settle(compute)
        if (world := get_world_size()) != (wanted := compute.world_size):
            fix = "start it without torchrun" if wanted == 1 else f"start it with torchrun --nproc-per-node {wanted}"
            raise GitbenchError(f"the run was planned for {wanted} processes, and this is one of {world}: {fix}")
        found = next(runner.model.parameters()).device.type
        if found != compute.device:
            fix = "hide the GPU (CUDA_VISIBLE_DEVICES=)" if compute.device == "cpu" else "show it a GPU"
            raise GitbenchError(f"the run was planned for {compute.device} and its model is on {found}: {fix}")


def planned(config: Mapping[str, Any]) -> Compute:
    """Return what a run's config says that it computes on."""
    return Compute(**config.get("compute", {}))


@LOG_PROCESSORS.register_module()
class PlainLogProcessor(LogProcessor):
    """mmengine's, except that it leaves the peak of the GPU's memory alone, which mmengine resets at each line.

    The peak of a run is a result (`cost.peak_memory_bytes`).
    """

    def _get_max_memory(self, runner: Any) -> int:
        return torch.cuda.max_memory_allocated() // 2**20
