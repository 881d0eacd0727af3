"""What this machine offers: CPU cores, GPUs and their memory, a short label for result folders. No torch."""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError

_GIB = 2**30
_NO_DEVICE, _STUB = 100, 34  # CUDA_ERROR_*; a stub of the toolkit stands for a driver that is not there
_CARD_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvmap")  # one is there where a card is: Linux, WSL, Jetson
_FOR_THE_CPU = "or set CUDA_VISIBLE_DEVICES to the empty text to use the CPU"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU, or a slice of one (MIG), as CUDA shows it to a process; memory in GiB.

    `uuid` is what CUDA_VISIBLE_DEVICES calls it. `free_gib` is what a process finds beside its own context, 0 where it gets
    none. `capability` is the compute capability, (major, minor). `exclusive`: one process at a time, or those of MPS.
    `mps`: an MPS daemon serves it already.
    """

    uuid: str
    name: str
    free_gib: float
    total_gib: float
    capability: tuple[int, int]
    exclusive: bool = False
    mps: bool = False


def gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that CUDA shows a process started now, in its order; () without one. Asked once in a process.

    Errors: GitbenchError where there is a card, or CUDA_VISIBLE_DEVICES names one by its uuid, and CUDA cannot be used; for
    numbers that CUDA does not find.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return () if visible in ("", "-1") else _gpus(visible, os.environ.get("CUDA_DEVICE_ORDER"))


@functools.cache
def _gpus(visible: str | None, order: str | None) -> tuple[Gpu, ...]:
    said = ask_driver()
    there = any(os.path.exists(path) for path in _CARD_FILES)
    named = re.match(r"\s*\d|GPU-|MIG-", visible or "") is not None  # not -1, nor the "NoDevFiles" of batch systems
    if "absent" in said or said.get("code") == _STUB:
        if there:
            why = str(said.get("absent", said.get("error"))).replace(": ", ", ")  # a colon stands before what to do
            raise GitbenchError(
                f"this machine has an NVIDIA card, but its CUDA driver cannot be loaded ({why}): install it, in a container "
                f"start that with `--gpus all` and the driver capability `compute`, {_FOR_THE_CPU}"
            )
        if re.search(r"GPU-|MIG-", visible or ""):  # a number may be left from a machine of another kind
            raise GitbenchError(
                f"CUDA_VISIBLE_DEVICES={visible} names a card, and this machine has no CUDA driver: start a container with "
                f"`--gpus`, {_FOR_THE_CPU}"
            )
        return ()
    if said.get("code") == _NO_DEVICE:
        if named:
            raise GitbenchError(
                f"CUDA_VISIBLE_DEVICES={visible} names no card that CUDA finds here: correct it (`nvidia-smi -L` lists "
                f"them), {_FOR_THE_CPU}"
            )
        return ()
    if "cards" not in said:
        if not there and not named:
            return ()
        raise GitbenchError(
            f"CUDA cannot be used here ({said['error']}): see whether `nvidia-smi` works and restart the machine or the "
            f"container after an update of the driver, {_FOR_THE_CPU}"
        )
    called = (visible or "").split(",")
    return tuple(
        Gpu(
            uuid=called[place] if place < len(called) and called[place].startswith("MIG-") else card["uuid"],
            name=card["name"],
            free_gib=card["free"] / _GIB,
            total_gib=card["total"] / _GIB,
            capability=(card["capability"][0], card["capability"][1]),
            exclusive=card["exclusive"],
            mps=card["mps"],
        )
        for place, card in enumerate(said["cards"])
    )


def ask_driver(more: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what `gitbench.cuda_driver` says, run as a process of its own, with `more` in its environment."""
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("cuda_driver.py"))]
    environment = {**os.environ, **(more or {})}
    try:
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return {"error": "the driver does not answer within two minutes"}
    try:
        return json.loads(result.stdout)
    except ValueError:
        return {"error": f"asking the driver ended with status {result.returncode}"}


def cpu_count() -> int:
    """Return the CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine_label(device: str = "cuda") -> str:
    """Return the kind of machine that this one is for what computes on "cpu", or on "cuda" where there is a GPU."""
    found = gpus() if device == "cuda" else ()
    return machine_of(found[0].name if found else "cpu", cpu_count())


def machine_class(device: str = "cuda") -> str:
    """Return the class of machines on which runs give the same numbers: "cpu-x86_64", or a GPU's name ("h100-80gb-hbm3")."""
    on_card = device == "cuda" and gpus()
    return machine_label(device) if on_card else f"cpu-{platform.machine().lower()}"


def machine_of(device: str, cores: int) -> str:
    """Return the kind of machine by the name of what computes, "cpu" or a GPU's: "cpu2" of two cores, or "h100-80gb-hbm3"."""
    if device == "cpu":
        return f"cpu{cores}"
    return re.sub(r"[^a-z0-9]+", "-", device.lower().replace("nvidia", "")).strip("-")
