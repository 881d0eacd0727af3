"""Ray as an executor: one task a run, on a share of a GPU where they are planned for one. Tasks end with the launch, as Ray's do;
a launch that is to outlive its terminal is submitted itself (`ray job submit`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from gitbench.errors import GitbenchError, installing
from gitbench.launch.queues import Pack, QueueExecutor
from gitbench.spec import Compute


def ray_executor(compute: Compute, jobs: int | None = None, share: int = 1) -> QueueExecutor:
    """Return Ray as an executor of runs: at most `jobs` at a time, on GPUs `share` of them on one, or each on several. It joins
    the cluster that `RAY_ADDRESS` names, or one that runs on this host, or else starts one on this host.

    Errors: GitbenchError where ray is missing, or the cluster does not answer or has no node with the GPUs of a run.
    """
    return QueueExecutor(_Ray(compute, share), limit=jobs)


class _Ray:
    """The tasks of a Ray cluster."""

    def __init__(self, compute: Compute, share: int) -> None:
        try:
            import ray
        except ImportError:
            raise GitbenchError(f"--executor ray needs ray: {installing('ray')}") from None
        _check_address(os.environ.get("RAY_ADDRESS", ""))
        try:
            ray.init(ignore_reinit_error=True, log_to_driver=False, configure_logging=False)
        except Exception as error:  # of no kind in particular where a node does not come up in time
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise GitbenchError(f"--executor ray: no cluster can be joined ({said}): check RAY_ADDRESS") from None
        on_gpus, world_size = compute.device == "cuda", compute.world_size
        if on_gpus and not ray.cluster_resources().get("GPU"):
            raise GitbenchError(
                "--executor ray: the runs are planned for a GPU, and the cluster has none: add a node with one, or pass "
                "--device cpu"
            )
        nodes = ray.nodes() if on_gpus and world_size > 1 else ()
        if nodes and max(node["Resources"].get("GPU", 0) for node in nodes if node["Alive"]) < world_size:
            raise GitbenchError(f"--gpus-per-run {world_size}: no node of the cluster has so many GPUs: use fewer")
        # a task that dies with its node is started again by Ray, and then goes on once the claim on its run is stale
        task = ray.remote(
            num_cpus=world_size, num_gpus=world_size / share if on_gpus else 0, max_retries=3, max_calls=1
        )
        self.execute: Any = task(_execute)

    def start(self, packs: Sequence[Pack]) -> list[_Task]:
        """Begin a task a pack, as soon as the cluster has room."""
        return [_Task(self.execute.remote(pack)) for pack in packs]

    def cancel(self, jobs: Sequence[_Task]) -> None:
        """End tasks."""
        import ray

        for task in jobs:
            ray.cancel(task.reference, force=True)


def _check_address(address: str) -> None:
    """Refuse the address of a cluster, HOST:PORT, where nothing answers: Ray itself would go on asking."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:  # no host or port of such a name
        said = getattr(error, "strerror", None) or error
        raise GitbenchError(f"--executor ray: nothing answers at RAY_ADDRESS={address} ({said}): correct it") from None


def _execute(pack: Pack) -> list[int]:
    return pack()


class _Task:
    """A task of Ray."""

    def __init__(self, reference: Any) -> None:
        self.reference = reference

    def statuses(self) -> list[int] | None:
        """Return the exit statuses of its runs, None while it waits or runs; see `queues.Job`."""
        import ray

        if not ray.wait([self.reference], timeout=0)[0]:
            return None
        try:
            return ray.get(self.reference)
        except ray.exceptions.RayError as error:
            raise GitbenchError(f"Ray ended its task ({type(error).__name__}: {str(error).splitlines()[0]})") from None
