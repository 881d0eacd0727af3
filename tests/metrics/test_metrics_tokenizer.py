"""One tokenizer process for many calls: the same captions as a process each, and no fault that it hides or outlives."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest
from helpers_processes import is_gone

from gitbench.errors import GitbenchError
from gitbench.metrics import tokenize as tokenize_module
from gitbench.metrics.java import java_home
from gitbench.metrics.tokenize import Tokenizer, tokenize

SETS = [  # without the line separators that pycocoevalcap takes for the end of a caption
    ["A brown dog runs across the lawn.", "Men playing football near St.", 'A sign that says "STOP"', "isn't it?"],
    ["", "un caf\u00e9 \U0001f600 ok", ""],
    ["St."],  # an abbreviation at the end looks for what follows, which must not be the next set
    ["Mary and e.g.", "the U.S."],
]


@pytest.fixture
def tokenizer():
    made = Tokenizer()
    yield made
    made.close()


def test_one_process_gives_what_pycocoevalcap_gives_of_each_set(tokenizer, monkeypatch):
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    monkeypatch.setenv("PATH", str(java_home() / "bin"), prepend=os.pathsep)
    assert tokenizer.tokenize([]) == [] and tokenizer.process is None
    tokenizer.tokenize(["a dog"])
    process = tokenizer.process
    for captions in SETS:
        upstream = PTBTokenizer().tokenize({place: [{"caption": text}] for place, text in enumerate(captions)})
        assert tokenizer.tokenize(captions) == [texts[0] for texts in upstream.values()]
    assert tokenizer.tokenize(["A dog."] * 20_000) == ["a dog"] * 20_000  # more than a pipe holds
    assert tokenizer.process is process and process.poll() is None


def test_odd_captions_keep_their_place(tokenizer, monkeypatch):
    for name in ("LC_ALL", "LANG"):
        monkeypatch.setenv(name, "C")  # no locale changes a caption
    given = ["", "\ud800 lone", "caf\u00e9 \U0001f600 ok", "x " * 10_000, "a\u2028b\r\nc", "\x00\x1e", ""]
    cut = tokenizer.tokenize(given)
    assert len(cut) == len(given) and cut[0] == cut[-1] == "" and cut[4] == "a b c"
    assert cut[2].startswith("caf\u00e9") and cut[2].endswith("ok") and cut[3].split() == ["x"] * 10_000


def test_a_used_up_process_is_replaced(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenize_module, "FILES", 3)
    processes = []
    for word in ("One", "Two", "Three"):
        assert tokenizer.tokenize([f"{word}."]) == [word.lower()]
        processes.append(tokenizer.process)
    assert processes[0] is processes[1] is not processes[2]


def test_a_killed_tokenizer_is_an_error_and_the_next_call_works(tokenizer):
    tokenizer.tokenize(["A dog."])
    first = tokenizer.process
    first.kill()
    first.wait()
    with pytest.raises(GitbenchError, match="the caption tokenizer failed"):
        tokenizer.tokenize(["A cat."])
    assert tokenizer.tokenize(["A cat."]) == ["a cat"]


def test_a_late_tokenizer_is_given_up(monkeypatch):
    monkeypatch.setattr(tokenize_module, "java_command", lambda *_: ["sh", "-c", "exec sleep 60"])
    tokenizer = Tokenizer(timeout=0.3)
    with pytest.raises(GitbenchError, match="longer than 0.3 s"):
        tokenizer.tokenize(["a dog " * 50_000])
    assert tokenizer.process is None


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'cannot map memory' >&2; exit 3", r"failed \(cannot map memory\).*gitbench doctor"),
        ("echo 'a dog' > 0; exit 0", r"failed \(it said nothing\)"),  # before its last file: what it left is no answer
        ("", "failed .*absent.*gitbench doctor"),  # no Java at all
    ],
)
def test_a_failing_tokenizer_is_quoted(monkeypatch, script, reason):
    monkeypatch.setattr(tokenize_module, "java_command", lambda *_: ["sh", "-c", script] if script else ["./absent"])
    with pytest.raises(GitbenchError, match=reason):
        tokenize(["a dog"])


def test_an_answer_of_another_length_is_refused(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenize_module, "_LINE_SEPARATORS", re.compile("never"))
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


TOKENIZER = "from gitbench.metrics.tokenize import Tokenizer\nmade = Tokenizer()\nmade.tokenize(['a dog'])\n"
METEOR = "from gitbench.metrics.meteor import Meteor\nmade = Meteor()\nmade.submit(['a dog'], [['a dog']])\n"


@pytest.mark.parametrize(("start", "end"), [(TOKENIZER, "kill"), (TOKENIZER, "exit"), (METEOR, "error")])
def test_the_process_does_not_outlive_us(start, end, tmp_path):
    """Where we are killed, end without closing it, or end by an error while it works."""
    ends = {"kill": "import time; time.sleep(60)", "exit": "", "error": "raise RuntimeError('boom')"}
    program = f"{start}print(made.process.pid, flush=True)\n{ends[end]}\n"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # a kill leaves the folder
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    ours = subprocess.Popen([sys.executable, "-c", program], env=environment, **pipes)
    pid = int(ours.stdout.readline())
    if end == "kill":
        ours.send_signal(signal.SIGKILL)
    _, errors = ours.communicate(timeout=60)
    assert is_gone(pid) and errors.strip().endswith("RuntimeError: boom" if end == "error" else "")
    assert end == "kill" or not list(tmp_path.glob("gitbench-tokenizer-*"))
