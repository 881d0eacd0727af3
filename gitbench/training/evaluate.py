"""Score a checkpoint on a split of data, batch by batch: what `gitbench evaluate` needs torch for.

Images are prepared by the checkpoint's own rule, texts by its tokenizer; likelihoods and captions are computed as in the test
of a run, to the same bits where the rule is that of a run. A batch is what its number says, whoever computes it: its rows are
one line of a file of parts, written when the batch is done, so that a killed evaluation goes on, and several processes make
the rows of one. Of images that differ in size (official VQA models keep the aspect) those of one size are a group of the
batch. All is float32, on one thread, and on GPUs without algorithms that give other bits from call to call.

N images of a group, k texts each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import hashlib
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gitbench.compute import ROW_MULTIPLE
from gitbench.data.dataset import CaptionDataset
from gitbench.data.image_processor import ImageProcessor
from gitbench.data.tokenizer import CaptionTokenizer
from gitbench.errors import GitbenchError
from gitbench.files import append_line
from gitbench.models.checkpoint import checkpoint_files
from gitbench.plan import PlannedEvaluation
from gitbench.spec import Compute, DataSpec, TextSpec
from gitbench.training.caption import Captioner, load_captioner
from gitbench.training.caption_model import predict
from gitbench.training.data import caption_collate
from gitbench.training.device import described, peak_memory, settle
from gitbench.training.frozen import FrozenEncoder
from gitbench.training.hooks import closed_vocabulary
from gitbench.training.run import prediction

READERS = 4  # threads that decode the images of the next batch
Done = Callable[[int], None]  # is told how many images a finished batch has


class Photographs(CaptionDataset):
    """A split for evaluation whose images are float32 pixels (3, H, W), of films (F, 3, H, W), by a rule; none is cached."""

    def __init__(self, plan: PlannedEvaluation, tokenizer: CaptionTokenizer, rule: ImageProcessor) -> None:
        self.rule = rule
        limits: dict[str, Any] = {f"{plan.split}_images": plan.limit}
        super().__init__(
            data=plan.data,
            split=plan.split,
            data_spec=DataSpec(image_size=1, **limits),  # the rule knows the size
            text_spec=TextSpec(max_tokens=plan.max_tokens),
            tokenizer=tokenizer,
            seed=0,
            captions_per_image=None,
            train=False,
            task=plan.task,
        )

    @property
    def images(self) -> np.ndarray:
        """Nothing: images are read when they are asked for."""
        return np.empty(0)

    def _image(self, index: int, number: int) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.rule.normalised(self.source.resized(index, self.rule))))

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return an item of `CaptionDataset`, which is of no set of images whose features are kept."""
        return {**super().__getitem__(number), "image_set": None}


