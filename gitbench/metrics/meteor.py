"""METEOR 1.5 in a child process that cannot hang us.

The jar comes from `pycocoevalcap` and is driven by its own line protocol (`SCORE` gives an image's statistics, `EVAL`
the scores of such statistics). Upstream's wrapper waits for ever on its own lock after any error; here every answer has
a deadline, and a process that dies or is late is ended and reported. It reads a table of paraphrases for 8-10 s when it
starts and then needs about 4 ms an image and up to 2 GB, so one process serves all calls.

METEOR is a corpus statistic: `from_many_totals` repeats the jar's arithmetic (Denkowski and Lavie 2014, English ranking
parameters), so that resampled corpora can be scored from the stored statistics without Java (tested against the jar).
"""

from __future__ import annotations

import contextlib
import math
import queue
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from typing import IO

import numpy as np

from gitbench.errors import GitbenchError, installing
from gitbench.metrics.base import SCALE, Scores
from gitbench.metrics.java import ended, java_command, java_environment, last_line
from gitbench.metrics.tokenize import library_folder

STATISTICS = 23  # numbers an image: 4 lengths, 4 matches in each of 4 stages, chunks, 2 match counts

# Parameters of `-l en`, whose task is "rank"; stages are exact, stem, synonym and paraphrase.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_STAGE_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
_CHUNKS = 20  # place of the chunk count among the statistics


