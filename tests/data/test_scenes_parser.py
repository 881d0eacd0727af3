"""The parser of captions: what it reads, and that no text breaks it; containment and facts of graphs."""

from __future__ import annotations

import pytest
from helpers_data import is_true

from gitbench.data.random_stream import Stream
from gitbench.data.scenes.graph import Relation, SceneGraph, SceneObject
from gitbench.data.scenes.parse import parse_caption
from gitbench.data.scenes.world import Scenes


@pytest.mark.parametrize(
    ("text", "objects", "links"),
    [
        ("a red circle to the right of a blue square", ["circle", "square"], [(1, "left of", 0)]),
        ("below a large star there are two hoops", ["star", "ring"], [(0, "above", 1)]),
        ("a ring with a small yellow star inside it", ["ring", "star"], [(1, "inside", 0)]),
        ("A RED CIRCLE, left of a box.", ["circle", "square"], [(0, "left of", 1)]),
        ("a heart above a star, a ring below the star", ["heart", "star", "ring"], [(0, "above", 1), (1, "above", 2)]),
    ],
)
def test_parser_reads_relations(text: str, objects: list[str], links: list[tuple[int, str, int]]) -> None:
    graph = parse_caption(text)
    assert [item.shape for item in graph.objects] == objects
    assert [(link.subject, link.predicate, link.object) for link in graph.relations] == links


@pytest.mark.parametrize("seed", range(3))
def test_parser_survives_any_text(seed: int) -> None:
    stream, world = Stream("noise", seed), Scenes("scenes", "test", 40)
    tokens = [word for index in range(40) for text in world.example(index).captions for word in text.split()]
    for _ in range(300):
        text = " ".join(stream.choice([*tokens, "xyz", "'", "\u2028", "\U0001f600"]) for _ in range(stream.integer(25)))
        graph = parse_caption(text)
        graph.facts()
        assert all(max(link.subject, link.object) < len(graph.objects) for link in graph.relations)
    assert parse_caption("") == SceneGraph()
    assert parse_caption("two dogs run through the snow").objects == ()


def test_parser_keeps_what_it_understands() -> None:
    (item,) = parse_caption("maybe a big shiny red circle?").objects
    assert item == SceneObject(shape="circle", colour="red")  # "shiny" ends what it knows of the phrase before it
    (item,) = parse_caption('a white sign that says "stop"').objects
    assert item.word == "stop"


def test_containment_refuses_what_is_false() -> None:
    truth = SceneGraph(
        objects=(
            SceneObject(shape="circle", count=1, colour="red"),
            SceneObject(shape="square", count=2, colour="blue"),
        ),
        relations=(Relation(subject=0, predicate="above", object=1),),
        background="sand",
    )
    for said in ("a red circle above two blue squares", "two squares on the sand", "two squares below a circle"):
        assert is_true(parse_caption(said), truth), said
    for said in ("a blue circle", "a circle below two squares", "a square", "a circle on the grass", "two circles"):
        assert not is_true(parse_caption(said), truth), said


def test_facts_leave_defaults_out() -> None:
    item = SceneObject(shape="star", count=2, size="medium", colour="red", texture="plain", place="top")
    facts = SceneGraph(objects=(item,), background="sky").facts()
    assert facts["objects"] == {("star",)}
    said = {("star", "count", "2"), ("star", "colour", "red"), ("star", "place", "top"), ("scene", "background", "sky")}
    assert facts["attributes"] == said
