"""The paper's row beside an evaluation, where data, split and the model's sizes are the paper's; and what may explain a gap.

A row is matched by the name of the published set (`--data coco_karpathy:FOLDER`), all images of its split, and the sizes of
image encoder, decoder and vocabulary; nothing is guessed from names of files. Models of one size (GIT_L, GIT_L_R) are all shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gitbench.data.address import parse
from gitbench.data.image_processor import ImageProcessor, official_processor
from gitbench.data.published import published_set
from gitbench.plan import PlannedEvaluation
from gitbench.report.paper import KNOWN, paper_rows, paper_value
from gitbench.run_key import from_json
from gitbench.spec import EvaluateSpec
from gitbench.tasks import get_task

# (layers, width, patch) of the image encoder -> the paper's models; the decoder has 6 layers of width 768 in both
MODELS = {(12, 768, 16): ("GIT_B",), (24, 1024, 14): ("GIT_L", "GIT_L_R")}
DECODER, VOCABULARY = (6, 768), 30522
# Published set -> the paper's name of it and of the split that is our test; others are evaluated on splits of their own.
BENCHMARKS = {
    "coco_karpathy": ("COCO", "Karpathy test"),
    "textcaps": ("TextCaps", "val"),
    "textvqa": ("TextVQA", "val"),
    "msrvtt": ("MSRVTT", "test"),
    "vatex": ("VATEX", "public test"),
}
_METRICS = {"accuracy": "VQA"}  # the paper's name -> ours, where they differ
DRIFT = "drift-git_b-coco-cider"  # the README's warning of another environment
OFFICIAL_STEPS = 1024  # of the official search


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A value of the paper beside ours, both in points."""

    model: str
    table: str
    metric: str
    theirs: float
    ours: float
    known: str
    source: str
    note: str

    @property
    def difference(self) -> float:
        return self.ours - self.theirs


@dataclass(frozen=True, kw_only=True)
class Circumstance:
    """Something that moves scores, here and in the official code."""

    what: str
    here: str
    official: str

    @property
    def same(self) -> bool:
        return self.here == self.official


def paper_rows_of(plan: PlannedEvaluation, metrics: Mapping[str, Mapping[str, Any]]) -> list[PaperRow]:
    """Return the paper's values for what was evaluated; none where data, split or sizes are not the paper's."""
    address = parse(plan.data)
    models = models_of(plan.model)
    if address.published not in BENCHMARKS or address.split or plan.split != "test" or plan.limit or not models:
        return []
    if plan.task.name != published_set(address.published).task:
        return []
    rows = paper_rows()
    benchmark, split = BENCHMARKS[address.published]
    rows = rows[(rows["benchmark"] == benchmark) & (rows["split"] == split) & rows["model"].isin(models)]
    found: list[dict[Any, str]] = rows.to_dict("records")
    return [
        PaperRow(
            **{column: row[column] for column in ("model", "table", "source", "note")},
            metric=name,
            theirs=float(row["value"]),
            ours=metrics[name]["value"],
            known=KNOWN[row["confidence"]],
        )
        for row in found
        if (name := _METRICS.get(row["metric"], row["metric"])) in metrics
    ]


def models_of(model: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the paper's models that have the sizes of a model; none where it has others."""
    encoder, decoder = model["encoder"], model["decoder"]
    sizes = (decoder["layers"], decoder["width"]), model["vocab_size"], decoder["attention"]
    if sizes != (DECODER, VOCABULARY, "self"):
        return ()
    return MODELS.get((encoder["layers"], encoder["width"], encoder["patch"]), ())


def circumstances(plan: PlannedEvaluation) -> list[Circumstance]:
    """Return what could explain a difference from the official number, as it is here and as the official code has it."""
    rule, search = from_json(ImageProcessor, plan.rule), plan.search
    size = rule.size if isinstance(rule.size, int) else plan.model["encoder"]["image_size"]
    parameters = {"test_crop_size": size}
    if plan.task.name == "vqa" and rule.longest is not None:
        parameters["test_respect_ratio_max"] = rule.longest
    clean, plain = 'clean-up ("it\'s")', 'none ("it \' s")'
    pieces = plan.model["vocab_size"]
    steps = min(OFFICIAL_STEPS, plan.model["decoder"]["max_positions"])
    return [
        Circumstance(what="photographs", here=rule.in_words, official=official_processor(parameters, size).in_words),
        Circumstance(what="tokenizer", here=f"{pieces:,} pieces", official=f"{VOCABULARY:,} pieces"),
        Circumstance(what="decoding", here=clean if plan.cleans_up else plain, official=clean),
        Circumstance(what="search", here=search_in_words(search), official=search_in_words(_official_search(steps))),
        Circumstance(what="images at a time", here=str(plan.batch), official="1"),
    ]


def drift() -> str:
    """Return what the README of the released models warns of."""
    row = paper_value(DRIFT)
    return f"the {row['source']} warns of {row['metric']} {row['value']} with {row['benchmark']}: {row['note']}"


def search_in_words(search: Mapping[str, Any]) -> str:
    """Return a search for people."""
    beams = "greedy" if search.get("greedy") else f"{search['beam_size']} beam{'s' * (search['beam_size'] != 1)}"
    return f"{beams}, length penalty {search['length_penalty']:g}, {search['max_length']} tokens at most"


def main_score(plan: PlannedEvaluation) -> str:
    """Return the score that an evaluation is about."""
    return get_task(plan.task.name).metric


def _official_search(steps: int) -> dict[str, Any]:
    spec = EvaluateSpec()
    return {"beam_size": spec.beam_size, "length_penalty": spec.length_penalty, "max_length": steps}
