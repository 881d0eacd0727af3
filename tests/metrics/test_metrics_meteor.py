"""METEOR and SPICE: equal to the jar, and no failure of a child process hangs or loses the other scores."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from gitbench.errors import GitbenchError
from gitbench.metrics import CaptionScorer, aggregate, from_totals, meteor, spice, statistics
from gitbench.metrics.base import MetricUnavailable
from gitbench.metrics.java import java_environment
from gitbench.metrics.meteor import Meteor
from gitbench.metrics.tokenize import tokenize

REFERENCES = {
    "perfect": ["a brown dog runs across the lawn", "the dog is running on grass"],
    "stems": ["two men play soccer", "men playing football near a church", "two guys with a ball"],
    "synonyms": ["an automobile is parked by the sea", "a car at the beach"],
    "scrambled": ["the red sign is on the corner of the street", "a stop sign ||| here"],
    "nothing": ["an airplane flies over the mountains"],
    "empty": ["a cat sleeps"],
}
PREDICTIONS = {
    "perfect": "A brown dog runs across the lawn.",
    "stems": "two mans played ||| soccer in a field",
    "synonyms": "a auto parked near the ocean",
    "scrambled": "on the street the corner of sign red is",
    "nothing": "zebra",
    "empty": "",
}


@pytest.fixture(scope="module")
def upstream():
    """pycocoevalcap's own METEOR; started first, so that the two processes load at the same time."""
    from pycocoevalcap.meteor.meteor import Meteor as Upstream

    path, os.environ["PATH"] = os.environ["PATH"], java_environment()["PATH"]
    try:
        made = Upstream()
    finally:
        os.environ["PATH"] = path
    yield made
    made.meteor_p.stdin.close()
    made.meteor_p.stdout.close()
    made.meteor_p.stderr.close()
    made.meteor_p.kill()


@pytest.fixture(scope="module")
def scorer(upstream):
    with CaptionScorer(timeout=120) as made:
        yield made


@pytest.fixture(scope="module")
def scores(scorer):
    return scorer.score(PREDICTIONS, REFERENCES)


@pytest.fixture
def impostor(monkeypatch):
    """Let METEOR's process be a Python program given as text."""

    def install(program: str, timeout: float = 20) -> Meteor:
        monkeypatch.setattr(meteor, "java_command", lambda *_: [sys.executable, "-c", program])
        return Meteor(timeout)

    return install


def test_meteor_equals_pycocoevalcap(scores, upstream):
    ids = list(REFERENCES)
    predictions = dict(zip(ids, tokenize([PREDICTIONS[image] for image in ids]), strict=True))
    # Upstream takes "|||" out of predictions only; in a reference it would split it in two.
    references = {image: tokenize([text.replace("|||", "") for text in REFERENCES[image]]) for image in ids}
    score, each = upstream.compute_score(references, {image: [text] for image, text in predictions.items()})
    assert scores.values["METEOR"].value == pytest.approx(100 * score, abs=1e-9)
    np.testing.assert_allclose(scores.per_image["METEOR"], 100 * np.array(each), atol=1e-9)


def test_meteor_values_make_sense(scores):
    each = scores.per_image.set_index("image_id")["METEOR"]
    assert each["perfect"] == pytest.approx(100)
    assert each["empty"] == each["nothing"] == 0
    assert 0 < each["stems"] < 100 and 0 < each["synonyms"] < 100 and 0 < each["scrambled"] < 100
    assert "METEOR" not in scores.absent
    assert scores.values["METEOR"].signature.startswith("METEOR-1.5|params:en-rank-norm|lib:pycocoevalcap-1.2|tok:")


def test_meteor_is_aggregated_as_the_jar_does(scores):
    assert aggregate(scores.per_image, "METEOR") == pytest.approx(scores.values["METEOR"].value, abs=1e-9)
    rows = statistics(scores.per_image, "METEOR")
    for place, value in enumerate(scores.per_image["METEOR"]):
        assert from_totals(rows[place], "METEOR") == pytest.approx(value, abs=1e-9)


def test_meteor_of_a_resample_is_meteor_of_that_corpus(scorer, scores):
    rows = [0, 0, 1, 2, 5]
    images = {str(place): scores.per_image["image_id"][row] for place, row in enumerate(rows)}
    corpus = scorer.score(
        {copy: PREDICTIONS[image] for copy, image in images.items()},
        {copy: REFERENCES[image] for copy, image in images.items()},
    )
    resampled = from_totals(statistics(scores.per_image, "METEOR")[rows].sum(0), "METEOR")
    assert resampled == pytest.approx(corpus.values["METEOR"].value, abs=1e-9)


def test_one_process_serves_all_calls_and_ends_with_the_block(scorer, scores):
    process = scorer.meteor.process
    again = scorer.score(PREDICTIONS, REFERENCES)
    assert scorer.meteor.process is process and process.poll() is None
    assert again.values == scores.values


