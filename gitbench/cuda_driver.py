"""What the CUDA driver shows a process, as one line of JSON: run as a program of its own, so that no other starts CUDA.

CUDA alone knows what CUDA_VISIBLE_DEVICES (indices, uuids, their beginnings, slices of MIG), CUDA_DEVICE_ORDER and a
container leave visible, and a process that has asked it can no longer be forked. `nvidia-smi` and NVML are no substitute:
they count all cards, in another order, and are not there in every container; cuda-bindings comes with some builds of torch
alone. A dozen functions of libcuda are all that is needed. Nothing but the standard library is imported.

{"cards": [...]}, or {"absent": why} where there is no driver, or {"code": number, "error": its name} where it fails.
"""

from __future__ import annotations

import ctypes
import json
from typing import Any

LIBRARY = "libcuda.so.1"
MAJOR, MINOR, COMPUTE_MODE, MPS = 75, 76, 20, 133  # CU_DEVICE_ATTRIBUTE_*
EXCLUSIVE_PROCESS = 3  # CU_COMPUTEMODE_*


class Uuid(ctypes.Structure):
    """CUuuid."""

    _fields_ = (("bytes", ctypes.c_ubyte * 16),)

    def __str__(self) -> str:
        text = bytes(self.bytes).hex()
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


class Failure(Exception):
    """A function of the driver returned something else than success: (its code, the name of that code)."""


def ask() -> dict[str, Any]:
    """Return what the driver shows this process."""
    try:
        driver = ctypes.CDLL(LIBRARY)
    except OSError as error:
        return {"absent": str(error)}
    try:
        _call(driver, "cuInit", 0)
        count = ctypes.c_int()
        _call(driver, "cuDeviceGetCount", ctypes.byref(count))
        return {"cards": [_card(driver, place) for place in range(count.value)]}
    except Failure as failure:
        code, name = failure.args
        return {"code": code, "error": name}


def _card(driver: ctypes.CDLL, place: int) -> dict[str, Any]:
    device, name, total = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    _call(driver, "cuDeviceGet", ctypes.byref(device), place)
    _call(driver, "cuDeviceGetName", name, len(name), device)
    _call(driver, "cuDeviceTotalMem_v2", ctypes.byref(total), device)
    uuid = Uuid()
    newer = hasattr(driver, "cuDeviceGetUuid_v2")  # since driver 470: of a slice its own uuid, not its card's
    _call(driver, "cuDeviceGetUuid_v2" if newer else "cuDeviceGetUuid", ctypes.byref(uuid), device)
    called = name.value.decode(errors="replace")
    return {
        "uuid": f"{'MIG' if 'MIG' in called.split() else 'GPU'}-{uuid}",  # "NVIDIA H100 80GB HBM3 MIG 3g.40gb"
        "name": called,
        "free": _free(driver, device),
        "total": total.value,
        "capability": [_attribute(driver, MAJOR, device), _attribute(driver, MINOR, device)],
        "exclusive": _attribute(driver, COMPUTE_MODE, device) == EXCLUSIVE_PROCESS,
        "mps": _attribute(driver, MPS, device) == 1,
    }


def _attribute(driver: ctypes.CDLL, which: int, device: ctypes.c_int) -> int:
    """Return an attribute of a device, 0 where the driver does not know it."""
    value = ctypes.c_int()
    return value.value if driver.cuDeviceGetAttribute(ctypes.byref(value), which, device) == 0 else 0


def _free(driver: ctypes.CDLL, device: ctypes.c_int) -> int:
    """Return the bytes that are free beside a context of this process; 0 where it can have none: all is taken."""
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    if driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) != 0:
        return 0
    try:
        _call(driver, "cuCtxSetCurrent", context)
        _call(driver, "cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)
    return free.value


def _call(driver: ctypes.CDLL, function: str, *arguments: Any) -> None:
    code = getattr(driver, function)(*arguments)
    if code != 0:
        text = ctypes.c_char_p()
        driver.cuGetErrorName(code, ctypes.byref(text))
        raise Failure(code, (text.value or b"an unknown error").decode())


if __name__ == "__main__":
    print(json.dumps(ask()))
