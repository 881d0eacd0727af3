"""A CUDA driver without a card (`fake_cuda.c`), compiled where a compiler is, and the environment that shows it."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fake_cuda.c")
H100 = "NVIDIA H100 80GB HBM3,GPU-aaaaaaaa-0000-1111-2222-333333333333,81000,80000,9,0,0,0"
A10 = "NVIDIA A10G,GPU-abbbbbbb-0000-1111-2222-333333333333,22500,20480,8,6,0,0"
T4 = "Tesla T4,GPU-cccccccc-0000-1111-2222-333333333333,15000,14336,7,5,0,0"
SLICE = "NVIDIA H100 80GB HBM3 MIG 1g.10gb,MIG-dddddddd-0000-1111-2222-333333333333,9984,9728,9,0,0,0"


def compiled_driver(folder: Path) -> Path:
    """Compile the driver into a folder, against NVIDIA's header where torch brought it; return the library."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler, so no fake CUDA driver")
    library = folder / "libcuda.so.1"
    if not library.exists():
        headers = sorted(Path(sysconfig.get_paths()["purelib"]).glob("nvidia/cu*/include"))
        command = [compiler, "-shared", "-fPIC", *(f"-I{each}" for each in headers), "-o", str(library), str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    return library


def shown(library: Path, *cards: str, **more: str) -> dict[str, str]:
    """Return the environment in which a process that is started finds these cards."""
    return {"LD_LIBRARY_PATH": str(library.parent), "FAKE_CUDA": ";".join(cards), **more}
