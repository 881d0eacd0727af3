"""The unit of work of every executor: claim a run folder, train and caption it, say how it ended.

    python -m gitbench.launch.work FOLDER...      run folders that hold a `config.py`, one after the other

All that is exchanged with whoever launched it lies in the folder: `config.py` and `origin.json` are read, `state.json` and
`log.txt` written, and the exit status says the rest. A run that another process works on is left to it, one that is done is
left as it is; so the same folders may be given to any number of workers, on any hosts that share them.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

from gitbench import plugins
from gitbench.claim import Claim, ClaimLost, holder
from gitbench.errors import GitbenchError, StepTooLarge
from gitbench.files import explain_os_errors, guarded, load_json, remove_leftovers, write_json
from gitbench.launch.state import State, write_state
from gitbench.processes import ORPHAN, end_with_parent
from gitbench.run_folder import RunFolder

# Exit statuses. Trained by this process: DONE; not for a fault of the program, or for one that a user can mend: FAULT, REFUSED.
DONE, FAULT, REFUSED = 0, 1, 2
# Left alone: done already; another process works on it; and it was taken over by one. (ORPHAN: ended with the launcher.)
FOUND, CLAIMED, LOST = 4, 5, 6
COMMAND = (sys.executable, "-m", "gitbench.launch.work")
SHARING = "GITBENCH_SHARING"  # variable: how the runs of a card share it
EVERY = 2.0  # seconds between two words on how far a run is


def work(path: Path, every: float = EVERY) -> int:
    """Execute a run folder, unless it is done or in other hands; returns the exit status.

    What the process prints from then on goes to the folder's `log.txt`. Where the claim is taken over by another process,
    this one ends at once.
    """
    folder = RunFolder(path)
    if is_done(folder):
        return FOUND
    claim = Claim(folder.claim, lost=lambda: os._exit(LOST))
    speaker = _Speaker(folder, every)
    try:
        if not claim.take():
            return CLAIMED
    except GitbenchError as error:  # nothing can be written there
        print(f"gitbench: {error}", file=sys.stderr)
        return REFUSED
    try:
        remove_leftovers(path)
        if is_done(folder):
            return FOUND
        with guarded(path, claim.check):
            return _execute(folder, speaker)
    except GitbenchError as error:
        return _ended(claim, speaker, REFUSED, str(error))
    except ClaimLost:
        return LOST
    except Exception as error:
        traceback.print_exc()
        text = str(error).strip().splitlines()
        said = f"{type(error).__name__}: {text[0] if text else ''} (see {folder.log})"
        return _ended(claim, speaker, FAULT, said)
    finally:
        claim.release()


def is_done(folder: RunFolder) -> bool:
    """Tell whether there is nothing to train: the run is captioned, or complete."""
    return folder.captioned or folder.completed_record() is not None


def is_taken(path: Path) -> bool:
    """Tell whether a worker would leave a run folder alone now."""
    folder = RunFolder(path)
    return is_done(folder) or holder(folder.claim) is not None


class _Speaker:
    """Writes the state of a run, at most `every` so many seconds."""

    def __init__(self, folder: RunFolder, every: float) -> None:
        self.folder, self.every, self.spoken = folder, every, 0.0

    def hear(self, kind: Literal["pretraining", "progress"], *values: Any) -> None:
        """Take note of how far the run is; where that cannot be written now the training goes on without it."""
        if time.monotonic() - self.spoken >= self.every:
            with contextlib.suppress(GitbenchError, OSError):
                self.say(kind, *values)

    def say(self, kind: Literal["started", "pretraining", "progress", "ended"], *values: Any) -> None:
        """Write how far the run is."""
        self.spoken = time.monotonic()
        write_state(self.folder.path, State(kind=kind, host=socket.gethostname(), pid=os.getpid(), values=values))


def _execute(folder: RunFolder, speaker: _Speaker) -> int:
    with explain_os_errors(folder.path):
        log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    speaker.say("started")
    plugins.load()
    from gitbench.study.makers import Maker, entered
    from gitbench.study.provenance import environment, now

    origin = load_json(folder.origin) or {}
    sharing = {"sharing": os.environ[SHARING]} if SHARING in os.environ else {}
    before = (load_json(folder.provenance) or {}) if folder.checkpoints else None
    makers = entered(before, Maker.here(origin.get("computes_on", "cuda")))
    write_json(folder.provenance, {**environment(), **origin, **sharing, "makers": makers, "started": now()})
    from gitbench.study.memory import fits_card
    from gitbench.training.run import execute

    try:
        trained = execute(
            folder.path, functools.partial(speaker.hear, "progress"), functools.partial(speaker.hear, "pretraining")
        )
    except StepTooLarge as error:
        formula = fits_card(folder.read_config(), error.memory_bytes) if error.memory_bytes else ""
        raise GitbenchError(f"{error}{formula}") from None
    speaker.say("ended", "")
    return DONE if trained else FOUND


def _ended(claim: Claim, speaker: _Speaker, status: int, said: str) -> int:
    """Say what went wrong, unless that is because the run is another's now; returns the exit status."""
    try:
        claim.check()
        speaker.say("ended", said)
    except (ClaimLost, GitbenchError, OSError) as error:
        return LOST if isinstance(error, ClaimLost) else status
    return status


# ---- processes ----------------------------------------------------------------------------------------------------------


def run_worker(path: Path, environment: Mapping[str, str], every: float = EVERY) -> NoReturn:
    """Execute a run folder as a process of this machine's executor: its environment is set, it ends with its launcher."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides: it gets the same Ctrl-C
    os.environ.update(environment)
    end_with_parent()
    _exit(work(path, every))


def _exit(status: int) -> NoReturn:
    """End without the interpreter's shutdown, which threads of libraries may hold up."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main(argv: list[str] | None = None) -> int:
    """Execute run folders; returns the status of one, of several 0 where none failed."""
    parser = argparse.ArgumentParser(
        prog="python -m gitbench.launch.work", description="Train and caption run folders."
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a run folder that holds a config.py")
    parser.add_argument("--parent", type=int, metavar="PID", help="end with this process, which started this one")
    arguments = parser.parse_args(argv)
    if arguments.parent is not None:
        end_with_parent(arguments.parent)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the whole job gets it, and the parent decides
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"  # as in a place of this machine's executor
    folders = [folder for folder in arguments.folders if RunFolder(folder).config.is_file()]
    if not folders:
        print(f"gitbench: no {arguments.folders[0]}/config.py: pass the folders of planned runs", file=sys.stderr)
        return REFUSED
    if len(folders) == 1:
        _exit(work(folders[0]))
    failed = False
    for folder in folders:  # a process each: memory is measured by process
        status = subprocess.call([*COMMAND, "--parent", str(os.getpid()), str(folder)])
        failed |= status in (FAULT, REFUSED) or status < 0
        print(f"{folder}: {in_words(status, folder)}", flush=True)
    return FAULT if failed else DONE


def in_words(status: int, folder: Path) -> str:
    """Return the exit status of a run's worker in words; negative: the signal that ended a process."""
    if status < 0:
        return f"killed by signal {-status}"
    words = {
        DONE: "done",
        FOUND: "done before",
        CLAIMED: "another process works on it",
        LOST: "taken over by another process",
        ORPHAN: "ended with its launcher",
    }
    return words.get(status, f"failed (exit status {status}, see {RunFolder(folder).log})")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        _exit(128 + signal.SIGINT)