def content_of(weights: Path) -> str:
    """Return the SHA-256 of a checkpoint's files of weights."""
    digest = hashlib.sha256()
    for file in checkpoint_files(weights):
        with open(file, "rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def model_of(captioner: Captioner) -> dict[str, Any]:
    """Return what a captioner's model is, beside its weights."""
    git = captioner.git
    parts: dict[str, Any] = {"encoder": git.encoder.spec, "decoder": git.decoder.spec, "vision": git.vision}
    facts: dict[str, Any] = {
        "encoder_alone": isinstance(git.encoder, FrozenEncoder)
    }  # sees an image by itself, on CPUs
    facts |= {"vocab_size": git.vocab_size, "frames": git.num_frames, "tied": git.head_weight is None}
    return {name: dataclasses.asdict(spec) for name, spec in parts.items()} | facts


def write_batches(plan: PlannedEvaluation, batches: Sequence[int], part: Path, done: Done | None = None) -> None:
    """Compute some batches of an evaluation and add each to the file `part` when it is finished.

    Errors: GitbenchError, in one line, for weights and images that cannot be used, a full disk, and too little memory.
    """
    settle(Compute(device=plan.device))
    captioner = load_captioner(Path(plan.weights), plan.tokenizer_given, plan.device)
    dataset = Photographs(plan, captioner.tokenizer, captioner.rule)
    writer = _Writer(plan, captioner, dataset)
    with contextlib.closing(_read_ahead(dataset, [plan.numbers(batch) for batch in batches])) as batches_of_items:
        started = time.monotonic()
        for batch, items in zip(batches, batches_of_items, strict=True):
            rows = writer.rows(items)
            now = time.monotonic()
            device = {"device": described(), "peak_memory_bytes": peak_memory()}
            append_line(part, {"batch": batch, "images": len(items), "seconds": now - started, **device, "rows": rows})
            started = now
            if done is not None:
                done(len(items))


def _read_ahead(dataset: Photographs, batches: Sequence[range]) -> Generator[list[dict[str, Any]]]:
    """Yield the items of batches, in order; those of the next one are read meanwhile."""
    with ThreadPoolExecutor(1 if dataset.source.drawn else READERS, thread_name_prefix="images") as pool:
        ahead: list[Future] = []
        try:
            for numbers in (*batches, range(0)):
                now, ahead = ahead, [pool.submit(dataset.__getitem__, number) for number in numbers]
                if now:
                    yield [each.result() for each in now]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Writer:
    """Turns items into rows of `predictions.jsonl`."""

    def __init__(self, plan: PlannedEvaluation, captioner: Captioner, dataset: Photographs) -> None:
        self.plan, self.git, self.dataset = plan, captioner.git, dataset
        self.vocabulary = closed_vocabulary(dataset) if dataset.source.closed else None

    def rows(self, items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows of a batch, in order. Errors: a batch that does not fit, which names one that does."""
        try:
            outputs = self._outputs(items)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            outputs = None  # what the batch held goes with the error
        if outputs is None:
            raise GitbenchError(self._too_large(items))
        source, tokenizer = self.dataset.source, self.dataset.tokenizer
        return [
            prediction(request, output, item["image_id"], tokenizer)
            for item, each in zip(items, outputs, strict=True)
            for request, output in zip(source.requests(item["index"]), each, strict=True)
        ]

    def _outputs(self, items: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """Return what is predicted for the requests of each item."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for place, item in enumerate(items):
            groups.setdefault(tuple(item["image"].shape), []).append(place)
        found: dict[int, list[dict[str, Any]]] = {}
        for places in groups.values():
            found |= zip(places, self._predicted([items[place] for place in places]), strict=True)
        return [found[place] for place in range(len(items))]

    @torch.no_grad()
    def _predicted(self, items: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        device, git = self.plan.device, self.git
        batch = caption_collate(items, ROW_MULTIPLE if device == "cuda" else 1)
        n, k, t = batch["tokens"].shape
        texts = batch["texts"].with_tensors(each.to(device) for each in batch["texts"].tensors)
        memory = git.image_memory(batch["images"].to(device))
        git.embedding.check_length(t - 1)
        nll, count = (each.view(n, k).tolist() for each in git.packed_nll(memory, texts, n * k))
        return predict(git, memory, nll, count, batch["request_prefixes"], self.plan.search, self.vocabulary)

    def _too_large(self, items: Sequence[dict[str, Any]]) -> str:
        """Say which batch fits, having tried."""
        name, count = described()["name"], len(items)
        where = f"the memory of {'this machine' if name == 'cpu' else name}"
        while count > 1:
            count //= 2
            gc.collect()
            if self.plan.device == "cuda":
                torch.cuda.empty_cache()
            if self._fits(items[:count]):
                return (
                    f"a batch of {len(items)} images does not fit into {where}: pass --batch {count}, which does (other "
                    "batches may change the last digits, so it begins anew)"
                )
        return f"one image alone does not fit into {where}: use a machine with more, or --device cpu"

    def _fits(self, items: Sequence[dict[str, Any]]) -> bool:
        try:
            self._outputs(items)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return False
        return True


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of torch, or of Python, says that memory is used up, on a GPU or a CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