def test_killed_meteor_is_absent_with_the_reason():
    """The other scores stand, nothing hangs, and the next call starts a fresh process."""
    with CaptionScorer(spice=False, timeout=120) as scorer:
        scorer.meteor.start()
        first = scorer.meteor.process
        submit = scorer.meteor.submit

        def submit_then_die(*arguments):
            submit(*arguments)
            first.kill()

        scorer.meteor.submit = submit_then_die
        begun = time.monotonic()
        result = scorer.score(PREDICTIONS, REFERENCES)
        assert time.monotonic() - begun < 30
        assert result.absent["METEOR"].startswith("METEOR's process died (exit status -9")
        assert "METEOR" not in result.values and "METEOR" not in result.per_image
        assert result.values["CIDEr"].value > 0
        scorer.meteor.start()
        second = scorer.meteor.process
        assert second.pid != first.pid and second.poll() is None
    assert second.poll() is not None


def test_ctrl_c_does_not_reach_the_process(impostor):
    """Else an interrupt during scoring would be recorded as a missing METEOR."""
    scorer = impostor("import sys; sys.stdin.read()")
    scorer.start()
    assert os.getpgid(scorer.process.pid) != os.getpgid(0)
    scorer.close()


def test_nothing_hangs_and_nothing_is_left_at_exit():
    """A program that ends without closing its scorer, right after an error inside it."""
    program = (
        "from gitbench.metrics import CaptionScorer\n"
        "scorer = CaptionScorer()\n"
        "scorer.meteor.submit(['a dog'], [['a dog']])\n"
        "print(scorer.meteor.process.pid, flush=True)\n"
        "raise RuntimeError('boom')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.rstrip().endswith("RuntimeError: boom")
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_a_silent_meteor_is_given_up(impostor):
    scorer = impostor("import sys; sys.stdin.read()", timeout=0.5)
    scorer.submit(["a dog", "a cat"], [["a long dog"], ["a cat"]])
    process = scorer.process
    with pytest.raises(MetricUnavailable, match=r"did not finish within 0.5 s \(the longest caption has 3 words\)"):
        scorer.collect()
    assert process.poll() is not None and scorer.process is None


def test_a_dying_meteor_is_quoted(impostor):
    scorer = impostor("import sys; sys.stdin.readline(); sys.exit('java.lang.OutOfMemoryError: heap')")
    scorer.submit(["a dog"], [["a dog"]])
    with pytest.raises(MetricUnavailable, match=r"died \(exit status 1, java.lang.OutOfMemoryError: heap\)"):
        scorer.collect()


@pytest.mark.parametrize("answer", ["Error: specify SCORE or EVAL or SING", "nan " * 22 + "x"])
def test_nonsense_from_meteor_is_refused(impostor, answer):
    scorer = impostor(f"import sys\nfor line in sys.stdin: print({answer!r}, flush=True)")
    scorer.submit(["a dog"], [["a dog"]])
    with pytest.raises(MetricUnavailable, match="METEOR answered"):
        scorer.collect()
    assert scorer.process is None


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
    scorer = impostor(program)
    scorer.submit(["word " * 20] * count, [["word " * 20] * 2] * count)
    result = scorer.collect()
    scorer.close()
    assert result.score == 0.5 and len(result.per_image) == len(result.statistics) == count


def test_a_missing_jar_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(meteor, "library_folder", lambda: tmp_path)
    with pytest.raises(MetricUnavailable, match=r"meteor-1.5.jar is missing: run .*--force-reinstall pycocoevalcap"):
        Meteor().start()


def test_spice_without_its_parser_is_absent_with_a_fix(monkeypatch, tmp_path):
    monkeypatch.setattr(spice, "library_folder", lambda: tmp_path)
    with pytest.raises(MetricUnavailable, match=r"not installed .*run `python -m pycocoevalcap.spice"):
        spice.spice_scores(["a dog"], [["a dog"]])
    with pytest.raises(GitbenchError, match="SPICE's files are not installed"):
        CaptionScorer(spice=True, meteor=False)
    with CaptionScorer(meteor=False) as scorer:
        result = scorer.score(PREDICTIONS, REFERENCES)
    assert "384 MB" in result.absent["SPICE"] and "SPICE" not in result.values


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


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; sys.exit('Exception: out of memory')", r"SPICE failed \(Exception: out of memory\)"),
        ("", "SPICE's answer is damaged"),
        ("import time; time.sleep(30)", "SPICE did not finish within 0.3 s"),
    ],
)
def test_a_failing_spice_is_a_reason(spice_stand_in, program, reason):
    spice_stand_in(program)
    with pytest.raises(MetricUnavailable, match=reason):
        spice.spice_scores(["a dog"], [["a dog"]], timeout=0.3 if "sleep" in program else 20)