class Meteor:
    """One METEOR process: `submit` captions, do something else, then `collect` the result.

    Every failure (no jar, crash, deadline passed, nonsense answered) is a GitbenchError that says why; the next
    `submit` starts a fresh process.
    """

    def __init__(self, timeout: float = 600) -> None:
        """`timeout`: seconds from `submit` until the result must be there."""
        self.timeout = timeout
        self.process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._errors: IO[bytes] | None = None
        self._pending = 0  # answers submitted for and not collected
        self._deadline = math.inf
        self._end: weakref.finalize | None = None

    def start(self) -> None:
        """Start the process if none is running; returns at once, the process goes on reading its table."""
        if self.process is not None and self.process.poll() is None:
            return
        self.close()
        jar = library_folder() / "meteor" / "meteor-1.5.jar"
        if not jar.is_file():
            raise GitbenchError(f"{jar} is missing: run `{installing('--force-reinstall', 'pycocoevalcap')}`")
        # by itself the jar looks for the table at its own URL, in which a space is %20
        table = ("-a", jar.parent / "data" / "paraphrase-en.gz")
        command = java_command("-Xmx2G", "-jar", jar, "-", "-", "-stdio", "-l", "en", "-norm", *table)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            command,
            cwd=jar.parent,
            env=java_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is for us: a score in progress must not lose its METEOR by it
        )
        self._answers = queue.SimpleQueue()
        threading.Thread(target=_read, args=(self.process, self._answers), daemon=True).start()
        self._end = weakref.finalize(self, _end, self.process)  # also runs when the interpreter exits

    def submit(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Send tokenized captions, one prediction and its references an image. Does not wait for the answers."""
        if self._pending:  # answers that nobody collected would be taken for the new ones
            self.close()
        self.start()
        self._deadline = time.monotonic() + self.timeout
        self._pending = len(predictions)
        rows = zip(predictions, references, strict=True)
        self._write([" ||| ".join(["SCORE", *map(_clean, refs), _clean(text)]) for text, refs in rows])

    def collect(self, scores: Scores) -> None:
        """Wait for the answers to the last `submit` and add METEOR with its columns."""
        try:
            statistics = [self._answer() for _ in range(self._pending)]
            for line in statistics:
                if len(line.split()) != STATISTICS:
                    raise GitbenchError(f"METEOR answered '{line[:80]}' instead of {STATISTICS} numbers")
            self._write([" ||| ".join(["EVAL", *statistics])])
            per_image = [float(self._answer()) for _ in range(self._pending)]
            corpus = float(self._answer())
        except ValueError as error:
            self.close()
            raise GitbenchError(f"METEOR answered nonsense ({error})") from error
        except BaseException:  # an interrupt leaves unread answers behind, which the next call would take for its own
            self.close()
            raise
        self._pending = 0
        scores.columns["METEOR"] = SCALE * np.array(per_image, dtype=float)
        scores.columns["meteor_stats"] = statistics
        scores.add("METEOR", corpus, "METEOR-1.5", params="en-rank-norm")

    def close(self) -> None:
        """End the process; nothing happens if none is running."""
        if self._end is not None:
            self._end()
        self.process = self._end = None
        self._pending = 0
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _write(self, lines: list[str]) -> None:
        """Send lines from a thread of their own: the process may stop reading while its answers wait to be read."""
        assert self.process is not None and self.process.stdin is not None
        payload = "".join(line + "\n" for line in lines).encode("utf-8", "replace")
        threading.Thread(target=_send, args=(self.process.stdin, payload), daemon=True).start()

    def _answer(self) -> str:
        try:
            line = self._answers.get(timeout=max(0.0, self._deadline - time.monotonic()))
        except queue.Empty:
            raise GitbenchError(
                f"METEOR did not finish within {self.timeout:g} s: free the machine, shorten long captions, "
                "or allow it more time"
            ) from None
        if line is None:
            assert self.process is not None and self._errors is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=10)
            self._errors.seek(0)
            status, said = self.process.returncode, self._errors.read()
            how = f"exit status {status}, {last_line(said)}"
            raise ended(f"METEOR's process died ({how})", status, said)
        return line.decode("utf-8", "replace").strip()


def _clean(text: str) -> str:
    """Take the protocol's separator out of a caption (upstream does so for predictions only)."""
    return text.replace("|||", "").replace("  ", " ")


def _read(process: subprocess.Popen[bytes], answers: queue.SimpleQueue[bytes | None]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(ValueError, OSError):  # closed under us by `close`
        for line in process.stdout:
            answers.put(line)
    answers.put(None)
    process.stdout.close()


def _send(pipe: IO[bytes], payload: bytes) -> None:
    with contextlib.suppress(ValueError, OSError):  # the process has died: `_answer` will say so
        pipe.write(payload)
        pipe.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):  # what it had not read is of no use to anybody
            process.stdin.close()


def statistics_matrix(lines: Sequence[str]) -> np.ndarray:
    """Parse stored statistics into an additive matrix (images, 23): its rows may be summed over any set of images.

    A caption matched whole and in one piece counts no chunk in a corpus, as in the jar.
    """
    matrix = np.array([line.split() for line in lines], dtype=float).reshape(-1, STATISTICS)
    stages = matrix[:, 4:_CHUNKS].reshape(-1, 4, 4)  # image, stage, (content, reference's; function, reference's)
    prediction_matches = stages[:, :, [0, 2]].sum((1, 2))
    reference_matches = stages[:, :, [1, 3]].sum((1, 2))
    whole = (prediction_matches == matrix[:, 0]) & (reference_matches == matrix[:, 1]) & (matrix[:, _CHUNKS] == 1)
    matrix[whole, _CHUNKS] = 0
    return matrix


def from_many_totals(totals: np.ndarray) -> np.ndarray:
    """Return METEOR (a fraction) of every vector of summed statistics along the last axis: (..., 23) -> (...).

    Precision and recall weigh content words `delta` and function words `1 - delta`, and each stage by its weight;
    the score is their alpha-mean times one minus the fragmentation penalty.
    """
    length, reference_length, function, reference_function = np.moveaxis(totals[..., :4], -1, 0)
    stages = totals[..., 4:_CHUNKS].reshape(*totals.shape[:-1], 4, 4)
    chunks, matches, reference_matches = np.moveaxis(totals[..., _CHUNKS:], -1, 0)

    def weighted(content: np.ndarray, function_words: np.ndarray) -> np.ndarray:
        return _DELTA * content + (1 - _DELTA) * function_words

    matched = weighted(stages[..., 0] @ _STAGE_WEIGHTS, stages[..., 2] @ _STAGE_WEIGHTS)
    reference_matched = weighted(stages[..., 1] @ _STAGE_WEIGHTS, stages[..., 3] @ _STAGE_WEIGHTS)
    some = (matched != 0) & (reference_matched != 0)
    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing matches, the score is 0 all the same
        precision = matched / weighted(length - function, function)
        recall = reference_matched / weighted(reference_length - reference_function, reference_function)
        mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
        fragmentation = chunks / ((matches + reference_matches) / 2)
        score = np.maximum(0.0, mean * (1 - _GAMMA * fragmentation**_BETA))
    return np.where(some, score, 0.0)
