"""The embedded world: pure, exact, parseable, and drawn as described."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_data import is_true, printed_by
from helpers_errors import refused
from PIL import Image

from gitbench.data import WORLDS
from gitbench.data.scenes.draw import PAINT, render
from gitbench.data.scenes.graph import Relation, SceneGraph
from gitbench.data.scenes.layout import DOMINANT, HIDDEN, STEPS
from gitbench.data.scenes.parse import parse_caption, phrases_of
from gitbench.data.scenes.sheet import draw_contact_sheet
from gitbench.data.scenes.words import SCENES, SHIFTED, WORDS
from gitbench.data.scenes.world import CAPTIONS, Scenes

COUNT = 400
# of the examples and pictures of three scenes: another value changes every result
PINNED = {
    "scenes": "c41f2935989a3fa1cf377d85f921e5b20ec660d3572f2fa4ce68cb49d24bb71f",
    "scenes-shifted": "545ecef99cc2b115566d51ea6fe1d62534387689cca16ade9100ca7651c55684",
}


@pytest.fixture(scope="module", params=["scenes", "scenes-shifted"])
def world(request: pytest.FixtureRequest) -> Scenes:
    return Scenes(request.param, "test", COUNT)


@pytest.fixture(scope="module")
def examples(world: Scenes) -> list:
    return [world.example(index) for index in range(COUNT)]


def test_scenes_are_the_same_in_another_process_and_for_ever(world: Scenes) -> None:
    code = (
        "import hashlib; from dataclasses import replace; from gitbench.data.scenes.world import Scenes\n"
        f"s, d = Scenes('{world.name}', 'test', 400), hashlib.sha256()\n"
        "def pinned(e): return repr(replace(e, questions=tuple((q.text, q.answer) for q in e.questions)))\n"
        "for i in (399, 3, 0): d.update(pinned(s.example(i)).encode()); d.update(s.image(i).tobytes())\n"
        "print(d.hexdigest(), s.fingerprint())"
    )
    found = {printed_by(code, PYTHONHASHSEED=seed) for seed in ("1", "2")}
    assert found == {f"{PINNED[world.name]} {world.fingerprint()}"}


def test_an_item_depends_on_split_and_index_alone(world: Scenes) -> None:
    name = world.name
    other = Scenes(name, "test", 8)
    assert other.example(7) == world.example(7) and np.array_equal(other.image(7), world.image(7))
    train, val, test = ({Scenes(name, s, 50).scene(i).graph for i in range(50)} for s in ("train", "val", "test"))
    assert not train & val and not val & test and not train & test
    cases = [(name, split, size) for name in WORLDS for split in ("train", "val") for size in (20, 21)]
    assert len({Scenes(*case).fingerprint() for case in cases}) == 4 * len(WORLDS)


def test_every_caption_is_true_of_its_scene(world: Scenes, examples: list) -> None:
    for index, example in enumerate(examples):
        assert len(example.captions) == CAPTIONS
        for said in (*example.captions, world.ceiling_caption(index)):
            parsed = parse_caption(said)
            assert parsed.objects, said
            assert is_true(parsed, example.graph), f"{said!r} is read as {parsed}, the scene is {example.graph}"


def test_nothing_that_is_said_gets_lost(world: Scenes, examples: list) -> None:
    """As many things and colours are parsed as the text has nouns and colour words."""
    nouns = {form.split()[-1] for pairs in world.words.shapes.values() for pair in pairs for form in pair}
    nouns |= {"sign", "signs", "board", "boards"}
    colours = {word for wordings in world.words.colours.values() for word in wordings}
    for said in (text for example in examples for text in example.captions):
        graph = parse_caption(said)
        bare = re.sub("green grass|blue sky|white snow", "", said)
        bare = re.sub(r" the (plus )?\w+$", "", bare)  # names a thing again
        words = bare.split()
        assert len(graph.objects) == sum(word.rstrip(",") in nouns for word in words), said
        assert sum(item.colour is not None for item in graph.objects) == sum(word in colours for word in words), said


def test_captions_differ_and_stay_short_in_a_few_hundred_words(world: Scenes, examples: list) -> None:
    captions = [text for example in examples for text in example.captions]
    lengths = [len(text.split()) for text in captions]
    assert np.percentile(lengths, 5) >= 6 and np.percentile(lengths, 97) <= 18
    assert np.mean([len(set(example.captions)) for example in examples]) > 4.5
    assert 120 < len({word for text in captions for word in re.findall("[a-z]+", text)}) < 400
    assert all(text == text.lower() for text in captions)
    fresh = sum(world.ceiling_caption(index) not in example.captions for index, example in enumerate(examples))
    assert fresh > 0.8 * COUNT
    assert Scenes(world.name, "test", 6).ceiling_caption(5) == world.ceiling_caption(5)


def test_relations_hold_in_the_geometry(world: Scenes) -> None:
    seen = set()
    for scene in map(world.scene, range(COUNT)):
        for link in scene.graph.relations:
            seen.add(link.predicate)
            a, b = scene.placed[link.subject].box, scene.placed[link.object].box
            dx, dy = (b[0] + b[2] - a[0] - a[2]) / 2, (b[1] + b[3] - a[1] - a[3]) / 2
            if link.predicate == "inside":
                assert b[0] < a[0] and b[1] < a[1] and b[2] > a[2] and b[3] > a[3]
            elif link.predicate == "left of":
                assert a[2] <= b[0] and dx > DOMINANT * abs(dy)
            else:
                assert a[3] <= b[1] and dy > DOMINANT * abs(dx)
    assert seen == {"left of", "above", "inside"}


def test_objects_lie_in_the_picture_apart_and_in_colours_that_show(world: Scenes) -> None:
    for scene in map(world.scene, range(COUNT)):
        inside = {link.subject for link in scene.graph.relations if link.predicate == "inside"}
        for place, one in enumerate(scene.placed):
            assert min(one.box) > 0 and max(one.box) < 1
            assert one.item.colour not in HIDDEN[scene.graph.background or ""]
            assert one.item.count == len(one.centres)
            for other in scene.placed[place + 1 :]:
                assert other.item.colour != one.item.colour
                a, b = one.box, other.box
                assert inside or a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_the_colour_said_is_the_colour_drawn(world: Scenes) -> None:
    """At the centre of a plain filled shape the pixel is nearest to its own colour among all colours."""
    checked = 0
    for scene in map(world.scene, range(COUNT)):
        one = scene.placed[0]
        plain = one.item.texture == "plain" and one.item.shape in ("circle", "square", "heart", "cross", "orb", "arrow")
        if len(scene.placed) > 1 or not plain:
            continue
        x, y = one.centres[0]
        pixel = render(scene, 64).astype(int)[int(y * 64), int(x * 64)]
        assert min(world.words.colours, key=lambda name: np.abs(pixel - np.array(PAINT[name])).sum()) == one.item.colour
        checked += 1
    assert checked > 10


def test_any_size_shows_the_same_scene(world: Scenes) -> None:
    for index in range(6):
        large = world.render(index, 128)
        assert large.shape == (128, 128, 3) and large.dtype == np.uint8
        halved = np.asarray(Image.fromarray(large).reduce(2)).astype(float)
        assert np.abs(halved - world.image(index)).mean() < 6


STRAIGHT = {
    "to the left of": "left of",
    "west of": "left of",
    "above": "above",
    "north of": "above",
    "inside": "inside",
}
TURNED = {"to the right of": "left of", "east of": "left of", "below": "above", "south of": "above", "around": "inside"}


def shape_of(noun: str) -> str:
    known = noun in SCENES.shapes or noun in SHIFTED.shapes or noun == "sign"
    return noun if known else noun.removesuffix("es" if noun == "crosses" else "s")


def answered(graph: SceneGraph, question: str) -> tuple[str, str]:
    """Return the kind of a question and its answer, worked out without the code that asks."""

    def only(values: list) -> Any:
        (value,) = values
        return value

    def place_of(colour: str, noun: str) -> int:
        return only([i for i, o in enumerate(graph.objects) if (o.colour, o.shape) == (colour, shape_of(noun))])

    objects = graph.objects
    if said := re.fullmatch(r"how many (\w+) are there\?", question):
        return "count", str(sum(o.count or 0 for o in objects if o.shape == shape_of(said[1])))
    if said := re.fullmatch(r"what color (?:is|are) the (\w+)\?", question):
        return "colour", only([o.colour for o in objects if o.shape == shape_of(said[1])])
    if said := re.fullmatch(r"what shape is (\w+)\?", question):
        return "shape", only([o.shape for o in objects if o.colour == said[1]])
    if said := re.fullmatch(r"where (?:is|are) the (\w+) (\w+)\?", question):
        return "place", objects[place_of(said[1], said[2])].place or ""
    if said := re.fullmatch(r"is there an? (\w+) (\w+)\?", question):
        return "there", "yes" if any((o.colour, o.shape) == said.groups() for o in objects) else "no"
    if question == "what does the sign say?":
        return "reading", only([o.word for o in objects if o.word])
    said = re.fullmatch(r"(?:is|are) the (\w+) (\w+) (.+) the (\w+) (\w+)\?", question)
    assert said, question
    first, second = place_of(said[1], said[2]), place_of(said[4], said[5])
    if said[3] in TURNED:
        first, second = second, first
    link = Relation(subject=first, predicate=(STRAIGHT | TURNED)[said[3]], object=second)
    return "relation", "yes" if link in graph.relations else "no"


def test_answers_follow_from_the_graph(examples: list) -> None:
    asked = [(*answered(each.graph, one.text), one.answer) for each in examples for one in each.questions]
    assert all(expected == answer for _, expected, answer in asked)
    assert len({kind for kind, _, _ in asked}) == 7 and {a for kind, _, a in asked if kind == "reading"} <= set(WORDS)
    closed = [answer for kind, _, answer in asked if kind in ("there", "relation")]
    assert 0.4 < closed.count("yes") / len(closed) < 0.6


def test_of_the_shifted_world_a_captioner_of_scenes_knows_a_part() -> None:
    """A quarter of the words that are said are new, and most captions have one; nothing means something else there."""
    old, new = (
        [re.findall("[a-z]+", text) for i in range(COUNT) for text in Scenes(name, "train", COUNT).example(i).captions]
        for name in ("scenes", "scenes-shifted")
    )
    known = {word for text in old for word in text}
    said = [word in known for text in new for word in text]
    assert 0.2 < 1 - sum(said) / len(said) < 0.3
    assert sum(not known.issuperset(text) for text in new) > 0.9 * len(new)
    here, there = phrases_of(SCENES), phrases_of(SHIFTED)
    assert all(here[phrase] == meaning for phrase, meaning in there.items() if phrase in here)


def test_motion_is_drawn_as_it_is_told() -> None:
    films = Scenes("scenes-motion", "train", 60)
    seen = set()
    for index in range(60):
        example = films.example(index)
        for said in example.captions:
            parsed = parse_caption(said)
            assert is_true(parsed, example.graph), said
            assert all(item.motion for item in parsed.objects), said
        if len(example.graph.objects) > 1:
            continue
        frames = films.frames(index, 3, 64).astype(int)
        assert frames.shape == (3, 64, 64, 3)
        motion = example.graph.objects[0].motion
        seen.add(motion)
        changed = np.abs(frames[2] - frames[0]).sum(-1) > 30
        assert changed.any() == (motion != "still")
        if motion != "still":  # where the object was at first and no more, and where it is at last
            middle = films.image(index).astype(int)
            before, after = (np.abs(frames[k] - middle).sum(-1) > 30 for k in (0, 2))
            shift = [np.argwhere(after & changed).mean(0)[a] - np.argwhere(before & changed).mean(0)[a] for a in (1, 0)]
            dx, dy = STEPS[motion]
            assert dx * shift[0] + dy * shift[1] > 0
    assert len(seen) == 5


def test_a_number_beyond_the_split_is_refused(world: Scenes) -> None:
    with pytest.raises(IndexError):
        world.example(COUNT)


def test_contact_sheet(tmp_path: Path) -> None:
    draw_contact_sheet(3, "test", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 600 and len(set(sheet.convert("L").resize((64, 64)).get_flattened_data())) > 20
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    for count, name, message in ((3, "sheet.xyz", "unknown picture format"), (0, "sheet.png", "at least 1")):
        with refused(message):
            draw_contact_sheet(count, "test", tmp_path / name)
