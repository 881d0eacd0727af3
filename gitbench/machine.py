"""What this machine offers: CPU slots, GPUs and their free memory, a short label for result folders. No torch."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU as the driver names it; memory in GiB. CUDA counts GPUs otherwise than the driver: use the uuid."""

    uuid: str
    name: str
    free_gib: float


def gpus() -> list[Gpu]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES leaves visible, [] where there is no NVIDIA driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in ("", "-1") or shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.free", "--format=csv,noheader,nounits"]
    try:
        result = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if result.returncode != 0:
        return []
    wanted = visible.split(",") if visible else None
    found = []
    for line in result.stdout.splitlines():
        index, uuid, name, free = (part.strip() for part in line.split(","))
        if wanted is None or index in wanted or any(uuid.startswith(w) for w in wanted if w.startswith("GPU-")):
            memory = float(free) / 1024 if free.replace(".", "").isdigit() else 0.0  # "[N/A]": one run at a time
            found.append(Gpu(uuid=uuid, name=name, free_gib=memory))
    return found


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


def machine_label() -> str:
    """Return the kind of machine for folder names: "cpu2" for two cores, "h100-80gb-hbm3" for a GPU."""
    found = gpus()
    if not found:
        return f"cpu{cpu_count()}"
    return re.sub(r"[^a-z0-9]+", "-", found[0].name.lower().replace("nvidia", "")).strip("-")
