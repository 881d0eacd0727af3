"""A subject of somebody's own: a variant of a plugin, other data, another task. Its run in small, from data to scores."""

from __future__ import annotations

from gitbench.gate.exact import costs, decoder, order, scores, searches, steps
from gitbench.gate.exact.subject import Place
from gitbench.gate.exact.values import Values
from gitbench.metrics import CaptionScorer

NOTE = "METEOR and SPICE are left out, whose Java programs take longer than all else here"


def add_data(values: Values, place: Place) -> None:
    """Add the first batches."""
    order.add_batches(values, place.subject, "subject")


def add_model(values: Values, place: Place) -> None:
    """Add logits, losses, likelihoods and gradients."""
    decoder.add_run(values, place.subject, "subject")


def add_steps(values: Values, place: Place) -> None:
    """Add rates, groups and two steps of the optimizer."""
    steps.add_groups(values, place.subject, "subject")
    steps.add_steps(values, place.subject, "subject", parameters=True)


def add_search(values: Values, place: Place) -> None:
    """Add what is written about test images."""
    searches.add_run(values, place.subject, "subject", place.folder / "predictions")


def add_scores(values: Values, place: Place) -> None:
    """Add scores of the test split's texts, metrics of plugins among them."""
    with CaptionScorer(meteor=False, spice=False) as scorer:
        scores.add_task(values, place.subject.data("test").source, scorer, "subject")


def add_costs(values: Values, place: Place) -> None:
    """Add the costs of a training step and of a search."""
    costs.add_run(values, place.subject, "subject")
