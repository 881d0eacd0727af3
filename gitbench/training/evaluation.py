"""Validation and test: which batches a process computes, and the likelihoods and captions of all images together.

Several processes share the batches out and leave each as it is, so that every image has the likelihood and the caption
that one process would give it, bit for bit: sums of floats depend on what else is in a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Any

from mmengine.dist import all_gather_object, get_dist_info
from mmengine.evaluator import BaseMetric
from torch.utils.data import Sampler

from gitbench.registry import DATA_SAMPLERS, METRICS


@DATA_SAMPLERS.register_module()
class BatchesInOrder(Sampler):
    """The items of a data set in order; with several processes, rank r takes every world-th batch of `batch` items."""

    def __init__(self, dataset: Sized, batch: int, seed: int | None = None) -> None:
        rank, world = get_dist_info()
        starts = range(rank * batch, len(dataset), world * batch)
        self.items = [item for start in starts for item in range(start, min(start + batch, len(dataset)))]

    def __iter__(self) -> Iterator[int]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@METRICS.register_module()
class PerImage(BaseMetric):
    """Negative log-likelihood per token of all references, without label smoothing, in nats; called `name`.

    One result an image is kept, in the order of the data set, in `items` of every process (mmengine cuts surplus results to
    the data set's length silently): after a test with the generated ids, for `predictions.jsonl`.
    """

    def __init__(self, name: str) -> None:
        # "gpu" is mmengine's word for results that are sent, over whatever joins the processes; with "cpu" they would be
        # written to a folder, which mmengine then deletes with all that is in it
        super().__init__(collect_device="gpu")
        self.name = name
        self.items: list[dict[str, Any]] = []

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        self.results += zip(data_batch["indices"], data_samples, strict=True)

    def evaluate(self, size: int) -> dict[str, float]:
        """Return the likelihood over the images of all processes, in each of them."""
        by_index = {index: item for part in all_gather_object(self.results) for index, item in part}
        self.results.clear()
        return self.compute_metrics([item for _, item in sorted(by_index.items())])

    def compute_metrics(self, results: list) -> dict[str, float]:
        self.items = results
        parts = [part for item in results for part in item.get("outputs", [item])]
        tokens = sum(part["tokens"] for part in parts)
        return {self.name: sum(part["nll"] for part in parts) / max(1, tokens)}
