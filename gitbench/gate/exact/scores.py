"""Metrics on small corpora, end to end: captions, answers, aggregates. Of SPICE only what is made of its answer: see `NOTE`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gitbench.data.base import AnswersAre
from gitbench.data.scenes.world import Scenes
from gitbench.gate.exact.constant import whole
from gitbench.gate.exact.subject import Place
from gitbench.gate.exact.values import Values
from gitbench.metrics import CaptionScorer, aggregate, answer_ceiling, leave_one_out, score_answers
from gitbench.metrics.base import Scores
from gitbench.metrics.guards import caption_warnings, margin_warnings
from gitbench.metrics.meteor import from_many_totals
from gitbench.metrics.spice import add_answer
from gitbench.study.scoring import TaskScorer
from gitbench.training.evaluation import PerImage

NOTE = "SPICE itself is not run, whose parser is a download of 384 MB: what is made of its answer is compared"
SPICE_ANSWER = [
    {"image_id": place, "scores": {"All": {"f": f}}} for place, f in ((2, 0.125), (0, 0.75), (3, None), (1, 0.5))
]
VERSIONS = ("lib:", "java:")  # in a signature: of packages
REFERENCES = {
    "a": ["A dog runs on the green grass.", "the dog is running", "A small brown dog, running; outside!"],
    "b": ["Two cats sit on a sofa", "two cats on a couch near a window"],
    "c": ["a man rides a red bicycle down the street", "A man's bicycle", "man riding", "a cyclist in the city"],
    "d": ["a plate of food", "food on a white plate with a fork"],
}
CAPTIONS = {"a": "a brown dog runs on the the the grass", "b": "two cats", "c": "A woman rides a bicycle .", "d": "dog"}
# Nearest to another reference than the first; in the same words, stems, synonyms and paraphrases.
OF_METEOR = {
    "a": "a small brown dog runs",
    "b": "two cats on a couch close to a window",
    "c": "a cyclist in the town",
    "d": "nutrient on a white plate",
}
ANSWERS = {
    "q1": ["yes"] * 7 + ["no"] * 3,
    "q2": ["two", "2", "2", "three", "2", "two", "2", "2", "a couple", "2"],
    "q3": ["the red ball"] * 4 + ["red ball"] * 4 + ["ball", "toy"],
    "q4": ["knife, fork"],
    "q5": ["cat"] * 2 + ["dog"] * 8,
    "q6": ["1/8/93", "January 8, 1993"],
    "q7": ["A"] * 4 + ["b"],
}
KINDS: dict[str, AnswersAre] = {name: "set" if name == "q4" else "votes" for name in ANSWERS}
SAID = {
    "q1": "Yes.",
    "q2": "two",
    "q3": "Red ball",
    "q4": "fork , knife",
    "q5": "cat",
    "q6": "8, January 1993",
    "q7": "",
}
LABELS = {"x": ["table_lamp"], "y": ["exit"], "z": ["Fire truck"]}


def add(values: Values, place: Place) -> None:
    """Add scores of captions, of scenes and of answers, and of a small run's predictions as they are scored."""
    with CaptionScorer(meteor=False, spice=False) as scorer:
        _all(values, "captions", scorer.score(CAPTIONS, REFERENCES))
        _all(values, "captions, leave-one-out", scorer.ceiling(REFERENCES))
        scenes = Scenes("scenes", "test", 8)
        ids = {scenes.image_id(index): scenes.example(index) for index in range(len(scenes))}
        said = {name: scenes.ceiling_caption((index + index % 2) % 8) for index, name in enumerate(ids)}
        graphs = {name: each.graph for name, each in ids.items() if each.graph is not None}
        references = {name: each.captions for name, each in ids.items()}
        found = scorer.score(said, references, graphs)
        _all(values, "captions of scenes", found)
        shown = {name: _unversioned(score.signature) for name, score in found.values.items()}
        values.equal("captions of scenes: signatures", shown)
        names = [name for name in found.values if name != "vocabulary" and not name.startswith("distinct")]
        some = found.per_image.iloc[[0, 3, 3, 5]]
        totals = [aggregate(some, name) for name in names]
        values.near("scores of a resample of scenes", totals, 100.0)
        add_task(values, place.small().data("test").source, scorer, "a run of captions")
    values.equal("references left when one of each image is taken", leave_one_out(REFERENCES))
    _answers(values)
    _likelihood(values)
    statistics = whole("meteor", (4, 23), 1, 9).astype(float)
    statistics[:, :4] = [[30, 28, 9, 8]]
    values.near("METEOR of its statistics", from_many_totals(statistics))
    values.equal("warnings about captions", caption_warnings({name: "a dog" for name in "abc"} | {"d": ""}))
    values.equal("warnings about a margin", margin_warnings(1.0, 40, 0.5, "claim x"))


