"""MPS: the runs that share a GPU compute side by side instead of in turns. A daemon of the launch's own for each card.

It is started where NVIDIA's program for it is installed and no daemon serves the card yet, with pipes and logs in a folder
of its own, and tried out before any run relies on it; slices of MIG are served as whole cards are. Where it cannot be had,
runs share the card by time slices. A shell keeps each daemon: it waits for the launcher to close a pipe, or to be gone,
however that came about, then stops the daemon and removes the folder.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from gitbench.machine import Gpu, ask_driver

PROGRAM = "nvidia-cuda-mps-control"
OLDEST = (7, 0)  # compute capability (Volta): before it, runs are not kept apart
CLIENTS = 48  # processes that a daemon serves on a card (60 on the newest)
PATIENCE = 60.0  # seconds for a daemon to start, or to stop
_KEEPER = f"""{PROGRAM} -d </dev/null >/dev/null 2>&1 || exit
echo started
read end
echo quit -t 10 | {PROGRAM}
rm -rf "$CUDA_MPS_PIPE_DIRECTORY"
"""


@contextmanager
def shared(cards: Sequence[Gpu]) -> Iterator[Mapping[str, Mapping[str, str]]]:
    """Start a daemon for each card while the block runs; give uuid -> environment of the runs on it, where that worked."""
    with ExitStack() as stack:
        found = {card.uuid: stack.enter_context(_served(card)) for card in cards}
        yield {uuid: environment for uuid, environment in found.items() if environment}


@contextmanager
def _served(card: Gpu) -> Iterator[Mapping[str, str]]:
    """Give the environment of runs on a card that a daemon serves; an empty one where none can be had."""
    if card.mps or card.capability < OLDEST or shutil.which(PROGRAM) is None:
        yield {}
        return
    folder = tempfile.mkdtemp(prefix="gitbench-mps-")
    environment = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
    for_card = {**environment, "CUDA_VISIBLE_DEVICES": card.uuid}  # the daemon numbers cards anew: only uuids stay
    keeper = subprocess.Popen(
        ["sh", "-c", _KEEPER],
        env={**os.environ, **for_card},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # out of the way of Ctrl-C
    )
    try:
        # where no daemon answers CUDA goes on without one, and says so
        works = _says_started(keeper) and [each["mps"] for each in ask_driver(for_card).get("cards", ())] == [True]
        if not works:
            _stop(keeper)
        yield environment if works else {}
    finally:
        _stop(keeper)
        shutil.rmtree(folder, ignore_errors=True)


def _says_started(keeper: subprocess.Popen) -> bool:
    assert keeper.stdout is not None
    ready, _, _ = select.select([keeper.stdout], [], [], PATIENCE)
    return bool(ready and keeper.stdout.readline())


def _stop(keeper: subprocess.Popen) -> None:
    """Let a keeper stop its daemon."""
    assert keeper.stdin is not None and keeper.stdout is not None
    keeper.stdin.close()
    keeper.stdout.close()
    try:
        keeper.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        keeper.kill()
