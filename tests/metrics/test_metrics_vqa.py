"""VQA accuracy, exact match and accuracy: values from the documented rules and by hand, and the refusals."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from helpers_errors import refused

from gitbench.metrics import aggregate, answer_ceiling, score_answers
from gitbench.metrics.answers import accurate, exact_match, folded
from gitbench.metrics.vqa import (
    ARTICLES,
    CONTRACTIONS,
    NUMBERS,
    PUNCTUATION,
    annotator_accuracy,
    normalise,
    vqa_accuracy,
)

# The rules of visualqa.org/evaluation.html, one or more lines each, and where its program departs from them.
NORMALISED = [
    ("Yes", "yes"),
    ("  two\tdogs\n", "2 dogs"),
    ("Zero", "0"), ("ten", "10"), ("eleven", "eleven"), ("none", "0"), ("someone", "someone"),
    ("the cat", "cat"), ("a man on an elephant", "man on elephant"), ("theme", "theme"), ("the", ""),
    ("dont", "don't"), ("Im", "im"), ("couldnt've", "couldn't've"), ("couldn'tve", "couldn't've"),
    ("couldntve", "couldntve"), ("twas", "'twas"), ("somebody'd", "somebodyd"), ("girl's", "girl's"), ("its", "its"),
    ("no.", "no"), ("3.5", "3.5"), (".5", ".5"), ("5.", "5"), ("U.S.A.", "usa"), ("3. 5", "3 5"),
    ("2:50 pm", "2:50 pm"),
    ("t-shirt", "t shirt"), ("left/right", "left right"), ("yes!", "yes"), ("(blue)", "blue"),
    ("t-shirt - red", "tshirt red"),  # beside a space once: dropped everywhere
    ("knife, fork", "knife fork"), ("knife,fork", "knife fork"),
    ("100,978", "100978"), ("1,000 t-shirts", "1000 tshirts"),  # a comma in a number drops every mark
    ("1, 000", "1 000"),
    ("#1 & $5 50%", "#1 & $5 50%"),  # no punctuation for the program
    ("", ""), ("?", ""),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "expected"), NORMALISED)
def test_answers_are_normalised_by_the_documented_rules(answer, expected):
    assert normalise(answer) == expected


def test_the_tables_are_the_official_ones_in_size():
    assert len(CONTRACTIONS) == 114  # 118 in the official list, of which four can never match: they have capitals
    assert len(NUMBERS) == 12 and len(ARTICLES) == 3 and len(set(PUNCTUATION)) == len(PUNCTUATION) == 21
    assert not any(value in CONTRACTIONS for value in CONTRACTIONS.values())


@pytest.mark.parametrize(
    ("matches", "tenths"),
    # m annotators of ten said it: m subsets have m - 1 matches, 10 - m have m
    [(0, 0), (1, 3), (2, 6), (3, 9), (4, 10), (9, 10), (10, 10)],
)
def test_accuracy_is_the_mean_over_the_ten_leave_one_out_subsets(matches, tenths):
    references = ["red"] * matches + [f"other {number}" for number in range(10 - matches)]
    assert vqa_accuracy("red", references) == pytest.approx(tenths / 10)
    slow = [min(sum(other == "red" for other in rest) / 3, 1) for rest in itertools.combinations(references, 9)]
    assert vqa_accuracy("red", references) == pytest.approx(sum(slow) / 10)


def test_annotators_who_disagree_are_normalised_and_those_who_agree_are_not():
    assert vqa_accuracy("Two", ["2"] * 9 + ["three"]) == 1
    assert vqa_accuracy("2", ["two"] * 5 + ["2"] * 5) == 1
    assert vqa_accuracy("two", ["2"] * 10) == 0 and vqa_accuracy("Yes.", ["yes"] * 10) == 0
    assert vqa_accuracy(" yes\n", ["yes\t"] * 10) == 1  # white space at the ends goes in any case
    assert vqa_accuracy("Two", ["2", "2 "] * 5) == 0  # the same after stripping


def test_fewer_than_four_votes_are_alternatives_and_other_numbers_keep_the_formula():
    assert vqa_accuracy("The night-stand!", ["night stand"]) == 1
    assert vqa_accuracy("two", ["2"]) == 1 and vqa_accuracy("3", ["2"]) == 0 and vqa_accuracy("", ["2"]) == 0
    assert vqa_accuracy("cat", ["cat"] * 2) == vqa_accuracy("cat", ["cat"] * 3) == 1
    assert vqa_accuracy("yes", ["Yes", "Yes"]) == vqa_accuracy("a cat", ["cat", "cat"]) == 1  # normalised
    assert vqa_accuracy("dog", ["cat", "cat", "dog"]) == 1 and annotator_accuracy(["cat", "cat", "dog"]) == 1
    assert vqa_accuracy("a cat", ["cat"] * 4) == 0  # four who agree: as written
    assert vqa_accuracy("cat", ["cat"] * 4) == 1
    assert vqa_accuracy("cat", ["cat"] * 2 + ["dog"] * 2) == pytest.approx((2 * 1 / 3 + 2 * 2 / 3) / 4)
    assert vqa_accuracy("no", ["yes"] * 8 + ["no"]) == pytest.approx(8 / 27)


def test_any_alternative_is_right_and_a_vote_is_not():
    dates = ["1/8/93", "January 8, 1993"]
    for said in ("1/8/93", "January 8 1993"):
        assert vqa_accuracy(said, dates, "alternatives") == 1
    assert vqa_accuracy("1993", dates, "alternatives") == 0 == vqa_accuracy("", ["A", "b"], "alternatives")
    for count in (4, 9, 10, 11):
        texts = [f"answer {number}" for number in range(count)]
        assert vqa_accuracy("Answer 1.", texts, "alternatives") == annotator_accuracy(texts, "alternatives") == 1
        assert vqa_accuracy("Answer 1.", texts, "votes") == pytest.approx((count - 1) / 3 / count)
    assert vqa_accuracy("Yes", ["yes"] * 10, "alternatives") == 1  # alike or not


def test_what_the_references_are_stands_in_the_signature():
    texts = [f"answer {number}" for number in range(11)]
    references = {"one": ["x"], "few": ["x", "x", "y"], "many": texts, "ten": ["yes"] * 9 + ["no"], "other": texts[:10]}
    said = {"one": "X", "few": "y", "many": "answer 7", "ten": "no", "other": "answer 7"}

    def scored(**more: Any) -> list[Any]:
        found = score_answers("vqa", said, references, **more)
        return [round(value, 2) for value in found.columns["VQA"]] + [found.values["VQA"].signature.split("|lib:")[0]]

    both = "VQA|norm:vqav2|answers:alternatives+votes|unanimous:raw"
    assert scored() == [100, 100, 100, 30, 30, both]  # some ten are repeated: all tens are annotators'
    assert scored(answers_are={}) == [100, 100, 100, 100, 100, "VQA|norm:vqav2|answers:alternatives"]
    told = dict.fromkeys(references, "votes")
    assert scored(answers_are=told) == [100, 100, 30.3, 30, 30, both]
    references = {name: texts for name, texts in references.items() if name != "ten"}
    del said["ten"]
    assert scored() == [100, 100, 100, 100, "VQA|norm:vqav2|answers:alternatives"]
    assert (
        "answers:set" in score_answers("vqa", said, references, None, dict.fromkeys(said, "set")).values["EM"].signature
    )


def test_nothing_is_no_answer_to_a_reference_of_which_nothing_is_left():
    for said, right in (("", 0), ("the", 0), ("?", 0), ("b", 0), ("A", 1), (" a", 1)):
        assert vqa_accuracy(said, ["A"]) == right
        assert vqa_accuracy(said, ["A"] * 4 + ["c"]) == right
    assert vqa_accuracy("", ["?"]) == vqa_accuracy("A", ["?"]) == 0 and vqa_accuracy("?", ["?"]) == 1
    assert vqa_accuracy("the cat", ["a cat"]) == 1  # an article among words goes as ever
    assert vqa_accuracy("", ["a"] * 5 + ["the"] * 5) == 0 and vqa_accuracy("the", ["a"] * 5 + ["the"] * 5) == 1
    for answers_are in ("alternatives", "votes", "set"):
        assert vqa_accuracy("", [""] * 10, answers_are) == exact_match("", [""], answers_are) == 0


def test_annotators_score_against_each_other():
    assert annotator_accuracy(["x"]) == 1 and annotator_accuracy(["x"] * 10) == 1
    # eight who say yes have seven others; two who say no have one other
    assert annotator_accuracy(["yes"] * 8 + ["no"] * 2) == pytest.approx((8 * 1 + 2 / 3) / 10)
    assert annotator_accuracy([f"answer {number}" for number in range(10)]) == 0
    assert annotator_accuracy(["two"] * 5 + ["2"] * 5) == 1


def test_folding_touches_case_and_white_space_only():
    assert folded(" Ice \n Cream ") == "ice cream" != folded("icecream")
    assert folded("table _ lamp") == folded("table_lamp") and folded("don ' t") == folded("Don't")
    assert folded("3. 5") == "3.5" and folded("the two") == "the two" and folded("\u00c9tat") == "\u00e9tat"


def test_the_parts_of_a_set_count_in_any_order_and_only_where_the_data_say_it_is_one():
    for right in (lambda *said: exact_match(*said, "set"), lambda *said: bool(vqa_accuracy(*said, "set"))):
        for said in ("fork,  knife", "knife, fork", "Fork , knife , fork"):
            assert right(said, ["knife, fork"])
        for said in ("knife", "knife fork", "knife, fork, cup", "", ","):
            assert not right(said, ["knife, fork"])
        assert right("fork, knife", ["cup", "knife, fork"]) and right("bed", ["bed"])
    assert vqa_accuracy("the forks, two knives", ["2 knives, forks"], "set") == 1  # each part is normalised
    for answers_are in ("alternatives", "votes"):
        assert not exact_match("000,1", ["1,000"], answers_are) and exact_match("1,000", ["1,000"], answers_are)
        assert not exact_match("red, red", ["red"], answers_are)
        assert vqa_accuracy("fork, knife", ["knife, fork"] * 5, answers_are) == 0


def test_exact_match_forgives_case_and_space():
    assert exact_match("Night _ Stand", ["night_stand"])
    assert not exact_match("two", ["2"]) and not exact_match("the cat", ["cat"]) and not exact_match("cats", ["cat"])
    assert exact_match("red", ["blue", "RED"]) and not exact_match("", ["x"])
    assert not exact_match("", [","]) and not exact_match(",", [""]) and exact_match(" , ", [","])
    assert not exact_match(" ", [""])
    # text that is read keeps its order
    assert accurate("STOP", ["stop"]) and not accurate("b, a", ["a, b"]) and not accurate("st op", ["stop"])


REFERENCES = {"q1": ["2"], "q2": ["yes"] * 8 + ["no"] * 2, "q3": ["knife, fork"]}


def test_questions_are_scored_in_points_with_a_column_a_request():
    kinds = {"q2": "votes", "q3": "set"}
    found = score_answers("vqa", {"q3": "fork, knife", "q1": "two", "q2": "no"}, REFERENCES, answers_are=kinds)
    assert list(found.per_image["image_id"]) == ["q1", "q2", "q3"] and found.absent == {}
    assert list(found.per_image["VQA"]) == pytest.approx([100, 60, 100])
    assert list(found.per_image["EM"]) == [0, 100, 100]
    assert found.values["VQA"].value == pytest.approx(260 / 3) and found.values["EM"].value == pytest.approx(200 / 3)
    assert aggregate(found.per_image, "VQA") == pytest.approx(found.values["VQA"].value)
    said = found.values["VQA"].signature
    assert said.startswith(
        "VQA|norm:vqav2|answers:alternatives+set+votes|unanimous:raw|lib:gitbench-"
    ) and said.endswith("|n:3|refs:1-10|scale:100")
    assert found.values["EM"].signature.startswith("EM|fold:case+space|answers:alternatives+set+votes|lib:")


@pytest.mark.parametrize("task", ["classify", "read"])
def test_both_searches_are_scored_by_the_same_comparison(task):
    references = {"a": ["circle"], "b": ["square"], "c": ["star"], "d": ["cross"]}
    free = {"a": "Circle", "b": "squar", "c": "star", "d": ""}
    closed = {"a": "circle", "b": "square", "c": "cross", "d": "CROSS"}
    found = score_answers(task, free, references, closed)
    assert found.values["accuracy"].value == 50 and found.values["accuracy-closed"].value == 75
    assert list(found.per_image["accuracy-closed"]) == [100, 100, 0, 100]
    assert "|search:free|" in found.values["accuracy"].signature
    assert "|search:closed|" in found.values["accuracy-closed"].signature
    alone = score_answers(task, free, references)
    assert set(alone.values) == {"accuracy"} and "vocabulary" in alone.absent["accuracy-closed"]
    assert list(alone.per_image.columns) == ["image_id", "accuracy"]


def test_the_ceiling_is_a_perfect_answerer_or_what_one_of_several_annotators_reaches():
    perfect = answer_ceiling("vqa", {"q": ["2"], "r": ["a, b"]})
    assert {name: score.value for name, score in perfect.items()} == {"VQA": 100, "EM": 100}
    assert "|ceiling:perfect|" in perfect["EM"].signature
    reading = answer_ceiling("read", {"w": ["stop"]})
    assert {name: score.value for name, score in reading.items()} == {"accuracy": 100, "accuracy-closed": 100}
    found = answer_ceiling("vqa", {"q": ["yes"] * 8 + ["no"] * 2, "r": ["x", *(f"y{n}" for n in range(9))]})
    assert found["VQA"].value == pytest.approx(100 * (8 + 2 / 3) / 10 / 2)
    assert found["EM"].value == pytest.approx(50)  # all ten of the first have one who says the same, none of the second
    assert "|refs:10|ceiling:leave-one-out|" in found["VQA"].signature


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("caption", {}, {"q": ["x"]}), "unknown task with answers 'caption'"),
        (("vqa", {}, {}), "nothing to score"),
        (("vqa", {}, {"q": ["x"], "r": ["y"]}), r"2 of 2 requests have no answer \(first: q\)"),
        (("vqa", {"q": "x", "s": "y"}, {"q": ["x"]}), r"1 requests have no reference \(first: s\)"),
        (("vqa", {"q": "x"}, {"q": []}), "request q needs a list of at least one reference"),
        (("vqa", {"q": "x"}, {"q": "x"}), "request q needs a list of at least one reference"),
        (("vqa", {"q": "x"}, {"q": ["x"]}, {"q": "x"}), "no closed vocabulary"),
        (("read", {"q": "x"}, {"q": ["x"]}, {}), "1 of 1 requests have no answer"),
    ],
)
def test_what_cannot_be_scored_as_a_whole_is_refused_in_one_line(arguments, says):
    with refused(says):
        score_answers(*arguments)
