"""Which errors are the machine's and not the code's: where they come up, nothing can be measured."""

from __future__ import annotations

import errno

import torch

from gitbench.errors import MachineError

# Of the system: a full disk or quota, no permission, no more files or memory, a broken disk.
_NUMBERS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO),
)
# Of torch, which says in words where memory cannot be had, but for its own allocator on a GPU.
_WORDS = ("DefaultCPUAllocator", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def of_machine(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it came of, is the machine's: memory, disk, permission, a process that was killed."""
    while error is not None:
        if isinstance(error, (MachineError, MemoryError, torch.OutOfMemoryError)):
            return True
        if isinstance(error, OSError) and error.errno in _NUMBERS:
            return True
        if isinstance(error, RuntimeError) and any(each in str(error) for each in _WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False
