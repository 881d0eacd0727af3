"""Score captions: every metric, each with its signature, per-image values, and a reason where one is absent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gitbench.errors import GitbenchError
from gitbench.metrics.aggregate import BLEUS
from gitbench.metrics.base import SCALE, MetricUnavailable, Scores
from gitbench.metrics.captions import BLEU_COLUMNS, CiderD, Comparison, bleu_of
from gitbench.metrics.java import java_home
from gitbench.metrics.meteor import VERSION as METEOR_VERSION
from gitbench.metrics.meteor import Meteor
from gitbench.metrics.rouge import BETA, rouge_l
from gitbench.metrics.scene_graph import scene_table
from gitbench.metrics.sheet import Job, Sheet
from gitbench.metrics.spice import PARSER as SPICE_PARSER
from gitbench.metrics.spice import VERSION as SPICE_VERSION
from gitbench.metrics.spice import missing_files, spice_scores
from gitbench.metrics.tokenize import Tokenizer

if TYPE_CHECKING:
    from gitbench.data.scenes.graph import SceneGraph

_REMEMBERED = 4  # reference sets kept, tokenized and counted: validation and test, each whole and with one left out


class CaptionScorer:
    """Scores captions; METEOR's and the tokenizer's processes are started once and shared by all calls of a `with` block.

    `meteor`: compute METEOR. `spice`: None computes it where its files are, True insists on them, False leaves it out.
    `timeout`: seconds that each Java program may take for one call. Raises GitbenchError if there is no Java, or if
    SPICE is insisted on and not installed.
    """

    def __init__(self, *, meteor: bool = True, spice: bool | None = None, timeout: float = 600) -> None:
        java_home()  # no Java: say so now and not after the captions are made
        lacking = missing_files() if spice else None
        if lacking:
            raise GitbenchError(lacking)
        self.timeout = timeout
        self.tokenizer = Tokenizer(timeout)
        self.meteor = Meteor(timeout) if meteor else None
        self.spice = spice is not False
        self._known: dict[str, tuple[list[list[str]], CiderD]] = {}  # the latest last

    def __enter__(self) -> CaptionScorer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child processes; a later `score` would start others. They also end with the interpreter."""
        self.tokenizer.close()
        if self.meteor:
            self.meteor.close()

    def score(
        self,
        predictions: Mapping[str, str],
        references: Mapping[str, Sequence[str]],
        graphs: Mapping[str, SceneGraph] | None = None,
    ) -> Scores:
        """Score one caption an image against its references, image id -> raw text; in the references' order.

        `graphs` (of `scenes`) adds the scene-graph scores. An empty caption scores 0. A metric that fails is in
        `Scores.absent` with its reason; the others stand. Raises GitbenchError if the ids do not match or an image
        has no reference.
        """
        return self._score(predictions, references, graphs, ceiling=None)

    def ceiling(
        self,
        references: Mapping[str, Sequence[str]],
        candidates: Mapping[str, str] | None = None,
        graphs: Mapping[str, SceneGraph] | None = None,
    ) -> Scores:
        """Score what a human, or the generator's own grammar, would reach.

        With `candidates` (fresh captions of the truth) these are scored as ordinary predictions. Without, the
        references are scored against each other by `leave_one_out`; mind the smaller number of references in the
        signature, which lowers most metrics a little.
        """
        if candidates is not None:
            return self._score(candidates, references, graphs, ceiling="candidates")
        chosen, rest = leave_one_out(references)
        return self._score(chosen, rest, graphs, ceiling="leave-one-out")

    def _score(
        self,
        predictions: Mapping[str, str],
        references: Mapping[str, Sequence[str]],
        graphs: Mapping[str, SceneGraph] | None,
        ceiling: str | None,
    ) -> Scores:
        _check(predictions, references, graphs)
        trouble = self._start_meteor()  # first, because it reads its table while the rest goes on
        job, known = self._prepare(predictions, references, graphs, ceiling)
        trouble = trouble or self._submit_meteor(job)
        sheet = Sheet(job=job, columns={"image_id": job.ids})
        _add_library(sheet, known)
        _add_scene(sheet)
        if trouble:
            sheet.absent["METEOR"] = trouble
        else:
            self._add_meteor(sheet)
        self._add_spice(sheet)
        return Scores(values=sheet.values, per_image=pd.DataFrame(sheet.columns), absent=sheet.absent)

    def _prepare(
        self,
        predictions: Mapping[str, str],
        references: Mapping[str, Sequence[str]],
        graphs: Mapping[str, SceneGraph] | None,
        ceiling: str | None,
    ) -> tuple[Job, CiderD]:
        ids = list(references)
        raw = [predictions[image] for image in ids]
        raw_references = [list(references[image]) for image in ids]
        tokenized, known = self._prepare_references(raw_references)
        job = Job(
            ids=ids,
            raw=raw,
            raw_references=raw_references,
            predictions=self.tokenizer.tokenize(raw),
            references=tokenized,
            graphs=None if graphs is None else [graphs[image] for image in ids],
            ceiling=ceiling,
        )
        return job, known

    def _prepare_references(self, references: list[list[str]]) -> tuple[list[list[str]], CiderD]:
        """Tokenize and count references, remembering the last few sets: every checkpoint is scored against the same."""
        digest = hashlib.sha256()
        for refs in references:
            digest.update(len(refs).to_bytes(8, "little"))
            for text in refs:
                data = text.encode("utf-8", "surrogatepass")
                digest.update(len(data).to_bytes(8, "little") + data)
        key = digest.hexdigest()
        known = self._known.pop(key, None)
        if known is None:
            flat = iter(self.tokenizer.tokenize([text for refs in references for text in refs]))
            tokenized = [[next(flat) for _ in refs] for refs in references]
            known = tokenized, CiderD(tokenized)
        self._known[key] = known
        while len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        return known

    def _start_meteor(self) -> str | None:
        """Start METEOR's process; return why there will be no METEOR, or None."""
        if self.meteor is None:
            return "switched off"
        try:
            self.meteor.start()
        except MetricUnavailable as reason:
            return str(reason)
        return None

    def _submit_meteor(self, job: Job) -> str | None:
        try:
            if self.meteor is not None:
                self.meteor.submit(job.predictions, job.references)
        except MetricUnavailable as reason:
            return str(reason)
        return None

    def _add_meteor(self, sheet: Sheet) -> None:
        assert self.meteor is not None
        try:
            result = self.meteor.collect()
        except MetricUnavailable as reason:
            sheet.absent["METEOR"] = str(reason)
            return
        sheet.columns["METEOR"] = SCALE * np.array(result.per_image, dtype=float)
        sheet.columns["meteor_stats"] = result.statistics
        sheet.add("METEOR", result.score, METEOR_VERSION, params="en-rank-norm")

    def _add_spice(self, sheet: Sheet) -> None:
        if not self.spice:
            sheet.absent["SPICE"] = "switched off"
            return
        try:
            fractions = spice_scores(sheet.job.predictions, sheet.job.references, self.timeout)
        except MetricUnavailable as reason:
            sheet.absent["SPICE"] = str(reason)
            return
        sheet.add_mean("SPICE", fractions, SPICE_VERSION, parser=SPICE_PARSER)