def add_meteor(values: Values, place: Place) -> None:
    """Add METEOR's scores. Errors: MachineError where its process was killed or refused memory."""
    with CaptionScorer(spice=False) as scorer:
        scorer.meteor = place.meteor
        found = scorer.score(OF_METEOR, REFERENCES)
    if error := found.errors.get("METEOR"):
        raise error
    values.near("METEOR", found.values["METEOR"].value, 100.0)
    values.near("METEOR of the images", found.columns["METEOR"], 100.0)
    values.equal("METEOR: statistics of the images", found.columns["meteor_stats"])
    values.equal("METEOR: signature", _unversioned(found.values["METEOR"].signature))
    values.near("METEOR of a resample", aggregate(found.per_image.iloc[[0, 2, 2, 3]], "METEOR"), 100.0)


def add_spice_answer(values: Values, place: Place) -> None:
    """Add what is made of SPICE's answer: an image for which it is undefined, the others not in their order."""
    with CaptionScorer(meteor=False, spice=False) as scorer:
        found = scorer.score(CAPTIONS, REFERENCES)
    add_answer(found, SPICE_ANSWER)
    for name in ("SPICE", "SPIDEr"):
        values.near(f"{name} of an answer", found.values[name].value, 100.0)
        values.near(f"{name} of an answer, images", np.nan_to_num(found.columns[name], nan=-1.0), 100.0)
        values.equal(f"{name} of an answer: signature", _unversioned(found.values[name].signature))
        values.near(f"{name} of a resample", aggregate(found.per_image.iloc[[0, 2, 2, 3]], name), 100.0)


def _unversioned(signature: str) -> str:
    return "|".join(one for one in signature.split("|") if not one.startswith(VERSIONS))


def _all(values: Values, name: str, scores: Scores) -> None:
    """Add all scores of a set, corpus and images."""
    for key, score in scores.values.items():
        values.near(f"{name}: {key}", score.value, max(1.0, abs(score.value)))
    summed = [column for key, column in scores.columns.items() if key not in scores.values]
    if summed:
        values.equal(f"{name}: statistics of the images", [_line(column) for column in summed])
    for key in [key for key in scores.values if key in scores.columns]:
        numbers = np.nan_to_num(np.asarray(scores.columns[key], float), nan=-1.0)
        values.near(f"{name}: {key} of the images", numbers, max(1.0, float(np.abs(numbers).max())))


def _line(numbers: np.ndarray) -> str:
    return " ".join(f"{each:g}" for each in numbers)


def add_task(values: Values, source: Any, scorer: CaptionScorer, name: str) -> None:
    """Add the scores of a task's test split, where every text is the first reference of the next request."""
    task = TaskScorer.of(source, scorer)
    texts: Mapping[str, Any] = task.references
    said = [texts[key][0] for key in texts]
    rows: list[dict[str, Any]] = [
        {"image_id": key, "caption": text, "closed": text}
        for key, text in zip(texts, [said[0], *said[2:], said[1]], strict=True)
    ]
    if source.task.name == "vqa":
        rows = [{key: value for key, value in row.items() if key != "closed"} for row in rows]
    values.equal(f"{name}: references of the requests", {key: " / ".join(each) for key, each in texts.items()})
    _all(values, f"{name}, scored", task.scores(rows))
    ceiling = task.ceiling().ceiling
    values.near(f"{name}: ceiling", [each["value"] for each in (ceiling or {}).values()], 100.0)


def _answers(values: Values) -> None:
    found = score_answers("vqa", SAID, ANSWERS, answers_are=KINDS)
    _all(values, "answers to questions", found)
    shown = {name: _unversioned(score.signature) for name, score in found.values.items()}
    values.equal("answers to questions: signatures", shown)
    people = answer_ceiling("vqa", ANSWERS, KINDS)
    values.near("answers of people", [each.value for each in people.values()], 100.0)
    said = {"x": "table _ lamp", "y": "Exit", "z": "truck"}
    _all(values, "labels", score_answers("classify", said, LABELS, {**said, "z": "fire truck"}))


def _likelihood(values: Values) -> None:
    """Add the likelihood of items that several batches bring, and in which order they are kept."""
    metric = PerImage("test_nll")
    items = [{"image_id": str(number), "nll": 3.0 + number / 4, "tokens": 2 + number} for number in range(5)]
    asked = {"image_id": "5", "outputs": [{"nll": 2.5, "tokens": 3}, {"nll": 1.25, "tokens": 1}]}
    metric.process({"indices": [3, 4, 5]}, [*items[3:], asked])
    metric.process({"indices": [0, 1, 2]}, items[:3])
    values.near("likelihood of items", metric.evaluate(6)["test_nll"])
    values.equal("items in their order", [each["image_id"] for each in metric.items])
