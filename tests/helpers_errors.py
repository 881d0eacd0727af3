"""What every refusal of gitbench must be: one line that says what is wrong and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from gitbench.errors import GitbenchError


@contextlib.contextmanager
def refused(match: str = "") -> Iterator[None]:
    """Expect a GitbenchError of one line that matches."""
    with pytest.raises(GitbenchError, match=match) as caught:
        yield
    assert "\n" not in str(caught.value)
