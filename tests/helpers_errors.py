"""What every refusal of gitbench must be: one line that says what is wrong and what to do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest

from gitbench.errors import GitbenchError


@contextlib.contextmanager
def refused(match: str) -> Iterator[None]:
    """Expect a GitbenchError of one line that matches."""
    with pytest.raises(GitbenchError, match=match) as caught:
        yield
    assert "\n" not in str(caught.value)


def failing_disk(code: int) -> Callable[..., None]:
    """Return what stands in for `os.fsync` on a disk that refuses to write, for example with errno.ENOSPC."""

    def fsync(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return fsync
