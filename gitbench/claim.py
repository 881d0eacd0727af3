"""Claims: of many processes on many hosts one holds a folder or a file, on file systems without locks too (NFS, Lustre).

A claim on `x` is a file `x.<n>` that says who holds it. It is made by a hard link, which succeeds for one process alone;
the highest number that is live holds. Its holder touches it every `BEAT` seconds. One whose process is dead (on the same
host), or that was not touched for `STALE` seconds, is taken over by a link of the next number, after which the old file is
removed. One that finds another live claim beside its own gives way. So nobody removes what another one holds by right. A
holder that was suspended finds its file gone, or, since numbers begin anew, another's in its place.

Times are those of the file server alone: a claim's age is measured against a file that was just touched beside it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gitbench.files import explain_os_errors, make_dir

BEAT = 5.0  # seconds between two touches of a held claim
STALE = 60.0  # seconds without one, after which others take it over
# of a file server that is away for a while, and of a file that was just removed
_AWAY = (errno.ENOENT, errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN, errno.EAGAIN)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # of file systems without hard links


class ClaimLost(Exception):
    """Another process has taken the claim over, since this one seemed dead: what it holds must not be written any more."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a claim: `system` tells hosts of one name apart (boot and process namespace), `start` processes of one pid,
    and `token` one claim from all others.
    """

    host: str = "?"
    system: str = ""
    pid: int = 0
    start: str = ""
    token: str = ""

    @property
    def dead(self) -> bool:
        """Whether it is a process of this host that is there no more; False where that cannot be told."""
        return bool(self.system) and self.system == _system() and self.start != (_start_of(self.pid) or self.start)


class Claim:
    """A claim on `path`, which need not exist; `lost` is called in a thread where it turns out to be another's now."""

    def __init__(self, path: Path, lost: Callable[[], None] | None = None) -> None:
        self.path, self.lost, self.token = path, lost, ""
        self._file: Path | None = None
        self._ended = threading.Event()

    def take(self) -> bool:
        """Take the claim, unless another process holds it; returns whether it is held now."""
        make_dir(self.path.parent)
        with explain_os_errors(self.path):
            token = secrets.token_hex(8)
            if (made := self._linked(token)) is None:
                return False
            number, now = made
            file = _file(self.path, number)
            others = {each: _file(self.path, each) for each in _numbers(self.path) if each != number}
            if not _is_of(file, token):  # this process slept, was taken for dead, and numbers began anew
                return False
            # A higher one took the claim over from a holder that has ended since. A lower one that is live took it when it
            # was free, after this process had seen who held it before.
            if any(each > number or _is_live(other, now) for each, other in others.items()):
                file.unlink(missing_ok=True)
                return False
            for other in others.values():
                other.unlink(missing_ok=True)
        self.token, self._file, self._ended = token, file, threading.Event()
        threading.Thread(target=self._beat, args=(file, self._ended), daemon=True).start()
        return True

    def _linked(self, token: str) -> tuple[int, float] | None:
        """Make the next claim where there is none that is live; return its number, and the file server's time."""
        try:
            with _probe(self.path, token) as (probe, now):
                seen = _numbers(self.path)
                if _live(self.path, seen, now) is not None:
                    return None
                number = seen[-1] + 1 if seen else 1
                return (number, now) if _link(probe, _file(self.path, number)) else None
        except FileNotFoundError:  # whoever has just taken the claim clears the folder
            return None

    def check(self) -> None:
        """Raise ClaimLost unless the claim is held; asks the file server, not what this host remembers."""
        if self._file is None or not _touch(self._file, self.token):
            raise ClaimLost(f"{self.path} was taken over by another process")

    def release(self) -> None:
        """Give the claim up, where it is held."""
        self._ended.set()
        file, self._file = self._file, None
        if file is not None and _is_of(file, self.token):
            file.unlink(missing_ok=True)

    def _beat(self, file: Path, ended: threading.Event) -> None:
        touched = time.monotonic()
        while not ended.wait(BEAT):
            try:
                held = _touch(file, self.token)
                touched = time.monotonic()
            except OSError:  # the file server is away: others see no touch either
                held = time.monotonic() - touched < STALE
            if not held and not ended.is_set():
                self._file = None
                if self.lost is not None:
                    self.lost()
                return


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[Claim]:
    """Hold a claim on `path` while the block runs; wait for it first."""
    claim, pause = Claim(path), 0.02
    while not claim.take():
        time.sleep(pause)
        pause = min(2 * pause, 1.0)
    try:
        yield claim
    finally:
        claim.release()


