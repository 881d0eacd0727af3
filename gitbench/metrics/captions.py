"""Score captions: every metric, each with its signature, per-image values, and a reason where one is absent."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

from gitbench.data.scenes.graph import SceneGraph
from gitbench.errors import GitbenchError
from gitbench.metrics.base import Scores, check_ids, check_references
from gitbench.metrics.bleu import add_bleu
from gitbench.metrics.cider import CiderD, add_cider
from gitbench.metrics.compare import Comparison
from gitbench.metrics.diversity import add_diversity
from gitbench.metrics.guards import caption_warnings
from gitbench.metrics.hallucination import add_hallucination
from gitbench.metrics.java import java_home
from gitbench.metrics.meteor import Meteor
from gitbench.metrics.registered import add_registered
from gitbench.metrics.rouge import add_rouge
from gitbench.metrics.scene_graph import add_scene_graph
from gitbench.metrics.spice import add_spice
from gitbench.metrics.tokenize import Tokenizer

_REMEMBERED = 4  # reference sets kept, tokenized and counted: validation and test, each whole and with one left out


class CaptionScorer(contextlib.AbstractContextManager["CaptionScorer"]):
    """Scores captions; METEOR's and the tokenizer's processes are started once and shared by all calls of a `with` block.

    `meteor`, `spice`: whether to compute them (SPICE where its files are installed). `timeout`: seconds that each Java
    program may take for one call. Raises GitbenchError if there is no Java.
    """

    def __init__(self, *, meteor: bool = True, spice: bool = True, timeout: float = 600) -> None:
        java_home()  # no Java: say so now and not after the captions are made
        self.timeout = timeout
        self.tokenizer = Tokenizer(timeout)
        self.meteor = Meteor(timeout) if meteor else None
        self.spice = spice
        self._prepared = lru_cache(_REMEMBERED)(self._prepare)

    def __exit__(self, *error: object) -> None:
        """End the child processes; a later `score` would start others. They also end with the interpreter."""
        self.tokenizer.close()
        if self.meteor:
            self.meteor.close()

    def score(
        self,
        predictions: Mapping[str, str],
        references: Mapping[str, Sequence[str]],
        graphs: Mapping[str, SceneGraph] | None = None,
        *,
        ceiling: str | None = None,
    ) -> Scores:
        """Score one caption an image against its references, image id -> raw text; in the references' order.

        `graphs` (of `scenes`) adds the scene-graph scores; `ceiling` goes into the signatures. An empty caption scores
        0. A metric that fails is in `Scores.absent` with its reason; the others stand. Raises GitbenchError if the ids
        do not match or an image has no reference.
        """
        check_references(references, "image")
        check_ids(predictions, references, "image", "caption")
        if self.meteor:  # first, because it reads its table while the rest goes on; a failure shows in `submit`, too
            with contextlib.suppress(GitbenchError, OSError):
                self.meteor.start()
        ids = list(references)
        raw, raw_references = [predictions[image] for image in ids], [list(references[image]) for image in ids]
        cut_references, known = self._prepared(tuple(map(tuple, raw_references)))
        cut = self.tokenizer.tokenize(raw)
        scores = Scores(ids=ids, references=raw_references, ceiling=ceiling)
        if self.meteor is None:
            scores.absent["METEOR"] = "switched off"
        else:
            with scores.attempt("METEOR"):
                self.meteor.submit(cut, cut_references)
        comparison = Comparison(cut, known.references)
        add_cider(scores, comparison, known)
        add_bleu(scores, comparison)
        add_rouge(scores, comparison)
        if graphs is None:
            scores.absent["SceneF1"] = "this data has no scene graphs"
        else:
            of_images = [graphs[image] for image in ids]
            add_scene_graph(scores, raw, raw_references, of_images)
            add_hallucination(scores, raw, of_images)
        add_diversity(scores, cut)
        if self.meteor and "METEOR" not in scores.absent:
            with scores.attempt("METEOR"):
                self.meteor.collect(scores)
        if self.spice:
            with scores.attempt("SPICE"):
                add_spice(scores, cut, cut_references, self.timeout)
        else:
            scores.absent["SPICE"] = "switched off"
        add_registered(scores, predictions, references)
        scores.warnings[:0] = caption_warnings(predictions)
        return scores

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
            return self.score(candidates, references, graphs, ceiling="candidates")
        chosen, rest = leave_one_out(references)
        return self.score(chosen, rest, graphs, ceiling="leave-one-out")

    def _prepare(self, references: tuple[tuple[str, ...], ...]) -> tuple[list[list[str]], CiderD]:
        """Tokenize and count references."""
        flat = iter(self.tokenizer.tokenize([text for refs in references for text in refs]))
        tokenized = [[next(flat) for _ in refs] for refs in references]
        return tokenized, CiderD(tokenized)


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