def leave_one_out(references: Mapping[str, Sequence[str]]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Take one reference of each image as its caption and leave the others: (captions, remaining references).

    Image number i gives its reference i mod k, so that all writers take part in a single cheap pass, instead of the
    average over k passes. Images with one reference are left out; GitbenchError if no other remains.
    """
    chosen: dict[str, str] = {}
    rest: dict[str, list[str]] = {}
    for number, (image, refs) in enumerate(references.items()):
        if len(refs) > 1:
            taken = number % len(refs)
            chosen[image] = refs[taken]
            rest[image] = [text for place, text in enumerate(refs) if place != taken]
    if not chosen:
        raise GitbenchError("no image has two references, so they cannot be compared: use data with several captions")
    return chosen, rest


def _check(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    graphs: Mapping[str, SceneGraph] | None,
) -> None:
    """Refuse what cannot be scored as one whole set: CIDEr depends on exactly which images take part."""
    if not references:
        raise GitbenchError("there is nothing to score: give at least one image with references")
    for what, given in (("predicted caption", predictions), ("scene graph", graphs)):
        if given is None:
            continue
        lacking = [image for image in references if image not in given]
        if lacking:
            raise GitbenchError(
                f"{len(lacking)} of {len(references)} images have no {what} (first: {lacking[0]}): pass one for each"
            )
    extra = [image for image in predictions if image not in references]
    if extra:
        raise GitbenchError(
            f"{len(extra)} captions are of images without reference (first: {extra[0]}): leave them out"
        )
    for image, refs in references.items():
        if isinstance(refs, str) or not refs:
            raise GitbenchError(f"image {image} needs a list of at least one reference caption: add it or leave it out")


def _add_library(sheet: Sheet, known: CiderD) -> None:
    """Add BLEU, ROUGE-L and CIDEr, from one comparison of captions and references."""
    comparison = Comparison(sheet.job.predictions, known.references)
    sheet.add_mean("CIDEr", known.of(comparison), "CIDEr-D")
    corpus, table = bleu_of(comparison)
    for name, value in zip(BLEUS, corpus, strict=True):
        sheet.add(name, value, name, eff="closest")
    sheet.columns.update({name: table[:, place] for place, name in enumerate(BLEU_COLUMNS)})
    sheet.add_mean("ROUGE-L", rouge_l(comparison), "ROUGE-L", beta=BETA)


def _add_scene(sheet: Sheet) -> None:
    job = sheet.job
    if job.graphs is None:
        sheet.absent["SceneF1"] = "this data has no scene graphs"
        return
    for name, fractions in scene_table(job.raw, job.raw_references, job.graphs).items():
        target = "scene" if name.endswith("-truth") else "references"
        sheet.add_mean(name, fractions, name, ptb=False, target=target)
