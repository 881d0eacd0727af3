"""Files that are whole or absent: atomic writes, the cache folder, resources of the repository.

Every result gitbench writes goes through `atomic_path`: the bytes go to a temporary file beside the target, are
flushed to disk, and take the target's name in one step. A kill at any moment leaves the old file or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_WORK_DIR = Path("work_dirs")
LINE = 120  # characters of a line of JSON
# kinds of file systems
NETWORK = ("nfs", "lustre", "gpfs", "beegfs", "cifs", "smb3", "ceph", "afs", "panfs", "weka", "glusterfs", "fuse.")
_guards: dict[Path, Callable[[], None]] = {}  # folder -> what is asked before a file below it is replaced


def resource(name: str) -> Path:
    """Return a folder that lives at the repository's top level ("ablations", "reports/templates", ...).

    An installed wheel carries the same folders under `gitbench/_resources`.
    """
    for base in (Path(__file__).resolve().parent / "_resources", ROOT):
        if (base / name).exists():
            return base / name
    raise GitbenchError(f"{name} is missing from this installation: reinstall gitbench or run it from a clone")


def results_folder() -> Path:
    """Return where reports are kept: `reports/results` of the clone, or of the current folder."""
    return (ROOT if (ROOT / "pyproject.toml").is_file() else Path.cwd()) / "reports" / "results"


def cache_dir() -> Path:
    """Return the folder for what can be made again (rendered scenes, tokenizers): $GITBENCH_CACHE or the user's cache."""
    base = (
        os.environ.get("GITBENCH_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gitbench"
    )
    return Path(base)


def local_cache_dir() -> Path:
    """Return the folder for large arrays, which every host makes for itself: $GITBENCH_LOCAL_CACHE, or else `cache_dir`.

    Where that lies on a network, it is a folder of this user's under the host's own temporary one.
    """
    if given := os.environ.get("GITBENCH_LOCAL_CACHE"):
        return Path(given)
    if not on_network(cache_dir()):
        return cache_dir()
    own = Path(tempfile.gettempdir()) / f"gitbench-{os.getuid()}"
    with contextlib.suppress(OSError):
        own.mkdir(mode=0o700, exist_ok=True)
        if own.stat().st_uid == os.getuid():  # and not one that somebody else has put there
            return own
    return cache_dir()


def cache_variables(folder: Path) -> dict[str, str]:
    """Return the environment of a process that keeps both caches in a folder."""
    return dict.fromkeys(("GITBENCH_CACHE", "GITBENCH_LOCAL_CACHE"), str(folder.resolve()))


def on_network(path: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Tell whether a path lies on a file system that other hosts share; False where the system does not say."""
    try:
        lines = mounts.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    places = ((Path(place.replace("\\040", " ")), kind) for _, place, kind, *_ in map(str.split, lines))
    above = [(len(place.parts), kind) for place, kind in places if path.resolve().is_relative_to(place)]
    return bool(above) and max(above)[1].startswith(NETWORK)


@contextlib.contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn the file-system faults a user can mend into one-line errors that name the fix."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            said = f"the disk is full while writing {path}: free some space or choose another place"
        elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            said = f"{path} cannot be written (read-only): choose a place that you may write to"
        elif error.errno in (errno.ENOTDIR, errno.EEXIST):
            said = f"{path} cannot be created, a file is in the way: remove it or choose another place"
        else:
            said = f"{path} cannot be written ({error.strerror or error}): choose another place"
        raise GitbenchError(said) from error


@contextlib.contextmanager
def explain_unreadable() -> Iterator[None]:
    """Turn files and folders that this user may not read into one-line errors."""
    try:
        yield
    except PermissionError as error:
        raise GitbenchError(f"{error.filename} cannot be read ({error.strerror}): change its permissions") from None


def make_dir(path: Path) -> Path:
    """Create a folder and its parents; errors name the fix."""
    with explain_os_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def guarded(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Call `check` before any atomic write below `folder` takes effect, while the block runs; what it raises prevents it."""
    place = Path(os.path.abspath(folder))
    _guards[place] = check
    try:
        yield
    finally:
        del _guards[place]


def ask_guards(path: Path) -> None:
    """Raise whatever prevents an atomic write of `path` now."""
    place = Path(os.path.abspath(path))
    for folder, check in list(_guards.items()):
        if place.is_relative_to(folder):
            check()


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes were writing in a folder, in which nobody else may write now."""
    for leftover in folder.glob(".*.tmp*"):
        leftover.unlink(missing_ok=True)


def remove_leftovers_of(path: Path) -> None:
    """Remove what killed processes were writing to a file with an ending, which nobody else may write now."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp{path.suffix}"):
        leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_path(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it becomes `path` in one step.

    What is not `durable` may be gone after a crash of the machine.
    """
    path = Path(path)
    temporary = make_dir(path.parent) / f".{path.name}.{secrets.token_hex(4)}.tmp{path.suffix}"
    with explain_os_errors(path):
        temporary.touch(exist_ok=False)
        try:
            yield temporary
            if durable:
                with open(temporary, "rb+") as written:
                    os.fsync(written.fileno())
            ask_guards(path)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; when the block ends well it becomes `path` in one step.

    Errors: something is there already, unless it is an empty folder.
    """
    path = Path(os.path.abspath(path))
    if path.is_symlink() or path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise GitbenchError(f"{path} is there already: pass a folder that is not, or an empty one")
    with explain_os_errors(path):
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=make_dir(path.parent)))
        try:
            yield temporary
            temporary.chmod(0o755)
            os.replace(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def write_text(path: str | Path, text: str, durable: bool = True) -> None:
    """Write a text file atomically, UTF-8; `durable` as in `atomic_path`."""
    with atomic_path(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically, indented, keys in the given order; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_json_lines(path: str | Path, value: Any) -> None:
    """Write JSON as `write_json` does, but for people who compare two of them: a list is a line, however long.

    An object is one where it fits, and else a line a member; of a list of objects each is a line.
    """
    write_text(path, _lines(value, "") + "\n")


def _lines(value: Any, indent: str) -> str:
    line, deeper = json.dumps(value, allow_nan=False), f"{indent}  "
    if isinstance(value, Mapping) and len(line) + len(indent) > LINE:
        rows = [f"{json.dumps(key)}: {_lines(each, deeper)}" for key, each in value.items()]
        return "{\n" + ",\n".join(deeper + row for row in rows) + f"\n{indent}}}"
    if isinstance(value, (list, tuple)) and any(isinstance(each, Mapping) for each in value):
        rows = [json.dumps(each, allow_nan=False) for each in value]
        return "[\n" + ",\n".join(deeper + row for row in rows) + f"\n{indent}]"
    return line


def load_json(path: str | Path) -> Any:
    """Read JSON; None where the file is missing or damaged."""
    try:
        return read_json(path)
    except GitbenchError:
        return None


def read_json(path: str | Path) -> Any:
    """Read JSON; a missing or truncated file gives a one-line error."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise GitbenchError(f"{path} does not exist") from None
    except OSError as error:
        raise GitbenchError(
            f"{path} cannot be read ({error.strerror}): move what is there away and run again"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise GitbenchError(f"{path} is damaged (not whole JSON): delete it and run again") from None