def holder(path: Path) -> Holder | None:
    """Return who holds a claim on `path`; None where it is free, or whoever held it is dead.

    Where the file server does not answer now it counts as held. Errors: GitbenchError where nothing can be read or written.
    """
    try:
        if not (numbers := _numbers(path)):
            return None
        with _probe(path) as (_, now):
            file = _live(path, numbers, now)
            return None if file is None else _read(file)[0]
    except OSError as error:
        if error.errno not in _AWAY:
            with explain_os_errors(path):
                raise
        return Holder()  # also where its holder has just given it up, or has cleared the folder having just taken it


@contextlib.contextmanager
def _probe(path: Path, token: str = "") -> Iterator[tuple[Path, float]]:
    """Yield a private file that names this process, and the file server's time."""
    probe = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    pid = os.getpid()
    me = Holder(host=socket.gethostname(), system=_system(), pid=pid, start=_start_of(pid), token=token)
    try:
        with open(probe, "x", encoding="utf-8") as file:
            json.dump(asdict(me), file)
        os.utime(probe)
        yield probe, probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _numbers(path: Path) -> list[int]:
    """Return the numbers of the claims on `path`, sorted."""
    pattern = re.compile(re.escape(path.name) + r"\.(\d+)")
    try:
        found = [pattern.fullmatch(name) for name in os.listdir(path.parent)]
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for match in found if match)


def _file(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _live(path: Path, numbers: Sequence[int], now: float) -> Path | None:
    """Return the claim that holds, of those with these numbers, sorted; None where there is none."""
    return next((file for number in reversed(numbers) if _is_live(file := _file(path, number), now)), None)


def _is_live(file: Path, now: float) -> bool:
    """Tell whether a claim is one to respect; one that has just gone is: who took its place is seen next time."""
    try:
        found, touched = _read(file)
    except FileNotFoundError:
        return True
    return not found.dead and now - touched <= STALE


def _read(file: Path) -> tuple[Holder, float]:
    """Return who made a claim and when it was touched last. It is opened, since attributes alone may come from a cache."""
    with open(file, encoding="utf-8") as opened:
        touched = os.fstat(opened.fileno()).st_mtime
        try:
            return Holder(**json.load(opened)), touched
        except (ValueError, TypeError):  # it is being written, on a file system without links
            return Holder(), touched


def _link(probe: Path, file: Path) -> bool:
    """Give the probe's content the name `file`, unless that is taken; returns whether it was."""
    try:
        os.link(probe, file)
    except FileExistsError:  # or the answer to a link that did succeed was lost, and it was asked for again
        return probe.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        said = probe.read_text(encoding="utf-8")
        try:
            with open(file, "x", encoding="utf-8") as opened:
                opened.write(said)
        except FileExistsError:
            return False
    return True


def _is_of(file: Path, token: str) -> bool:
    """Tell whether a claim is there, and the one of this token."""
    try:
        return _read(file)[0].token == token
    except FileNotFoundError:
        return False


def _touch(file: Path, token: str) -> bool:
    """Touch a held claim; returns whether it is still there, and the one of this token."""
    if not _is_of(file, token):
        return False
    try:
        os.utime(file)  # no time is given: the file server's own
    except FileNotFoundError:
        return False
    return True


@functools.cache
def _system() -> str:
    """Name this boot of this host and the namespace of its pids; "" where the system tells nothing of the kind."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """Return when a process of this host began, in ticks since the boot.

    "dead" where it is not there, or dead and unreaped; "" where the system hides it (of other users: hidepid of /proc).
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state, *fields = file.read().rpartition(")")[2].split()
    except OSError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return "dead"
        except OSError:  # another user's
            pass
        return ""
    return "dead" if state in "ZX" else fields[18]
