"""The Penn Treebank tokenizer of the COCO caption evaluation, contained.

Published caption scores are computed on captions cut by Stanford's PTBTokenizer 3.4.1 with punctuation removed. The
jar comes from `pycocoevalcap`; the Python around it is ours, because upstream's writes temporary files beside its own
source (a read-only installation fails) and, for a caption holding a carriage return or a Unicode line separator,
silently moves every later caption to the wrong image.

Equal to `pycocoevalcap.tokenizer.ptbtokenizer.PTBTokenizer` on captions without such separators (tested). The
tokenizer may look at the first word of the *next* line to decide whether a full stop ends an abbreviation, so
references and predictions go through it apart and in the order of the images, as upstream does.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

from gitbench.errors import GitbenchError, installing
from gitbench.metrics.java import ended, java_command, java_environment, last_line

TOKENIZER = "ptb-stanford-3.4.1"
FILES = 64  # that one process reads: one a call, and one more, whose beginning ends the last answer
_PAUSE = 0.002  # seconds between looks at whether an answer is there

# What the jar takes for a line end (\n \v \f \r U+2028 U+2029, found by trying all of U+0001..U+FFFF) or Python does.
_LINE_SEPARATORS = re.compile("[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")

# The tokens that the COCO evaluation drops.
_PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)


def library_folder() -> Path:
    """Return the folder of `pycocoevalcap`, which carries the jars. Raises GitbenchError if it is not installed."""
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise GitbenchError(f"pycocoevalcap is not installed: run `{installing('pycocoevalcap')}`")
    return Path(next(iter(spec.submodule_search_locations)))


def library_version() -> str:
    """Return "pycocoevalcap-<version>", for signatures."""
    return f"pycocoevalcap-{importlib.metadata.version('pycocoevalcap')}"


def tokenize(captions: Sequence[str], timeout: float = 600) -> list[str]:
    """Tokenize captions by a process of their own, see `Tokenizer.tokenize`."""
    with contextlib.closing(Tokenizer(timeout)) as tokenizer:
        return tokenizer.tokenize(captions)


class Tokenizer:
    """The tokenizer, one process for many calls: starting one takes longer than it takes to cut 1,000 captions.

    The program reads a list of files when it starts, and then cuts one file after another, each as if it were alone.
    So it is given files that do not hold anything yet: pipes, which it opens by their numbers (under /dev/fd, as a
    POSIX system allows) and waits for. Each call fills the next pipe and closes it, and its answer is whole when the
    program has begun the next answer. When we die, the system closes all pipes, and the program finds every other
    file empty and ends. When its files are used up, and after any error, the next call starts another process.
    """

    def __init__(self, timeout: float = 600) -> None:
        """`timeout`: seconds that a call may take."""
        self.timeout = timeout
        self.process: subprocess.Popen[bytes] | None = None
        self._pipes: list[int] = []  # still to be filled
        self._folder = Path()
        self._end: weakref.finalize | None = None

    def tokenize(self, captions: Sequence[str]) -> list[str]:
        """Tokenize captions: lower case, tokens apart by single spaces, punctuation dropped; order and number are kept.

        An empty caption gives "". Raises GitbenchError if there is no Java, if it fails or needs more than `timeout`
        seconds, and if it ever answers with another number of lines than it was given.
        """
        if not captions:
            return []
        text = "\n".join(_LINE_SEPARATORS.sub(" ", caption) for caption in captions)
        try:
            if self.process is None or len(self._pipes) < 2:
                self._start()
            answer = self._answer(text.encode("utf-8", "replace"))  # a lone surrogate becomes "?"
            lines = answer.decode("utf-8", "replace").split("\n")
            if len(lines) != len(captions):
                raise GitbenchError(
                    f"the caption tokenizer made {len(lines)} lines of {len(captions)} captions, so no score can be "
                    "trusted: please report the captions as a bug of gitbench"
                )
        except BaseException as error:  # an interrupt, too, leaves a half-filled pipe behind
            self.close()
            if isinstance(error, OSError):
                raise GitbenchError(f"the caption tokenizer failed ({error}): run `gitbench doctor`") from error
            raise
        return [" ".join(word for word in line.rstrip().split(" ") if word not in _PUNCTUATION) for line in lines]

    def close(self) -> None:
        """End the process; nothing happens if none is running. It also ends with the interpreter."""
        if self._end is not None:
            self._end()
        self.process = self._end = None
        self._pipes = []

    def _start(self) -> None:
        """Start the program on the reading ends of pipes and keep the writing ends."""
        self.close()
        jar = library_folder() / "tokenizer" / "stanford-corenlp-3.4.1.jar"
        if not jar.is_file():
            raise GitbenchError(f"{jar} is missing: run `{installing('--force-reinstall', 'pycocoevalcap')}`")
        command = java_command("-cp", jar, "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase")
        self._folder = Path(tempfile.mkdtemp(prefix="gitbench-tokenizer-"))
        ends = [os.pipe() for _ in range(FILES)]
        self._pipes = [writing for _, writing in ends]
        reading = [reading for reading, _ in ends]
        try:
            listed = "".join(f"/dev/fd/{pipe} {number}\n" for number, pipe in enumerate(reading))
            (self._folder / "files").write_text(listed, encoding="utf-8")
            with open(self._folder / "errors", "wb") as errors:
                self.process = subprocess.Popen(
                    [*command, "-ioFileList", "files"],
                    cwd=self._folder,
                    env=java_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    pass_fds=reading,
                    start_new_session=True,  # Ctrl-C is for us, as in `meteor`
                )
        finally:
            for pipe in reading:
                os.close(pipe)
            self._end = weakref.finalize(self, _end, self.process, self._pipes, self._folder)

    def _answer(self, text: bytes) -> bytes:
        assert self.process is not None
        number = FILES - len(self._pipes)
        sender = threading.Thread(target=_send, args=(os.dup(self._pipes[0]), text), daemon=True)
        os.close(self._pipes.pop(0))
        sender.start()  # a thread of its own: a pipe takes 64 KiB, and the deadline holds while it is full
        deadline = time.monotonic() + self.timeout
        while not (self._folder / str(number + 1)).exists():
            if (status := self.process.poll()) is not None:
                said = (self._folder / "errors").read_bytes()
                raise ended(f"the caption tokenizer failed ({last_line(said)})", status, said)
            if time.monotonic() > deadline:
                raise GitbenchError(
                    f"the caption tokenizer took longer than {self.timeout:g} s: free the machine or allow it more time"
                )
            time.sleep(_PAUSE)
        made = self._folder / str(number)
        answer = made.read_bytes()
        made.unlink()
        return answer


def _send(pipe: int, text: bytes) -> None:
    with contextlib.suppress(OSError), open(pipe, "wb") as file:  # where the program has died, `_answer` says so
        file.write(text)


def _end(process: subprocess.Popen[bytes] | None, pipes: list[int], folder: Path) -> None:
    if process is not None:
        process.kill()
        process.wait()
    for pipe in pipes:
        os.close(pipe)
    shutil.rmtree(folder, ignore_errors=True)
