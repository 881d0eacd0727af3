"""Captions and references from anywhere: layouts, ids, and what is refused, each with its place."""

from __future__ import annotations

import json

import pytest
from helpers_errors import refused
from helpers_systems import write_lines

from gitbench.data.predictions import check_together, read_predictions_file, read_references_file, references_of

ROWS = [{"image_id": 7, "caption": "a dog"}, {"image_id": "b", "caption": "two\u2028cats"}]
WITH = [row | {"references": ["the dog", "a dog"]} for row in ROWS]
COCO = {"images": [{"id": 7}], "annotations": [{"id": 1, "image_id": 7, "caption": text} for text in ("x", "y")]}


def given(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.mark.parametrize("indent", [None, 1])
def test_json_lines_and_cocos_list_say_the_same(tmp_path, indent):
    lines = read_predictions_file(write_lines(tmp_path / "a.jsonl", ROWS))
    (tmp_path / "b.json").write_text(json.dumps(ROWS, indent=indent))
    listed = read_predictions_file(tmp_path / "b.json")
    assert lines.captions == listed.captions == {"7": "a dog", "b": "two\u2028cats"}
    assert lines.references is None
    one = read_predictions_file(write_lines(tmp_path / "one.jsonl", WITH[:1]))
    assert one.captions == {"7": "a dog"} and one.references == {"7": ["the dog", "a dog"]}


def test_references_in_every_layout(tmp_path):
    expected = {"7": ["x", "y"]}
    coco = given(tmp_path / "captions_val2014.json", COCO)
    lists = write_lines(tmp_path / "r.jsonl", [{"image_id": "7", "captions": ["x", "y"]}])
    ours = write_lines(tmp_path / "p.jsonl", [{"image_id": 7, "caption": "said", "references": ["x", "y"]}])
    single = write_lines(tmp_path / "s.jsonl", [{"image_id": 7, "caption": text} for text in "xy"])
    assert all(read_references_file(path) == expected for path in (coco, lists, ours, single))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS, ROWS[0] | {"image_id": "7"}], "line 3: image 7 has a caption already"),  # 7 and "7" are one image
        ([{"caption": "a dog"}, *ROWS], "line 1 has no image_id"),
        ([ROWS[0], {"image_id": 2.5, "caption": "x"}], "line 2 has no image_id that is a text or a whole number"),
        ([ROWS[0], {"image_id": True, "caption": "x"}], "line 2 has no image_id"),
        ([ROWS[0], {"image_id": "\ud800", "caption": "x"}], "line 2 has half a character .a lone surrogate. in its"),
        ([ROWS[0], {"image_id": 8, "caption": None}], "line 2 has no caption that is a text"),
        ([ROWS[0], {"image_id": 8, "captions": ["x"]}], "line 2 has no caption that is a text"),
        ([WITH[0], ROWS[1]], "1 of 2 images have no references"),
        ([ROWS[0], WITH[1] | {"references": "a dog"}], "line 2: references must be a list"),
        ([ROWS[0], ROWS[1] | {"prefix": "what is it?"}], "line 2 is an answer"),
        ([ROWS[0], "a dog"], "line 2 is no object|line 2 is not whole JSON"),
    ],
)
def test_captions_that_are_none_are_refused_with_their_place(tmp_path, rows, message):
    with refused(message):
        read_predictions_file(write_lines(tmp_path / "a.jsonl", rows))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(COCO), "is no file of captions: .*--references"),
        ("", "is not whole JSON"),
        ("[]", "holds no captions"),
        ('[{"image_id": 1', "is not whole JSON"),
        ("3", "neither JSON lines nor a JSON list"),
        ('[{"image_id": %s}]' % (5000 * "1"), "is not whole JSON .Exceeds the limit"),
        (100_000 * "[", "is not whole JSON .maximum recursion depth"),
        ('{"image_id": 1, "caption": "x"}\n{"image_id": 2,\n', "line 2 is not whole JSON"),
    ],
)
def test_unknown_layouts_are_refused(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with refused(message):
        read_predictions_file(tmp_path / "a.json")
    with refused("cannot be read"):
        read_predictions_file(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"image_id": 1, "captions": ["x"], "references": ["y"]}] * 2, "line 1 needs one of .* and has 2"),
        ([{"image_id": 1}] * 2, "line 1 needs one of .* and has 0"),
        ([{"image_id": 1, "references": ["y"]}, {"image_id": "1", "caption": "y"}], "line 2: image 1 has a list"),
        ([{"image_id": 1, "caption": "y"}, {"image_id": "1", "references": ["y"]}], "line 2: image 1 has a list"),
        ([{"image_id": 1, "references": []}] * 2, "at least one text"),
    ],
)
def test_references_that_can_be_read_in_two_ways_are_refused(tmp_path, rows, message):
    with refused(message):
        read_references_file(write_lines(tmp_path / "r.jsonl", rows))
    with refused("no list of 'annotations'"):
        read_references_file(given(tmp_path / "r.json", {"images": []}))


def files(tmp_path, *contents):
    return [read_predictions_file(write_lines(tmp_path / f"{n}.jsonl", rows)) for n, rows in enumerate(contents)]


def test_files_belong_together_only_with_the_same_images_and_once_each(tmp_path):
    check_together(files(tmp_path, ROWS, ROWS[::-1]))
    with refused("about other images than .*: 1 are missing and 0 are added .first: b"):
        check_together(files(tmp_path, ROWS, ROWS[:1]))
    one, _ = files(tmp_path, ROWS, ROWS)
    (tmp_path / "link.jsonl").symlink_to(one.path)
    with refused("are one file"):
        check_together([one, read_predictions_file(tmp_path / "link.jsonl")])


def test_references_come_from_the_files_or_from_one_that_is_named(tmp_path):
    both = {"7": ["the dog", "a dog"], "b": ["the dog", "a dog"]}
    assert references_of(files(tmp_path, ROWS, WITH), None) == both
    assert (
        references_of(files(tmp_path, WITH, [row | {"references": row["references"][::-1]} for row in WITH]), None)
        == both
    )
    with refused("holds no references: pass --references"):
        references_of(files(tmp_path, ROWS, ROWS), None)
    with refused("different references of 1 images .first: b"):
        references_of(files(tmp_path, WITH, [WITH[0], WITH[1] | {"references": ["z"]}]), None)
    more = write_lines(tmp_path / "r.jsonl", [{"image_id": name, "captions": [f"of {name}"]} for name in (9, "b", 7)])
    assert references_of(files(tmp_path, WITH, ROWS), more) == {"7": ["of 7"], "b": ["of b"]}
    with refused("no references of 1 of the 2 images .first: b"):
        references_of(files(tmp_path, ROWS, ROWS), given(tmp_path / "captions.json", COCO))
